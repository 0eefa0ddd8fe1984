"""Stages that train, in several processes: each in an `accelerate launch` of its own.

Once that is requested (`request_launch`), a stage's function marked `trains` waits for processes
that do its work (`c3l.stages.launched`). Their number is no part of a stage's key.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import wraps
from pathlib import Path

from c3l.artifacts.files import digest, read_checked
from c3l.artifacts.stage import Job, Stage
from c3l.runtime import parsing
from c3l.runtime.errors import UserError, printable
from c3l.runtime.progress import Loop, read_progress
from c3l.settings import TrainingSettings

SHIPPED = Path(__file__).parents[1] / "launch"
JOB, FACTS, PLACE, LOG = "job.json", "facts.json", "place.json", "log.txt"
ERROR = "error-{rank}.json"
# In the environment, so that worker processes have it too.
ASKED = "C3L_LAUNCH"


@dataclass(frozen=True)
class Launch:
    """The options of one `accelerate launch`."""

    config: str
    """A file that `accelerate config` writes."""
    processes: int
    sharded: bool
    """By FSDP."""

    def check_stages(self, stages: Iterable[Stage]) -> None:
        """Raise UserError where a stage that trains cannot be shared out so."""
        for stage in stages:
            if hasattr(stage.run, "trains"):
                settings = TrainingSettings(**stage.config["settings"])
                self.check(settings, stage.config["readings"]["tuning"], stage.name)

    def check(self, settings: TrainingSettings, tuning: str, name: str) -> None:
        """Raise UserError where a training of that name cannot be shared out so."""
        parts = self.processes * settings.accumulation
        if settings.batch_size % parts:
            raise UserError(
                f"--launch: {self.processes} processes times accumulation {settings.accumulation} "
                f"do not divide the batch_size {settings.batch_size} of {name}; give fewer "
                f"processes, or --set its training's batch_size to a multiple of {parts}."
            )
        if self.sharded and tuning == "qlora":
            raise UserError(
                "--launch: four-bit weights (qlora) cannot be sharded; give ddp instead."
            )


def request_launch(choice: str | None) -> Launch | None:
    """Train stages so from now on, in this process and in those it starts; None: in one process.

    `choice` is ddp or fsdp (the files in c3l/launch) or the file of another configuration, and may
    end in the number of processes: fsdp:8. Raises UserError where it is none of these.
    """
    os.environ.pop(ASKED, None)
    if choice is None:
        return None
    name, _, count = choice.rpartition(":")
    if not count.isdecimal():
        name, count = choice, ""
    path = SHIPPED / f"{name}.yaml" if name in ("ddp", "fsdp") else Path(name)
    try:
        values = parsing.from_yaml(path.read_text(encoding="utf-8"))
        processes = int(count or values["num_processes"])
        sharded = values["distributed_type"] == "FSDP"
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"--launch {printable(choice)}: give ddp, fsdp, or a file that `accelerate config` "
            "writes, perhaps with the number of processes behind it: fsdp:8."
        ) from error
    if processes < 2:
        words = "give two processes or more, or no --launch."
        raise UserError(f"--launch {printable(choice)}: {words}")
    launch = Launch(str(path.resolve()), processes, sharded)
    os.environ[ASKED] = json.dumps(asdict(launch))
    return launch


def requested_launch() -> Launch | None:
    """Return the launch requested here or by the process that started this one."""
    text = os.environ.get(ASKED)
    return Launch(**json.loads(text)) if text else None


def trains(run: Callable[[Job], dict]) -> Callable[[Job], dict]:
    """Mark a function of `c3l.stages.training` that runs a stage: it may be launched instead."""

    @wraps(run)
    def run_or_launch(job: Job) -> dict:
        launch = requested_launch()
        return _launched(run.__name__, job, launch) if launch else run(job)

    run_or_launch.trains = True
    return run_or_launch


def _launched(name: str, job: Job, launch: Launch) -> dict:
    """Run a stage's function in the processes of a launch and return its facts.

    They share a folder of `job.partial`, one a launch: another one has other checkpoints.
    Raises UserError as the function does, and where they end in any other way.
    """
    from c3l.stages import models

    device, dtype = models.release_model()
    folder = job.partial / f"launched-{digest(asdict(launch))[:16]}"
    folder.mkdir(exist_ok=True)
    for old in (folder / FACTS, folder / PLACE, *folder.glob(ERROR.format(rank="*"))):
        old.unlink(missing_ok=True)
    record = {"stage": name, "device": device, "dtype": dtype, "parent": os.getpid()}
    record |= {part: getattr(job, part) for part in ("out", "inputs", "keys", "config", "seed")}
    (folder / JOB).write_text(json.dumps(record, default=str))
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", launch.config]
    command += ["--num_processes", str(launch.processes), "--main_process_port", "0"]
    command += ["-m", "c3l.stages.launched", str(folder)]
    environment = {key: value for key, value in os.environ.items() if key != ASKED}
    with (folder / LOG).open("w") as log:
        # In a session of its own: Ctrl-C is for this process, which they do not outlive.
        launcher = subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, start_new_session=True
        )
    try:
        _wait(launcher, folder)
    finally:
        launcher.terminate()
        launcher.wait()
    for error in filter(None, map(read_checked, sorted(folder.glob(ERROR.format(rank="*"))))):
        raise UserError(error["error"])
    if launcher.returncode or not (facts := read_checked(folder / FACTS)):
        raise UserError(
            f"the {launch.processes} processes that trained ended with exit code "
            f"{launcher.returncode}; see {folder / LOG}, then run the same command again"
        )
    return facts | {"processes": launch.processes}


def _wait(launcher: subprocess.Popen, folder: Path) -> None:
    loop = None
    while launcher.poll() is None:
        try:
            launcher.wait(timeout=1)
        except subprocess.TimeoutExpired:
            if place := read_progress(folder / PLACE):
                loop = loop or Loop(place.unit, place.total)
                loop.update(place.done, 0)
    if loop:
        loop.end()
