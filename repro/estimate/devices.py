"""Devices: speed, the share of it that stages reach, and memory."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

from c3l.runtime.errors import UserError, printable

if TYPE_CHECKING:
    import torch

GIB = 2**30


@dataclass(frozen=True)
class Device:
    """A device that stages run on; the defaults are a GPU's, typical and not measured."""

    name: str
    memory: float
    """Bytes."""
    operations: float
    """Per second, in a matrix product: bfloat16 on a GPU, float32 in one thread else."""
    bandwidth: float
    """Bytes per second."""
    reading: float = 0.4
    """Share of `operations` that reading prompts and scoring reach."""
    training: float = 0.35
    """Share of `operations` that forward and backward passes reach."""
    writing: float = 0.2
    """Share that writing reaches of the slower of `operations` and `bandwidth`."""
    measured: bool = False
    """The shares were measured."""
    size: int = 2
    """Bytes of a number."""
    slack: float = 1.0
    """Bytes allocated for each byte of a training's activations, fragmentation included."""
    overhead: float = 0.5 * GIB
    """Bytes of a worker before it loads a model."""

    @property
    def description(self) -> str:
        """The device's numbers, and whether its shares are measured."""
        return (
            f"{self.name}, {self.memory / GIB:.0f} GiB; {self.operations / 1e12:,.4g} TFLOP/s, of "
            f"which reading reaches {self.reading:.0%} and training {self.training:.0%}, and "
            f"{self.bandwidth / 1e9:,.4g} GB/s, of which writing reaches {self.writing:.0%} (these "
            f"shares are {'measured' if self.measured else 'assumed, not measured'})"
        )


# `python -m repro bench --stages`, benchmarks/speed/README.md: float32, glibc gives little back,
# and a worker has 924 MiB after imports.
CPU = partial(
    Device, reading=0.9, training=0.5, writing=0.3, measured=True,
    size=4, slack=1.6, overhead=0.9 * GIB,
)  # fmt: skip
# Dense bfloat16 (the 2080 Ti's float16) with sums in float32, and bandwidth, by NVIDIA's data
# sheets; memory as the driver leaves it, GiB.
GPUS = {
    "RTX-2080-Ti-11GB": (10.7, 53.8e12, 616e9),
    "RTX-4090-24GB": (23.6, 165e12, 1008e9),
    "A100-40GB": (39.4, 312e12, 1555e9),
    "A100-80GB": (79.2, 312e12, 2039e9),
    "H100": (79.2, 989e12, 3350e9),
    "H200": (139.8, 989e12, 4800e9),
}


def device_named(name: str | None) -> Device:
    """Return a device: one of GPUS, or this machine's "cpu" or "cuda"; None is cuda, else cpu.

    Raises UserError for an unknown name, and for a GPU that this machine lacks.
    """
    if name in GPUS:
        memory, operations, bytes_per_second = GPUS[name]
        return Device(name, memory * GIB, operations, bytes_per_second)
    if name not in (None, "cpu", "cuda"):
        raise UserError(
            f"There is no device {printable(name)}: give cpu, cuda, or one of {', '.join(GPUS)}."
        )
    import torch

    if name != "cpu" and torch.cuda.is_available():
        device = torch.device("cuda")
        gpu = torch.cuda.get_device_properties(device)
        return Device(gpu.name, gpu.total_memory, matrix_peak(device), bandwidth(device))
    if name == "cuda":
        raise UserError(f"There is no GPU here: give cpu, or one of {', '.join(GPUS)}.")
    device = torch.device("cpu")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    speed = matrix_peak(device, 1024), bandwidth(device, 2**26)
    return CPU("one thread of this CPU", memory, *speed)


def matrix_peak(device: "torch.device", side: int = 8192) -> float:
    """Operations a second in a product of two square matrices: bfloat16 on a GPU, else float32."""
    import torch

    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    a = torch.randn(side, side, device=device, dtype=dtype)
    return 2 * side**3 / _seconds(lambda: a @ a, device)


def bandwidth(device: "torch.device", size: int = 2**28) -> float:
    """Bytes a second read and written by a copy of `size` bytes."""
    import torch

    a = torch.ones(size // 4, device=device)
    b = a.clone()
    return 2 * size / _seconds(lambda: b.copy_(a), device)


def _seconds(work: Callable[[], object], device: "torch.device") -> float:
    """Median of five rounds after one that warms up: a GPU's wall clock, or one thread's time."""
    import torch

    from benchmarks.speed.scoring import clock

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    times = [clock(work, device)[device.type == "cpu"] for _ in range(6)]
    torch.set_num_threads(threads)
    return median(times[1:])
