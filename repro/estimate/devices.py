"""Devices: how fast they are, what of that stages reach, how much memory they have."""

import os
from dataclasses import dataclass

from c3l.runtime.errors import UserError, printable
from repro.estimate.cost import CPU, GIB, HALF, Cost, DtypeSizes

PROCESS = 0.9 * GIB
"""Of a worker before it loads anything, its packages: 924 MiB measured."""


@dataclass(frozen=True)
class Shares:
    """What stages reach of a device's product of two matrices, and of its copying."""

    reading: float
    training: float
    writing: float
    """Of whichever of the two takes longer."""
    measured: bool


# `python -m repro bench --stages`: benchmarks/speed/README.md has what was measured.
CPU_SHARES = Shares(reading=0.9, training=0.5, writing=0.3, measured=True)
# No GPU was at hand: what is usual for batches as small as the paper's.
GPU_SHARES = Shares(reading=0.4, training=0.35, writing=0.2, measured=False)


@dataclass(frozen=True)
class Device:
    """Where stages run."""

    name: str
    memory: float
    """Bytes."""
    operations: float
    """A second, of a product of two matrices: bfloat16 on a GPU, float32 of one thread else."""
    bandwidth: float
    """Bytes a second."""
    shares: Shares
    numbers: DtypeSizes = HALF
    others: float = 0.5 * GIB
    """Bytes that a worker takes besides what `repro.estimate.cost` counts."""

    def seconds(self, cost: Cost) -> float:
        work = cost.reading / self.shares.reading + cost.training / self.shares.training
        writing = max(cost.writing / self.operations, cost.fetched / self.bandwidth)
        return (
            work / self.operations + writing / self.shares.writing + cost.updated / self.bandwidth
        )

    def bytes_needed(self, cost: Cost) -> float:
        """Bytes of memory."""
        return cost.memory + self.others

    @property
    def description(self) -> str:
        """What was reckoned with, and how far that can be trusted."""
        how = "measured" if self.shares.measured else "assumed, not measured"
        s = self.shares
        return (
            f"{self.name}, {self.memory / GIB:.0f} GiB; {self.operations / 1e12:,.4g} TFLOP/s, of "
            f"which reading reaches {s.reading:.0%} and training {s.training:.0%}, and "
            f"{self.bandwidth / 1e9:,.4g} GB/s, of which writing reaches {s.writing:.0%} (these "
            f"shares are {how})"
        )


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
    """A device by name: one of GPUS, "cpu" or "cuda" as found here; None: cuda where there is one.

    Raises UserError for an unknown one, and for a GPU that is not there.
    """
    if name in GPUS:
        memory, operations, bandwidth = GPUS[name]
        return Device(name, memory * GIB, operations, bandwidth, GPU_SHARES)
    if name not in (None, "cpu", "cuda"):
        raise UserError(
            f"There is no device {printable(name)}: give cpu, cuda, or one of {', '.join(GPUS)}."
        )
    import torch

    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError(f"There is no GPU here: give cpu, or one of {', '.join(GPUS)}.")
    return _found(torch.device(name))


def _found(device) -> Device:
    """A device of this machine; how fast it is, is measured now."""
    import torch

    from benchmarks.speed.flops import bandwidth, matrix_peak

    if device.type == "cuda":
        found = torch.cuda.get_device_properties(device)
        speed = matrix_peak(device), bandwidth(device)
        return Device(found.name, found.total_memory, *speed, GPU_SHARES)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    speed = matrix_peak(device, 1024), bandwidth(device, 2**26)
    return Device("one thread of this processor", memory, *speed, CPU_SHARES, CPU, PROCESS)
