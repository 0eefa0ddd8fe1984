"""The method's own command line: `python -m c3l generate | score | train | convert`.

Results go to files, all messages to standard error. Exit codes: 0 done, 2 bad usage or input (one
sentence), 130 interrupted, 141 standard output or error was closed.
"""

import typer

from c3l.cli import convert, generate, score, train
from c3l.cli.common import MARKUP, run_app

# Everything else is imported by the commands: `--help` answers at once.

app = typer.Typer(
    add_completion=False,
    no_args_is_help=False,
    rich_markup_mode=MARKUP,
    help="The method of C³L on your own images: write, score and learn from instruction data."
    "\n\nExample:\n"
    "  python -m c3l generate --backbone PATH --images DIR --out DIR --n 5000",
)
app.command("generate")(generate.command)
app.command("score")(score.command)
app.command("train")(train.command)
app.add_typer(convert.app, name="convert")


def main() -> None:
    """Run the command line: `python -m c3l`, or the console script `c3l`."""
    run_app(
        app,
        "Interrupted. Run the same command again: what generate, score and train had finished is "
        "kept.",
    )
