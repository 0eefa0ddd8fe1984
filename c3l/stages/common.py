"""What the stages of `c3l.stages.declarations` do when they run.

A stage's function reads and writes folders only (see `c3l.artifacts.store.Job`), so that it can run in any
process. Everything heavy is imported when it is needed: the process that plans a run imports this
file and never torch.
"""

import gc
import json
import logging
import random
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from c3l.artifacts.files import finite
from c3l.artifacts.shards import in_shards, shard_seed
from c3l.artifacts.store import Job
from c3l.readings import Readings, ScoreForm, Step
from c3l.runtime import distributed
from c3l.runtime.errors import UserError, told
from c3l.samples import ImageFolder, Sample, read_samples, write_samples
from c3l.settings import TrainingSettings
from c3l.stages.launcher import trains

if TYPE_CHECKING:
    from c3l.backbones import Backbone

SAMPLES, SCORES = "samples.jsonl", "scores.parquet"

log = logging.getLogger(__name__)


def image_names(folder: Path, count: int) -> list[str]:
    """The first `count` images of a folder by name. Raises UserError when there are fewer."""
    names = ImageFolder(folder).names()
    if len(names) < count:
        raise UserError(f"{told(str(folder))} has {len(names)} images, but {count} are asked for.")
    return names[:count]


_cached: "tuple[str, Backbone] | None" = None
_device: str | None = None
_dtype: str | None = None


@contextmanager
def loading(device: str | None, dtype: str | None) -> Iterator[None]:
    """Within, stages of this process load weights onto this device, and in this precision.

    The precision is no part of a stage's key: the key of the backbone's Source has to hold it.
    """
    global _cached, _device, _dtype
    before, (_device, _dtype) = (_device, _dtype), (device, dtype)
    try:
        yield
    finally:
        _cached = None
        _device, _dtype = before


def load(job: Job, name: str, *, to_train: bool = False) -> "Backbone":
    """The weights of an input: on a GPU in the precision they were saved in, on a processor, which
    gains nothing by half precision, in float32, unless it is said otherwise (`loading`). The last
    ones stay in memory for the next stage of this process, unless training is about to change them.
    """
    global _cached
    from c3l.backbones import load_backbone
    from c3l.backbones.loading import usual_dtype

    if _cached is None or _cached[0] != job.keys[name]:
        _cached = None  # free the old one first
        dtype = _dtype or usual_dtype(_device)
        _cached = (job.keys[name], load_backbone(job.inputs[name], device=_device, dtype=dtype))
    backbone = _cached[1]
    if to_train:
        _cached = None
    return backbone


def unload() -> tuple[str | None, str | None]:
    """Leave the device to other processes; where these are to load weights, and in what precision
    (`loading`)."""
    global _cached
    _cached = None
    if "torch" in sys.modules:
        import torch

        gc.collect()
        torch.cuda.empty_cache()  # does nothing where CUDA is not in use
    return _device, _dtype


def read(job: Job, name: str = "samples") -> list[Sample]:
    """The samples of an input stage."""
    return read_samples(job.inputs[name] / SAMPLES)


def readings_of(job: Job, *steps: Step, **fixed: Any) -> Readings:
    """Return the readings that the job's key holds; no other one is within reach."""
    return Readings.within(job.config["readings"], *steps, **fixed)


def _caption_images(job: Job, backbone: "Backbone", readings: Readings) -> dict[str, str]:
    """A caption for each of the job's images, by name."""
    from c3l import generation

    names = image_names(job.inputs["images"], job.config["images"])
    images = ImageFolder(job.inputs["images"])
    options = {
        "max_new_tokens": job.config["caption_tokens"],
        "temperature": readings.caption_temperature,
        "batch_size": job.config["batch_size"],
    }
    shards = in_shards(
        job,
        "captions",
        names,
        lambda some, number: generation.captions(
            backbone, images, some, seed=shard_seed(job, number), **options
        ),
    )
    texts = [text for shard in shards for text in shard]
    return dict(zip(names, texts, strict=True))


