"""Long stages work in shards: whole ones survive a crash, and other processes may help with them.

Whoever locks a shard first makes it: the process that makes the stage, or one that helps it
(`c3l.artifacts.store.Store.build_shards`). Nothing tells afterwards which of them it was: a shard's items and seed
hang on its number alone.
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
    """There is nothing (more) to help with."""


def in_shards(
    job: Job, kind: str, items: list, work: Callable[[list, int], Any], unit: str = "images"
) -> list[Any]:
    """`work(items of the shard, its number)` for shards of items, in their order.

    `unit` is what an item is called in words about how far the work is. Raises NoShardsRemaining in a process
    that only helps, once others are at work on all shards that are left.
    """
    shards = [items[start : start + SHARD] for start in range(0, len(items), SHARD)]
    paths = [job.partial / f"{kind}-{number:05d}.json" for number in range(len(shards))]
    if job.still_needed is None:
        for path in paths:  # that is how others know of it
            _lock(path).touch()
    found: dict[int, Any] = {}

    def take(number: int, timeout: float) -> None:
        found[number] = _shard(job, paths[number], lambda: work(shards[number], number), timeout)

    for _ in track(shards, unit, [*map(len, shards)]):
        left = [number for number in range(len(shards)) if number not in found]
        for number in left:
            with suppress(Timeout):
                take(number, timeout=0)
                break
        else:
            if job.still_needed:
                raise NoShardsRemaining
            take(left[0], timeout=-1)
    return [found[number] for number in range(len(shards))]


def shards_remaining(partial: Path) -> int:
    """How many shards of a stage at work, begun ones among them, are not there yet."""
    return sum(not lock.with_suffix(".json").exists() for lock in partial.glob("*.lock"))


def helper_seconds(partial: Path) -> float:
    """What shards that others made took them."""
    return sum(float(path.read_text()) for path in partial.glob("*.seconds"))


def shard_seed(job: Job, number: int) -> int:
    """Another seed for each shard; greedy stages have none."""
    return (job.seed or 0) + 1_000_003 * number


def _lock(path: Path) -> Path:
    return path.with_suffix(".lock")


def _shard(job: Job, path: Path, work: Callable[[], Any], timeout: float) -> Any:
    """The shard's result, made unless it is there. Raises Timeout where another process makes it
    for longer than that."""
    if (shard := read_checked(path)) is not None:
        return shard["result"]
    _leave_unless_needed(job)
    with locked(_lock(path), timeout):
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
    """The stage may be finished by now, or begun anew since one of its inputs was damaged."""
    if job.still_needed and not job.still_needed():
        raise NoShardsRemaining
