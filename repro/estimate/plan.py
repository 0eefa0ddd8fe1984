"""The plan of a run: its stages, time, memory, disk and judge calls (docs/real-size.md)."""

from collections.abc import Iterable
from dataclasses import replace
from functools import cache

from tabulate import tabulate

from benchmarks import BENCHMARKS
from benchmarks.judge.judge import Judge
from c3l.artifacts.graph import Stages, closure, not_in_store
from c3l.artifacts.store import Source, Stage, Store
from c3l.runtime.progress import duration
from repro.estimate import cost, workload
from repro.estimate.cost import Cost, Shape, TrainingMode
from repro.estimate.devices import GIB, Device
from repro.profile import Expected, Profile
from repro.recipe import Cells, rows, stages
from repro.run import runner
from repro.run.progress import Times

BATCH_SIZES = {"scores": "scoring.i2c_batch_size", "evaluation": "scoring.batch_size"}
"""The profile's key of a stage's batch size; other stages have generation.batch_size."""


class Estimator:
    """Costs of stages on a device. Raises UserError for a backbone that is unknown."""

    def __init__(self, device: Device, profile: Profile):
        self.device, self._profile = device, profile
        self._shape_of_backbone = cache(cost.shape_of_backbone)

    def estimate_all(self, stages: Iterable[Stage]) -> dict[str, Cost]:
        """Estimate the stages that have a model, by key; the others take little."""
        costs = {stage.key: self.estimate(stage) for stage in stages}
        return {key: one for key, one in costs.items() if one}

    def estimate(self, stage: Stage, mode: TrainingMode | None = None) -> Cost | None:
        """Return a stage's cost, trained in this mode, or None for one without a model."""
        shape = self._shape(stage)
        return shape and workload.cost_of(stage, shape, self.device, mode)

    def fits(self, stage: Stage, mode: TrainingMode | None = None) -> bool:
        """Compare a stage's memory, trained in this mode, with the device's."""
        one = self.estimate(stage, mode)
        return one is None or one.memory <= self.device.memory

    def bytes_on_disk(self, stage: Stage) -> float:
        return workload.bytes_on_disk(stage, self._shape(stage), self.device)

    def checkpoint_bytes(self, stage: Stage) -> float:
        """Bytes of a training's checkpoint: weights that train and two states, in float32."""
        return 12 * self._shape(stage).trained(workload.training_mode(stage).tuning)

    def _shape(self, stage: Stage) -> Shape | None:
        source = workload.weights_of(stage)
        return self._shape_of_backbone(source.path) if isinstance(source, Source) else None

    def remedy(self, stage: Stage) -> str:
        """Name the first change that makes it fit; those that alter results least come first."""
        if mode := workload.training_mode(stage):
            modes = (m for m in alternative_modes(mode) if self.fits(stage, m))
            options = (self._options(stage, mode, m) for m in modes)
            too_small = "It takes a larger GPU, or a smaller backbone: 8 of these would not do."
            return next((f"With {option} it would." for option in options), too_small)
        size = stage.config["batch_size"]
        while size > 1:
            size //= 2
            stage = replace(stage, config=stage.config | {"batch_size": size})
            if self.fits(stage):
                key = BATCH_SIZES.get(stage.name, "generation.batch_size")
                return f"With --set {key}={size} it would."
        memory = self.estimate(stage).memory / GIB
        return f"It takes a GPU of {memory:.0f} GiB or more, or a smaller backbone."

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
    tunings = [mode.tuning, *(["lora"] if mode.tuning in ("full", "language+projector") else [])]
    tunings += ["qlora"] if mode.tuning != "projector" else []
    modes = [TrainingMode(tuning, twice) for tuning in tunings for twice in (False, True)]
    modes += [TrainingMode(mode.tuning, twice, n) for n in (2, 4, 8) for twice in (False, True)]
    return [other for other in dict.fromkeys(modes) if other != mode]


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
    costs = estimator.estimate_all(everything.values())
    seconds = {key: one.seconds for key, one in costs.items()}
    expected = profile.expected if local and device.measured else Expected()
    times = Times(expected, everything.values() if local else (), store, seconds)
    unshared = sum(map(len, rows(tables).values()))
    workers = max(1, min(jobs, len(todo)))
    total_seconds = max([times.total(todo.values(), jobs), *runner.chains(todo, times).values()])
    memory = max((costs[key].memory for key in todo if key in costs), default=0.0)
    if expected.memory_gib is not None:
        memory = expected.memory_gib * GIB
    disk = sum(map(estimator.bytes_on_disk, todo.values()))
    too_large = "\n".join(_too_large(todo, costs, estimator))
    if not too_large and workers > 1 and workers * memory > device.memory:
        jobs = max(1, int(device.memory / memory))
        too_large = f"{workers} workers at a time do not fit: use --jobs {jobs}."
    planned = "Not all that this needs is there, and it is planned as if it were: "
    parts = [
        missing and planned + missing,
        _stage_table(everything, todo, store, times, costs),
        f"{len(todo)} of {len(everything)} stages would run; rows share "
        f"{unshared - len(everything)} that each would run alone.\n"
        f"Expected: {duration(total_seconds)} and {workers * memory / GIB:.1f} GiB with {workers} "
        f"workers, {disk / GIB:.1f} GiB of disk.",
        _judge_calls(todo.values(), profile),
        too_large,
        f"Estimated for {device.description}. Memory in GiB is that of one worker: "
        "docs/real-size.md.",
    ]
    return "\n\n".join(filter(None, parts))


