"""What a benchmark shows of a question, from its parquet files alone: lmms-eval is not imported."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet

Key = tuple[str, str]
"""A question's id, behind its category where ids repeat between categories (POPE), else ""."""


@dataclass(frozen=True)
class Shown:
    """A question as its data set has it. `picture` is the image's file; None where there is none.

    `options` are the answers to choose from, by letter; none for a free answer.
    """

    question: str
    answer: str
    picture: bytes | None
    options: dict[str, str] = field(default_factory=dict)


def key(task: str, category: str, question_id: str) -> Key:
    """How `read` calls the question of a row in the columns of benchmarks.scoring."""
    return (category if task == "pope" else "", question_id)


def read(task: str, folder: Path, wanted: Collection[Key]) -> dict[Key, Shown]:
    """The wanted questions of a benchmark (a key of benchmarks.tasks.TASKS), those that are there.

    None of a benchmark whose layout is not known here. Few rows are in memory at a time: the real
    data sets hold gigabytes of images.
    """
    if task not in _READERS:
        return {}
    shown = (_READERS[task](row) for row in _rows(folder))
    return {place: question for place, question in shown if place in wanted}


def _rows(folder: Path) -> Iterator[dict]:
    for path in sorted(Path(folder).rglob("*.parquet")):
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=64):
                yield from batch.to_pylist()


def _seed(row: dict) -> tuple[Key, Shown]:
    options = {letter: row[f"choice_{letter.lower()}"] for letter in "ABCD"}
    picture = _file((row["image"] or [None])[0])
    return ("", str(row["question_id"])), Shown(row["question"], row["answer"], picture, options)


def _pope(row: dict) -> tuple[Key, Shown]:
    answer = row["answer"].lower().strip()
    return (row["category"], row["question_id"]), Shown(
        row["question"], answer, _file(row["image"])
    )


def _mmbench(row: dict) -> tuple[Key, Shown]:
    # An option that a question lacks is the text "nan".
    options = {letter: row[letter] for letter in "ABCD" if row[letter] not in (None, "nan")}
    picture = _file(row["image"])
    return ("", str(row["index"])), Shown(row["question"], row["answer"], picture, options)


def _llava_w(row: dict) -> tuple[Key, Shown]:
    picture = _file(row["image"])
    return ("", str(row["question_id"])), Shown(row["question"], row["gpt_answer"], picture)


def _file(image: dict | None) -> bytes | None:
    return image["bytes"] if image else None


_READERS: dict[str, Callable[[dict], tuple[Key, Shown]]] = {
    "seedbench": _seed,
    "seedbench_ppl": _seed,
    "pope": _pope,
    "mmbench": _mmbench,
    "llava_w": _llava_w,
}
