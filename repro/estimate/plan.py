"""What a run would do and take, without doing it. How that is reckoned: docs/real-size.md."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from itertools import product

from tabulate import tabulate

from benchmarks import BENCHMARKS
from benchmarks.base import TokenCount
from benchmarks.judge.judge import Judge
from c3l.artifacts.store import Source, Stage, Store
from repro.estimate import cost, workload
from repro.estimate.cost import GIB, TrainingMode
from repro.estimate.devices import Device
from repro.profile import Expected, Profile
from repro.recipe import Cells, stages
from repro.run import runner
from repro.run.progress import Times, duration

GPUS = (2, 4, 8)


@dataclass(frozen=True)
class Estimate:
    """A stage with a model, on a device."""

    seconds: float
    memory: float
    """Bytes that its worker needs."""
    remedy: str
    """How it would fit; "" where it does."""


class Estimator:
    """What stages take on a device. Raises UserError for a backbone of which nothing is known."""

    def __init__(self, device: Device, profile: Profile):
        self.device, self._profile, self._shape = device, profile, cache(cost.shape)

    def of(self, stage: Stage) -> Estimate | None:
        """None for a stage without a model: seconds, and little memory."""
        source = workload.weights(stage)
        if not isinstance(source, Source):
            return None
        found = workload.cost_of(stage, self._shape(source.path), self.device.numbers)
        if found is None:
            return None
        memory = self.device.needed(found)
        remedy = "" if memory <= self.device.memory else self._remedy(stage)
        return Estimate(self.device.seconds(found), memory, remedy)

    def written(self, stage: Stage) -> float:
        """Bytes that it leaves on the disk."""
        source = workload.weights(stage)
        shape = self._shape(source.path) if isinstance(source, Source) else None
        return workload.written(stage, shape, self.device.numbers)

    def checkpoint(self, stage: Stage) -> float:
        """Bytes of a training's checkpoint: weights that train and two states, in float32."""
        shape = self._shape(workload.weights(stage).path)
        return 12 * cost.trained(shape, workload.training_mode(stage).tuning)

    def _needs(self, stage: Stage, way: TrainingMode | None = None) -> float:
        shape = self._shape(workload.weights(stage).path)
        return self.device.needed(workload.cost_of(stage, shape, self.device.numbers, way))

    def _remedy(self, stage: Stage) -> str:
        """The first thing that makes it fit: what changes a result least comes first."""
        if way := workload.training_mode(stage):
            for other in ways(way):
                if self._needs(stage, other) <= self.device.memory:
                    return self._told(stage, way, other)
        else:
            key = "scoring.i2c_batch_size" if stage.name == "scores" else "generation.batch_size"
            key = "scoring.batch_size" if stage.name == "evaluation" else key
            size = stage.config["batch_size"]
            while size > 1:
                size //= 2
                smaller = replace(stage, config=stage.config | {"batch_size": size})
                if self._needs(smaller) <= self.device.memory:
                    return f"--set {key}={size}"
            smallest = replace(stage, config=stage.config | {"batch_size": 1})
            return f"a GPU of {self._needs(smallest) / GIB:.0f} GiB or more, or a smaller backbone"
        return "a larger GPU, or a smaller backbone: 8 of these would not do"

    def _told(self, stage: Stage, way: TrainingMode, other: TrainingMode) -> str:
        """What to give for a stage to be trained in the other way."""
        parts = [f"{other.gpus} GPUs (--launch fsdp:{other.gpus})"] if other.gpus > 1 else []
        if other.tuning != way.tuning:
            parts.append(f"--set readings.tuning={other.tuning}")
        if other.checkpointing and not way.checkpointing:
            parts.append(f"--set training.{self._kind(stage)}.gradient_checkpointing=true")
        return " and ".join(parts)

    def _kind(self, stage: Stage) -> str:
        """Which of the profile's trainings a stage is."""
        if stage.name == "vlit":
            first = self._profile.training.first
            return "first" if first and stage.config["settings"] == first.model_dump() else "vlit"
        if stage.config["crm"] and stage.config["clm"]:
            return "joint"
        return "generator" if stage.config["crm"] else "contrastive"


def ways(way: TrainingMode) -> list[TrainingMode]:
    """Other ways to train, the ones to be tried first before the others: layers computed twice
    (the same result), adapters, adapters beside four bits, then several GPUs."""
    tunings = [way.tuning]
    if way.tuning in ("full", "language+projector"):
        tunings += ["lora"]
    if way.tuning != "projector":
        tunings += ["qlora"]
    found = [TrainingMode(tuning, again) for tuning in tunings for again in (False, True)]
    found += [TrainingMode(way.tuning, again, gpus) for gpus, again in product(GPUS, (False, True))]
    return [other for other in dict.fromkeys(found) if other != way]


