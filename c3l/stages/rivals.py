"""What the stages of I²C's rivals do when they run (table 5); see `c3l.stages.common`."""

import json
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING

from c3l.artifacts.shards import in_shards, shard_seed
from c3l.artifacts.store import Job
from c3l.readings import Step
from c3l.samples import ImageFolder, Sample
from c3l.stages.common import SCORES, image_names, load, read, readings_of, save

if TYPE_CHECKING:
    from c3l.scores import Score

ALONE = "alone.json"


def vigc(job: Job) -> dict:
    from c3l.filtering import filter_samples
    from c3l.rivals import vigc

    backbone, readings = load(job, "backbone"), readings_of(job, "vigc")
    images = ImageFolder(job.inputs["images"])
    sizes = {"max_new_tokens": job.config["pair_tokens"], "batch_size": job.config["batch_size"]}

    def work(names: list[str], number: int) -> dict:
        written, dropped = vigc.direct(
            backbone,
            images,
            names,
            n=job.config["pairs_per_class"],
            temperature=readings.pair_temperature,
            top_p=readings.pair_top_p,
            seed=shard_seed(job, number),
            **sizes,
        )
        # Each kind by itself: a corrected answer is no duplicate of the direct one.
        pairs, invalid = filter_samples(written, blacklist=readings.blacklist)
        answers = vigc.iterative(
            backbone,
            pairs,
            images,
            asks=readings.vigc_asks,
            sentence=readings.vigc_sentence,
            **sizes,
        )
        pool, same = vigc.labelled(pairs, answers)
        valid, wrong = filter_samples(filter(vigc.is_corrected, pool))
        kept = {sample.id for sample in valid}
        pool = [sample for sample in pool if sample.id in kept or not vigc.is_corrected(sample)]
        return {
            "samples": [asdict(sample) for sample in pool],
            "dropped": dropped,
            "filtered": invalid,
            "corrections": Counter(same) + Counter(wrong),
        }

    names = image_names(job.inputs["images"], job.config["images"])
    shards = in_shards(job, "vigc", names, work)
    samples = [Sample(**fields) for shard in shards for fields in shard["samples"]]
    facts = {
        name: dict(sum((Counter(shard[name]) for shard in shards), Counter()))
        for name in ("dropped", "filtered", "corrections")
    }
    return save(job, samples, corrected=sum(map(vigc.is_corrected, samples)), **facts)


def alone(job: Job) -> dict:
    from c3l.rivals.ifd import alone

    backbone, batch_size = load(job, "backbone"), job.config["batch_size"]
    answers = sorted({sample.answer for sample in read(job)})

    def work(some: list[str], _: int) -> dict[str, float]:
        return alone(backbone, some, batch_size=batch_size)

    shards = in_shards(job, "alone", answers, work, "answers")
    found = {answer: value for shard in shards for answer, value in shard.items()}
    text = json.dumps(found, ensure_ascii=False, indent=1)
    (job.out / ALONE).write_text(text, encoding="utf-8")
    return {"answers": len(answers), "without_token": len(answers) - len(found)}


def rival_selection(job: Job) -> dict:
    from c3l.selection import LABELS, select, values

    by = job.config["by"]
    readings = readings_of(job, *rival_steps(by))
    samples, scores = scored(job)
    rules = {}
    if by == "self_instruct":
        rules = {
            "unit": readings.self_instruct_unit,
            "instances": readings.self_instruct_instances,
            "contradiction": readings.self_instruct_contradiction,
            "blacklist": readings.self_instruct_blacklist,
        }
    value = values(by, samples, scores, alone=read_alone(job), seed=job.seed, rules=rules)
    chosen = select(
        by,
        samples,
        value,
        share=job.config["share"],
        within=readings.share_within,
        group=readings.group,
        seed=job.seed,
    )
    record = {
        "targets": [sample.id for sample in chosen.targets],
        "groups": [
            {
                "image": group.image,
                "positives": [sample.id for sample in group.positives],
                "negatives": [sample.id for sample in group.negatives],
            }
            for group in chosen.groups
        ],
        "scores": {sample.id: number for sample, number in zip(samples, value, strict=True)},
    }
    (job.out / "selection.json").write_text(json.dumps(record, indent=1))
    facts = {
        "targets": len(chosen.targets),
        "groups": len(chosen.groups),
        "without_score": len(read(job)) - len(samples),
        "without_positive": sum(not group.positives for group in chosen.groups),
        "without_negative": sum(not group.negatives for group in chosen.groups),
    }
    if by in LABELS:
        facts["positives"] = sum(map(bool, value))
    if not chosen.targets:
        facts["unscored"] = f"{by} found no positive among {len(samples)} samples"
    return facts


def rival_steps(by: str) -> tuple[Step, ...]:
    """Return whose readings a selection by this method depends on."""
    return ("rival_selection", "self_instruct") if by == "self_instruct" else ("rival_selection",)


def scored(job: Job) -> "tuple[list[Sample], list[Score]]":
    """The samples that have a score, and their scores; all samples where no score is an input.

    Where the likelihood of answers alone is an input, only those that have one.
    """
    samples = read(job)
    if "scores" not in job.inputs:
        return samples, []
    from c3l.scores import read_scores

    alone = read_alone(job)
    both = [
        (sample, score)
        for sample, score in zip(samples, read_scores(job.inputs["scores"] / SCORES), strict=True)
        if not score.unscored and (alone is None or sample.answer in alone)
    ]
    return [sample for sample, _ in both], [score for _, score in both]


def read_alone(job: Job) -> dict[str, float] | None:
    """What the stage `alone` found, where it is an input."""
    if "alone" not in job.inputs:
        return None
    return json.loads((job.inputs["alone"] / ALONE).read_text(encoding="utf-8"))
