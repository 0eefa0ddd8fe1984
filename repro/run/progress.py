"""A run's status on standard error: a bar on a terminal, a plain line a minute otherwise."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from statistics import median

from c3l.artifacts.store import Stage, Store
from c3l.runtime.progress import VERBOSE, Display, duration, echo, format_rate
from repro.estimate import workload
from repro.profile import Expected


class Times:
    """Expected seconds of stages: measured ones first, then the profile's, then estimates by key.

    Stages of one name are scaled by their work (`workload.relative_cost`): a generator that learns
    from all samples takes ten times as long as one that learns from the best tenth.
    """

    def __init__(
        self,
        profile: Expected,
        stages: Iterable[Stage],
        store: Store,
        estimates: Mapping[str, float] | None = None,
    ):
        self.profile, self.estimates, self.store = profile, estimates or {}, store
        self._work: dict[str, float] = {}
        self._measured: dict[str, list[float]] = {}
        """By a stage's name, the seconds for each unit of work."""
        for stage in stages:
            if manifest := store.manifest(stage):
                self.add(stage, manifest["seconds"])

    def add(self, stage: Stage, seconds: float) -> None:
        self._measured.setdefault(stage.name, []).append(seconds / self._work_of(stage))

    def expected(self, stage: Stage) -> float:
        if measured := self._measured.get(stage.name):
            # A worker's first stage also imports torch.
            return median(measured) * self._work_of(stage)
        if factor := self.profile.factors.get(stage.name):
            return factor * self._work_of(stage)
        return self.profile.seconds.get(stage.name, self.estimates.get(stage.key, 1.0))

    def source(self, stage: Stage) -> str:
        """Name the source of `expected`: measured, profile, estimated, or "–" for none."""
        if self._measured.get(stage.name):
            return "measured"
        if stage.name in self.profile.factors.keys() | self.profile.seconds.keys():
            return "profile"
        return "estimated" if stage.key in self.estimates else "–"

    def _work_of(self, stage: Stage) -> float:
        if stage.key not in self._work:
            self._work[stage.key] = workload.relative_cost(stage)
        return self._work[stage.key]

    def total(self, stages: Iterable[Stage], jobs: int) -> float:
        """Seconds for all of them, side by side."""
        return sum(self.expected(stage) for stage in stages) / jobs


class Progress:
    """Status of a run. A context manager.

    `rows` maps a stage's key to the table rows it belongs to; `everything` holds all stages of the
    run, also the stored ones, which -v names.
    """

    def __init__(
        self,
        todo: dict[str, Stage],
        stored: int,
        times: Times,
        jobs: int,
        *,
        rows: Mapping[str, list[str]] | None = None,
        everything: Mapping[str, Stage] | None = None,
    ):
        self.remaining, self.times, self.jobs = dict(todo), times, jobs
        self.total, self.stored = len(todo), stored
        self.rows = rows or {}
        self._from_store = [s for key, s in (everything or {}).items() if key not in todo]
        self._started: dict[str, float] = {}  # by the key of each running stage
        self._run_started = time.monotonic()
        self._display = Display()

    def __enter__(self) -> "Progress":
        minutes = duration(self.times.total(self.remaining.values(), self.jobs))
        echo(
            f"{self.total} stages to run, {self.stored} taken from the store; "
            f"about {minutes} with {self.jobs} workers."
        )
        for stage in self._from_store:
            echo(f"from the store: {self._name(stage)}", minimum=VERBOSE)
        if self.total:
            self._display.__enter__()
        return self

    def __exit__(self, *error) -> None:
        if self.total:
            self._display.__exit__(*error)

    def show(self, running: Iterable[Stage]) -> None:
        """Display the running stages: the row that each is for, and its position."""
        running, now = list(running), time.monotonic()
        self._started = {stage.key: self._started.get(stage.key, now) for stage in running}
        done = self.total - len(self.remaining)
        parts = [f"{done} of {self.total} stages"]
        parts += [format_rate(done / (now - self._run_started))] if done else []
        parts += [f"{self._time_left(running)} left", *self._descriptions(running)]
        positions = (self.times.store.progress(stage) for stage in running)
        partly = sum(position.share for position in positions if position)
        self._display.update(" · ".join(parts), done + partly, self.total)

    def finished(self, stage: Stage, seconds: float) -> None:
        """Count a stage as done."""
        self.remaining.pop(stage.key, None)  # not there where a damaged one was made again
        self.times.add(stage, seconds)
        echo(f"done in {duration(seconds)}: {self._name(stage)}", minimum=VERBOSE)

    def _name(self, stage: Stage) -> str:
        return f"{stage.name} {stage.key[:12]}{self._row(stage)}"

    def _descriptions(self, running: list[Stage]) -> list[str]:
        """ "generator 12/40 steps (table4: CRM)", or "4 × final" for four equal ones."""
        counts = Counter()
        for stage in running:
            place = self.times.store.progress(stage)
            position = f" {place.done:.0f}/{place.total:.0f} {place.unit}" if place else ""
            counts[f"{stage.name}{position}{self._row(stage)}"] += 1
        return [
            f"{count} × {text}" if count > 1 else text for text, count in sorted(counts.items())
        ]

    def _row(self, stage: Stage) -> str:
        rows = self.rows.get(stage.key, [])
        rest = f" and {len(rows) - 1} more rows" if rows[1:] else ""
        return f" ({rows[0]}{rest})" if rows else ""

    def _time_left(self, running: list[Stage]) -> str:
        """Expected time of all remaining stages, less the time that the running ones have had."""
        total = self.times.total(self.remaining.values(), 1)
        for stage in running:
            if stage.key in self.remaining:  # else it has just finished
                total += self._seconds_left(stage) - self.times.expected(stage)
        return duration(total / self.jobs)

    def _seconds_left(self, stage: Stage) -> float:
        """By the expected time; once that is over, by the stage's own progress."""
        elapsed, expected = time.monotonic() - self._started[stage.key], self.times.expected(stage)
        place = self.times.store.progress(stage)
        if elapsed < expected or not (place and place.share):
            return max(expected - elapsed, 0.0)
        return elapsed * (1 - place.share) / place.share
