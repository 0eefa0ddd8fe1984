"""`python -m repro bench`: the speed of scoring, as markdown (benchmarks/speed)."""

import math
import tempfile
from pathlib import Path
from statistics import linear_regression

import torch
from tabulate import tabulate

from benchmarks.speed import scoring, stages
from benchmarks.speed.model import make_model, shape_config
from benchmarks.speed.stages import StageRun
from c3l.artifacts import provenance
from c3l.backbones.llava import Llava
from c3l.backbones.loading import usable_device
from c3l.runtime.errors import UserError
from c3l.runtime.progress import echo
from repro.estimate import cost
from repro.estimate.cost import Cost, Shape, TrainingMode
from repro.estimate.devices import Device, device_named, matrix_peak

SMALL = (
    "small, 144 image tokens",
    "small, 576 image tokens",
    "small, 576 image tokens, 32,000 words",
)
LARGE = "LLaVA-1.5-7B"
QUICK = "tiny, 9 image tokens"
SIZES = (1_000, 2_000, 5_000, 10_000, 20_000)
QUICK_SIZES = (100, 200, 400)


def scoring_report(device: str | None, quick: bool) -> str:
    """Time three ways of scoring on the device, and growth on the CPU, as markdown tables.

    `device` defaults to cuda where there is one, else cpu. On the CPU small models in float32, then
    growth; on cuda one of them, to check that the ways agree, and LLaVA-1.5-7B's shape in bfloat16.
    `quick` takes the smallest model and sizes, to check that all of it runs. Raises UserError for a
    device that cannot be used.
    """
    on = usable_device(device)
    if on.type not in ("cpu", "cuda"):
        raise UserError(f"device {on.type} cannot be used here; try cpu")
    rounds = 3 if quick else 5
    if on.type == "cuda":
        parts = [_ways([QUICK if quick else SMALL[1]], on, torch.float32, 2, rounds)]
        if not quick:
            parts += [_ways([LARGE], on, torch.bfloat16, 8, rounds)]
    else:
        parts = [_ways([QUICK] if quick else SMALL, on, torch.float32, 2, rounds)]
        if not quick:
            parts += [_ways([SMALL[1]], on, torch.float32, 2, rounds, "the pocket world's")]
        parts += [_growth(QUICK_SIZES if quick else SIZES)]
    return "\n\n".join([*parts, _provenance(on, device, quick)])


def formula_report(quick: bool) -> str:
    """Measure single stages of medium size in one CPU thread, beside `repro.estimate.cost`.

    `quick`: two of them, of the smallest size.
    """
    device, model = device_named("cpu"), QUICK if quick else stages.MODEL
    shape = cost.shape_of_config(Llava, shape_config(model))
    rows = []
    for kind in ("pairs", "vlit") if quick else stages.KINDS:
        run = stages.measure(kind, model)
        estimate = _cost_of(shape, device, run)
        seconds, peak = estimate.seconds, estimate.memory / 2**20
        rows.append([kind, run.process, seconds, seconds / run.process])
        rows[-1] += [run.peak, run.before, peak, peak / run.peak]
    head = ["stage", "CPU s", "estimated", "ratio", "peak MiB", "before", "estimated", "ratio"]
    formats = ["", ".1f", ".1f", ".2f", ".0f", ".0f", ".0f", ".2f"]
    return "\n\n".join(
        [
            f"{model}: {shape.parameters:,} parameters, float32; {device.description}.",
            tabulate(rows, head, tablefmt="pipe", floatfmt=formats),
            _provenance(torch.device("cpu"), None, quick, " --stages"),
        ]
    )


def _cost_of(shape: Shape, device: Device, run: StageRun) -> Cost:
    """Return the cost of a run of `benchmarks.speed.stages` by formula."""
    if run.kind == "scores":
        return cost.scoring(shape, device, run.rows, run.rows, run.tokens, batch=run.rows)
    if run.kind in ("captions", "pairs"):
        seen = shape if run.kind == "captions" else shape.blind
        return cost.writing(seen, device, run.rows, run.tokens, stages.NEW, batch=run.rows)
    tuning = "lora" if "lora" in run.kind else "language+projector"
    mode = TrainingMode(tuning, "checkpointing" in run.kind)
    tokens = run.tokens + shape.image_tokens
    return cost.training(shape, device, run.rows / stages.STEP, stages.STEP, tokens, mode, 1)


