"""Run the missing stages of a table in worker processes, each stage once.

A stage that fails ends the run, and what was finished is found again by the next one. A stage whose
worker alone was killed is taken up again where it was.
"""

from collections import Counter
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path

from c3l.artifacts.graph import Stages, closure, not_in_store
from c3l.artifacts.store import Stage, Store
from c3l.runtime.errors import UserError
from repro.run import engines
from repro.run.progress import Progress, Times, echo

__all__ = ["Stages", "chains", "closure", "discard_transient", "not_in_store", "run"]

TRIES = 3  # workers that a stage may cost


def discard_transient(targets: Iterable[Stage], store: Store) -> None:
    """Remove the targets without a result that may have one now: their judge had failed."""
    for stage in targets:
        manifest = store.manifest(stage)
        if manifest and manifest["facts"].get("transient"):
            store.discard(stage)


def chains(stages: Stages, times: Times) -> dict[str, float]:
    """Seconds from the start of each stage to the end of the longest chain that waits for it."""
    lengths = dict.fromkeys(stages, 0.0)
    for key, stage in reversed(stages.items()):  # users before what they use
        lengths[key] += times.expected(stage)
        for source in stage.stages:
            if source.key in lengths:
                lengths[source.key] = max(lengths[source.key], lengths[key])
    return lengths


def run(
    todo: Stages,
    store: Store,
    jobs: int,
    progress: Progress,
    log: Path,
    engine: engines.Name = "local",
) -> None:
    """Run the stages, those with the longest chain behind them first.

    What libraries print in the workers goes to the file `log`. Raises UserError for what a worker
    says the user can mend; at any exception, KeyboardInterrupt too, the workers are killed.
    """
    if not todo:
        return
    log.write_text("")
    try:
        with engines.start(engine, store.root, jobs, log) as started:
            _Run(todo, store, progress, started).to_the_end()
    finally:
        store.remove_leftovers()  # what killed workers left


class _Run:
    """What waits and what is at work."""

    def __init__(self, todo: Stages, store: Store, progress: Progress, engine: engines.Engine):
        self.todo, self.store, self.progress, self.engine = todo, store, progress, engine
        self.waiting = {k: {s.key for s in stage.stages} & todo.keys() for k, stage in todo.items()}
        self.running: dict[Future, Stage] = {}
        self.helping: dict[Future, Stage] = {}
        self.helped: set[str] = set()
        """Stages whose helpers found nothing more to begin."""
        self.lost: Counter[str] = Counter()

    def to_the_end(self) -> None:
        lengths = chains(self.todo, self.progress.times)
        while self.waiting or self.running:
            ready = [key for key, inputs in self.waiting.items() if not inputs]
            for key in sorted(ready, key=lengths.__getitem__, reverse=True):
                if self._idle():
                    del self.waiting[key]
                    self.running[self.engine.submit("make", self.todo[key])] = self.todo[key]
            for stage in self.running.values():
                while self._idle() and self._is_there_to_help(stage):
                    self.helping[self.engine.submit("help", stage)] = stage
            self.progress.show(self.running.values())
            both = {*self.running, *self.helping}
            for future in wait(both, timeout=1, return_when=FIRST_COMPLETED).done:
                (self._made if future in self.running else self._has_helped)(future)

    def _idle(self) -> bool:
        return len(self.running) + len(self.helping) < self.engine.jobs

    def _is_there_to_help(self, stage: Stage) -> bool:
        """Whether there is a shard that no worker is at."""
        at_work = 1 + list(self.helping.values()).count(stage)
        return stage.key not in self.helped and self.store.shards_left(stage) > at_work

    def _made(self, future: Future) -> None:
        stage = self.running.pop(future)
        try:
            seconds = future.result()
        except engines.Lost as lost:
            self._lost(stage, lost)
            self.waiting[stage.key] = set()
            return
        self.progress.finished(stage, seconds)
        for inputs in self.waiting.values():
            inputs.discard(stage.key)

    def _has_helped(self, future: Future) -> None:
        """What stopped it from helping stops the worker that makes the stage as well, and that one
        says so."""
        stage, error = self.helping.pop(future), future.exception()
        if isinstance(error, engines.Lost):
            self._lost(stage, error)
        else:
            self.helped.add(stage.key)

    def _lost(self, stage: Stage, lost: engines.Lost) -> None:
        """Raises UserError where the stage has cost too many workers."""
        name = f"{stage.name} {stage.key[:12]}"
        self.lost[stage.key] += 1
        if self.lost[stage.key] == TRIES:
            raise UserError(
                f"{TRIES} workers that were at {name} were lost, perhaps for lack of memory "
                f"({lost}); run the same command again with fewer --jobs: finished stages are kept."
            ) from lost
        echo(f"A worker was lost ({lost}); {name} goes on in another.")
