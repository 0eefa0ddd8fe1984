"""Run the missing stages of a table in worker processes, each stage once.

A stage that fails ends the run; the next run finds what is finished. A stage that lost its worker
goes on in another one.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path

from c3l.artifacts.graph import Stages, closure, not_in_store
from c3l.artifacts.store import Stage, Store
from c3l.runtime.errors import UserError
from c3l.runtime.progress import echo
from repro.profile import Expected
from repro.run import engines
from repro.run.progress import Progress, Times
from repro.run.worker import WorkerLostError

TRIES = 3  # workers that a stage may cost


def discard_transient(targets: Iterable[Stage], store: Store) -> None:
    """Remove targets whose judge had failed: they may have a result now."""
    for stage in targets:
        manifest = store.manifest(stage)
        if manifest and manifest["facts"].get("transient"):
            store.discard(stage)


def chains(stages: Stages, times: Times) -> dict[str, float]:
    """Return, by stage, the seconds from its start to the end of the longest chain behind it."""
    lengths = dict.fromkeys(stages, 0.0)
    for key, stage in reversed(stages.items()):  # users before what they use
        lengths[key] += times.expected(stage)
        for source in stage.stages:
            if source.key in lengths:
                lengths[source.key] = max(lengths[source.key], lengths[key])
    return lengths


def run_missing(
    targets: list[Stage],
    todo: Stages,
    store: Store,
    jobs: int,
    log: Path,
    expected: Expected,
    *,
    estimates: Mapping[str, float] | None = None,
    rows: Mapping[str, list[str]] | None = None,
    engine: engines.Name = "local",
) -> None:
    """Run `todo`, all stages behind the targets that are not stored, with a status display.

    Those with the longest chain behind them come first. `expected` and `estimates` are for `Times`,
    `rows` for `Progress`. What libraries print in the workers goes to the file `log`. Raises
    UserError for errors that the user can fix. On any exception, KeyboardInterrupt included, the
    workers are killed.
    """
    everything = closure(targets)
    times, stored = Times(expected, everything.values(), store, estimates), everything.keys() - todo
    with Progress(todo, len(stored), times, jobs, rows=rows, everything=everything) as progress:
        while todo:
            log.write_text("")
            try:
                with engines.create_engine(engine, store.root, jobs, log) as started:
                    _Scheduler(todo, store, progress, started).run()
            finally:
                store.remove_leftovers()  # what killed workers left
            todo = not_in_store(targets, store)  # empty, unless an artefact was damaged


class _Scheduler:
    def __init__(self, todo: Stages, store: Store, progress: Progress, engine: engines.Engine):
        self.todo, self.store, self.progress, self.engine = todo, store, progress, engine
        self.inputs = {k: {s.key for s in stage.stages} & todo.keys() for k, stage in todo.items()}
        """By each stage that has not begun, the inputs that it waits for."""
        self.running: dict[Future, Stage] = {}
        self.helpers: dict[Future, Stage] = {}
        self.without_shards: set[str] = set()
        """Stages whose helpers found no further shard to begin."""
        self.lost: Counter[str] = Counter()

    def run(self) -> None:
        lengths = chains(self.todo, self.progress.times)
        while self.inputs or self.running:
            ready = [key for key, inputs in self.inputs.items() if not inputs]
            for key in sorted(ready, key=lengths.__getitem__, reverse=True):
                if self._has_idle_worker():
                    del self.inputs[key]
                    self.running[self.engine.submit("make", self.todo[key])] = self.todo[key]
            for stage in self.running.values():
                while self._has_idle_worker() and self._can_use_help(stage):
                    self.helpers[self.engine.submit("help", stage)] = stage
            self.progress.show(self.running.values())
            futures = {*self.running, *self.helpers}
            for future in wait(futures, timeout=1, return_when=FIRST_COMPLETED).done:
                (self._finish if future in self.running else self._finish_help)(future)

    def _has_idle_worker(self) -> bool:
        return len(self.running) + len(self.helpers) < self.engine.jobs

    def _can_use_help(self, stage: Stage) -> bool:
        """Return whether some shard has no worker."""
        workers = 1 + list(self.helpers.values()).count(stage)
        return stage.key not in self.without_shards and self.store.shards_left(stage) > workers

    def _finish(self, future: Future) -> None:
        stage = self.running.pop(future)
        try:
            seconds = future.result()
        except WorkerLostError as lost:
            self._count_lost(stage, lost)
            self.inputs[stage.key] = set()
            return
        self.progress.finished(stage, seconds)
        for inputs in self.inputs.values():
            inputs.discard(stage.key)

    def _finish_help(self, future: Future) -> None:
        """End a helper. The worker that makes the stage meets the same errors and raises them."""
        stage, error = self.helpers.pop(future), future.exception()
        if isinstance(error, WorkerLostError):
            self._count_lost(stage, error)
        else:
            self.without_shards.add(stage.key)

    def _count_lost(self, stage: Stage, lost: WorkerLostError) -> None:
        """Raise UserError where the stage has cost too many workers."""
        name = f"{stage.name} {stage.key[:12]}"
        self.lost[stage.key] += 1
        if self.lost[stage.key] == TRIES:
            raise UserError(
                f"{TRIES} workers that were at {name} were lost, perhaps for lack of memory "
                f"({lost}); run the same command again with fewer --jobs: finished stages are kept."
            ) from lost
        echo(f"A worker was lost ({lost}); {name} goes on in another.")
