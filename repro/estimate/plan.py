"""The plan of a run: its stages, time, memory, disk and judge calls (docs/real-size.md)."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from itertools import product

from tabulate import tabulate

from benchmarks import BENCHMARKS
from benchmarks.base import TokenCount
from benchmarks.judge.judge import Judge
from c3l.artifacts.graph import closure, not_in_store
from c3l.artifacts.store import Source, Stage, Store
from c3l.runtime.progress import duration
from repro.estimate import cost, workload
from repro.estimate.cost import GIB, Shape, TrainingMode
from repro.estimate.devices import Device
from repro.profile import Expected, Profile
from repro.recipe import Cells, rows, stages
from repro.run import runner
from repro.run.progress import Times

GPUS = (2, 4, 8)
BATCH_SIZES = {"scores": "scoring.i2c_batch_size", "evaluation": "scoring.batch_size"}
"""The profile's key of a stage's batch size; other stages have generation.batch_size."""


@dataclass(frozen=True)
class StageEstimate:
    """Cost of a stage with a model, on a device."""

    seconds: float
    memory: float
    """Bytes that its worker needs."""
    remedy: str
    """What would make it fit; "" where it fits."""


class Estimator:
    """Costs of stages on a device. Raises UserError for a backbone that is unknown."""

    def __init__(self, device: Device, profile: Profile):
        self.device, self._profile = device, profile
        self._shape_of_backbone = cache(cost.shape_of_backbone)

    def estimate(self, stage: Stage) -> StageEstimate | None:
        """Return None for a stage without a model: seconds, and little memory."""
        shape = self._shape(stage)
        stage_cost = shape and workload.cost_of(stage, shape, self.device.numbers)
        if stage_cost is None:
            return None
        memory = self.device.bytes_needed(stage_cost)
        remedy = "" if memory <= self.device.memory else self._remedy(stage)
        return StageEstimate(self.device.seconds(stage_cost), memory, remedy)

    def bytes_on_disk(self, stage: Stage) -> float:
        return workload.bytes_on_disk(stage, self._shape(stage), self.device.numbers)

    def checkpoint_bytes(self, stage: Stage) -> float:
        """Bytes of a training's checkpoint: weights that train and two states, in float32."""
        tuning = workload.training_mode(stage).tuning
        return 12 * cost.trained_parameters(self._shape(stage), tuning)

    def _shape(self, stage: Stage) -> Shape | None:
        source = workload.weights_of(stage)
        return self._shape_of_backbone(source.path) if isinstance(source, Source) else None

    def _bytes_needed(self, stage: Stage, mode: TrainingMode | None = None) -> float:
        return self.device.bytes_needed(
            workload.cost_of(stage, self._shape(stage), self.device.numbers, mode)
        )

    def _remedy(self, stage: Stage) -> str:
        """Return the first change that makes it fit; those that alter results least come first."""
        if mode := workload.training_mode(stage):
            for alternative in alternative_modes(mode):
                if self._bytes_needed(stage, alternative) <= self.device.memory:
                    return self._options(stage, mode, alternative)
            return "a larger GPU, or a smaller backbone: 8 of these would not do"
        size = stage.config["batch_size"]
        while size > 1:
            size //= 2
            stage = replace(stage, config=stage.config | {"batch_size": size})
            if self._bytes_needed(stage) <= self.device.memory:
                return f"--set {BATCH_SIZES.get(stage.name, 'generation.batch_size')}={size}"
        memory = self._bytes_needed(stage) / GIB
        return f"a GPU of {memory:.0f} GiB or more, or a smaller backbone"

    def _options(self, stage: Stage, mode: TrainingMode, alternative: TrainingMode) -> str:
        """Return the command-line options that train a stage in the alternative mode."""
        gpus = alternative.gpus
        parts = [f"{gpus} GPUs (--launch fsdp:{gpus})"] if gpus > 1 else []
        if alternative.tuning != mode.tuning:
            parts.append(f"--set readings.tuning={alternative.tuning}")
        if alternative.checkpointing and not mode.checkpointing:
            parts.append(f"--set training.{self._kind(stage)}.gradient_checkpointing=true")
        return " and ".join(parts)

    def _kind(self, stage: Stage) -> str:
        """Name the field of the profile's `training` that a stage uses."""
        if stage.name == "vlit":
            first = self._profile.training.first
            return "first" if first and stage.config["settings"] == first.model_dump() else "vlit"
        if stage.config["crm"] and stage.config["clm"]:
            return "joint"
        return "generator" if stage.config["crm"] else "contrastive"


def alternative_modes(mode: TrainingMode) -> list[TrainingMode]:
    """Other ways to train, in the order to try them.

    Layers computed twice (the same result), adapters, adapters beside four bits, several GPUs.
    """
    tunings = [mode.tuning]
    if mode.tuning in ("full", "language+projector"):
        tunings += ["lora"]
    if mode.tuning != "projector":
        tunings += ["qlora"]
    modes = [TrainingMode(tuning, twice) for tuning in tunings for twice in (False, True)]
    modes += [TrainingMode(mode.tuning, twice, n) for n, twice in product(GPUS, (False, True))]
    return [other for other in dict.fromkeys(modes) if other != mode]


