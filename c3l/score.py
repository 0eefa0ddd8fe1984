"""`python -m c3l score`: I²C for a file of samples, in shards that survive a crash."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from c3l import relevance
from c3l.backbones import Backbone
from c3l.errors import UserError
from c3l.files import digest, digest_file, read_sealed, write_sealed, written_whole
from c3l.progress import track
from c3l.readings import Readings
from c3l.samples import ImageFolder, Sample
from c3l.scored import said_of, write_back
from c3l.scores import Score, from_record, to_record, unscored, write_scores

SHARD = 512  # samples; a killed run loses at most one shard


def in_shards(
    backbone: Backbone,
    samples: Sequence[Sample],
    images: ImageFolder,
    readings: Readings,
    batch_size: int,
    kept: Path,
) -> list[Score]:
    """The scores of the samples, in their order; whole shards are kept in the folder `kept`.

    A shard's name holds all that its scores depend on, the images' bytes among it: one of other
    samples or another backbone is never taken for it.
    """
    # All about one image together: then the model reads it once.
    first: dict[str, int] = {}
    for place, sample in enumerate(samples):
        first.setdefault(sample.image, place)
    order = sorted(range(len(samples)), key=lambda i: first[samples[i].image])
    shards = [order[start : start + SHARD] for start in range(0, len(order), SHARD)]
    how = [backbone.digest, str(backbone.dtype), readings.model_dump(mode="json"), batch_size]
    found: dict[int, Score] = {}
    for shard in track(shards, "samples", [*map(len, shards)]):
        some = [samples[i] for i in shard]
        key = digest([how, [asdict(s) for s in some], dict(_pictures(some, images))])
        path = kept / f"{key}.json"
        record = read_sealed(path)
        if record is None:
            made = relevance.score(backbone, some, images, readings, batch_size=batch_size)
            record = {"scores": [to_record(score) for score in made]}
            write_sealed(path, record)
        found |= zip(shard, map(from_record, record["scores"]), strict=True)
    return [found[i] for i in range(len(samples))]


def _pictures(samples: Sequence[Sample], images: ImageFolder) -> Iterator[tuple[str, str | None]]:
    """The digests of the samples' images; None for one that is not there to be read."""
    for name in dict.fromkeys(sample.image for sample in samples):
        try:
            yield name, digest_file(images.path / name)
        except (OSError, ValueError):
            yield name, None


def to_file(
    backbone: Backbone,
    source: Path,
    samples: Sequence[Sample],
    images: ImageFolder,
    readings: Readings,
    out: Path,
    *,
    batch_size: int,
) -> dict[str, int]:
    """Score the samples of `source` into `out`; how many have no score, by reason.

    A .parquet file holds the scores alone, token by token (`c3l.scores`); .jsonl and .json the data
    with their I²C. Raises UserError, and writes nothing, when no sample has a score.
    """
    kept = out.with_name(f".{out.name}.scoring")
    try:
        kept.mkdir(exist_ok=True)
        scores = in_shards(backbone, samples, images, readings, batch_size, kept)
        without = unscored(scores)
        if sum(without.values()) == len(scores):
            reasons = ", ".join(f"{reason} {number}" for reason, number in sorted(without.items()))
            shutil.rmtree(kept)
            raise UserError(
                f"none of the {len(scores)} samples of {source} has a score ({reasons})"
            )
        if out.suffix in (".jsonl", ".json"):
            write_back(source, out, [said_of(score, score.i2c) for score in scores])
        else:
            with written_whole(out) as path:
                write_scores(path, scores)
    except OSError as error:
        raise UserError(f"{out} cannot be written ({error.strerror or error})") from error
    shutil.rmtree(kept)
    return without
