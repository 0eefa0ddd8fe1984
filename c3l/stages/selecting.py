"""Stages that choose samples (sections 3.2 and 3.3): pseudo-labels, by I²C or by a rival."""

import json
import random
from collections.abc import Iterable
from typing import Any

from c3l.artifacts.stage import Job, Stage
from c3l.readings import Readings, ScoreForm, Step
from c3l.samples import Sample
from c3l.selection import Group, Selection, code_of, selector
from c3l.stages.common import readings_of, samples_of, save_samples
from c3l.stages.scoring import read_answer_logprobs, scored

SELECTION = "selection.json"


def selection(
    samples: Stage, scores: Stage, readings: Readings, share: float, seed: int, *, crm: bool
) -> Stage:
    """The ids of L_r's targets (best `share` by I²C) and of each group's positive and negatives."""
    positive = "i2c" if crm else readings.positive_without_crm
    config = {"readings": readings.of("selection"), "share": share, "positive": positive}
    config |= code_of(readings.score_form)
    inputs = {"samples": samples, "scores": scores}
    seeded = seed if positive == "random" else None
    return Stage("selection", 1, run_selection, config, inputs, seeded)


def run_selection(job: Job) -> dict:
    from c3l.selection import groups, top_share

    readings = readings_of(job, "selection")
    samples, values, facts = _values(job, readings.score_form)
    targets = top_share(samples, values, job.config["share"], readings.share_within)
    order = values
    if job.config["positive"] == "random":
        rng = random.Random(job.seed)
        order = [rng.random() for _ in values]
    labels = Selection(targets, groups(samples, order, readings.group))
    return _save_selection(job, labels, samples, values) | facts


def _values(job: Job, form: ScoreForm) -> tuple[list[Sample], list[float], dict]:
    """Return the samples that have a score, their I²C in this form, and facts about them."""
    import pandas as pd

    from c3l.relevance import in_form

    samples, scores = scored(job)
    values = in_form(scores, form)
    lengths = [len(score.kl) for score in scores]
    facts = {
        "without_score": len(samples_of(job)) - len(samples),
        # eq. 1 adds up over tokens: long answers are favoured, and one should see how much
        "length_correlation": float(pd.Series(values).corr(pd.Series(lengths), "spearman")),
    }
    return samples, values, facts


def rival_selection(
    method: str, samples: Stage, readings: Readings, share: float, seed: int, **inputs: Stage
) -> Stage:
    """The same ids as of `selection`, chosen by another method (`c3l.selection.select`).

    `inputs` are the `scores` of the samples and the stage `alone`, where the method needs them.
    """
    config = {"by": method, "share": share, "readings": readings.of(*rival_steps(method))}
    config |= code_of(method)
    seeded = seed if selector(method).seeded else None
    inputs = {"samples": samples, **inputs}
    return Stage("selection", 1, run_rival_selection, config, inputs, seeded)


def run_rival_selection(job: Job) -> dict:
    from c3l.selection import select, values

    method = job.config["by"]
    readings = readings_of(job, *rival_steps(method))
    samples, scores = scored(job)
    names = ("unit", "instances", "contradiction", "blacklist")
    rules = {}
    if method == "self_instruct":
        rules = {name: getattr(readings, f"self_instruct_{name}") for name in names}
    logprobs = read_answer_logprobs(job)
    value = values(method, samples, scores, answer_logprobs=logprobs, seed=job.seed, rules=rules)
    within, group = readings.share_within, readings.group
    options = {"share": job.config["share"], "within": within, "group": group, "seed": job.seed}
    labels = select(method, samples, value, **options)
    facts = _save_selection(job, labels, samples, value) | {
        "without_score": len(samples_of(job)) - len(samples),
        "without_positive": sum(not group.positives for group in labels.groups),
        "without_negative": sum(not group.negatives for group in labels.groups),
    }
    if selector(method).labels:
        facts["positives"] = sum(map(bool, value))
    if not labels.targets:
        facts["unscored"] = f"{method} found no positive among {len(samples)} samples"
    return facts


def rival_steps(method: str) -> tuple[Step, ...]:
    """Return the steps whose readings a selection by this method depends on."""
    return "rival_selection", *(["self_instruct"] if method == "self_instruct" else ())


def _save_selection(
    job: Job, labels: Selection, samples: list[Sample], values: list[float]
) -> dict[str, Any]:
    def ids(samples: Iterable[Sample]) -> list[str]:
        return [sample.id for sample in samples]

    record = {
        "targets": ids(labels.targets),
        "groups": [
            {"image": g.image, "positives": ids(g.positives), "negatives": ids(g.negatives)}
            for g in labels.groups
        ],
        "scores": dict(zip(ids(samples), values, strict=True)),
    }
    (job.out / SELECTION).write_text(json.dumps(record, indent=1))
    return {"targets": len(labels.targets), "groups": len(labels.groups)}


def read_selection(job: Job) -> Selection:
    """Return the pseudo-labels of the input `selection`, about the samples of the input `samples`.

    Artefacts of before 2026-11-28 name one `positive` a group.
    """
    samples = {sample.id: sample for sample in samples_of(job)}
    record = json.loads((job.inputs["selection"] / SELECTION).read_text())

    def named(ids: list[str]) -> tuple[Sample, ...]:
        return tuple(samples[i] for i in ids)

    groups = []
    for group in record["groups"]:
        positives = group["positives"] if "positives" in group else [group["positive"]]
        groups.append(Group(group["image"], named(positives), named(group["negatives"])))
    return Selection([*named(record["targets"])], groups)


def best(samples: Stage, scores: Stage, readings: Readings, size: int) -> Stage:
    """The `size` best samples by I²C."""
    config = {"readings": readings.of("best"), "size": size} | code_of(readings.score_form)
    return Stage("best", 1, run_best, config, {"samples": samples, "scores": scores})


def run_best(job: Job) -> dict:
    from c3l.selection import ranked

    samples, values, facts = _values(job, readings_of(job, "best").score_form)
    selected = ranked(samples, values)[: job.config["size"]]
    return save_samples(job, selected, job.config["size"], read=len(samples), **facts)
