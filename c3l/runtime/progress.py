"""How far the work is and what is said of it, on standard error.

Loops that take long `track` their steps, and whoever listens is told: a bar on a terminal, else a
line a minute (`Work`), or a file that another process reads (`written`). Nobody has to listen.
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
from typing import TypeVar

from c3l.runtime.errors import escape_unprintable

T = TypeVar("T")

EVERY = 60.0  # seconds between plain lines
QUIET, NORMAL, VERBOSE = -1, 0, 1
# In the environment, so that worker processes have it too.
_LEVEL = "C3L_VERBOSITY"


def set_level(level: int) -> None:
    """What is said from now on, here and in child processes: results and errors (QUIET), how far
    the work is (NORMAL), or each stage as well (VERBOSE)."""
    os.environ[_LEVEL] = str(level)
    for name in ("c3l", "repro", "benchmarks"):
        logging.getLogger(name).setLevel(logging.ERROR if level < NORMAL else logging.WARNING)


def level() -> int:
    """QUIET, NORMAL or VERBOSE."""
    return int(os.environ.get(_LEVEL, NORMAL))


def echo(text: str, *, at: int = NORMAL) -> None:
    """A line on standard error, unless less is to be said."""
    if level() >= at:
        print(escape_unprintable(text, keep="\n"), file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """ "40 s", "12 min" or "3 h 20 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def format_rate(each: float) -> str:
    """How many in a second: "4.2/s", or in a minute or an hour where that is less than one."""
    for seconds, unit in ((1, "s"), (60, "min"), (3600, "h")):
        if each * seconds >= 1 or unit == "h":
            break
    number = each * seconds
    return f"{number:.0f}/{unit}" if number >= 10 else f"{number:.1f}/{unit}"


# ── Loops that tell ──────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Position:
    """How far a loop is: `done` of `total`, in `unit`s. What loops within it have done of the
    current step counts."""

    unit: str
    done: float
    total: float

    @property
    def share(self) -> float:
        return self.done / self.total if self.total else 0.0


_loops: list["Loop"] = []
"""The loops at work, the outermost first."""
_listeners: list[Callable[[Position], None]] = []


class Loop:
    """A loop at work, from when it is made to its `end`."""

    def __init__(self, unit: str, total: float):
        self._unit, self._total = unit, total
        self._done = self._step = 0.0
        _loops.append(self)

    def update(self, done: float, step: float) -> None:
        """So much is done, and the step that now begins counts so much."""
        self._done, self._step = done, step
        _tell()

    def end(self) -> None:
        if self in _loops:  # else a new listener has cleared what an exception left
            _loops.remove(self)

    def place(self, share: float) -> Position:
        """Where the loop is when a share of its current step is done."""
        return Position(self._unit, self._done + share * self._step, self._total)


def track(steps: Collection[T], unit: str, sizes: Sequence[float] | None = None) -> Iterator[T]:
    """The steps, one after the other; whoever listens is told how many `unit`s are done.

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


def _tell() -> None:
    place = None
    for loop in reversed(_loops):
        place = loop.place(place.share if place else 0.0)
    for listener in _listeners if place else ():
        listener(place)


@contextmanager
def listening(listener: Callable[[Position], None]) -> Iterator[None]:
    """Within, the listener is told how far the outermost loop is."""
    if not _listeners:
        _loops.clear()  # those that an exception left
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


@contextmanager
def progress_file(path: Path) -> Iterator[None]:
    """Within, how far this process is stands in a file, for another one to `read`."""
    spoke = 0.0

    def write(place: Position) -> None:
        nonlocal spoke
        if time.monotonic() - spoke < 1:
            return
        spoke = time.monotonic()
        work = path.with_suffix(".tmp")
        with suppress(OSError):  # no work is lost for want of words
            work.write_text(json.dumps(asdict(place)))
            os.replace(work, path)

    with listening(write):
        yield


def read_progress(path: Path) -> Position | None:
    """What `written` said last."""
    try:
        return Position(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


# ── What is shown ────────────────────────────────────────────────────────────────────────────────


class Display:
    """A bar with words on a terminal; otherwise the words, once a minute. A context manager."""

    def __init__(self):
        self._bar = None
        self._spoke = time.monotonic()

    def __enter__(self) -> "Display":
        # One bar at a time: libraries draw theirs through tqdm.
        os.environ["TQDM_DISABLE"] = "1"
        if hub := sys.modules.get("huggingface_hub.utils"):
            hub.disable_progress_bars()
        if sys.stderr.isatty() and level() >= NORMAL:
            from rich import progress
            from rich.console import Console
            from rich.table import Column

            self._bar = progress.Progress(
                progress.BarColumn(bar_width=24),
                progress.TextColumn(
                    "{task.description}",
                    markup=False,
                    table_column=Column(no_wrap=True, overflow="ellipsis"),
                ),
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
        """Show how far the work is; without a total, that it goes on."""
        if self._bar:
            self._bar.update(self._task, completed=done, total=total, description=words)
        elif time.monotonic() - self._spoke >= EVERY:
            self._spoke = time.monotonic()
            echo(f"{words[0].upper()}{words[1:]}.")


class StatusLine:
    """What this process is at, shown as it goes on. A context manager.

    `begin` names what is begun; loops that are tracked add how much of it is done, how fast, and the
    time left.
    """

    def __init__(self):
        self._display = Display()
        self._title = ""
        self._begun: tuple[str, float, float, float] | None = None  # unit, total, done, when

    def __enter__(self) -> "StatusLine":
        self._listening = listening(self._told)
        self._listening.__enter__()
        self._display.__enter__()
        return self

    def __exit__(self, *error) -> None:
        self._display.__exit__(*error)
        self._listening.__exit__(*error)

    def begin(self, title: str) -> None:
        """Something else is begun."""
        self._title, self._begun = title, None
        self._display.update(title)

    def _told(self, place: Position) -> None:
        now, begun = time.monotonic(), self._begun
        if not begun or begun[:2] != (place.unit, place.total) or place.done < begun[2]:
            # What is done when the first word comes may have been found, not made: it has no rate.
            begun = self._begun = (place.unit, place.total, place.done, now)
        words = f"{self._title}: {place.done:.0f} of {place.total:.0f} {place.unit}"
        made, seconds = place.done - begun[2], now - begun[3]
        if made > 0 and seconds > 0:
            rate = made / seconds
            words += f" · {format_rate(rate)} · {duration((place.total - place.done) / rate)} left"
        self._display.update(words, place.done, place.total)
