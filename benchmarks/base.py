"""A benchmark: an lmms-eval task, the metric that counts, and its questions.

Each benchmark of the paper is a subclass in a file of its own; `benchmarks.BENCHMARKS` holds them
by name. Light to import: lmms-eval, which takes ten seconds, is imported where something is scored.
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from numbers import Number
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from c3l.runtime.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    from lmms_eval.api.task import ConfigurableTask

COLUMNS = ("question_id", "image_id", "category", "answer", "response", "readable")
"""The columns of every table of samples; `image_id` is the cluster. Most also have `correct`."""
ASKED_COLUMNS = ("question_id", "image_id", "category", "answer")
"""The columns of a table that describe the question and not the model's answer."""

QuestionKey = tuple[str, str]
"""A question's category, where ids repeat between categories (else ""), and its id."""


@dataclass(frozen=True)
class Question:
    """A question as its data set has it, for the report."""

    question: str
    answer: str
    image: bytes | None
    """The image's file, if there is one."""
    options: dict[str, str] = field(default_factory=dict)
    """The answers to choose from, by letter; empty for a free answer."""


@dataclass(frozen=True)
class Benchmark:
    """An lmms-eval task as a column of a table; prompts, parsing and metric stay lmms-eval's."""

    yaml: str
    """The task's YAML file below lmms-eval's folder of tasks, or the absolute path of one."""
    key: str
    """The metric of lmms-eval that counts."""
    metric: str
    """The metric's name in a cell."""
    scale: float = 1.0
    """The factor from lmms-eval's number to 0–100."""
    data_set: str | None = None
    """The data set's name on the Hub, for `python -m repro data`."""
    folder: str | None = None
    """The data's folder below `benchmarks/` of a profile's data; None: the benchmark's name."""
    rows: int = 1000
    """Rows of the published test set, for an estimate where its files are not there."""
    answer_tokens: int | None = None
    """Tokens of an ordinary answer, for an estimate; None: as many as the profile allows."""
    options: int | None = None
    """Options whose likelihoods are compared; None: the model writes an answer."""
    served_hint: str = "name a benchmark that reads written answers"
    """Advice for a model that is served at an address, which gives no likelihoods."""
    needs_judge: bool = False

    process_docs: ClassVar[Callable | None] = None
    """The function of lmms-eval's that picks questions of the data set, if not all are asked."""

    def table(self, samples: list[dict], images: Mapping[int, str]) -> "pd.DataFrame":
        """Return lmms-eval's logged samples as a table, one row per scored question.

        By default the columns are COLUMNS and the metric's record of each question. A number is
        `correct`; the entries of a mapping or a sequence, from which a metric of the whole data set
        is computed, are `scored.NAME`, or `scored.0`, `scored.1`, … A question that the metric
        leaves out has no row, and one without an image is a cluster of its own. Raises UserError
        where the metric has a record of no question.

        Args:
            samples: lmms-eval's log, in the order of the data set.
            images: the image's digest by `doc_id`.
        """
        import pandas as pd

        rows = [
            {
                "question_id": str(sample["doc_id"]),
                "image_id": images.get(sample["doc_id"], f"none, question {sample['doc_id']}"),
                "category": "",
                "answer": _storable(str(sample["target"])),
                "response": _storable(str(first_text(sample["filtered_resps"][0]))),
                "readable": True,
            }
            | _metric_columns(sample[self.key])
            for sample in samples
            if self.key in sample
        ]
        if not rows:
            raise UserError(f"lmms-eval's log has no {self.key!r} of any question.")
        frame = pd.DataFrame(rows)
        for name in frame.columns.difference([*COLUMNS, "correct"]):
            types = {type(value) for value in frame[name].dropna()}
            if len(types) > 1:  # no parquet column holds both
                numeric = types <= {bool, int, float}
                frame[name] = frame[name].astype(float) if numeric else frame[name].map(_json)
        return frame

    def value(self, samples: "pd.DataFrame", official: float) -> float:
        """Return the cell's number, 0 to 100; `official` is lmms-eval's on that scale."""
        return official

    def recompute(self, samples: "pd.DataFrame", aggregation: Callable) -> float | None:
        """Recompute lmms-eval's number from the samples, as a check on both.

        None where only the column can compute it (`repro.analysis.table` then compares).
        """
        from lmms_eval.api.metrics import mean

        return mean_correct(samples) if aggregation is mean and "correct" in samples else None

    def extra(self, samples: "pd.DataFrame", results: dict) -> dict:
        """Return further numbers of the cell; `results` are all of lmms-eval's."""
        if "correct" not in samples:
            return {}
        by_category = samples.groupby("category")["correct"].mean() * 100
        return {"categories": by_category.to_dict()}

    def missing_part(self, samples: "pd.DataFrame") -> str | None:
        """Name the part of the data set that is not there and leaves the cell unscored."""
        return None

    def try_judge(self, task: "ConfigurableTask") -> str | None:
        """Have one answer judged before any other; return the reason if that failed.

        Only for a benchmark that needs a judge.
        """
        return None

    def judge_failure(self, samples: "pd.DataFrame") -> str | None:
        """Explain why judged samples give no score, or return None."""
        return None

    def judge_tokens(self, folder: Path, questions: int, answer: int, reply: int) -> "TokenCount":
        """Return what a judge reads and writes at most in one evaluation (`LlavaBench`)."""
        return TokenCount(0, 0, 0)

    def question_key(self, category: str, question_id: str) -> QuestionKey:
        """Return the key of a table's row among `questions`."""
        return "", question_id

    def question(self, row: dict) -> tuple[QuestionKey, Question] | None:
        """Read a question from a row of the data set's files; None: its layout is not known."""
        return None

    def questions(self, folder: Path, keys: Collection[QuestionKey]) -> dict[QuestionKey, Question]:
        """Return those questions that the data set in `folder` has, without lmms-eval."""
        parsed = filter(None, map(self.question, _rows(folder)))
        return {key: question for key, question in parsed if key in keys}

    def baseline_scores(self, samples: "pd.DataFrame") -> list:
        """Return for each question the record from which a baseline's metric is computed."""
        return samples.drop(columns=[*ASKED_COLUMNS]).to_dict("records")

    def with_scores(self, samples: "pd.DataFrame", scores: list) -> "pd.DataFrame":
        """Return the samples with a baseline's scores: the inverse of `baseline_scores`."""
        columns = {name: [score.get(name) for score in scores] for name in scores[0]}
        return samples[[name for name in samples if name in ASKED_COLUMNS]].assign(**columns)


