"""Samples with their scores: as data that others read, with a field or a column for each."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from c3l.artifacts.files import json_lines, json_list, write_atomically
from c3l.data.layouts import SCORED
from c3l.runtime.errors import writing
from c3l.samples import Data, Record, Sample, to_llava, write_samples
from c3l.scores import Score


def score_fields(score: Score, i2c: float) -> dict[str, Any]:
    """Return the fields that a file adds to a sample: I²C and tokens, or why there is none."""
    if score.unscored:
        return {"unscored": score.unscored}
    return {"i2c": i2c, "tokens": len(score.kl)}


def with_scores(
    samples: Sequence[Sample], scores: Sequence[Score], values: Sequence[float]
) -> list[Sample]:
    """Return the samples, each with the fields of its score in its `meta`."""
    return [
        replace(sample, meta=_without_score(sample.meta) | score_fields(score, value))
        for sample, score, value in zip(samples, scores, values, strict=True)
    ]


def write_scored(path: Path, samples: Sequence[Sample]) -> None:
    """Write scored samples: `write_samples` with EXTRAS as fields of their own."""
    write_samples(path, samples, extras=True)


def write_scores_into(data: Data, out: Path, fields: Sequence[Mapping[str, Any]]) -> None:
    """Write all records of the data once more, in order and shape, with new fields.

    `fields` has an entry for each sample, in order; what is no sample says why in `unscored`. In a
    record of several turns each new field is a list, an entry a turn. As .json our own layout
    becomes LLaVA's. Raises UserError if the file cannot be written.
    """
    records = scored_records(data, out.suffix, fields)
    content = (json_list if out.suffix == ".json" else json_lines)(records)
    with writing(out):
        write_atomically(out, content)


def scored_records(data: Data, suffix: str, fields: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Return the records that `write_scores_into` writes. UserError for one that does not fit."""
    remaining = iter(fields)
    records = []
    for record in data.records:
        turns = [next(remaining) if t.sample else {"unscored": t.reason} for t in record.turns]
        records.append(_shape(record, suffix) | _merge_turns(turns))
    return records


def _shape(record: Record, suffix: str) -> dict[str, Any]:
    """Return a record as the file of this suffix holds it, without an earlier score."""
    value, sample = record.value, record.turns[0].sample
    if not isinstance(value, dict):
        return {"record": value}
    if suffix == ".json" and sample is not None and record.own_layout:
        return _without_score(to_llava(sample))
    value = _without_score(value)
    if record.own_layout and isinstance(value.get("meta"), dict):
        value["meta"] = _without_score(value["meta"])
    return value


def _without_score(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in SCORED}


def _merge_turns(turns: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the new fields of a record: of several turns as lists, null where a turn has none."""
    if len(turns) == 1:
        return {"i2c": None, **turns[0]}
    names = ["i2c", "tokens", *(["unscored"] if any("unscored" in t for t in turns) else [])]
    return {name: [turn.get(name) for turn in turns] for name in names}