def _ways(
    names: list[str] | tuple[str, ...],
    device: torch.device,
    dtype: torch.dtype,
    images: int,
    rounds: int,
    lengths: str = "the paper's",
) -> str:
    """Each model's three ways: milliseconds a sample, ratios, and on cuda the share of the peak."""
    peak = matrix_peak(device) if device.type == "cuda" else None
    rows = []
    for name in names:
        # Lines and no bar: whatever draws takes time from what is timed.
        echo(f"Timing {name}, samples as long as {lengths}, in {rounds} rounds.")
        backbone = make_model(name, device=device, dtype=dtype)
        with tempfile.TemporaryDirectory() as folder:
            load = scoring.workload(Path(folder), images, lengths=lengths)
            timings = scoring.compare_ways(backbone, load, rounds)
        first, each = timings["one by one"], 1000 / len(load.samples)
        for way, timing in timings.items():
            row = {
                **{"model": name, "way": way},
                "ms a sample": timing.wall * each,
                "CPU ms a sample": timing.process * each,
                "times as fast": first.wall / timing.wall,
                "by CPU time": first.process / timing.process,
                "largest difference": f"{timing.difference:.1e}",
            }
            if peak:
                run = len(load.samples) / images if way == "packed" else 1
                shape = cost.shape_of_config(Llava, backbone.model.config)
                tokens = scoring.mean_tokens(backbone, load.samples)
                work = cost.scoring_flops(shape, len(load.samples), run, tokens)
                row["TFLOP/s"] = work / timing.wall / 1e12
                row["% of the peak"] = 100 * work / timing.wall / peak
            rows.append(row)
        del backbone
    formats = ["", "", ".1f", ".1f", ".2f", ".2f", "", ".2f", ".2f"]
    table = tabulate(rows, "keys", tablefmt="pipe", floatfmt=formats, disable_numparse=[6])
    per_image = len(load.samples) // images
    lines = [
        f"Scoring {len(load.samples)} samples as long as {lengths}, {per_image} an image, "
        f"{str(dtype)[6:]}, batches of {scoring.BATCH}, medians of {rounds} rounds.",
        table,
    ]
    if peak:
        lines += [f"The peak: {peak / 1e12:.0f} TFLOP/s, a bfloat16 product of 8192³, measured."]
    return "\n\n".join(lines)


def _growth(sizes: tuple[int, ...]) -> str:
    echo(f"Timing the pocket backbone on {', '.join(f'{size:,}' for size in sizes)} samples.")
    runs = [stages.measure("scores", stages.POCKET, size) for size in sizes]
    rows = [[r.rows, r.wall, r.process, 1000 * r.process / r.rows, r.before, r.peak] for r in runs]
    head = ["samples", "seconds", "CPU seconds", "CPU ms a sample", "MiB before", "MiB at most"]
    formats = ["", ".1f", ".1f", ".2f", ".0f", ".0f"]
    peaks = [run.peak for run in runs]
    return "\n\n".join(
        [
            f"The pocket backbone on the CPU, {stages.SAMPLES_PER_IMAGE} samples an image, each "
            "size in a process of its own.",
            tabulate(rows, head, tablefmt="pipe", floatfmt=formats),
            f"CPU time grows with the power {exponent(runs):.3f} of the number of samples; "
            f"the most resident memory from {min(peaks):.0f} to {max(peaks):.0f} MiB "
            f"(+{100 * (max(peaks) / min(peaks) - 1):.1f}%).",
        ]
    )


def exponent(runs: list[StageRun]) -> float:
    """The slope of a least-squares line through the logarithms of CPU time and number."""
    sizes, times = zip(*((math.log(r.rows), math.log(r.process)) for r in runs), strict=True)
    return linear_regression(sizes, times).slope


def _provenance(device: torch.device, option: str | None, quick: bool, options: str = "") -> str:
    """Name device, versions and the command that measures the numbers again."""
    command = "python -m repro bench" + (f" --device {option}" if option else "") + options
    versions = provenance.versions()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name()
    return (
        f"Measured on {name} (threads: {torch.get_num_threads()}) with torch {versions['torch']}, "
        f"transformers {versions['transformers']}, by `{command}{' --quick' if quick else ''}` "
        f"at commit {provenance.commit()}."
    )


def _cpu_name() -> str:
    """Return the CPU's name from Linux, else its architecture."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else provenance.device()