class MeanBenchmark(Benchmark):
    """A benchmark whose number is the mean of the column `correct`."""

    def recompute(self, samples: "pd.DataFrame", aggregation: Callable) -> float:
        return mean_correct(samples)

    def baseline_scores(self, samples: "pd.DataFrame") -> list:
        return samples["correct"].tolist()

    def with_scores(self, samples: "pd.DataFrame", scores: list) -> "pd.DataFrame":
        return samples.assign(correct=[score or 0.0 for score in scores])


class TokenCount(NamedTuple):
    """Calls of a judge, and at most how many tokens it reads and writes in all of them."""

    calls: int
    read: int
    written: int


def mean_correct(samples: "pd.DataFrame") -> float:
    """Percentage of right answers."""
    return 100 * samples["correct"].mean()


def parquet_rows(folder: Path) -> int:
    """Count the rows of the files below a folder. Raises UserError for one that is damaged."""
    import pyarrow.parquet

    rows = 0
    for file in sorted(folder.rglob("*.parquet")):
        try:
            rows += pyarrow.parquet.read_metadata(file).num_rows
        except (pyarrow.ArrowInvalid, OSError) as error:
            raise UserError(f"{file} cannot be read as parquet ({error}); get it again") from error
    return rows


def image_bytes(image: dict | None) -> bytes | None:
    """The file in a parquet column of images."""
    return image["bytes"] if image else None


def first_text(response: Any) -> str:
    """The text of a logged response, which some tasks wrap in a list."""
    return response[0] if isinstance(response, list) else response


def _rows(folder: Path) -> Iterator[dict]:
    """Few rows are in memory at a time: the real data sets hold gigabytes of images."""
    import pyarrow.parquet

    for path in sorted(Path(folder).rglob("*.parquet")):
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=64):
                yield from batch.to_pylist()


def _metric_columns(value: Any) -> dict:
    """A metric's record of one question, as columns."""
    value = _native(value)
    if _is_number(value):
        return {"correct": float(value)}
    if isinstance(value, list | tuple):
        value = dict(enumerate(value))
    if isinstance(value, Mapping):
        return {f"scored.{name}": _storable(entry) for name, entry in value.items()}
    return {"scored": _storable(value)}


def _storable(value: Any) -> str | bool | int | float | None:
    """A value that a table holds; neither text nor number: its JSON."""
    value = _native(value)
    if isinstance(value, str):
        # half a surrogate pair has no place in a file
        return value.encode("utf-8", "replace").decode("utf-8")
    if value is None or (isinstance(value, int) and abs(value) < 2**63):
        return value
    return float(value) if _is_number(value) else _storable(_json(value))


def _is_number(value: object) -> bool:
    return isinstance(value, Number)


def _native(value: Any) -> Any:
    """A value without the numpy or torch type in which many metrics give theirs."""
    return value.tolist() if hasattr(value, "tolist") else value


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
