"""Engines that run stages: worker processes of this machine, or Ray (`repro.run.ray_engine`).

An engine is a context manager; leaving it by an exception (KeyboardInterrupt too) kills its
workers. It runs at most `jobs` tasks (`repro.run.worker.run_task`) at one time. The future of a
task that it is to `submit` raises what the task raises, and WorkerLostError if its worker alone is
killed.
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
from typing import TYPE_CHECKING, Literal, TypeAlias

from c3l.artifacts.store import Stage
from c3l.runtime.errors import UserError
from repro.run import worker

if TYPE_CHECKING:
    from repro.run.ray_engine import RayEngine

Name = Literal["local", "ray"]
Engine: TypeAlias = "LocalEngine | RayEngine"


def create_engine(name: Name, root: Path, jobs: int, log: Path) -> Engine:
    """Return an engine for the store below `root`, to be entered.

    What libraries print in its workers goes to the file `log`. Raises UserError without Ray.
    """
    # By `jobs`, not by the work that is left: the number of threads changes sums' last digits.
    environment = worker.environment(one_thread=jobs > 1)
    if name == "local":
        return LocalEngine(root, jobs, environment, log)
    from repro.run.ray_engine import RayEngine

    return RayEngine(root, jobs, environment, log)


class LocalEngine:
    """Spawned workers, which load torch once and die with this process however it dies.

    A worker that is killed takes the others with it.
    """

    def __init__(self, root: Path, jobs: int, environment: dict[str, str], log: Path):
        self.jobs, self._root, self._log = jobs, root, log
        self._pool = ProcessPoolExecutor(
            jobs,
            multiprocessing.get_context("spawn"),
            initializer=_start_worker,
            initargs=(environment, log),
        )

    def __enter__(self) -> "LocalEngine":
        return self

    def submit(self, task: worker.Task, stage: Stage) -> Future[float]:
        with _children_ignore_interrupt():
            return self._pool.submit(worker.run_task, task, stage, self._root)

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
def _children_ignore_interrupt() -> Iterator[None]:
    """Shield processes started within from Ctrl-C, which reaches a terminal's whole group.

    A worker that is still starting would print a traceback. This process gets the signal after.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _start_worker(environment: dict[str, str], log: Path) -> None:
    # An error here breaks the pool without a message: nothing may depend on a disk with room.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    terminal = os.fdopen(os.dup(2), "w", buffering=1)  # our own warnings still get there
    logging.getLogger("c3l").addHandler(logging.StreamHandler(terminal))
    worker.set_up(environment, log)


def _die_with_parent() -> None:
    wait_for([multiprocessing.parent_process().sentinel])
    os._exit(1)
