"""What both command lines share: -v and -q, help that answers at once and shows an example."""

import logging
import resource
import signal
import subprocess
import sys

import pytest
import typer

import c3l.cli
import repro.cli
from c3l.commandline import _paragraphs, run_app
from c3l.errors import UserError
from tests.repro.toy import ROOT

APPS = {"c3l": c3l.cli.app, "repro": repro.cli.app}


def leaves(command, *names):
    """All commands of an app that do something, with the words that call them."""
    found = getattr(command, "commands", None)
    if found is None:
        return [names]
    return [leaf for name, one in found.items() for leaf in leaves(one, *names, name)]


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch):
    """What a command line sets for its process is not left to other tests."""
    monkeypatch.setenv("C3L_VERBOSITY", "0")
    for name in ("TRANSFORMERS_VERBOSITY", "TOKENIZERS_PARALLELISM", "TQDM_DISABLE"):
        monkeypatch.setenv(name, "1")
    loggers = [logging.getLogger(name) for name in ("c3l", "repro", "benchmarks")]
    levels, handler = [logger.level for logger in loggers], signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@pytest.fixture
def run(monkeypatch):
    """A function that runs an app as its command line does; the exit status."""

    def run(app, *arguments):
        monkeypatch.setattr(sys, "argv", ["python -m x", *arguments])
        with pytest.raises(SystemExit) as ended:
            run_app(app, "Stopped.")
        return ended.value.code or 0

    return run


@pytest.mark.parametrize(
    ("package", "names"),
    [
        pytest.param(package, names, id=" ".join((package, *names)))
        for package, app in APPS.items()
        for names in leaves(typer.main.get_command(app))
    ],
)
def test_every_command_has_levels_and_an_example(package, names, run, capsys):
    assert run(APPS[package], *names, "--help") == 0
    said = capsys.readouterr().out
    assert "-v, --verbose" in said and "-q, --quiet" in said
    assert f"Example:\n    python -m {package} {' '.join(names)}" in said


@pytest.mark.parametrize("package", APPS)
def test_lists_of_commands_say_all_of_each(package, run, capsys):
    assert run(APPS[package], "--help") == 0
    assert "..." not in capsys.readouterr().out.partition("Commands:")[2]


def test_on_a_terminal_paragraphs_are_filled_and_examples_are_not():
    text = "One.\n\nTwo\nthree.\n\nExample:\n  a \\\n  b"
    assert _paragraphs(text, "rich") == "One.\n\nTwo three.\n\nExample:\n  a \\\n  b"
    assert _paragraphs(text, None) == text.replace("Example", "\b\nExample")


@pytest.mark.parametrize("package", APPS)
def test_help_answers_within_a_second(package):
    """Of a processor: how long it takes beside others is not the code's doing."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-m", package, "--help"], capture_output=True, cwd=ROOT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0
    assert b"Example:" in done.stdout and b"\x1b" not in done.stdout
    assert after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime < 1


app = typer.Typer()


@app.command()
def speak(fail: str = "") -> None:
    from c3l.progress import VERBOSE, say

    say("words")
    say("more words", at=VERBOSE)
    if fail == "user":
        raise UserError("no such thing; give another")
    if fail == "memory":
        raise MemoryError("can't allocate 8 GiB")
    if fail == "stop":
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 0, "words\n"),
        (["-v"], 0, "words\nmore words\n"),
        (["-q"], 0, ""),
        (["-q", "--fail", "user"], 2, "no such thing; give another\n"),
        (["-q", "--fail", "stop"], 130, "Stopped.\n"),
    ],
)
def test_as_much_is_said_as_is_asked_for(arguments, code, words, run, capsys):
    assert run(app, *arguments) == code
    assert capsys.readouterr().err == words


def test_full_memory_is_a_sentence_with_the_next_step(run, capsys):
    assert run(app, "-q", "--fail", "memory") == 2
    said = capsys.readouterr().err
    assert "a smaller batch" in said and "8 GiB" in said and len(said.splitlines()) == 1
