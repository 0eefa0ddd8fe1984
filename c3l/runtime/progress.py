"""Progress and messages on standard error.

Long loops `track` their steps, and listeners show them: a bar on a terminal, else a line a minute
(`StatusLine`), or a file that another process reads (`progress_file`).
"""

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self, TypeVar

from c3l.runtime.errors import escape_unprintable

T = TypeVar("T")

EVERY = 60.0  # seconds between plain lines
QUIET, NORMAL, VERBOSE = -1, 0, 1
# In the environment, so that worker processes have it too.
_LEVEL = "C3L_VERBOSITY"


def set_level(level: int) -> None:
    """Set the level of messages, here and in child processes.

    QUIET: results and errors; NORMAL: progress too; VERBOSE: each stage as well.
    """
    os.environ[_LEVEL] = str(level)
    for name in ("c3l", "repro", "benchmarks"):
        logging.getLogger(name).setLevel(logging.ERROR if level < NORMAL else logging.WARNING)


def level() -> int:
    """Return QUIET, NORMAL or VERBOSE."""
    return int(os.environ.get(_LEVEL, NORMAL))


def echo(text: str, *, minimum: int = NORMAL) -> None:
    """Print a line on standard error if the level is at least `minimum`."""
    if level() >= minimum:
        print(escape_unprintable(text, keep="\n"), file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """ "40 s", "12 min" or "3 h 20 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def format_rate(each: float) -> str:
    """Return a rate by the second, "4.2/s", or by the minute or hour where that is below one."""
    unit, seconds = next(
        (unit for unit in (("s", 1), ("min", 60)) if each * unit[1] >= 1), ("h", 3600)
    )
    number = each * seconds
    return f"{number:.0f}/{unit}" if number >= 10 else f"{number:.1f}/{unit}"


@dataclass(frozen=True)
class Position:
    """The progress of a loop: `done` of `total`, in `unit`s, with that of the loops within it."""

    unit: str
    done: float
    total: float

    @property
    def share(self) -> float:
        return self.done / self.total if self.total else 0.0


_loops: list["Loop"] = []
"""The running loops, the outermost first."""
_listeners: list[Callable[[Position], None]] = []


class Loop:
    """A running loop, from its construction to its `end`."""

    def __init__(self, unit: str, total: float):
        self.unit, self.total = unit, total
        self.done = self.step = 0.0
        _loops.append(self)

    def update(self, done: float, step: float) -> None:
        """Report what is done, and how much the step that begins now counts."""
        self.done, self.step = done, step
        _notify()

    def end(self) -> None:
        if self in _loops:  # else a new listener has cleared what an exception left
            _loops.remove(self)


def track(steps: Collection[T], unit: str, sizes: Sequence[float] | None = None) -> Iterator[T]:
    """Yield the steps and report how many `unit`s are done.

    A step counts as many as `sizes` say, or as one.
    """
    sizes = [1.0] * len(steps) if sizes is None else sizes
    loop, done = Loop(unit, sum(sizes)), 0.0
    try:
        for step, size in zip(steps, sizes, strict=True):
            loop.update(done, size)
            yield step
            done += size
        loop.update(done, 0.0)
    finally:
        loop.end()


def _notify() -> None:
    position = None
    for loop in reversed(_loops):
        share = position.share if position else 0.0
        position = Position(loop.unit, loop.done + share * loop.step, loop.total)
    for listener in _listeners if position else ():
        listener(position)


@contextmanager
def listening(listener: Callable[[Position], None]) -> Iterator[None]:
    """Call the listener with the position of the outermost loop, within the block."""
    if not _listeners:
        _loops.clear()  # those that an exception left
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


@contextmanager
def progress_file(path: Path) -> Iterator[None]:
    """Write this process's position to a file within the block, for `read_progress`."""
    written = 0.0

    def write(position: Position) -> None:
        nonlocal written
        if time.monotonic() - written < 1:
            return
        written = time.monotonic()
        work = path.with_suffix(".tmp")
        with suppress(OSError):  # no work is lost over a message
            work.write_text(json.dumps(asdict(position)))
            os.replace(work, path)

    with listening(write):
        yield


def read_progress(path: Path) -> Position | None:
    """Return what `progress_file` wrote last, or None."""
    try:
        return Position(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


class Display:
    """A bar with a message on a terminal, else the message once a minute. A context manager."""

    def __init__(self):
        self._bar = None
        self._spoke = time.monotonic()

    def __enter__(self) -> Self:
        # One bar at a time: libraries draw theirs through tqdm.
        os.environ["TQDM_DISABLE"] = "1"
        if hub := sys.modules.get("huggingface_hub.utils"):
            hub.disable_progress_bars()
        if sys.stderr.isatty() and level() >= NORMAL:
            from rich import progress
            from rich.console import Console
            from rich.table import Column

            column = Column(no_wrap=True, overflow="ellipsis")
            self._bar = progress.Progress(
                progress.BarColumn(bar_width=24),
                progress.TextColumn("{task.description}", markup=False, table_column=column),
                console=Console(stderr=True),
                transient=True,
                redirect_stdout=False,
            )
            self._task = self._bar.add_task("", total=None)
            self._bar.start()
        return self

    def __exit__(self, *_) -> None:
        if self._bar:
            self._bar.stop()

    def update(self, words: str, done: float = 0.0, total: float | None = None) -> None:
        """Show the progress; without a total, only that the work goes on."""
        if self._bar:
            self._bar.update(self._task, completed=done, total=total, description=words)
        elif time.monotonic() - self._spoke >= EVERY:
            self._spoke = time.monotonic()
            echo(f"{words[0].upper()}{words[1:]}.")


class StatusLine(Display):
    """The work of this process, shown as it goes on. A context manager.

    `begin` names the work; tracked loops add how much of it is done, the rate and the time left.
    """

    _title = ""
    _start: tuple[str, float, float, float] | None = None  # unit, total, done, time

    def __enter__(self) -> Self:
        self._listening = listening(self._show)
        self._listening.__enter__()
        return super().__enter__()

    def __exit__(self, *error) -> None:
        super().__exit__(*error)
        self._listening.__exit__(*error)

    def begin(self, title: str) -> None:
        """Begin other work."""
        self._title, self._start = title, None
        self.update(title)

    def _show(self, position: Position) -> None:
        unit, done, total = position.unit, position.done, position.total
        now, start = time.monotonic(), self._start
        if not start or start[:2] != (unit, total) or done < start[2]:
            # What is done at the first report may have been stored already: it has no rate.
            start = self._start = (unit, total, done, now)
        text = f"{self._title}: {done:.0f} of {total:.0f} {unit}"
        if done > start[2] and now > start[3]:
            rate = (done - start[2]) / (now - start[3])
            text += f" · {format_rate(rate)} · {duration((total - done) / rate)} left"
        self.update(text, done, total)