def estimate_stages(todo: Iterable[Stage], reckoner: Estimator) -> dict[str, Estimate]:
    """What can be reckoned, by a stage's key."""
    found = {stage.key: reckoner.of(stage) for stage in todo}
    return {key: one for key, one in found.items() if one}


def report(
    tables: dict[str, Cells],
    profile: Profile,
    store: Store,
    jobs: int,
    device: Device,
    *,
    here: bool = True,
    lacking: str = "",
) -> str:
    """Markdown: stages by name, run, stored and shared; time, memory, disk and judge to expect.

    `here`: the device is this machine's own, and what has been measured counts. `lacking` says what
    of the input is not there.
    """
    targets = [stage for cells in tables.values() for stage in stages(cells)]
    everything, todo = runner.closure(targets), runner.not_in_store(targets, store)
    reckoner = Estimator(device, profile)
    found = estimate_stages(everything.values(), reckoner)
    seconds = {key: one.seconds for key, one in found.items()}
    said = profile.expected if here and device.shares.measured else Expected()
    times = Times(said, everything.values() if here else (), store, seconds)
    depths = {s.name: len(runner.closure([s])) for s in everything.values()}
    lines = []
    for name in sorted(depths, key=depths.__getitem__):
        some = [stage for stage in everything.values() if stage.name == name]
        left = [stage for stage in some if stage.key in todo]
        stored = sum(stage.key not in todo and store.path(stage).exists() for stage in some)
        longest = max(left or some, key=times.expected)
        memory = max((found[s.key].memory for s in some if s.key in found), default=None)
        lines.append(
            [
                *(name, len(some), stored, len(left)),
                duration(times.expected(longest)),
                times.source(longest),
                "–" if memory is None else f"{memory / GIB:.1f} GiB",
            ]
        )
    alone = sum(
        len(runner.closure(stages({label: row})))
        for cells in tables.values()
        for label, row in cells.items()
    )
    head = ["stage", "needed", "stored", "to run", "longest", "as", "peak memory"]
    workers = max(1, min(jobs, len(todo)))
    expected = max([times.total(todo.values(), jobs), *runner.chains(todo, times).values()])
    memory = max((found[key].memory for key in todo if key in found), default=0.0)
    if said.memory_gib is not None:
        memory = said.memory_gib * GIB
    disk = sum(map(reckoner.written, todo.values()))
    parts = [
        [f"Not all that this needs is there, and it is planned as if it were: {lacking}"]
        if lacking
        else [],
        [tabulate(lines, head, tablefmt="pipe", colalign=["left"] + ["right"] * 6)],
        [
            f"{len(todo)} of {len(everything)} stages would run; rows share "
            f"{alone - len(everything)} that each would run alone.",
            f"Expected: {duration(expected)} and "
            f"{workers * memory / GIB:.1f} GiB with {workers} workers, {disk / GIB:.1f} GiB of "
            "disk.",
        ],
        [_judged(todo.values(), profile)],
        _not_fitting(todo, found, device, workers, memory),
        [f"Reckoned for {device.told}. Memory in GiB is that of one worker: docs/real-size.md."],
    ]
    return "\n\n".join("\n".join(filter(None, part)) for part in parts if any(part))


def _not_fitting(
    todo: dict[str, Stage], found: dict[str, Estimate], device: Device, workers: int, memory: float
) -> list[str]:
    """A line for each kind of stage that the device's memory is too small for."""
    lines: dict[str, str] = {}
    for key, stage in todo.items():
        one = found.get(key)
        if one and one.remedy:
            name = workload.weights(stage).path.name
            lines[f"{stage.name} of {name}"] = (
                f"{stage.name} of {name} does not fit: {one.memory / GIB:.1f} GiB of "
                f"{device.memory / GIB:.1f}. With {one.remedy} it would."
            )
    if not lines and workers > 1 and workers * memory > device.memory:
        fit = max(1, math.floor(device.memory / memory))
        lines["workers"] = f"{workers} workers at a time do not fit: use --jobs {fit}."
    return list(lines.values())


def _judged(todo: Iterable[Stage], profile: Profile) -> str:
    """What the judge would be asked, and what that would cost where somebody has said a price."""
    some = [
        stage
        for stage in todo
        if stage.name == "evaluation" and (stage.config.get("judge") or {}).get("url")
    ]
    if not some:
        return ""
    total = TokenCount(0, 0, 0)
    for stage in some:
        answer = 4 * stage.config["answer_tokens"]
        reply = Judge(**stage.config["judge"]).tokens
        total += BENCHMARKS[stage.config["task"]].judge_tokens(
            stage.inputs["data"].path, workload.questions(stage), answer, reply
        )
    price = profile.scoring.judge_price
    money = "no price is stated (scoring.judge_price)"
    if price:
        amount = (total.read * price.input + total.written * price.output) / 1e6
        money = f"at most {amount:,.2f} at the prices stated"
    return (
        f"The judge: {total.calls:,} calls, at most {total.read:,} tokens read and "
        f"{total.written:,} written; {money}."
    )
