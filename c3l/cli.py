"""The method's own command line: `python -m c3l score`, `python -m c3l convert`.

What is asked for goes to files, all words to standard error. Exit codes: 0 done, 2 bad usage or
input (one sentence), 130 interrupted.
"""

import errno
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from pydantic import ValidationError
from typer.exceptions import TyperException

from c3l import strict
from c3l.convert import cli as convert
from c3l.errors import UserError, brief, told
from c3l.files import written_whole
from c3l.readings import Readings

# Everything else is imported by the commands: `--help` answers at once.

app = typer.Typer(
    add_completion=False, no_args_is_help=False, help="Content-correlated VLIT data (C³L)."
)
app.add_typer(convert.app, name="convert")


@app.callback()
def commands() -> None:
    """Content-correlated VLIT data (C³L)."""


@app.command()
def score(
    samples: Annotated[
        Path, typer.Argument(help="a .jsonl, .json (LLaVA) or .parquet file", metavar="SAMPLES")
    ],
    backbone: Annotated[
        str, typer.Option("--backbone", help="a folder or a Hub id", metavar="PATH|ID")
    ],
    images: Annotated[Path, typer.Option("--images", help="their folder", metavar="DIR")],
    out: Annotated[
        Path, typer.Option("--out", help="scores are written here, as parquet", metavar="FILE")
    ],
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="another reading: score_form=logratio_mean", metavar="FIELD=VALUE"
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="answers a forward")] = 16,
    device: Annotated[str | None, typer.Option("--device", help="cpu or cuda")] = None,
    dtype: Annotated[str | None, typer.Option("--dtype", help="float32 or bfloat16")] = None,
) -> None:
    """Score samples: how much each image changes the probability of its answers (I²C).

    The file has a row a sample: its id, its score, what it was made of token by token, and why it
    has none if it has none.

    Example: python -m c3l score data.jsonl --backbone llava-hf/llava-1.5-7b-hf --images coco
    --out scores.parquet --dtype bfloat16
    """
    readings = read_readings(set_ or [])
    from c3l.samples import ImageFolder, read_samples

    if not out.parent.is_dir():
        raise UserError(f"{out.parent} is no folder; make it, or give another --out")
    found, folder = read_samples(samples), ImageFolder(images)
    if not found:
        raise UserError(f"there is no sample in {samples}")
    from c3l import relevance
    from c3l.backbones import load_backbone
    from c3l.scores import unscored, write_scores

    model = load_backbone(backbone, device=device, dtype=dtype)
    scores = relevance.score(model, found, folder, readings, batch_size=batch_size)
    without = unscored(scores)
    count = len(scores) - sum(without.values())
    reasons = ", ".join(f"{reason} {number}" for reason, number in sorted(without.items()))
    if not count:
        raise UserError(f"none of the {len(scores)} samples of {samples} has a score ({reasons})")
    try:
        with written_whole(out) as path:
            write_scores(path, scores)
    except OSError as error:
        raise UserError(f"{out} cannot be written ({error.strerror or error})") from error
    print(f"{count} of {len(scores)} samples are scored in {out}.", file=sys.stderr)
    if repeated := len(found) - len({sample.id for sample in found}):
        order = f"the rows of {out} are in the order of {samples}"
        print(f"{repeated} ids stand there more than once; {order}.", file=sys.stderr)
    if without:
        print(f"{len(scores) - count} have no score: {reasons}.", file=sys.stderr)


def read_readings(changes: list[str]) -> Readings:
    """The readings with changes such as "score_form=logratio". Raises UserError for a wrong one."""
    values = {}
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals:
            raise UserError(f"--set {told(change)}: write it as field=value.")
        try:
            values[name.strip()] = strict.from_yaml(text)
            Readings.model_validate(values)
        except ValidationError as error:  # which is a ValueError
            first = error.errors()[0]
            reason = first["msg"][0].lower() + first["msg"][1:]
            if first["type"] == "extra_forbidden":
                reason = f"there is no such reading; use one of {', '.join(Readings.model_fields)}"
            raise UserError(f"--set {told(change)}: {reason}.") from error
        except ValueError as error:
            raise UserError(f"--set {told(change)}: {brief(text)} is not a YAML value.") from error
    return Readings.model_validate(values)


def run_app(commands: typer.Typer, interrupted: str) -> NoReturn:
    """Run a command line and exit; errors a user is meant to read are one sentence and exit 2.

    `interrupted` is what to say after Ctrl-C.
    """
    try:
        code = commands(standalone_mode=False)
    except UserError as error:
        print(error, file=sys.stderr)
        code = 2
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:  # anything else is looked at where it may happen
            raise
        print(f"{told(str(error.filename))} is too long for a file's name", file=sys.stderr)
        code = 2
    except TyperException as error:
        print(f"{error.format_message().rstrip('.')} (see --help)", file=sys.stderr)
        code = 2
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    if code == 130:
        print(interrupted, file=sys.stderr)
    sys.exit(code)


def main() -> None:
    """`python -m c3l`."""
    run_app(app, "Interrupted; nothing was written.")
