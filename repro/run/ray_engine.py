"""Stages as Ray tasks: on this machine, or on the cluster that RAY_ADDRESS names.

All machines need this project installed, and the runs folder, the data and the weights under the
same paths. A task gets a stage and returns its seconds; the result goes to the store, so that a
lost worker costs only the shard it was working on.
"""

import logging
import os
import secrets
import signal
import socket
import sys
from concurrent.futures import Future
from contextlib import ExitStack, redirect_stdout, suppress
from functools import cache, partial
from logging.handlers import BufferingHandler
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from c3l.artifacts.store import Stage
from c3l.runtime.errors import UserError, printable
from repro.run import worker
from repro.run.worker import WorkerLostError

OBJECT_STORE = 100 * 2**20  # bytes; tasks return a number and a few words

Result = tuple[float | UserError, list[str]]
"""A task's seconds, or the user's error; and our own warnings."""


class RayEngine:
    """Tasks of one CPU each, and one GPU where the machines have any (`repro.run.engines`)."""

    def __init__(self, root: Path, jobs: int, environment: dict[str, str], log: Path):
        self.jobs, self._root, self._log = jobs, root, log.absolute()
        self._environment = environment
        self._mark = root / "locks" / f"ray-{secrets.token_hex(8)}"
        self._tasks: dict[Future, Any] = {}
        self._ray = _import_ray()
        self._folder: str | None = None
        """Sockets and logs of a Ray that this process starts."""

    def __enter__(self) -> "RayEngine":
        ray = self._ray
        with ExitStack() as stack:
            # Ray reports killed workers on standard output, where results go.
            stack.enter_context(redirect_stdout(stack.enter_context(self._log.open("a"))))
            self._mark.touch()
            stack.callback(self._mark.unlink, missing_ok=True)
            if os.environ.get("RAY_ADDRESS"):
                _connect()
            else:
                self._folder = stack.enter_context(TemporaryDirectory(prefix="ray-"))
                _init(
                    num_cpus=self.jobs,
                    include_dashboard=False,
                    object_store_memory=OBJECT_STORE,
                    _temp_dir=self._folder,
                )
            stack.callback(ray.shutdown)
            if gpus := int(ray.cluster_resources().get("GPU", 0)):
                self.jobs = min(self.jobs, gpus)
            options = {"num_cpus": 1, "num_gpus": min(1, gpus), "max_retries": 0}
            self._task = ray.remote(**options)(_do)
            self._stack = stack.pop_all()
        return self

    def submit(self, task: worker.Task, stage: Stage) -> Future[float]:
        from ray import cloudpickle

        # Pickled here: a stage of a plugin can be read once the worker has run the plugin.
        text = cloudpickle.dumps(stage)
        arguments = task, text, self._root, self._mark, self._environment, self._log
        reference = self._task.remote(*arguments)
        future: Future[float] = Future()
        self._tasks[future] = reference
        reference.future().add_done_callback(partial(_forward_result, future))
        return future

    def __exit__(self, kind: type | None, *_) -> None:
        if kind and self._folder:
            _kill_services(self._folder)
        elif kind:
            for future, reference in self._tasks.items():
                if not future.done():
                    self._ray.cancel(reference, force=True)
        self._stack.close()


def cluster_jobs() -> int | None:
    """Return the number of tasks that RAY_ADDRESS's cluster runs at a time, or None without one.

    Raises UserError where Ray is not installed, or the cluster cannot be reached.
    """
    ray = _import_ray()
    if not os.environ.get("RAY_ADDRESS"):
        return None
    _connect()
    resources = ray.cluster_resources()
    return max(1, int(resources.get("GPU") or resources.get("CPU", 1)))


def _import_ray() -> Any:
    """Import Ray and return it. Raises UserError where it is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else it warns
    if not os.environ.get("RAY_ADDRESS"):
        # Ray's own switch for "this machine only": it then listens on loopback alone.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        # Its processes trust each other by a token, which it would write to the home folder.
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        import ray
    except ImportError as error:
        raise UserError(
            "--engine ray needs Ray, which is not installed: pip install 'c3l[ray]'."
        ) from error
    return ray


def _connect() -> None:
    """Connect to the cluster that RAY_ADDRESS names, once."""
    if _import_ray().is_initialized():
        return
    address = os.environ["RAY_ADDRESS"]
    host, _, port = address.rpartition(":")
    if "://" in address or (address != "auto" and not port.isdigit()):
        raise UserError(
            f"RAY_ADDRESS is {printable(address)}: give HOST:PORT of the head, or auto."
        )
    try:
        if host:  # Ray itself would try for minutes
            socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"No Ray answers at {printable(address)} ({error}): start it there with `ray start "
            "--head`, or unset RAY_ADDRESS to use this machine alone."
        ) from error
    _init(address=address)


def _init(**options: Any) -> None:
    """Start Ray or connect to it. Raises UserError where that fails."""
    ray, before = _import_ray(), signal.getsignal(signal.SIGTERM)
    try:
        ray.init(log_to_driver=False, logging_level="ERROR", **options)
    except SystemExit:  # what Ray makes of SIGTERM
        raise KeyboardInterrupt from None
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        verb = f"reached at {options['address']}" if "address" in options else "started"
        raise UserError(f"Ray cannot be {verb}: {reason}") from error
    finally:
        signal.signal(signal.SIGTERM, before)


def _kill_services(folder: str) -> None:
    """Kill the services of our own Ray that hold no work.

    Ray itself would wait up to a second for each of them. It stops the workers first.
    """
    for process in psutil.Process().children():
        with suppress(psutil.Error):
            if process.name() not in ("raylet", "gcs_server") and any(
                folder in word for word in process.cmdline()
            ):
                process.kill()


def _forward_result(future: Future, done: Future) -> None:
    """Set the future from a finished task. Called in a thread of Ray's."""
    from ray.exceptions import RayError, RayTaskError

    try:
        result, warnings = done.result()
        for warning in warnings:
            logging.getLogger("c3l").warning("%s", warning)
        if isinstance(result, UserError):
            raise result
    except RayTaskError as error:
        future.set_exception(error.cause or error)
    except RayError as error:
        future.set_exception(WorkerLostError(str(error).strip().partition(".")[0]))
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)


# ── In the worker ────────────────────────────────────────────────────────────────────────────────


_recorder = BufferingHandler(sys.maxsize)
"""Messages, which the process that started the run logs."""


def _do(
    task: worker.Task, stage: bytes, root: Path, mark: Path, environment: dict[str, str], log: Path
) -> Result:
    """Run the task. A UserError is returned, since Ray would wrap a raised one in its own."""
    if not mark.exists():
        error = UserError(
            f"{socket.gethostname()} does not see the runs folder {root}: give one with --runs "
            "that all machines of the cluster share, under the same path."
        )
        return error, []
    from ray import cloudpickle

    _set_up(tuple(environment.items()), log)
    _recorder.flush()
    try:
        result: float | UserError = worker.run_task(task, cloudpickle.loads(stage), root)
    except UserError as error:
        result = UserError(str(error))
    return result, [record.getMessage() for record in _recorder.buffer]


@cache
def _set_up(environment: tuple[tuple[str, str], ...], log: Path) -> None:
    """Set up the process once: a worker runs one task after the other."""
    worker.set_up(dict(environment), log)
    for handler in (_recorder, logging.StreamHandler(sys.stderr)):
        logging.getLogger("c3l").addHandler(handler)
