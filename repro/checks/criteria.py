"""The criteria that the pocket world and its backbone are frozen by (`python -m repro criteria`).

They involve no row of any table: the backbone before tuning, the pairs it writes, and the gain of
an ordinary tuning on perfect data. benchmarks/pocket/README.md has the measurements.
"""

import random
from pathlib import Path
from statistics import fmean

from c3l.artifacts.graph import not_in_store
from c3l.artifacts.store import Job, Source, Stage, Store
from c3l.runtime.errors import UserError
from c3l.stages import training
from c3l.stages.common import Weights, backbone_source
from repro import recipe
from repro.inputs import benchmark_source, resolve_inputs
from repro.profile import Profile
from repro.rows import Row
from repro.run import runner
from repro.stages import evaluation as driver

BACKBONE = "LLaVA-7B"
TASKS = ("seedbench", "seedbench_ppl", "pope", "mmbench")


def perfect(graphs: Source, size: int, seed: int) -> Stage:
    """`size` pairs written from the scene graphs: all true, all in need of the image."""
    return Stage("perfect", 1, run_perfect, {"size": size}, {"graphs": graphs}, seed)


def run_perfect(job: Job) -> dict:
    from benchmarks.pocket.conversations import pair
    from benchmarks.pocket.scenes import Scene
    from benchmarks.pocket.truth import judge
    from c3l.instructions import CLASSES
    from c3l.samples import Sample, write_samples
    from c3l.stages.common import SAMPLES

    rng = random.Random(job.seed)
    graphs = [*driver.read_graphs(job).values()][: job.config["size"] // 5]
    samples: dict[tuple[str, str], Sample] = {}
    while len(samples) < job.config["size"]:
        graph, instruction = rng.choice(graphs), rng.choice(CLASSES)
        question, answer = pair(rng, Scene.from_dict(graph), instruction)
        if judge(question, answer, graph) == "true_image":
            name = f"{graph['image']}-perfect-{len(samples)}"
            sample = Sample(name, graph["image"], question, answer, instruction)
            samples.setdefault((graph["image"], question), sample)
    write_samples(job.out / SAMPLES, samples.values())
    return {"samples": len(samples)}


def measure(profile: Profile, store: Store, jobs: int, log: Path) -> str:
    """Return the criteria as markdown tables. Raises UserError for data without scene graphs."""
    store.remove_leftovers()
    data = resolve_inputs(profile, store)
    if data.final_graphs is None:
        raise UserError("The criteria need scene graphs, which only the pocket world has.")
    backbone = backbone_source(profile.backbones[BACKBONE].weights)
    world = data.initial.source.path.parent
    benchmarks = {task: benchmark_source(world.parent, task) for task in TASKS}

    def score(weights: Weights, task: str) -> Stage:
        return driver.evaluation(weights, task, benchmarks[task], profile.scoring)

    before = {task: score(backbone, task) for task in TASKS}
    pairs = recipe.pipeline(Row("initial", BACKBONE), backbone, profile, data, seed=0).candidates
    truth = driver.truth(pairs, Source.from_path(world / "graphs.jsonl"))
    readings = profile.readings
    samples = perfect(data.final_graphs, profile.sizes.final_samples, seed=0)
    tuned = [
        training.vlit(backbone, samples, data.final.source, profile.training.vlit, readings, seed)
        for seed in range(profile.sizes.tuning_seeds)
    ]
    after = {task: [score(model, task) for model in tuned] for task in TASKS}
    targets = [*before.values(), truth, *(stage for scores in after.values() for stage in scores)]
    runner.run_missing(targets, not_in_store(targets, store), store, jobs, log, profile.expected)
    lines = [
        "| benchmark | before tuning | tuned on perfect data | gain | unreadable before |",
        "|---|---|---|---|---|",
    ]
    for task in TASKS:
        first = store.metadata(before[task])
        values = [store.metadata(stage)["value"] for stage in after[task]]
        gain = fmean(values) - first["value"]
        lines.append(
            f"| {task}: {first['metric']} | {first['value']:.1f} | {fmean(values):.1f} "
            f"({', '.join(f'{value:.1f}' for value in values)}) | {gain:+.1f} "
            f"| {100 * first['unreadable']:.1f}% |"
        )
    shares = store.metadata(truth)["extra"]["verdicts"]
    lines += ["", "| initial pairs | share |", "|---|---|"]
    lines += [f"| {verdict} | {share:.1f}% |" for verdict, share in shares.items()]
    kept = store.metadata(pairs)
    dropped = store.metadata(pairs.stages[0])["dropped"] | kept["dropped"]
    lines += ["", f"{kept['samples']} pairs kept; dropped: {dropped}."]
    return "\n".join(lines)
