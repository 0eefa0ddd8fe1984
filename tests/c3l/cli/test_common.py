"""What both command lines share: -v and -q, help that answers at once and shows an example."""

import json
import logging
import resource
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import typer

import c3l.cli.app
import repro.cli
from c3l.cli.common import _paragraphs, run_app
from c3l.runtime import progress
from c3l.runtime.errors import UserError
from c3l.samples import Sample, write_samples
from c3l.scores import Score, write_scores
from tests.repro.toy import ROOT

APPS = {"c3l": c3l.cli.app.app, "repro": repro.cli.app}


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
    from c3l.runtime.progress import VERBOSE, echo

    echo("words")
    echo("more words", minimum=VERBOSE)
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


HOSTILE = "a\x1b[31m\nb\x07"


def test_what_was_forgotten_on_the_way_is_written_out(run, capfd):
    """The last guard: no letter of anybody's data reaches the terminal as a command to it."""
    app = typer.Typer()

    @app.command()
    def fail() -> None:
        progress.echo(f"{HOSTILE} is looked at.")
        raise UserError(f"{HOSTILE} cannot be read; café is fine")

    assert run(app) == 2
    said = capfd.readouterr().err
    assert said.endswith("a\\x1b[31m\\nb\\x07 cannot be read; café is fine\n")
    assert not {letter for letter in said if not letter.isprintable()} - {"\n"}


def test_hostile_names_are_written_out_by_every_command(
    run, capfd, tiny_llava, tiny_images, tmp_path
):
    """Ids and files of data that colour words or begin lines: one plain sentence each."""
    good = Sample("good", "image-0.png", "What is it?", "A cup.", "conversation", {"i2c": 1.0})
    of = {
        "no_class": replace(good, id=HOSTILE, instruction=""),
        "empty": replace(good, id=HOSTILE, answer=" "),
        "other": replace(good, id=HOSTILE),
    }
    for name, sample in of.items():
        write_samples(tmp_path / f"{name}.jsonl", [good, sample])
    write_samples(tmp_path / "twice.jsonl", [of["other"]] * 2)
    write_scores(tmp_path / "s.parquet", [Score("good"), Score("x"), Score("y")])
    (tmp_path / "bad.jsonl").write_text(json.dumps({"id": HOSTILE, HOSTILE: 1, "image": HOSTILE}))
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / f"{HOSTILE}.png").write_bytes(b"no picture")
    model = ["--backbone", tiny_llava]
    here = [*model, "--images", tiny_images]
    tune = ["train", *here, "--out", tmp_path / "out", "--data"]
    by_file = ["--generator", "--scores", tmp_path / "s.parquet"]
    commands = [
        (
            [*tune, tmp_path / "no_class.jsonl", "--generator", "--set", "share=1.0"],
            "no instruction",
        ),
        ([*tune, tmp_path / "empty.jsonl", "--strict"], "empty_answer"),
        ([*tune, tmp_path / "other.jsonl", *by_file], "has no score of 1 samples"),
        ([*tune, tmp_path / "twice.jsonl", *by_file], "more than once"),
        ([*tune, tmp_path / HOSTILE], "does not exist"),
        (["score", tmp_path / "bad.jsonl", *here, "--out", tmp_path / "o.json", "--strict"], "bad"),
        (
            ["generate", *model, "--images", tmp_path / "pictures", "--out", tmp_path / "g"],
            "none of",
        ),
        (
            ["generate", *model, "--images", tmp_path, "--out", tmp_path / HOSTILE / "g"],
            "lies among",
        ),
    ]
    for command, words in commands:
        assert run(c3l.cli.app.app, *map(str, command)) == 2, command
        said = capfd.readouterr().err
        lines = [line for line in said.splitlines() if line and "Loading weights" not in line]
        assert len(lines) == 1 and words in lines[0], (command, said)
        assert not {letter for letter in said if not letter.isprintable()} - {"\n", "\r"}, said
