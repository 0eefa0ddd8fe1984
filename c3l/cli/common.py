"""Shared by both command lines: running a command, message levels, help texts, options."""

import errno
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.exceptions import TyperException

from c3l.runtime import distributed, extras, plugins, progress, streams
from c3l.runtime.errors import UserError, escape_unprintable, printable, write_error_reason

# Boxes and colours on a terminal; elsewhere plain, which also takes half the time.
MARKUP = "rich" if sys.stdout and sys.stdout.isatty() else None


def option(name: str, metavar: str, help: str, **more: Any) -> Any:
    """Return an option that takes a value, which the help calls `metavar`."""
    return typer.Option(name, metavar=metavar, help=help, **more)


BackboneOption = Annotated[str, option("--backbone", "PATH|ID", "a folder or a Hub id")]
ImagesOption = Annotated[Path, option("--images", "DIR", "the folder that holds the images")]
DataImagesOption = Annotated[
    Path | None,
    option("--images", "DIR", "the folder that holds the images (default: they lie in the data)"),
]
SetOption = Annotated[
    list[str] | None,
    option(
        "--set",
        "KEY=VALUE",
        "change a reading or a setting: score_form, tuning, epochs, temperature, "
        "contrastive_weight, share, training.learning_rate, training.batch_size, "
        "generation.pairs_per_class … (an unknown key lists them all)",
    ),
]
DtypeOption = Annotated[
    str | None,
    option("--dtype", "NAME", "float32, bfloat16 or float16 (default: as saved; float32 on a CPU)"),
]
SeedOption = Annotated[int, option("--seed", "N", "for everything random")]
DeviceOption = Annotated[
    str | None, option("--device", "NAME", "cpu, cuda or mps (default: cuda if there is one)")
]
LaunchOption = Annotated[
    str | None,
    option(
        "--launch",
        "HOW",
        "train in several processes: ddp, fsdp or a file of `accelerate config`; fsdp:8 for eight "
        "of them",
    ),
]


def run_app(
    app: typer.Typer, interrupted: str, prepare: Callable[[], None] = lambda: None
) -> NoReturn:
    """Run a command line and exit; errors a user is meant to read are one sentence and exit 2.

    Every command has -v, -q and --plugin. `interrupted` is what to say after Ctrl-C or SIGTERM;
    `prepare` is called once the plugin files have been run, and may add commands. A reader that
    went away (`| head`) ends the command without a word and with exit 141, as other programs.
    """
    streams.fill()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if not distributed.is_main_process():
        progress.set_level(progress.QUIET)
    # Whatever asks libraries to speak has said so in the environment.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")
    # For the processes that this one starts: glibc is to keep large tensors' memory instead of
    # having it cleared anew for each, 7% of a training on a CPU (docs/records/decisions.md).
    os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(2**25))
    os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(2**28))
    # What an Apple GPU lacks is computed on the CPU.
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
    code = 0
    try:
        plugins.request_files(sys.argv[1:])  # they may add the command that is asked for
        prepare()
        code = _code(_with_levels(typer.main.get_command(app)))
        sys.stdout.flush()  # a full disk is told of here, not while Python shuts down
    except UserError as error:
        code = _end(2, str(error))
    except ModuleNotFoundError as error:
        if not (hint := extras.hint(error)):
            raise
        code = _end(2, hint)
    except TyperException as error:
        code = _end(2, f"{error.format_message().rstrip('.')} (see --help)")
    except OSError as error:
        # Anything else is looked at where it may happen.
        if error.errno == errno.EPIPE and not streams.readers_left():
            code = code or streams.GONE
        elif error.errno == errno.ENAMETOOLONG:
            name = printable(str(error.filename))
            print(f"{name} is too long for a file's name", file=sys.stderr)
        elif reason := write_error_reason(error):
            name = printable(os.fsdecode(error.filename or "A file"))
            remedy = "make room or choose another place, then run the same command again."
            print(f"{name} cannot be written ({reason}); {remedy}", file=sys.stderr)
        else:
            raise
        code = code or 2
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except Exception as error:
        # By its name: torch is not imported for this.
        if not isinstance(error, MemoryError) and type(error).__name__ != "OutOfMemoryError":
            raise
        remedy = "with a smaller batch, a smaller backbone or half precision"
        cause = escape_unprintable(str(error).splitlines()[0])
        print(
            f"The memory of the device is full; run the same command again {remedy} ({cause})",
            file=sys.stderr,
        )
        code = 2
    if code == 130:
        _end(code, interrupted)
    if streams.lost():
        code = _end(code or streams.GONE, "Standard output is closed: what it was to show is lost.")
    streams.silence()
    sys.exit(code)


def _code(commands: Any) -> int:
    """Run the commands and return the exit code; BrokenPipeError where a reader is gone."""
    try:
        return commands(standalone_mode=False)
    except SystemExit as ended:
        if isinstance(ended.__context__, OSError) and ended.__context__.errno == errno.EPIPE:
            raise ended.__context__ from None
        raise


def _end(code: int, words: str) -> int:
    """Print the last words of a command, in one of several processes, and return the code."""
    if distributed.is_main_process():
        with suppress(BrokenPipeError):
            print(escape_unprintable(words), file=sys.stderr)
    return code


def _level_option(level: int, *names: str, help: str) -> Any:
    def choose(value: bool) -> None:
        if not value or not distributed.is_main_process():
            return
        if progress.level() not in (progress.NORMAL, level):
            raise UserError("give either -v or -q, not both")
        progress.set_level(level)

    return typer.Option(*names, help=help, callback=choose)


_levels = typer.Typer(add_completion=False)


@_levels.command()
def _say(
    verbose: Annotated[
        bool,
        _level_option(
            progress.VERBOSE, "-v", "--verbose", help="say more: each stage, with its digest"
        ),
    ] = False,
    quiet: Annotated[
        bool,
        _level_option(progress.QUIET, "-q", "--quiet", help="say less: results and errors only"),
    ] = False,
    plugin: Annotated[
        list[str] | None,
        option(
            "--plugin",
            "FILE.py",
            "a Python file that adds to the project: a backbone, a selector, a table …; may be "
            "given several times",
        ),
    ] = None,
) -> None:
    """Not a command: its options are given to all commands."""


def _paragraphs(text: str, markup: str | None) -> str:
    """A help text whose examples keep their lines, and nothing else does, whoever lays it out."""
    if markup is None:  # joins all lines but those behind \b
        return text.replace("\n\nExample:", "\n\n\b\nExample:")
    parts = text.split("\n\n")  # rich keeps the lines of all but the first
    return "\n\n".join(p if p.startswith("Example:") else p.replace("\n", " ") for p in parts)


def _with_levels(command: Any) -> Any:
    """A command, or all commands of a group, with the options -v, -q and --plugin."""
    options = typer.main.get_command(_levels).params
    for option in options:
        option.expose_value = False  # the commands' functions do not take them
    if command.help:
        command.help = _paragraphs(command.help, MARKUP)
    commands = getattr(command, "commands", {})
    # A plugin may add to a list of commands: `--help` of the list takes it as well.
    command.params += options[-1:] if commands else options
    for one in commands.values():
        _with_levels(one)
    return command