def _stage_table(
    everything: Stages, todo: Stages, store: Store, times: Times, costs: dict[str, Cost]
) -> str:
    """One line for each stage name, in the order of the pipeline."""
    depths = {stage.name: len(closure([stage])) for stage in everything.values()}
    lines = []
    for name in sorted(depths, key=depths.__getitem__):
        same = [stage for stage in everything.values() if stage.name == name]
        remaining = [stage for stage in same if stage.key in todo]
        stored = sum(stage.key not in todo and store.path(stage).exists() for stage in same)
        longest = max(remaining or same, key=times.expected)
        memory = max((costs[s.key].memory for s in same if s.key in costs), default=None)
        peak = "–" if memory is None else f"{memory / GIB:.1f} GiB"
        time = [duration(times.expected(longest)), times.source(longest)]
        lines.append([name, len(same), stored, len(remaining), *time, peak])
    head = ["stage", "needed", "stored", "to run", "longest", "as", "peak memory"]
    return tabulate(lines, head, tablefmt="pipe", colalign=["left"] + ["right"] * 6)


def _too_large(todo: Stages, costs: dict[str, Cost], estimator: Estimator) -> Iterable[str]:
    """A line for each kind of stage that does not fit into the device's memory."""
    memory, lines = estimator.device.memory, {}
    for key, stage in todo.items():
        if key in costs and costs[key].memory > memory:
            name = f"{stage.name} of {workload.weights_of(stage).path.name}"
            lines[name] = (
                f"{name} does not fit: {costs[key].memory / GIB:.1f} GiB of "
                f"{memory / GIB:.1f}. {estimator.remedy(stage)}"
            )
    return lines.values()


def _judge_calls(todo: Iterable[Stage], profile: Profile) -> str:
    """A line about the judge's calls, with their cost where the profile states a price."""
    counts = []
    for stage in todo:
        if stage.name == "evaluation" and (stage.config.get("judge") or {}).get("url"):
            benchmark, judge = BENCHMARKS[stage.config["task"]], Judge(**stage.config["judge"])
            questions, length = workload.count_questions(stage), 4 * stage.config["answer_tokens"]
            data = stage.inputs["data"].path
            counts.append(benchmark.judge_tokens(data, questions, length, judge.tokens))
    if not counts:
        return ""
    calls, read, written = map(sum, zip(*counts, strict=True))
    money = "no price is stated (scoring.judge_price)"
    if price := profile.scoring.judge_price:
        amount = (read * price.input + written * price.output) / 1e6
        money = f"at most {amount:,.2f} at the prices stated"
    return (
        f"The judge: {calls:,} calls, at most {read:,} tokens read and "
        f"{written:,} written; {money}."
    )
