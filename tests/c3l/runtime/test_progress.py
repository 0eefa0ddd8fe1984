"""How far loops are, who is told, and what is said on a terminal and into a pipe."""

import os
import pty
import subprocess
import sys
import time

import pytest

from c3l.runtime import progress
from c3l.runtime.progress import Loop, Position, StatusLine, listening, progress_file, track
from tests.repro.toy import ROOT


def told(steps) -> list[Position]:
    """Run through tracked steps; all that a listener is told."""
    places = []
    with listening(places.append):
        for _ in steps:
            pass
    return places


def test_a_loop_tells_what_is_done_of_it():
    assert [place.done for place in told(track("abc", "letters", [2, 3, 5]))] == [0, 2, 5, 10]
    assert told(track("abc", "letters"))[-1] == Position("letters", 3, 3)


def test_loops_within_count_as_shares_of_the_step_around_them():
    def nested():
        for _ in track(range(2), "images", [8, 2]):
            yield from track(range(4), "batches")

    places = told(nested())
    assert {(place.unit, place.total) for place in places} == {("images", 10)}
    done = [place.done for place in places]
    assert done == sorted(done)
    assert {0, 2, 4, 6, 8, 8.5, 10} <= {*done}


def test_a_loop_that_an_error_left_is_forgotten():
    left = Loop("steps", 5)
    with listening(lambda _: pytest.fail("it is no loop of this listener's")):
        left.update(1, 1)
    assert told(track("ab", "letters"))[-1] == Position("letters", 2, 2)
    left.end()


def test_another_process_can_read_how_far_it_is(tmp_path):
    with progress_file(tmp_path / "place.json"):
        assert progress.read_progress(tmp_path / "place.json") is None
        for _ in track(range(3), "steps"):
            pass
    assert progress.read_progress(tmp_path / "place.json") == Position(
        "steps", 0, 3
    )  # a word a second
    (tmp_path / "place.json").write_text("{")
    assert progress.read_progress(tmp_path / "place.json") is None


def test_a_plain_line_a_minute(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with StatusLine() as work:
        work.begin("scores")
        for _ in track(range(100), "samples"):
            now[0] += 3
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 5
    assert lines[0] == "Scores: 20 of 100 samples · 20/min · 4 min left."


@pytest.mark.parametrize(
    ("each", "words"), [(250, "250/s"), (4.23, "4.2/s"), (0.2, "12/min"), (1 / 1800, "2.0/h")]
)
def test_a_rate_is_in_units_that_can_be_read(each, words):
    assert progress.format_rate(each) == words


CODE = """
import time
from c3l.runtime.progress import EVERY, StatusLine, track
import c3l.runtime.progress
c3l.runtime.progress.EVERY = 0.1
with StatusLine() as work:
    work.begin("scores")
    for _ in track(range(8), "samples"):
        time.sleep(0.08)
"""


def test_a_terminal_gets_a_bar_and_a_pipe_plain_lines():
    env = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    command = [sys.executable, "-c", CODE]
    piped = subprocess.run(command, capture_output=True, cwd=ROOT, env=env, check=True)
    assert b"\x1b" not in piped.stderr and b"\r" not in piped.stderr
    assert b"Scores: " in piped.stderr and b"of 8 samples" in piped.stderr
    ours, theirs = pty.openpty()
    done = subprocess.run(command, stderr=theirs, stdout=subprocess.PIPE, cwd=ROOT, env=env)
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the end, on Linux
            break
        if not part:
            break
        shown += part
    os.close(ours)
    assert done.returncode == 0 and done.stdout == b""
    assert b"\x1b" in shown and "━".encode() in shown
    assert b"of 8 samples" in shown and b"left" in shown
