"""A new user's shell: a clean clone, an environment of its own, an empty home."""

import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from tests.tried.trials import HOME, SMALL, Trial

PATIENCE = 3 * 3600
"""Seconds until a command counts as hung."""
KEPT = re.compile(r"LANG|LC_\w+|TERM|PIP_\w+|UV_\w+|SSL_\w+|REQUESTS_\w+|\w+_proxy", re.IGNORECASE)
"""What a command is told of this machine's environment: how packages are got."""
NUMBER = re.compile(r"^\|.*\|\s*[-+]?\d+(\.\d+)?\b")
"""The first row of a table that has one."""
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    code: int
    seconds: float
    processor: float
    """Its seconds of processor time, those of its children too."""
    number: float | None
    """After how many seconds the first number of a table was printed."""
    out: str
    err: str
    commit: str

    def well(self, trial: Trial) -> bool:
        """Whether it ended as it must."""
        told = "Traceback" not in self.err + self.out
        return self.code == trial.code and told and (self.number is not None or not trial.number)


class Shell:
    """Types commands in `folder`/c3l, with `folder`/home for a home."""

    def __init__(self, folder: Path):
        self.folder, self.clone, self.home = folder, folder / "c3l", folder / "home"
        self.home.mkdir(parents=True, exist_ok=True)
        bins = [self.clone / ".venv" / "bin", Path(sys.base_prefix) / "bin"]
        self.env = {name: text for name, text in os.environ.items() if KEPT.fullmatch(name)} | {
            "PATH": os.pathsep.join([*map(str, bins), os.environ["PATH"]]),
            "HOME": str(self.home),
            "SMALL": SMALL,
            "PYTHONUNBUFFERED": "1",  # as on a terminal: the first number is timed
        }

    @classmethod
    def in_clone_of(cls, repository: Path, folder: Path) -> "Shell":
        """In a clone of the repository's HEAD; the one that the folder has is brought there."""
        shell = cls(folder)
        if not shell.clone.exists():
            subprocess.run(["git", "clone", "-q", str(repository), str(shell.clone)], check=True)
        shell.git("fetch", "-q", str(repository), "HEAD")
        shell.git("checkout", "-q", "--detach", "FETCH_HEAD")
        return shell

    def git(self, *arguments: str) -> str:
        command = ["git", "-C", str(self.clone), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def versions(self) -> str:
        """Return the versions of Python and the main packages in the clone's environment."""
        code = (
            "from c3l.artifacts.provenance import versions as v;"
            " print(*map(' '.join, v().items()), sep=', ')"
        )
        return subprocess.run(
            ["python", "-c", code],
            cwd=self.clone,
            env=self.env,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    @property
    def installed(self) -> bool:
        return (self.clone / ".venv" / "bin" / "lmms-eval").exists()

    def type(self, trial: Trial) -> Outcome:
        """Run a command line to its end."""
        before, start = processor_seconds(), time.monotonic()
        child = subprocess.Popen(
            ["bash", "-c", trial.line],
            cwd=self.clone,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        lines: dict[str, list[tuple[float, str]]] = {"out": [], "err": []}

        def read(name: str, pipe) -> None:
            for line in pipe:
                text = line.decode("utf-8", "replace")
                lines[name].append((time.monotonic() - start, text))

        readers = [
            threading.Thread(target=read, args=(name, pipe))
            for name, pipe in (("out", child.stdout), ("err", child.stderr))
        ]
        for reader in readers:
            reader.start()
        try:
            code = child.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            code = child.wait()
        seconds = time.monotonic() - start
        for reader in readers:
            reader.join()
        numbers = (at for at, line in lines["out"] if NUMBER.match(line))
        return Outcome(
            code,
            seconds,
            processor_seconds() - before,
            next(numbers, None),
            *(self.readable("".join(line for _, line in lines[name])) for name in ("out", "err")),
            self.git("rev-parse", "HEAD"),
        )

    def readable(self, text: str) -> str:
        """As a reader would have it: no escape codes, no overdrawn lines, no paths of ours."""
        lines = (line.rpartition("\r")[2] for line in text.replace("\r\n", "\n").split("\n"))
        text = ESCAPES.sub("", "\n".join(lines))
        places = {self.clone: f"{HOME}/c3l", self.home: HOME, self.folder: HOME}
        for ours, theirs in ((str(ours), theirs) for ours, theirs in places.items()):
            # In a table, the room that is won goes behind the cell's words.
            cell = re.compile(rf"(?m)^(\|.*?){re.escape(ours)}([^|\n]*)(?=\|)")
            while found := cell.search(text):
                room = " " * (len(ours) - len(theirs))
                text = (
                    text[: found.start()]
                    + found[1]
                    + theirs
                    + found[2]
                    + room
                    + text[found.end() :]
                )
            text = text.replace(ours, theirs)
        return text


def processor_seconds() -> float:
    """Of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
