"""A run of table 4 in a child process, watched from outside: its processes and its store."""

import fnmatch
import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil

from tests.repro import toy

PATIENCE = 300  # seconds until a run that should have got somewhere counts as hung

# Each kind of stage in the order of the pipeline, and a file in one of its two working folders that
# tells that it is in the middle ("" where the folder itself has to do).
HALF_DONE = {
    "captions": "",
    "initial": "",
    "filtered": "",
    "scores": "",
    "selection": "",
    "generator": "checkpoint-*",
    "final": "captions-*.json",
    "vlit": "checkpoint-*",
    "evaluation": "lmms_eval.log",
}


def options(profile: Path, runs: Path) -> list:
    return ["table4", "--profile", profile, "--runs", runs, "--seeds", 1, "--jobs", 2]


class Running:
    """A context manager that leaves no process behind. What the run says goes to `said`.

    The run is a session of its own: that is how its workers are found once it is dead.
    """

    def __init__(self, profile: Path, runs: Path):
        self.store = runs / "store"
        self.said = runs.with_name("said")
        self._command = toy.command(*options(profile, runs))

    def __enter__(self) -> "Running":
        with self.said.open("w") as said:
            self.process = subprocess.Popen(
                self._command,
                cwd=toy.ROOT,
                stdout=subprocess.DEVNULL,
                stderr=said,
                start_new_session=True,
            )
        return self

    def __exit__(self, *_) -> None:
        for pid in self.alive():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def alive(self) -> list[int]:
        """The run's processes; one that is dead but not yet waited for is not among them."""
        found = []
        for process in psutil.process_iter(["status"]):
            try:
                ours = os.getsid(process.pid) == self.process.pid
            except OSError:  # gone in the meantime
                continue
            if ours and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        return found

    def half_done(self, kind: str) -> str:
        """Wait until a stage of this kind is in the middle; its key."""
        deadline = time.monotonic() + PATIENCE
        # Said after what an earlier run left is swept away: what is there then is at work.
        while "stages to run" not in self.said.read_text():
            self._check(deadline)
            time.sleep(0.01)
        folder = self.store / kind
        while True:
            for name in _entries(folder):
                key = name.removeprefix(".tmp-")
                if key != name:
                    inside = [*_entries(folder / name), *_entries(folder / f".partial-{key}")]
                    if not HALF_DONE[kind] or fnmatch.filter(inside, HALF_DONE[kind]):
                        return key
            self._check(deadline)
            time.sleep(0.001)  # some stages are there for a few milliseconds

    def _check(self, deadline: float) -> None:
        assert self.process.poll() is None, self.said.read_text()
        assert time.monotonic() < deadline, self.said.read_text()

    def all_dead(self, seconds: float) -> bool:
        """Whether every process of the run is dead within this time."""
        deadline = time.monotonic() + seconds
        while alive := self.alive():
            if time.monotonic() > deadline:
                break
            self.process.poll()
            time.sleep(0.05)
        return not alive


def _entries(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []
