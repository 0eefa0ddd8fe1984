"""Stages that write samples (section 3.1): captions, then pairs about them, then the filter."""

import json
import random
from collections import Counter
from dataclasses import asdict
from itertools import chain
from typing import TYPE_CHECKING

from c3l.artifacts.shards import in_shards
from c3l.artifacts.stage import Job, Source, Stage
from c3l.readings import Readings
from c3l.samples import ImageFolder, Sample
from c3l.settings import GenerationSettings
from c3l.stages.common import Weights, image_names, readings_of, samples_of, save_samples
from c3l.stages.models import load_model

if TYPE_CHECKING:
    from c3l.backbones import Backbone


def captions(
    backbone: Weights,
    images: Source,
    count: int,
    settings: GenerationSettings,
    readings: Readings,
    seed: int,
) -> Stage:
    """First step of generation: one caption for each of the first `count` images."""
    config = settings.model_dump(include={"caption_tokens", "batch_size"})
    config |= {"images": count, "readings": readings.of("captions")}
    inputs = {"backbone": backbone, "images": images}
    # Greedy captions are the same whatever the seed: all seeds share them.
    samples = readings.caption_temperature > 0
    version, seeded = (2, seed) if samples else (1, None)
    return Stage("captions", version, run_captions, config, inputs, seeded)


def run_captions(job: Job) -> dict:
    texts = _write_captions(job, load_model(job, "backbone"), readings_of(job, "captions"))
    text = json.dumps(texts, ensure_ascii=False, indent=1)
    (job.out / "captions.json").write_text(text, encoding="utf-8")
    facts = {"captions": len(texts), "empty": _count_empty(texts)}
    if facts["empty"] == len(texts):
        facts["unscored"] = f"the backbone wrote nothing about any of {len(texts)} images"
    return facts


def _write_captions(job: Job, backbone: "Backbone", readings: Readings) -> dict[str, str]:
    from c3l import generation

    names = image_names(job.inputs["images"], job.config["images"])
    images = ImageFolder(job.inputs["images"])

    def work(shard: list[str]) -> list[str]:
        return generation.captions(
            backbone,
            images,
            shard,
            max_new_tokens=job.config["caption_tokens"],
            temperature=readings.caption_temperature,
            batch_size=job.config["batch_size"],
            seed=job.seed or 0,
        )

    shards = in_shards(job, "captions", names, work)
    return dict(zip(names, chain.from_iterable(shards), strict=True))


def _count_empty(captions: dict[str, str]) -> int:
    return sum(not text.strip() for text in captions.values())


def initial(
    backbone: Weights,
    captions: Stage,
    images: Source,
    settings: GenerationSettings,
    readings: Readings,
    seed: int,
) -> Stage:
    """Second step: question-answer pairs of the three classes, from the captions."""
    config = settings.model_dump(exclude={"caption_tokens"})
    config |= {"readings": readings.of("initial")}
    inputs = {"backbone": backbone, "captions": captions}
    if readings.pairs_from == "caption_and_image":
        inputs["images"] = images
    return Stage("initial", 2, run_initial, config, inputs, seed)


def run_initial(job: Job) -> dict:
    texts = json.loads((job.inputs["captions"] / "captions.json").read_text(encoding="utf-8"))
    readings = readings_of(job, "initial")
    samples, dropped = _write_pairs(job, load_model(job, "backbone"), texts, readings)
    return save_samples(job, samples, dropped=dropped)


def _write_pairs(
    job: Job, backbone: "Backbone", captions: dict[str, str], readings: Readings
) -> tuple[list[Sample], dict]:
    """Return pairs for each caption, and how many pieces of text were dropped, by reason."""
    from c3l.generation import write_pairs

    images = ImageFolder(job.inputs["images"]) if readings.pairs_from != "caption" else None

    def work(names: list[str]) -> dict:
        samples, dropped = write_pairs(
            backbone,
            {name: captions[name] for name in names},
            n=job.config["pairs_per_class"],
            temperature=readings.pair_temperature,
            top_p=readings.pair_top_p,
            images=images,
            max_new_tokens=job.config["pair_tokens"],
            batch_size=job.config["batch_size"],
            seed=job.seed or 0,
        )
        return {"samples": [asdict(sample) for sample in samples], "dropped": dropped}

    shards = in_shards(job, "pairs", sorted(captions), work)
    return _samples(shards), _total(shards, "dropped")


def _samples(shards: list[dict]) -> list[Sample]:
    return [Sample(**fields) for shard in shards for fields in shard["samples"]]


def _total(shards: list[dict], name: str) -> dict[str, int]:
    return dict(sum((Counter(shard[name]) for shard in shards), Counter()))


def filtered(initial: Stage, readings: Readings) -> Stage:
    """The samples without duplicates and invalid pairs."""
    config = {"readings": readings.of("filtered")}
    return Stage("filtered", 1, run_filtered, config, {"samples": initial})


def run_filtered(job: Job) -> dict:
    from c3l.filtering import filter_samples

    samples = samples_of(job)
    valid, dropped = filter_samples(samples, blacklist=readings_of(job, "filtered").blacklist)
    return save_samples(job, valid, read=len(samples), dropped=dropped)


def final(
    generator: Weights,
    images: Source,
    count: int,
    size: int | None,
    settings: GenerationSettings,
    readings: Readings,
    seed: int,
) -> Stage:
    """Final data: captions and pairs by the generator, filtered, and `size` of them drawn.

    Without a size all are kept, for `c3l.stages.selecting.best` to choose from.
    """
    config = settings.model_dump() | {"images": count, "size": size}
    config |= {"readings": readings.of("final")}
    inputs = {"generator": generator, "images": images}
    return Stage("final", 2, run_final, config, inputs, seed)


def run_final(job: Job) -> dict:
    from c3l.filtering import filter_samples

    backbone, readings = load_model(job, "generator"), readings_of(job, "final")
    texts = _write_captions(job, backbone, readings)
    samples, dropped = _write_pairs(job, backbone, texts, readings)
    valid, filtered = filter_samples(samples, blacklist=readings.blacklist)
    draw = _draw(valid, job.config["size"], job.seed)
    return save_samples(
        job,
        draw,
        job.config["size"],
        empty_captions=_count_empty(texts),
        written=len(samples),
        dropped=dropped,
        filtered=filtered,
        not_drawn=len(valid) - len(draw),
    )


def draw(parts: list[Stage], size: int | None, seed: int) -> Stage:
    """`size` samples of several parts, by a seeded draw; without a size all of them."""
    inputs = {f"part-{number:06d}": part for number, part in enumerate(parts)}
    return Stage("drawn", 1, run_draw, {"size": size}, inputs, seed)


def run_draw(job: Job) -> dict:
    samples = [sample for name in sorted(job.inputs) for sample in samples_of(job, name)]
    draw = _draw(samples, job.config["size"], job.seed)
    return save_samples(job, draw, read=len(samples), not_drawn=len(samples) - len(draw))


def _draw(samples: list[Sample], size: int | None, seed: int) -> list[Sample]:
    """Draw `size` samples and keep their order; without a size, or with too few, return all."""
    count = min(size or len(samples), len(samples))
    return [samples[i] for i in sorted(random.Random(seed).sample(range(len(samples)), count))]


def vigc(
    backbone: Weights,
    images: Source,
    count: int,
    settings: GenerationSettings,
    readings: Readings,
    seed: int,
) -> Stage:
    """VIGC's pairs about the first `count` images, filtered: direct answers and corrected ones."""
    config = settings.model_dump(exclude={"caption_tokens"}) | {"images": count}
    config |= {"readings": readings.of("vigc")}
    inputs = {"backbone": backbone, "images": images}
    return Stage("vigc", 2, run_vigc, config, inputs, seed)


def run_vigc(job: Job) -> dict:
    from c3l.filtering import filter_samples
    from c3l.rivals import vigc

    backbone, readings = load_model(job, "backbone"), readings_of(job, "vigc")
    images = ImageFolder(job.inputs["images"])
    sizes = {"max_new_tokens": job.config["pair_tokens"], "batch_size": job.config["batch_size"]}

    def work(names: list[str]) -> dict:
        written, dropped = vigc.generate_pairs(
            backbone,
            images,
            names,
            n=job.config["pairs_per_class"],
            temperature=readings.pair_temperature,
            top_p=readings.pair_top_p,
            seed=job.seed or 0,
            **sizes,
        )
        # Each kind by itself: a corrected answer is no duplicate of the direct one.
        pairs, invalid = filter_samples(written, blacklist=readings.blacklist)
        rules = {"asks": readings.vigc_asks, "sentence": readings.vigc_sentence}
        answers = vigc.refine_answers(backbone, pairs, images, **rules, **sizes)
        pool, same = vigc.build_pool(pairs, answers)
        valid, wrong = filter_samples(filter(vigc.is_corrected, pool))
        ids = {sample.id for sample in valid}
        pool = [sample for sample in pool if sample.id in ids or not vigc.is_corrected(sample)]
        return {
            "samples": [asdict(sample) for sample in pool],
            "dropped": dropped,
            "filtered": invalid,
            "corrections": Counter(same) + Counter(wrong),
        }

    names = image_names(job.inputs["images"], job.config["images"])
    shards = in_shards(job, "vigc", names, work)
    samples = _samples(shards)
    facts = {name: _total(shards, name) for name in ("dropped", "filtered", "corrections")}
    return save_samples(job, samples, corrected=sum(map(vigc.is_corrected, samples)), **facts)
