"""What a run tells on standard error: a bar on a terminal, a plain line a minute otherwise."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from statistics import median

from c3l.artifacts.store import Stage, Store
from c3l.runtime.progress import VERBOSE, Display, duration, echo, format_rate
from repro.estimate import workload
from repro.profile import Expected

__all__ = ["Progress", "Times", "duration", "echo"]


class Times:
    """Expected seconds of stages: by measured ones where there are any, else by what the profile
    says, else those reckoned for a stage, by its key.

    Stages of one name differ by what they have to do (`workload.beside_others`): a generator that
    learns from all samples takes ten times as long as one that learns from the best tenth.
    """

    def __init__(
        self,
        said: Expected,
        stages: Iterable[Stage],
        store: Store,
        reckoned: Mapping[str, float] | None = None,
    ):
        self.said, self.reckoned, self.store = said, reckoned or {}, store
        self._work: dict[str, float] = {}
        self._paces: dict[str, list[float]] = {}
        """Measured seconds by a stage's name, each for what the stage had to do."""
        for stage in stages:
            if manifest := store.manifest(stage):
                self.add(stage, manifest["seconds"])

    def add(self, stage: Stage, seconds: float) -> None:
        self._paces.setdefault(stage.name, []).append(seconds / self._of(stage))

    def expected(self, stage: Stage) -> float:
        if measured := self._paces.get(stage.name):
            # A worker's first stage also imports torch.
            return median(measured) * self._of(stage)
        if factor := self.said.factors.get(stage.name):
            return factor * self._of(stage)
        return self.said.seconds.get(stage.name, self.reckoned.get(stage.key, 1.0))

    def source(self, stage: Stage) -> str:
        """Where that number is from."""
        if self._paces.get(stage.name):
            return "measured"
        if stage.name in self.said.factors.keys() | self.said.seconds.keys():
            return "profile"
        return "reckoned" if stage.key in self.reckoned else "–"

    def _of(self, stage: Stage) -> float:
        if stage.key not in self._work:
            self._work[stage.key] = workload.relative_cost(stage)
        return self._work[stage.key]

    def total(self, stages: Iterable[Stage], jobs: int) -> float:
        """Seconds for all of them, side by side."""
        return sum(self.expected(stage) for stage in stages) / jobs


class Progress:
    """How far a run is. A context manager.

    `rows` are the rows of tables that a stage belongs to, by its key; `everything` all stages of
    the run, the stored ones too, so that -v can name them.
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
        self.left, self.times, self.jobs = dict(todo), times, jobs
        self.total, self.stored = len(todo), stored
        self.rows = rows or {}
        self._found = [s for key, s in (everything or {}).items() if key not in todo]
        self._since: dict[str, float] = {}  # of those at work
        self._started = time.monotonic()
        self._display = Display()

    def __enter__(self) -> "Progress":
        minutes = duration(self.times.total(self.left.values(), self.jobs))
        echo(
            f"{self.total} stages to run, {self.stored} taken from the store; "
            f"about {minutes} with {self.jobs} workers."
        )
        for stage in self._found:
            echo(
                f"from the store: {stage.name} {stage.key[:12]}{self._row(stage)}", minimum=VERBOSE
            )
        if self.total:
            self._display.__enter__()
        return self

    def __exit__(self, *error) -> None:
        if self.total:
            self._display.__exit__(*error)

    def show(self, running: Iterable[Stage]) -> None:
        """Say what is at work: each stage, the row that it is for, and how far it is."""
        running = list(running)
        now = time.monotonic()
        self._since = {stage.key: self._since.get(stage.key, now) for stage in running}
        done = self.total - len(self.left)
        words = f"{done} of {self.total} stages"
        if done:
            words += f" · {format_rate(done / (now - self._started))}"
        words += f" · {self._time_left(running)} left"
        self._display.update(
            " · ".join([words, *self._at_work(running)]), done + self._shares(running), self.total
        )

    def finished(self, stage: Stage, seconds: float) -> None:
        """Count a stage as done."""
        self.left.pop(stage.key, None)  # made once more, if it was damaged meanwhile
        self.times.add(stage, seconds)
        name = f"{stage.name} {stage.key[:12]}"
        echo(f"done in {duration(seconds)}: {name}{self._row(stage)}", minimum=VERBOSE)

    def _at_work(self, running: list[Stage]) -> list[str]:
        """ "generator 12/40 steps (table4: CRM)"; "4 × final" of stages that say the same."""
        words = Counter()
        for stage in running:
            place = self.times.store.progress(stage)
            at = f" {place.done:.0f}/{place.total:.0f} {place.unit}" if place else ""
            words[f"{stage.name}{at}{self._row(stage)}"] += 1
        return [f"{count} × {text}" if count > 1 else text for text, count in sorted(words.items())]

    def _row(self, stage: Stage) -> str:
        rows = self.rows.get(stage.key)
        if not rows:
            return ""
        return f" ({rows[0]}{f' and {len(rows) - 1} more rows' if len(rows) > 1 else ''})"

    def _shares(self, running: list[Stage]) -> float:
        """The stages at work, as parts of a whole one."""
        places = (self.times.store.progress(stage) for stage in running)
        return sum(place.share for place in places if place)

    def _time_left(self, running: list[Stage]) -> str:
        """What is expected of all that is left, less what those at work have had of it."""
        total = self.times.total(self.left.values(), 1)
        for stage in running:
            if stage.key in self.left:  # else it has just finished
                total += self._remaining(stage) - self.times.expected(stage)
        return duration(total / self.jobs)

    def _remaining(self, stage: Stage) -> float:
        """Seconds of one at work: what is expected of it, or once that is over what it says."""
        elapsed = time.monotonic() - self._since[stage.key]
        place = self.times.store.progress(stage)
        if elapsed < self.times.expected(stage) or not (place and place.share):
            return max(self.times.expected(stage) - elapsed, 0.0)
        return elapsed * (1 - place.share) / place.share
