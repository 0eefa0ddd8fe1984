"""Stages as Ray tasks: on this machine, or on the cluster that RAY_ADDRESS names.

All machines have to see the runs folder, the data and the weights under the same paths, and have
this project installed. A task is given a stage and says how long it took; what it makes goes to the
store, so that nothing is lost with a worker but the shard that it was at.
"""

import logging
import os
import pickle
import secrets
import signal
import socket
import sys
from concurrent.futures import Future
from contextlib import ExitStack, redirect_stdout, suppress
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from c3l.artifacts.store import Stage
from c3l.runtime.errors import UserError, printable
from repro.run import worker
from repro.run.engines import Lost

OBJECT_STORE = 100 * 2**20  # bytes; what tasks return is a number and a few words

Answer = tuple[float | UserError, list[str]]
"""How long a task took, or what the user can mend; and our own warnings."""


class Ray:
    """Tasks of one processor each, and one GPU where the machines have any (`repro.run.engines`)."""

    def __init__(self, root: Path, jobs: int, environment: dict[str, str], log: Path):
        self.jobs, self._root, self._log = jobs, root, log.absolute()
        self._environment = environment
        self._mark = root / "locks" / f"ray-{secrets.token_hex(8)}"
        self._tasks: dict[Future, Any] = {}
        self._ray = _imported()
        self._folder: str | None = None
        """Of a Ray of our own: its sockets and logs."""

    def __enter__(self) -> "Ray":
        ray = self._ray
        with ExitStack() as stack:
            # Ray tells of killed workers on standard output, where results go.
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
        answer: Future[float] = Future()
        self._tasks[answer] = reference
        reference.future().add_done_callback(partial(_tell, answer))
        return answer

    def __exit__(self, kind: type | None, *_) -> None:
        if kind and self._folder:
            _kill_services(self._folder)
        elif kind:
            for answer, reference in self._tasks.items():
                if not answer.done():
                    self._ray.cancel(reference, force=True)
        self._stack.close()


def cluster_jobs() -> int | None:
    """How many tasks the cluster that RAY_ADDRESS names runs at a time; None without one.

    Raises UserError where Ray is not installed, or the cluster cannot be reached.
    """
    ray = _imported()
    if not os.environ.get("RAY_ADDRESS"):
        return None
    _connect()
    there = ray.cluster_resources()
    return max(1, int(there.get("GPU") or there.get("CPU", 1)))


def _imported() -> Any:
    """Ray. Raises UserError where it is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else it warns
    if not os.environ.get("RAY_ADDRESS"):
        # Ray's own switch for "this machine only": it then listens on loopback alone.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        # Its processes believe each other by a token, which it would write to the home folder.
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
    """To the cluster that RAY_ADDRESS names, once."""
    if _imported().is_initialized():
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
            f"No Ray answers at {printable(address)} ({error}): start it there with `ray start --head`, "
            "or unset RAY_ADDRESS to use this machine alone."
        ) from error
    _init(address=address)


def _init(**options: Any) -> None:
    """Start Ray or connect to it. Raises UserError where that fails."""
    ray, before = _imported(), signal.getsignal(signal.SIGTERM)
    try:
        ray.init(log_to_driver=False, logging_level="ERROR", **options)
    except SystemExit:  # what Ray makes of SIGTERM
        raise KeyboardInterrupt from None
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        what = f"reached at {options['address']}" if "address" in options else "started"
        raise UserError(f"Ray cannot be {what}: {reason}") from error
    finally:
        signal.signal(signal.SIGTERM, before)


def _kill_services(folder: str) -> None:
    """Of a Ray of our own, those to which nothing is lost: Ray itself would wait for each of them,
    up to a second. It stops the workers first."""
    for process in psutil.Process().children():
        with suppress(psutil.Error):
            if process.name() not in ("raylet", "gcs_server") and any(
                folder in word for word in process.cmdline()
            ):
                process.kill()


def _tell(answer: Future, done: Future) -> None:
    """Hand on what a task came to; called in a thread of Ray's."""
    from ray.exceptions import RayError, RayTaskError

    try:
        result, warnings = done.result()
    except RayTaskError as error:
        answer.set_exception(error.cause or error)
    except RayError as error:
        answer.set_exception(Lost(str(error).strip().partition(".")[0]))
    except BaseException as error:
        answer.set_exception(error)
    else:
        for warning in warnings:
            logging.getLogger("c3l").warning("%s", warning)
        if isinstance(result, UserError):
            answer.set_exception(result)
        else:
            answer.set_result(result)


# ── In the worker ────────────────────────────────────────────────────────────────────────────────


class _Kept(logging.Handler):
    """Keeps what is said, to be told by the process that started the run."""

    def __init__(self):
        super().__init__()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


_kept = _Kept()


def _do(
    task: worker.Task, stage: bytes, root: Path, mark: Path, environment: dict[str, str], log: Path
) -> Answer:
    """The task. A UserError is returned, since Ray would bring it as one of its own."""
    if not mark.exists():
        return (
            UserError(
                f"{socket.gethostname()} does not see the runs folder {root}: give one with --runs "
                "that all machines of the cluster share, under the same path."
            ),
            [],
        )
    _set_up(tuple(environment.items()), log)
    _kept.said = []
    try:
        return worker.do(task, pickle.loads(stage), root), _kept.said
    except UserError as error:
        return UserError(str(error)), _kept.said


@cache
def _set_up(environment: tuple[tuple[str, str], ...], log: Path) -> None:
    """Once in each worker, which does one task after the other."""
    worker.set_up(dict(environment), log)
    for handler in (_kept, logging.StreamHandler(sys.stderr)):
        logging.getLogger("c3l").addHandler(handler)
