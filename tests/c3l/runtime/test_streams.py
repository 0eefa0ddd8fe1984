"""Standard streams that are closed, from the start or by whoever read them: exit 141."""

import os
import subprocess
import sys

import pytest

from tests.repro.toy import ROOT

APP = """
import os, sys
import typer
from c3l.cli.common import run_app
from c3l.runtime.progress import echo

app = typer.Typer()

@app.command()
def speak(lines: int = 1, code: int = 0) -> None:
    with open(sys.argv[0] + ".txt", "w") as file:  # must not become a standard stream
        file.write("a result")
        echo("words")
        os.system("echo from a child")
        for _ in range(lines):
            print("a line of a table")
    if code:
        raise typer.Exit(code)

run_app(app, "Stopped.")
"""


@pytest.fixture
def speak(tmp_path):
    """A function that runs the app with redirections of a shell; exit status, output, errors."""
    script = tmp_path / "app.py"
    script.write_text(APP)

    def run(*arguments, redirect: str = "") -> tuple[int, str, str]:
        line = " ".join(map(str, [sys.executable, script, *arguments, redirect]))
        done = subprocess.run(
            ["bash", "-c", line],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment(),
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    return run


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "C3L_VERBOSITY": "0"}


@pytest.fixture
def gone():
    """The end of a pipe that nobody reads."""
    read, write = os.pipe()
    os.close(read)
    yield write
    os.close(write)


@pytest.mark.parametrize("package", ["c3l", "repro"])
@pytest.mark.parametrize("stream", ["stdout", "both"])
def test_a_reader_that_is_gone_ends_a_command_quietly(package, stream, gone):
    streams = {"stdout": gone, "stderr": subprocess.PIPE if stream == "stdout" else gone}
    command = [sys.executable, "-m", package, "--help"]
    done = subprocess.run(command, cwd=ROOT, env=environment(), check=False, **streams)
    assert done.returncode == 141
    assert not done.stderr


def test_nothing_is_wrong_with_open_streams(speak):
    code, out, errors = speak("--lines", 2)
    assert (code, errors) == (0, "words\n")
    assert out.count("a line of a table\n") == 2


@pytest.mark.parametrize("lines", [1, 10_000])  # in Python's buffer, and beyond it and the pipe's
@pytest.mark.parametrize("code", [0, 1])
def test_head_takes_what_it_wants(speak, lines, code):
    redirect = "| head -1 >/dev/null; exit ${PIPESTATUS[0]}"
    ended, _, errors = speak("--lines", lines, "--code", code, redirect=redirect)
    assert errors == "words\n"
    # What fits into the pipe is not missed by who writes it.
    assert ended in ({141} if lines > 1 else {code, 141})


@pytest.mark.parametrize(
    ("redirect", "code", "errors"),
    [
        (">&-", 141, "words\nStandard output is closed: what it was to show is lost.\n"),
        ("2>&-", 0, ""),
        (">&- 2>&-", 141, ""),
        ("<&- >&- 2>&-", 141, ""),
        ("<&-", 0, "words\n"),
    ],
)
def test_streams_that_are_closed_from_the_start(speak, tmp_path, redirect, code, errors):
    ended, out, said = speak(redirect=redirect)
    assert (ended, said) == (code, errors)
    assert "words" not in out
    assert ("a line of a table" in out) == (code == 0)
    assert (tmp_path / "app.py.txt").read_text() == "a result"
    assert speak("--code", 2, redirect=redirect)[0] == 2


def test_a_full_disk_behind_standard_output_is_one_sentence(speak):
    code, _, errors = speak(redirect="> /dev/full")
    assert code == 2
    assert "No space left on device" in errors
    assert "Traceback" not in errors and "Exception ignored" not in errors
