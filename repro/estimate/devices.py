"""Devices: speed, the share of it that stages reach, and memory."""

import os
from dataclasses import dataclass

from c3l.runtime.errors import UserError, printable
from repro.estimate.cost import CPU, GIB, HALF, Cost, DtypeSizes

PROCESS = 0.9 * GIB
"""Baseline memory of a worker after imports: 924 MiB measured."""


@dataclass(frozen=True)
class Shares:
    """Shares that stages reach of a device's matrix-product speed and of its bandwidth."""

    reading: float
    training: float
    writing: float
    """Share of the slower of the two."""
    measured: bool


# `python -m repro bench --stages`: benchmarks/speed/README.md has what was measured.
CPU_SHARES = Shares(reading=0.9, training=0.5, writing=0.3, measured=True)
# Not measured: typical of batches as small as the paper's.
GPU_SHARES = Shares(reading=0.4, training=0.35, writing=0.2, measured=False)


@dataclass(frozen=True)
class Device:
    """A device that stages run on."""

    name: str
    memory: float
    """Bytes."""
    operations: float
    """Per second, in a matrix product: bfloat16 on a GPU, float32 in one thread else."""
    bandwidth: float
    """Bytes per second."""
    shares: Shares
    numbers: DtypeSizes = HALF
    overhead: float = 0.5 * GIB
    """Bytes of a worker beyond those that `repro.estimate.cost` counts."""

    def seconds(self, cost: Cost) -> float:
        work = cost.reading / self.shares.reading + cost.training / self.shares.training
        writing = max(cost.writing / self.operations, cost.fetched / self.bandwidth)
        return (
            work / self.operations + writing / self.shares.writing + cost.updated / self.bandwidth
        )

    def bytes_needed(self, cost: Cost) -> float:
        return cost.memory + self.overhead

    @property
    def description(self) -> str:
        """The device's numbers, and whether its shares are measured."""
        origin = "measured" if self.shares.measured else "assumed, not measured"
        s = self.shares
        return (
            f"{self.name}, {self.memory / GIB:.0f} GiB; {self.operations / 1e12:,.4g} TFLOP/s, of "
            f"which reading reaches {s.reading:.0%} and training {s.training:.0%}, and "
            f"{self.bandwidth / 1e9:,.4g} GB/s, of which writing reaches {s.writing:.0%} (these "
            f"shares are {origin})"
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
    """Return a device: one of GPUS, or this machine's "cpu" or "cuda"; None is cuda, else cpu.

    Raises UserError for an unknown name, and for a GPU that this machine lacks.
    """
    if name in GPUS:
        memory, operations, bandwidth = GPUS[name]
        return Device(name, memory * GIB, operations, bandwidth, GPU_SHARES)
    if name not in (None, "cpu", "cuda"):
        raise UserError(
            f"There is no device {printable(name)}: give cpu, cuda, or one of {', '.join(GPUS)}."
        )
    import torch

    from benchmarks.speed.flops import bandwidth, matrix_peak

    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError(f"There is no GPU here: give cpu, or one of {', '.join(GPUS)}.")
    device = torch.device(name)
    if name == "cuda":
        gpu = torch.cuda.get_device_properties(device)
        speed = matrix_peak(device), bandwidth(device)
        return Device(gpu.name, gpu.total_memory, *speed, GPU_SHARES)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    speed = matrix_peak(device, 1024), bandwidth(device, 2**26)
    return Device("one thread of this CPU", memory, *speed, CPU_SHARES, CPU, PROCESS)
