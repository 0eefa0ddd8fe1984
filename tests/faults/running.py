"""A run in a child process, watched from outside: its processes, its store, what it says."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from c3l.artifacts.integrity import Integrity
from tests.repro import toy

PATIENCE = 600  # seconds until a run that should have got somewhere counts as hung


class Running:
    """A context manager that leaves no process behind. What the run says goes to `said`.

    The run is a session of its own: that is how its workers are found once it is dead.
    """

    def __init__(self, command: Sequence, said: Path, env: dict[str, str] | None = None):
        self.said, self._command, self._env = said, toy.command(*command), env

    def __enter__(self) -> "Running":
        with self.said.open("w") as said:
            self.process = subprocess.Popen(
                self._command,
                cwd=toy.ROOT,
                stdout=subprocess.DEVNULL,
                stderr=said,
                start_new_session=True,
                env=self._env,
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

    def happens(self, mark: Path) -> bool:
        """Wait until there is a file `mark`, or the run has ended without one."""
        deadline = time.monotonic() + PATIENCE
        while not mark.exists():
            if self.process.poll() is not None:
                return mark.exists()
            assert time.monotonic() < deadline, self.said.read_text()
            time.sleep(0.005)
        return True

    def all_dead(self, seconds: float) -> bool:
        """Whether every process of the run is dead within this time."""
        deadline = time.monotonic() + seconds
        while alive := self.alive():
            if time.monotonic() > deadline:
                break
            self.process.poll()
            time.sleep(0.05)
        return not alive


def manifests(runs: Path) -> list[Path]:
    """Of what a run has finished."""
    hidden = (".", "damaged")
    found = (runs / "store").glob("*/*/manifest.json")
    return [
        p
        for p in found
        if not p.relative_to(runs / "store").as_posix().startswith(hidden)
        and p.parent.name[0] != "."
    ]


def made(runs: Path) -> dict[Path, tuple[int, int]]:
    """Each artefact's manifest, and what changes when it is written again."""
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in manifests(runs)}


def contents(runs: Path) -> dict[str, dict[str, str]]:
    """Of each artefact the digests of its files; not of lmms-eval's log, which has the time."""
    found = {}
    for path in manifests(runs):
        digests = json.loads(path.read_text())["files"]
        digests.pop("lmms_eval.log", None)
        found[f"{path.parent.parent.name}/{path.parent.name}"] = digests
    return found


def leftovers(runs: Path) -> list[Path]:
    """What only a run that is at work may have, and what damage leaves."""
    return [*runs.rglob(".tmp-*"), *runs.rglob(".partial-*"), *runs.glob("store/damaged")]


def damaged(runs: Path) -> list[str]:
    """What is wrong with the artefacts that stand there for whole."""
    integrity = Integrity()
    found = (integrity.damage(path.parent) for path in manifests(runs))
    return [damage for damage in found if damage]


def what_lasts(runs: Path, name: str = "table4") -> dict[str, object]:
    """A table's files by suffix without dates and times, and without the commit: a checkout may
    change while its tests run."""
    found: dict = {path.suffix: path.read_text() for path in runs.glob(f"*/{name}.*")}
    table = json.loads(found[".json"])
    times = {key: table.pop(key) for key in ("made", "core_seconds", "wall_clock_seconds")}
    assert times["made"] and times["core_seconds"]  # a run with nothing to do took no time
    return found | {".json": table, ".md": found[".md"].replace(table.pop("commit"), "")}
