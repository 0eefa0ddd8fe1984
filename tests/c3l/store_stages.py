"""Toy stages for the tests of the store: small files, known contents, calls counted on disk."""

import logging
import os
import time
from pathlib import Path

from c3l.artifacts import shards
from c3l.artifacts.store import Job, Stage
from c3l.runtime.errors import ImageError


def write_text(job: Job) -> dict:
    """Write config["text"] and the inputs' texts; count the call in the folder config["calls"]."""
    calls = Path(job.config["calls"])
    calls.mkdir(exist_ok=True)
    (calls / f"{job.config['text']}-{time.monotonic_ns()}").touch()
    parts = [(path / "a" / "text").read_text() for path in job.inputs.values()]
    (job.out / "a").mkdir()
    (job.out / "a" / "text").write_text(" ".join([*parts, job.config["text"]]))
    (job.out / "length").write_text(str(len(parts)))
    return {"parts": len(parts)}


def slow(job: Job) -> dict:
    time.sleep(0.5)
    return write_text(job)


def crash_once(job: Job) -> dict:
    """Keep a shard, then die as by SIGKILL; the second time, find the shard."""
    shard = job.partial / "shard"
    if not shard.exists():
        (job.out / "half").write_text("half")
        shard.write_text("kept")
        os.kill(os.getpid(), 9)
    return write_text(job) | {"shard": shard.read_text()}


def in_shards_of_one(job: Job) -> dict:
    """Eight squares, each a shard; calls are noted with the process. The call of the shard that
    config["text"] names ends as by SIGKILL, the first time."""
    shards.SHARD, calls = 1, Path(job.config["calls"])
    calls.mkdir(exist_ok=True)

    def square(some: list[int]) -> int:
        (number,) = some
        (calls / f"{number}-{os.getpid()}-{time.monotonic_ns()}").touch()
        time.sleep(0.3)
        if job.config["text"] == str(number) and not (calls / "killed").exists():
            (calls / "killed").touch()
            os.kill(os.getpid(), 9)
        return number**2

    (job.out / "squares").write_text(str(shards.in_shards(job, "squares", [*range(8)], square)))
    return {}


def warn_and_give_up(job: Job) -> dict:
    logging.getLogger("c3l.toy").warning("the weights look odd")
    raise ImageError("the weights are of another world", "odd")


def fail(job: Job) -> dict:
    (job.out / "half").write_text("half")
    raise ValueError("no such luck")


def damage_input(job: Job) -> dict:
    """Damage what is read, having read it."""
    facts = write_text(job)
    for path in job.inputs.values():
        (path / "length").write_text("damaged")
    return facts


def damage_input_once(job: Job) -> dict:
    """The same, the first time only, and fail for it where config["text"] is "fails"."""
    once = Path(job.config["calls"]) / "once-0"
    if once.exists():
        return write_text(job)
    once.touch()
    if job.config["text"] != "fails":
        return damage_input(job)
    for path in job.inputs.values():
        (path / "length").write_text("damaged")
    raise ValueError("the input makes no sense")


def nothing(job: Job) -> dict:
    return {}


def unscored(job: Job) -> dict:
    return {"unscored": "it wrote nothing"}


def stage(calls: Path, text: str = "x", run=write_text, seed: int | None = None, **inputs) -> Stage:
    return Stage("toy", 1, run, {"text": text, "calls": str(calls)}, inputs, seed)
