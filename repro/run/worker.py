"""A worker process, whichever engine started it (`repro.run.engines`)."""

import os
import sys
import threading
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Literal

from c3l.artifacts.store import Stage, Store
from c3l.runtime import plugins
from c3l.runtime.errors import UserError
from c3l.stages.launcher import ASKED

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
OPTIONS = (ASKED, plugins.VARIABLE)

Task = Literal["make", "help"]

_store = cache(Store)


class WorkerLostError(Exception):
    """A worker was killed, and the engine goes on without it. The message is the reason."""


def run_task(task: Task, stage: Stage, root: Path) -> float:
    """Make a stage in the store below `root`, or help the worker that makes it.

    Returns the seconds that the stage took by its manifest, 0 for help.
    """
    store = _store(root)
    if task == "help":
        store.build_shards(stage)
        return 0.0
    store.make(stage)
    manifest = store.manifest(stage)
    return manifest["seconds"] if manifest else 0.0  # damaged already: the run checks again


def environment(one_thread: bool) -> dict[str, str]:
    """Return the environment variables that a worker's results depend on."""
    threads = {name: "1" if one_thread else os.environ.get(name) for name in THREADS}
    options = {name: os.environ.get(name) for name in OPTIONS}
    # Weights and data are local folders: no request goes to the Hub.
    offline = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "TQDM_DISABLE": "1"}
    return {name: value for name, value in (threads | options | offline).items() if value}


def set_up(environment: dict[str, str], log: Path) -> None:
    """Set this process's environment and redirect what libraries print to the file `log`.

    torch reads the number of threads when a stage first imports it.
    """
    for name in (*THREADS, *OPTIONS):
        os.environ.pop(name, None)
    os.environ |= environment
    with open(log, "a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout.reconfigure(line_buffering=True)
    # tqdm's own lock is a system semaphore, which a killed worker would leak.
    from tqdm import tqdm

    tqdm.set_lock(threading.RLock())
    # What a stage is unpickled from. Whatever reads a registry says what is wrong with a plugin.
    with suppress(UserError):
        plugins.run_files()
