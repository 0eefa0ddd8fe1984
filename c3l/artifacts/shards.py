"""Long stages work in shards: whole ones survive a crash, and other processes may help with them.

Whoever locks a shard first makes it. A shard's items depend on its number alone.
"""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import Timeout

from c3l.artifacts.files import read_checked, write_checked
from c3l.artifacts.stage import Job
from c3l.runtime.locks import locked
from c3l.runtime.progress import track

SHARD = 512  # images or samples; a killed worker loses at most one shard

log = logging.getLogger(__name__)


class NoShardsRemaining(Exception):
    """Others are at work on all shards that remain."""


def in_shards(
    job: Job, kind: str, items: list, work: Callable[[list], Any], unit: str = "images"
) -> list[Any]:
    """Return `work(items of the shard)` for each shard of the items, in order.

    `unit` is the items' name in the progress. Raises NoShardsRemaining in a process that only
    helps, once others are at work on all shards that remain.
    """
    shards = [items[start : start + SHARD] for start in range(0, len(items), SHARD)]
    paths = [job.partial / f"{kind}-{number:05d}.json" for number in range(len(shards))]
    if job.still_needed is None:
        for path in paths:  # that is how others know of it
            path.with_suffix(".lock").touch()
    results: dict[int, Any] = {}

    def take(number: int, timeout: float) -> None:
        results[number] = _shard(job, paths[number], lambda: work(shards[number]), timeout)

    for _ in track(shards, unit, [*map(len, shards)]):
        missing = [number for number in range(len(shards)) if number not in results]
        for number in missing:
            with suppress(Timeout):
                take(number, timeout=0)
                break
        else:
            if job.still_needed:
                raise NoShardsRemaining
            take(missing[0], timeout=-1)
    return [results[number] for number in range(len(shards))]


def shards_remaining(partial: Path) -> int:
    """Count the shards of a running stage that are not finished."""
    return sum(not lock.with_suffix(".json").exists() for lock in partial.glob("*.lock"))


def helper_seconds(partial: Path) -> float:
    """Total seconds other workers spent on shards."""
    return sum(float(path.read_text()) for path in partial.glob("*.seconds"))


def _shard(job: Job, path: Path, work: Callable[[], Any], timeout: float) -> Any:
    """Return the shard's result, made unless it is there.

    Raises Timeout where another process works on it for longer than `timeout` seconds.
    """
    if (shard := read_checked(path)) is not None:
        return shard["result"]
    _leave_unless_needed(job)
    with locked(path.with_suffix(".lock"), timeout):
        if (shard := read_checked(path)) is not None:
            return shard["result"]
        if path.exists():
            log.warning("%s is damaged: does not match its digest. It is made again.", path)
        started = time.perf_counter()
        shard = {"result": work()}
        _leave_unless_needed(job)
        if job.still_needed:
            path.with_suffix(".seconds").write_text(str(time.perf_counter() - started))
        write_checked(path, shard)
        return shard["result"]


def _leave_unless_needed(job: Job) -> None:
    """Raise NoShardsRemaining once the stage is finished, or restarted after damage to an input."""
    if job.still_needed and not job.still_needed():
        raise NoShardsRemaining