def _write(
    job: Job, backbone: "Backbone", captions: dict[str, str], readings: Readings
) -> tuple[list[Sample], dict]:
    """Pairs for each caption, and how many pieces of text were dropped, by reason."""
    from c3l.generation import write_pairs

    images = ImageFolder(job.inputs["images"]) if readings.pairs_from != "caption" else None

    def work(names: list[str], number: int) -> dict:
        samples, dropped = write_pairs(
            backbone,
            {name: captions[name] for name in names},
            n=job.config["pairs_per_class"],
            temperature=readings.pair_temperature,
            top_p=readings.pair_top_p,
            images=images,
            max_new_tokens=job.config["pair_tokens"],
            batch_size=job.config["batch_size"],
            seed=shard_seed(job, number),
        )
        return {"samples": [asdict(sample) for sample in samples], "dropped": dropped}

    shards = in_shards(job, "pairs", sorted(captions), work)
    samples = [Sample(**fields) for shard in shards for fields in shard["samples"]]
    dropped = sum((Counter(shard["dropped"]) for shard in shards), Counter())
    return samples, dict(dropped)


def save(job: Job, samples: list[Sample], size: int | None = None, **facts: Any) -> dict:
    """Write the samples; without any, or with one pair over and over, the stage is unscored.

    `size` is how many were asked for, which tables name where there are fewer.
    """
    write_samples(job.out / SAMPLES, samples)
    if not samples:
        facts["unscored"] = "the generator wrote no valid pair"
    elif len({(sample.question, sample.answer) for sample in samples}) == 1 < len(samples):
        facts["unscored"] = f"the generator repeats itself: one pair, {len(samples)} times"
    if size is not None:
        facts["asked"] = size
    return {"samples": len(samples), **facts}


def _save_trained(job: Job, backbone: "Backbone", metrics: dict) -> dict:
    """Write the trained weights, and the history of the losses beside them."""
    # Sorted: a record that comes back from a checkpoint has its keys in another order.
    history = json.dumps(finite(metrics.pop("history")), indent=1, sort_keys=True)
    if distributed.first():
        backbone.save(job.out)
        (job.out / "history.json").write_text(history)
    return metrics


def captions(job: Job) -> dict:
    texts = _caption_images(job, load(job, "backbone"), readings_of(job, "captions"))
    text = json.dumps(texts, ensure_ascii=False, indent=1)
    (job.out / "captions.json").write_text(text, encoding="utf-8")
    facts = {"captions": len(texts), "empty": _empty(texts)}
    if facts["empty"] == len(texts):
        facts["unscored"] = f"the backbone wrote nothing about any of {len(texts)} images"
    return facts


def _empty(captions: dict[str, str]) -> int:
    return sum(not text.strip() for text in captions.values())


def initial(job: Job) -> dict:
    texts = json.loads((job.inputs["captions"] / "captions.json").read_text(encoding="utf-8"))
    samples, dropped = _write(job, load(job, "backbone"), texts, readings_of(job, "initial"))
    return save(job, samples, dropped=dropped)


def filtered(job: Job) -> dict:
    from c3l.filtering import filter_samples

    samples = read(job)
    readings = readings_of(job, "filtered")
    kept, dropped = filter_samples(samples, blacklist=readings.blacklist)
    return save(job, kept, read=len(samples), dropped=dropped)


def scores(job: Job) -> dict:
    from c3l.relevance import score
    from c3l.scores import from_record, to_record, unscored, write_scores

    backbone, samples = load(job, "backbone"), read(job)
    images = ImageFolder(job.inputs["images"])
    # Of the scores every form is made; their own is eq. 1 as printed.
    readings = readings_of(job, "scores", score_form="literal_sum")

    def work(some: list[Sample], _: int) -> list[dict]:
        found = score(backbone, some, images, readings, batch_size=job.config["batch_size"])
        return [to_record(made) for made in found]

    shards = in_shards(job, "scores", samples, work, "samples")
    found = [from_record(record) for shard in shards for record in shard]
    write_scores(job.out / SCORES, found)
    without = unscored(found)
    if without:
        log.warning(
            "%s of %s samples have no score: %s.", sum(without.values()), len(found), without
        )
    facts = {"samples": len(found), "without_score": without}
    if sum(without.values()) == len(found):
        facts["unscored"] = f"no sample could be scored: {without}"
    return facts


def _scored(job: Job, form: ScoreForm) -> tuple[list[Sample], list[float], dict]:
    """The samples that have a score, their I²C in the form asked for, and facts about them."""
    import pandas as pd

    from c3l.relevance import in_form
    from c3l.scores import read_scores

    # In order, not by id: published data repeat ids.
    both = list(zip(read(job), read_scores(job.inputs["scores"] / SCORES), strict=True))
    samples = [sample for sample, score in both if not score.unscored]
    found = [score for _, score in both if not score.unscored]
    values = in_form(found, form)
    lengths = [len(score.kl) for score in found]
    facts = {
        "without_score": len(both) - len(samples),
        # eq. 1 adds up over tokens: long answers are favoured, and one should see how much
        "length_correlation": float(pd.Series(values).corr(pd.Series(lengths), "spearman")),
    }
    return samples, values, facts


