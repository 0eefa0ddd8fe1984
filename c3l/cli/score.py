"""`python -m c3l score`: I²C for a file of samples, in shards that survive a crash."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from c3l import relevance
from c3l.artifacts.files import atomic_path, digest, read_checked, write_checked
from c3l.backbones import Backbone
from c3l.data.formats import SUFFIXES
from c3l.data.left_out import LeftOut, left_out_path, write_left_out
from c3l.data.scored import score_fields, scored_records, write_scores_into
from c3l.readings import Readings
from c3l.runtime.errors import UserError
from c3l.runtime.progress import track
from c3l.samples import Data, ImageFolder, Sample, content_of
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
        pictures = {s.image: images.digest(s.image) for s in some}
        key = digest([how, [asdict(s) for s in some], pictures])
        path = kept / f"{key}.json"
        record = read_checked(path)
        if record is None:
            made = relevance.score(backbone, some, images, readings, batch_size=batch_size)
            record = {"scores": [to_record(score) for score in made]}
            write_checked(path, record)
        found |= zip(shard, map(from_record, record["scores"]), strict=True)
    return [found[i] for i in range(len(samples))]


def check_out(data: Data, out: Path) -> None:
    """Raise UserError unless the result can be written to `out`: said before hours of scoring."""
    if out.suffix not in SUFFIXES:
        raise UserError(f"{out}: unknown format; use a name ending in {', '.join(SUFFIXES)}")
    if not out.absolute().parent.is_dir():
        raise UserError(f"{out.parent} is no folder; make it, or give another --out")
    if out.is_dir():
        raise UserError(f"{out} is a folder; give the name of a file as --out")
    _check_apart(data, out)
    if out.suffix != ".parquet":
        scored_records(data, out.suffix, [{}] * len(data.samples))
    try:
        _kept(out).mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(f"{out} cannot be written ({error.strerror or error})") from error


def _check_apart(data: Data, out: Path) -> None:
    """Raise UserError where the result, or its list, would take the place of the data."""
    if left_out_path(out).is_dir():
        raise UserError(f"{left_out_path(out)} is a folder; move it, or give another --out")
    for path in (out, left_out_path(out)):
        try:
            if path.samefile(data.name):
                raise UserError(f"{path} holds the data themselves; give another --out")
        except OSError:  # one of them is not there: no file, or data of the Hub
            continue


def _kept(out: Path) -> Path:
    """Return the folder of the shards that a stopped run goes on from."""
    return out.with_name(f".{out.name}.scoring")


def to_file(
    backbone: Backbone,
    data: Data,
    images: ImageFolder,
    readings: Readings,
    out: Path,
    *,
    batch_size: int,
) -> dict[str, int]:
    """Score the samples of `data` into `out` and return how many have no score, by reason.

    A .parquet file holds the scores alone, a row a sample, token by token (`c3l.scores`); .jsonl
    and .json all records with their I²C. What has no score, sample or not, is listed beside it
    (`c3l.data.left_out`). Raises UserError, and writes nothing, when no sample has a score.
    """
    check_out(data, out)
    kept, samples = _kept(out), data.samples
    try:
        scores = in_shards(backbone, samples, images, readings, batch_size, kept)
        without = unscored(scores)
        if sum(without.values()) == len(scores):
            reasons = ", ".join(f"{reason} {number}" for reason, number in sorted(without.items()))
            shutil.rmtree(kept)
            raise UserError(
                f"none of the {len(scores)} samples of {data.name} has a score ({reasons})"
            )
        if out.suffix == ".parquet":
            with atomic_path(out) as path:
                write_scores(path, scores, [*map(content_of, samples)])
        else:
            write_scores_into(data, out, [score_fields(score, score.i2c) for score in scores])
        write_left_out(out, _left_out(data, scores))
    except OSError as error:
        raise UserError(f"{out} cannot be written ({error.strerror or error})") from error
    shutil.rmtree(kept)
    return without


def _left_out(data: Data, scores: Sequence[Score]) -> Iterator[LeftOut]:
    """Yield what is no sample and what has no score, in the order of the data."""
    left = iter(scores)
    for turn in data.turns:
        why = next(left).unscored if turn.sample else turn.reason
        if why:
            yield LeftOut(turn.id, turn.location, why)
