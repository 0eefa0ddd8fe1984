"""Processes that train one model together, as `accelerate launch` starts them.

Their number is read from the launcher's environment, without torch.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from c3l.runtime.errors import UserError

T = TypeVar("T")


def world_size() -> int:
    """Return the number of processes."""
    size = os.environ.get("WORLD_SIZE", "")
    return int(size) if "LOCAL_RANK" in os.environ and size.isdecimal() else 1


def is_main_process() -> bool:
    """Return whether this is the process that speaks and writes."""
    return world_size() == 1 or os.environ.get("RANK", "0") == "0"


def rank() -> int:
    """Return the place of this process among all of them, from 0."""
    return 0 if world_size() == 1 else int(os.environ["RANK"])


def check_launch() -> None:
    """Raise UserError in an environment that has a part of a launcher's variables only.

    accelerate takes LOCAL_RANK for a launch and then waits for the others.
    """
    if "LOCAL_RANK" not in os.environ:
        return
    numbers, names = ("LOCAL_RANK", "RANK", "WORLD_SIZE", "MASTER_PORT"), ("MASTER_ADDR",)
    missing = [name for name in numbers if not os.environ.get(name, "").isdecimal()]
    missing += [name for name in names if not os.environ.get(name)]
    if missing:
        raise UserError(
            f"LOCAL_RANK is set, as if a launcher had started this process, but "
            f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not a launcher's; unset "
            "LOCAL_RANK, or start it by `accelerate launch`"
        )


@contextmanager
def process_group(device: str | None) -> Iterator[str | None]:
    """Connect the processes; yield the device of this one."""
    check_launch()
    if world_size() == 1:
        yield device
        return
    if device is not None and device.startswith("mps"):
        raise UserError("several processes cannot share an Apple GPU; start one, or use cpu")
    import torch
    from accelerate import PartialState

    state = PartialState(cpu=device == "cpu" or not torch.cuda.is_available())
    yield str(state.device)
    torch.distributed.destroy_process_group()


def all_gather_call(work: Callable[[], T]) -> list[T]:
    """Return what `work` gives in each process, by rank, when all are done.

    A UserError of one is raised in all of them: none waits for another that has ended.
    """
    if world_size() == 1:
        return [work()]
    import torch.distributed

    value = error = None
    try:
        value = work()
    except UserError as raised:
        error = str(raised)
    results: list = [None] * world_size()
    torch.distributed.all_gather_object(results, (value, error))
    for _, error in results:
        if error is not None:
            raise UserError(error)
    return [value for value, _ in results]


def run_on_all(work: Callable[[], T]) -> T:
    """Return the result of `work` in this process when all are done; errors as `all_gather_call`.

    The results themselves need not travel between processes.
    """
    results: list[T] = []
    all_gather_call(lambda: results.append(work()))
    return results[0]


def require_single_process(command: str) -> None:
    """Raise UserError where a command that is for one process was launched in several."""
    if world_size() > 1:
        raise UserError(
            f"{command} works in one process; start it without `accelerate launch`, which is for "
            "`python -m c3l train`"
        )
