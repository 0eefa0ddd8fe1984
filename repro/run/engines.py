"""Where stages run: worker processes of this machine, or Ray's (`repro.run.ray_engine`).

An engine is a context manager; leaving it by an exception (KeyboardInterrupt too) kills its
workers.
"""

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from typing import Literal, Protocol

from c3l.artifacts.store import Stage
from c3l.runtime.errors import UserError
from repro.run import worker

Name = Literal["local", "ray"]


class Lost(Exception):
    """A worker was killed, and the engine goes on without it; says why."""


class Engine(Protocol):
    """What the runner asks of an engine."""

    jobs: int
    """How many tasks are done at a time, at most."""

    def __enter__(self) -> "Engine": ...

    def __exit__(self, *error) -> None: ...

    def submit(self, task: worker.Task, stage: Stage) -> Future[float]:
        """Have a task done (`repro.run.worker.do`). The future raises Lost if its worker is killed,
        unless all workers are lost with it, and what the task raises."""


def start(name: Name, root: Path, jobs: int, log: Path) -> Engine:
    """An engine for the store below `root`, to be entered. What libraries print in its workers goes
    to the file `log`. Raises UserError where there is no Ray."""
    # the number of threads changes sums in their last digits: not how much is left to do
    environment = worker.environment(one_thread=jobs > 1)
    if name == "local":
        return Local(root, jobs, environment, log)
    from repro.run.ray_engine import Ray

    return Ray(root, jobs, environment, log)


class Local:
    """Workers are spawned, load torch once, and die with this process however it dies. One that is
    killed takes the others with it."""

    def __init__(self, root: Path, jobs: int, environment: dict[str, str], log: Path):
        self.jobs, self._root, self._log = jobs, root, log
        self._pool = ProcessPoolExecutor(
            jobs,
            multiprocessing.get_context("spawn"),
            initializer=_start_worker,
            initargs=(environment, log),
        )

    def __enter__(self) -> "Local":
        return self

    def submit(self, task: worker.Task, stage: Stage) -> Future[float]:
        with _deaf_children():
            return self._pool.submit(worker.do, task, stage, self._root)

    def __exit__(self, kind: type | None, error: BaseException | None, _) -> None:
        if kind:
            for process in multiprocessing.active_children():
                process.kill()
        self._pool.shutdown(cancel_futures=True)
        if isinstance(error, BrokenProcessPool):
            raise UserError(
                f"A worker process was killed, perhaps for lack of memory (see {self._log}); run "
                "the same command again with fewer --jobs: finished stages are kept."
            ) from error


@contextmanager
def _deaf_children() -> Iterator[None]:
    """Ctrl-C reaches every process of a terminal's group, and a worker that is only starting would
    make a traceback of it. Those started here do not hear of it; this process does, after."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _start_worker(environment: dict[str, str], log: Path) -> None:
    """What fails here breaks the pool without a word of why: nothing may that a full disk does."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    terminal = os.fdopen(os.dup(2), "w", buffering=1)  # our own warnings still get there
    logging.getLogger("c3l").addHandler(logging.StreamHandler(terminal))
    worker.set_up(environment, log)


def _die_with_parent() -> None:
    wait_for([multiprocessing.parent_process().sentinel])
    os._exit(1)
