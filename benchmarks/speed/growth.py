"""The growth of scoring's time and memory with the number of samples, on the pocket backbone."""

import json
import math
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import linear_regression

from benchmarks.pocket.conversations import pair
from benchmarks.pocket.drawing import draw
from benchmarks.pocket.scenes import draw_scenes
from benchmarks.speed.model import POCKET
from c3l.instructions import CLASSES
from c3l.runtime.errors import UserError
from c3l.samples import ImageFolder, Sample, read_samples, write_samples

SIZES = (1_000, 2_000, 5_000, 10_000, 20_000)
SAMPLES_PER_IMAGE = 15  # three instruction classes of five, as METHOD's initial data


@dataclass(frozen=True)
class ScoringRun:
    """Time and memory of scoring so many samples."""

    samples: int
    wall: float
    process: float
    """Seconds, as `wall`."""
    peak: float
    """Peak resident memory, MiB."""
    before: float
    """Resident memory before scoring, MiB."""


def measure_growth(sizes: Sequence[int] = SIZES) -> list[ScoringRun]:
    """A run of each size on the CPU, each in its own process: Python does not return memory.

    Raises UserError where there is no /proc to read the memory from.
    """
    if not Path("/proc/self/clear_refs").exists():
        raise UserError("The memory of a run is read from /proc, which only Linux has; use Linux.")
    runs = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        samples = write_scene_samples(folder, max(sizes))
        for size in sizes:
            write_samples(folder / "samples.jsonl", samples[:size])
            command = [sys.executable, "-m", "benchmarks.speed.growth", name]
            runs.append(ScoringRun(**json.loads(subprocess.check_output(command))))
    return runs


def exponent(runs: Sequence[ScoringRun]) -> float:
    """The exponent of the process's time in the number of samples.

    The slope of a least-squares line through the logarithms.
    """
    sizes, times = zip(*((math.log(r.samples), math.log(r.process)) for r in runs), strict=True)
    return linear_regression(sizes, times).slope


def write_scene_samples(folder: Path, size: int) -> list[Sample]:
    """Write images to `folder`, and `size` samples from their scenes, SAMPLES_PER_IMAGE each.

    The same size gives the same samples, and a smaller one the beginning of them.
    """
    samples: list[Sample] = []
    for number, scene in enumerate(draw_scenes(0, "final", -(-size // SAMPLES_PER_IMAGE))):
        draw(scene).save(folder / f"{number}.png")
        rng = random.Random(number)
        samples += [
            Sample(f"{number}-{k}", f"{number}.png", *pair(rng, scene, instruction), instruction)
            for k in range(SAMPLES_PER_IMAGE)
            for instruction in [CLASSES[k % len(CLASSES)]]
        ]
    return samples[:size]


def run_scoring(folder: Path) -> ScoringRun:
    """Score the folder's samples in this process."""
    from c3l.backbones import load_backbone
    from c3l.relevance import score

    backbone = load_backbone(POCKET, device="cpu")
    samples = read_samples(folder / "samples.jsonl")
    score(backbone, samples[:64], ImageFolder(folder))  # a warm-up
    reset_peak()
    before = memory("VmRSS")
    wall, process = time.perf_counter(), time.process_time()
    score(backbone, samples, ImageFolder(folder))
    seconds = time.perf_counter() - wall, time.process_time() - process
    return ScoringRun(len(samples), *seconds, memory("VmHWM"), before)


def reset_peak() -> None:
    """Reset the kernel's peak to the resident memory."""
    Path("/proc/self/clear_refs").write_text("5")


def memory(field: str) -> float:
    """A field of /proc/self/status in MiB: VmRSS is resident memory, VmHWM its peak.

    Not `resource`: its peak outlives exec, and would be the parent's where that was larger.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


if __name__ == "__main__":
    print(json.dumps(asdict(run_scoring(Path(sys.argv[1])))))
