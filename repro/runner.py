"""Run the missing stages of a table in worker processes, each stage once.

Workers are spawned, load torch once, and die with this process however it dies. Nothing is retried:
a stage that fails ends the run, and what was finished is found again by the next one.
"""

import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import cache
from multiprocessing.connection import wait as wait_for
from pathlib import Path

from c3l.errors import UserError
from c3l.graph import Stages, everything, missing
from c3l.store import Stage, Store
from repro.progress import Progress, Times

__all__ = ["Stages", "chains", "discard_transient", "everything", "missing", "run"]


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


def run(todo: Stages, store: Store, jobs: int, progress: Progress, log: Path) -> None:
    """Run the stages, those with the longest chain behind them first.

    What libraries print in the workers goes to the file `log`. Raises UserError for what a worker
    says the user can mend; at any exception, KeyboardInterrupt too, the workers are killed.
    """
    if not todo:
        return
    lengths = chains(todo, progress.times)
    waiting = {key: {s.key for s in stage.stages} & todo.keys() for key, stage in todo.items()}
    running: dict[Future, Stage] = {}
    log.write_text("")
    pool = ProcessPoolExecutor(
        min(jobs, len(todo)),
        multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        # the number of threads changes sums in their last digits: not how much is left to do
        initargs=(jobs > 1, log),
    )
    try:
        while waiting or running:
            ready = [key for key, inputs in waiting.items() if not inputs]
            for key in sorted(ready, key=lengths.__getitem__, reverse=True):
                if len(running) < jobs:
                    del waiting[key]
                    with _deaf_children():
                        running[pool.submit(_make, todo[key], store.root)] = todo[key]
            progress.show(running.values())
            for future in wait(running, timeout=1, return_when=FIRST_COMPLETED).done:
                stage = running.pop(future)
                progress.finished(stage, future.result())
                for inputs in waiting.values():
                    inputs.discard(stage.key)
    except BrokenProcessPool as error:
        raise UserError(
            f"A worker process was killed, perhaps for lack of memory (see {log}); run the same "
            "command again with fewer --jobs: finished stages are kept."
        ) from error
    except BaseException:
        for worker in multiprocessing.active_children():
            worker.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        store.sweep()  # what killed workers left


@contextmanager
def _deaf_children() -> Iterator[None]:
    """Ctrl-C reaches every process of a terminal's group, and a worker that is only starting would
    make a traceback of it. Those started here do not hear of it; this process does, after."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


_store = cache(Store)


def _start_worker(one_thread: bool, log: Path) -> None:
    """Set a worker up; torch reads the number of threads when a stage first imports it.

    What fails here breaks the pool without a word of why: nothing may that a full disk does.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    if one_thread:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            os.environ[name] = "1"
    # Weights and data lie in folders: nothing is to be asked of the Hub.
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "TQDM_DISABLE": "1"}
    terminal = os.fdopen(os.dup(2), "w", buffering=1)  # our own warnings still get there
    logging.getLogger("c3l").addHandler(logging.StreamHandler(terminal))
    with open(log, "a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout.reconfigure(line_buffering=True)


def _die_with_parent() -> None:
    wait_for([multiprocessing.parent_process().sentinel])
    os._exit(1)


def _make(stage: Stage, root: Path) -> float:
    """Make a stage; how many seconds it took, as its manifest says."""
    store = _store(root)
    store.make(stage)
    manifest = store.manifest(stage)
    return manifest["seconds"] if manifest else 0.0  # damaged already: the run looks once more
