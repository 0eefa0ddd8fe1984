"""What a run tells on standard error: a bar on a terminal, plain lines otherwise."""

import sys
import time
from collections.abc import Iterable
from statistics import median

from c3l.store import Stage, Store

QUIET = 10.0  # seconds between plain lines


class Times:
    """Expected seconds of stages: measured ones where there are any, else the profile's."""

    def __init__(self, guesses: dict[str, float], stages: Iterable[Stage], store: Store):
        self.guesses = guesses
        self.seconds: dict[str, list[float]] = {}
        for stage in stages:
            if manifest := store.manifest(stage):
                self.add(stage, manifest["seconds"])

    def add(self, stage: Stage, seconds: float) -> None:
        self.seconds.setdefault(stage.name, []).append(seconds)

    def expected(self, stage: Stage) -> float:
        measured = self.seconds.get(stage.name)
        # the median: a worker's first stage also imports torch
        return median(measured) if measured else self.guesses.get(stage.name, 1.0)

    def total(self, stages: Iterable[Stage], jobs: int) -> float:
        """Seconds for all of them, side by side."""
        return sum(self.expected(stage) for stage in stages) / jobs


class Progress:
    """How far a run is. A context manager; without a terminal a line every ten seconds at most."""

    def __init__(self, todo: dict[str, Stage], stored: int, times: Times, jobs: int):
        self.left, self.times, self.jobs = dict(todo), times, jobs
        self.total, self.stored = len(todo), stored
        self._spoke = 0.0
        self._bar = None

    def __enter__(self) -> "Progress":
        minutes = duration(self.times.total(self.left.values(), self.jobs))
        say(
            f"{self.total} stages to run, {self.stored} taken from the store; "
            f"about {minutes} with {self.jobs} workers."
        )
        if sys.stderr.isatty() and self.total:
            from rich import progress
            from rich.console import Console

            self._bar = progress.Progress(
                progress.BarColumn(),
                progress.MofNCompleteColumn(),
                progress.TextColumn("{task.description}"),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task("", total=self.total)
            self._bar.start()
        return self

    def __exit__(self, *_) -> None:
        if self._bar:
            self._bar.stop()

    def show(self, running: Iterable[Stage]) -> None:
        """Name what is at work, on a terminal."""
        if self._bar:
            names = ", ".join(sorted(stage.name for stage in running))
            self._bar.update(self._task, description=f"{self._time_left()} left · {names}")

    def finished(self, stage: Stage, seconds: float) -> None:
        """Count a stage as done."""
        self.left.pop(stage.key, None)  # made once more, if it was damaged meanwhile
        self.times.add(stage, seconds)
        if self._bar:
            self._bar.advance(self._task)
        elif time.monotonic() - self._spoke > QUIET or not self.left:
            self._spoke = time.monotonic()
            say(
                f"{self.total - len(self.left)} of {self.total} stages done, last {stage.name} "
                f"in {seconds:.0f} s; about {self._time_left()} left."
            )

    def _time_left(self) -> str:
        return duration(self.times.total(self.left.values(), self.jobs))


def duration(seconds: float) -> str:
    """ "40 s", "12 min" or "3 h 20 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def say(text: str) -> None:
    """A line on standard error."""
    print(text, file=sys.stderr, flush=True)