def estimate_stages(stages: Iterable[Stage], estimator: Estimator) -> dict[str, StageEstimate]:
    """Estimate the stages that have a model, by key."""
    estimates = {stage.key: estimator.estimate(stage) for stage in stages}
    return {key: estimate for key, estimate in estimates.items() if estimate}


def render_plan(
    tables: dict[str, Cells],
    profile: Profile,
    store: Store,
    jobs: int,
    device: Device,
    *,
    local: bool = True,
    missing: str = "",
) -> str:
    """Return markdown: stages by name, run, stored and shared; time, memory, disk and judge.

    `local`: the device is this machine's own, and measured times count. `missing` is the error of
    an input that is not there.
    """
    targets = [stage for cells in tables.values() for stage in stages(cells)]
    everything, todo = closure(targets), not_in_store(targets, store)
    estimator = Estimator(device, profile)
    estimates = estimate_stages(everything.values(), estimator)
    seconds = {key: estimate.seconds for key, estimate in estimates.items()}
    expected = profile.expected if local and device.shares.measured else Expected()
    times = Times(expected, everything.values() if local else (), store, seconds)
    unshared = sum(map(len, rows(tables).values()))
    workers = max(1, min(jobs, len(todo)))
    total_seconds = max([times.total(todo.values(), jobs), *runner.chains(todo, times).values()])
    memory = max((estimates[key].memory for key in todo if key in estimates), default=0.0)
    if expected.memory_gib is not None:
        memory = expected.memory_gib * GIB
    disk = sum(map(estimator.bytes_on_disk, todo.values()))
    parts = [
        f"Not all that this needs is there, and it is planned as if it were: {missing}"
        if missing
        else "",
        _stage_table(everything, todo, store, times, estimates),
        f"{len(todo)} of {len(everything)} stages would run; rows share "
        f"{unshared - len(everything)} that each would run alone.\n"
        f"Expected: {duration(total_seconds)} and {workers * memory / GIB:.1f} GiB with {workers} "
        f"workers, {disk / GIB:.1f} GiB of disk.",
        _judge_calls(todo.values(), profile),
        "\n".join(_too_large(todo, estimates, device, workers, memory)),
        f"Estimated for {device.description}. Memory in GiB is that of one worker: "
        "docs/real-size.md.",
    ]
    return "\n\n".join(filter(None, parts))


def _stage_table(
    everything: dict[str, Stage],
    todo: dict[str, Stage],
    store: Store,
    times: Times,
    estimates: dict[str, StageEstimate],
) -> str:
    """One line for each stage name, in the order of the pipeline."""
    depths = {stage.name: len(closure([stage])) for stage in everything.values()}
    lines = []
    for name in sorted(depths, key=depths.__getitem__):
        same = [stage for stage in everything.values() if stage.name == name]
        remaining = [stage for stage in same if stage.key in todo]
        stored = sum(stage.key not in todo and store.path(stage).exists() for stage in same)
        longest = max(remaining or same, key=times.expected)
        memory = max((estimates[s.key].memory for s in same if s.key in estimates), default=None)
        peak = "–" if memory is None else f"{memory / GIB:.1f} GiB"
        time = [duration(times.expected(longest)), times.source(longest)]
        lines.append([name, len(same), stored, len(remaining), *time, peak])
    head = ["stage", "needed", "stored", "to run", "longest", "as", "peak memory"]
    return tabulate(lines, head, tablefmt="pipe", colalign=["left"] + ["right"] * 6)


def _too_large(
    todo: dict[str, Stage],
    estimates: dict[str, StageEstimate],
    device: Device,
    workers: int,
    memory: float,
) -> list[str]:
    """A line for each kind of stage that does not fit into the device's memory."""
    lines: dict[str, str] = {}
    for key, stage in todo.items():
        estimate = estimates.get(key)
        if estimate and estimate.remedy:
            name = f"{stage.name} of {workload.weights_of(stage).path.name}"
            lines[name] = (
                f"{name} does not fit: {estimate.memory / GIB:.1f} GiB of "
                f"{device.memory / GIB:.1f}. With {estimate.remedy} it would."
            )
    if not lines and workers > 1 and workers * memory > device.memory:
        jobs = max(1, math.floor(device.memory / memory))
        return [f"{workers} workers at a time do not fit: use --jobs {jobs}."]
    return list(lines.values())


def _judge_calls(todo: Iterable[Stage], profile: Profile) -> str:
    """A line about the judge's calls, with their cost where the profile states a price."""
    judged = [
        stage
        for stage in todo
        if stage.name == "evaluation" and (stage.config.get("judge") or {}).get("url")
    ]
    if not judged:
        return ""
    total = TokenCount(0, 0, 0)
    for stage in judged:
        benchmark, judge = BENCHMARKS[stage.config["task"]], Judge(**stage.config["judge"])
        questions, length = workload.count_questions(stage), 4 * stage.config["answer_tokens"]
        data = stage.inputs["data"].path
        total += benchmark.judge_tokens(data, questions, length, judge.tokens)
    price = profile.scoring.judge_price
    money = "no price is stated (scoring.judge_price)"
    if price:
        amount = (total.read * price.input + total.written * price.output) / 1e6
        money = f"at most {amount:,.2f} at the prices stated"
    return (
        f"The judge: {total.calls:,} calls, at most {total.read:,} tokens read and "
        f"{total.written:,} written; {money}."
    )
