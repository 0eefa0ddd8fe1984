"""Samples with their scores: as data that others read, with a field or a column for each."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from c3l.errors import UserError
from c3l.files import written_whole
from c3l.samples import EXTRAS, Sample, read_records, write_samples
from c3l.scores import Score

TEXTS = ("id", "image", "question", "answer", "instruction")


def said_of(score: Score, i2c: float) -> dict[str, Any]:
    """What a file says of a scored sample: I²C and the answer's tokens, or why there is none."""
    if score.unscored:
        return {"unscored": score.unscored}
    return {"i2c": i2c, "tokens": len(score.kl)}


def with_scores(
    samples: Sequence[Sample], scores: Sequence[Score], values: Sequence[float]
) -> list[Sample]:
    """The samples, each with what is said of its score in its `meta`."""
    return [
        replace(sample, meta=sample.meta | said_of(score, value))
        for sample, score, value in zip(samples, scores, values, strict=True)
    ]


def write_scored(path: Path, samples: Sequence[Sample]) -> None:
    """Write scored samples in the format of the suffix, whole or not at all.

    EXTRAS become fields of their own: of a JSON record, a JSONL line, a parquet row. `read_samples`
    gives the same samples back. Raises UserError if the file cannot be written.
    """
    if path.suffix == ".json":
        write_samples(path, samples)
        return
    rows = [_row(sample) for sample in samples]
    try:
        with written_whole(path) as work:
            (_write_jsonl if path.suffix == ".jsonl" else _write_parquet)(work, rows)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error})") from error


def _row(sample: Sample) -> dict[str, Any]:
    row = asdict(sample)
    meta = row.pop("meta")
    extras = {name: meta.pop(name, None) for name in EXTRAS}
    return row | extras | ({"meta": meta} if meta else {})


def _write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8", newline="\n")


def _write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    import pyarrow
    import pyarrow.parquet

    text = pyarrow.string()
    schema = pyarrow.schema(
        [(name, text) for name in (*TEXTS, "caption")]
        + [("i2c", pyarrow.float64()), ("tokens", pyarrow.int64()), ("unscored", text)]
    )
    if any("meta" in row for row in rows):
        schema = schema.append(pyarrow.field("meta", text))
        rows = [row | {"meta": json.dumps(row.get("meta", {}))} for row in rows]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), path)


def write_back(source: Path, out: Path, said: Sequence[Mapping[str, Any]]) -> None:
    """The data of a file once more, with what is `said` of each sample in its order.

    A JSON record stays as it was published and has the new fields, of several turns a list each;
    everything else becomes a sample a line or record (`write_scored`).
    """
    records = read_records(source)
    turns = iter(said)
    told = [[next(turns) for _ in record] for record in records]
    if (source.suffix, out.suffix) != (".json", ".json"):
        samples = [
            replace(sample, meta=sample.meta | what)
            for record, some in zip(records, told, strict=True)
            for sample, what in zip(record, some, strict=True)
        ]
        write_scored(out, samples)
        return
    published = json.loads(source.read_text(encoding="utf-8"))
    both = [record | _together(some) for record, some in zip(published, told, strict=True)]
    try:
        with written_whole(out) as work:
            text = json.dumps(both, ensure_ascii=False, indent=1)
            work.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{out} cannot be written ({error.strerror or error})") from error


def _together(turns: list[Mapping[str, Any]]) -> dict[str, Any]:
    """What is said of a record: of one turn as it is, of several a list, null where it is not."""
    if len(turns) == 1:
        return {"i2c": None, **turns[0]}
    names = ["i2c", "tokens", *(["unscored"] if any("unscored" in t for t in turns) else [])]
    return {name: [turn.get(name) for turn in turns] for name in names}