def selection(job: Job) -> dict:
    from c3l.selection import groups, top_share

    readings = readings_of(job, "selection")
    samples, values, facts = _scored(job, readings.score_form)
    targets = top_share(samples, values, job.config["share"], readings.share_within)
    order = values
    if job.config["positive"] == "random":
        rng = random.Random(job.seed)
        order = [rng.random() for _ in values]
    found = groups(samples, order, readings.group)
    chosen = {
        "targets": [sample.id for sample in targets],
        "groups": [
            {"image": g.image, "positive": best.id, "negatives": [s.id for s in g.negatives]}
            for g in found
            for best in g.positives
        ],
        "scores": {sample.id: value for sample, value in zip(samples, values, strict=True)},
    }
    (job.out / "selection.json").write_text(json.dumps(chosen, indent=1))
    return {"targets": len(targets), "groups": len(found), **facts}


@trains
def generator(job: Job) -> dict:
    from c3l.selection import Group
    from c3l.training import train_generator

    samples = {sample.id: sample for sample in read(job)}
    chosen = json.loads((job.inputs["selection"] / "selection.json").read_text())

    def some(ids: list[str]) -> tuple[Sample, ...]:
        return tuple(samples[i] for i in ids)

    def positives(group: dict) -> list[str]:
        """I²C has one positive a group; its rivals may have none or several."""
        return group["positives"] if "positives" in group else [group["positive"]]

    targets = [samples[i] for i in chosen["targets"]] if job.config["crm"] else []
    groups = [
        Group(g["image"], some(positives(g)), some(g["negatives"]))
        for g in chosen["groups"]
        if job.config["clm"]
    ]
    backbone = load(job, "backbone", to_train=True)
    metrics = train_generator(
        backbone,
        targets,
        groups,
        ImageFolder(job.inputs["images"]),
        TrainingSettings(**job.config["settings"]),
        readings_of(job, *generator_steps(job.config["crm"], job.config["clm"])),
        job.seed,
        job.partial,
    )
    return _save_trained(job, backbone, metrics)


def generator_steps(crm: bool, clm: bool) -> tuple[Step, ...]:
    """Return whose readings a generator with these losses depends on."""
    return "generator", *(["generator_crm"] if crm else ()), *(["generator_clm"] if clm else ())


def final(job: Job) -> dict:
    from c3l.filtering import filter_samples

    backbone = load(job, "generator")
    readings = readings_of(job, "final")
    texts = _caption_images(job, backbone, readings)
    samples, dropped = _write(job, backbone, texts, readings)
    kept, filtered = filter_samples(samples, blacklist=readings.blacklist)
    chosen = _draw(kept, job.config["size"], job.seed)
    return save(
        job,
        chosen,
        job.config["size"],
        empty_captions=_empty(texts),
        written=len(samples),
        dropped=dropped,
        filtered=filtered,
        not_drawn=len(kept) - len(chosen),
    )


def drawn(job: Job) -> dict:
    parts = [read(job, name) for name in sorted(job.inputs)]
    samples = [sample for part in parts for sample in part]
    chosen = _draw(samples, job.config["size"], job.seed)
    return save(job, chosen, read=len(samples), not_drawn=len(samples) - len(chosen))


def _draw(samples: list[Sample], size: int | None, seed: int) -> list[Sample]:
    """So many of the samples, in their order; all where there are no more, or without a size."""
    count = min(size or len(samples), len(samples))
    return [samples[i] for i in sorted(random.Random(seed).sample(range(len(samples)), count))]


def best(job: Job) -> dict:
    from c3l.selection import ranked

    samples, values, facts = _scored(job, readings_of(job, "best").score_form)
    kept = ranked(samples, values)[: job.config["size"]]
    return save(job, kept, job.config["size"], read=len(samples), **facts)


@trains
def vlit(job: Job) -> dict:
    from c3l.training import tune

    backbone = load(job, "backbone", to_train=True)
    metrics = tune(
        backbone,
        read(job),
        ImageFolder(job.inputs["images"]),
        TrainingSettings(**job.config["settings"]),
        readings_of(job, "vlit"),
        job.seed,
        job.partial,
    )
    return _save_trained(job, backbone, metrics)
