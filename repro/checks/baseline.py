"""A backbone's score on every question, kept in a file to compare a later one with.

Questions are the same where their names, reference answers and images in common are; not by their
pixels, for how an image is decoded is part of what is tested.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationError

from c3l.artifacts.files import digest, write_atomically
from c3l.runtime.errors import UserError
from c3l.runtime.record import Record

if TYPE_CHECKING:
    import pandas as pd

Score = float | None | tuple[float, float] | dict[str, Any]
"""Of a question: 1 right, 0 wrong, None unreadable (where a metric tells it from wrong); LLaVA^W:
what the judge gives the answer and the reference; a benchmark of one's own: all of its row, for a
metric may be computed from any of it."""

QUESTION = {"question_id", "image_id", "category", "answer"}
"""The columns of what was asked."""


class Benchmark(Record):
    """One benchmark of a baseline."""

    settings: dict[str, Any]
    """What the evaluation was asked: task, batch size, length of answers, judge."""
    metric: str | None = None
    value: float | None = None
    """0 to 100."""
    unscored: str | None = None
    """Why there is no value."""
    questions: str | None = None
    """A digest of what was asked."""
    scores: dict[str, Score] = Field({})
    """By question."""


class Baseline(Record):
    """What `python -m repro regress` compares with."""

    format: Literal[1] = 1
    backbone: str
    """As it was named."""
    digest: str
    """Of its files (`Backbone.digest`)."""
    profile: str
    benchmarks: dict[str, Benchmark]
    versions: dict[str, str]
    commit: str
    device: str
    made: str


def read_baseline(path: Path) -> Baseline:
    """The baseline in a file. Raises UserError for what is none."""
    try:
        return Baseline.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UserError(f"The baseline {path} cannot be read ({error.strerror}).") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        reason = f"{place}: {first['msg'][0].lower()}{first['msg'][1:]}"
    except (ValueError, RecursionError) as error:
        reason = str(error)
    raise UserError(f"{path} is no baseline ({reason}); make one with --update.")


def write_baseline(path: Path, baseline: Baseline) -> None:
    """Write the file, whole or not at all. Raises UserError where it cannot be written."""
    text = json.dumps(baseline.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"
    try:
        write_atomically(path, text)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}).") from error


def question_names(frame: "pd.DataFrame") -> list[str]:
    """The questions' names; numbers alone are not unique in POPE, which counts in each category."""
    return [f"{c}/{q}" for c, q in zip(frame["category"], frame["question_id"], strict=True)]


def questions_digest(frame: "pd.DataFrame") -> str:
    """A digest of what was asked: names, reference answers, and which are about one image."""
    image = frame["image_id"].factorize()[0].tolist()
    return digest([*zip(question_names(frame), frame["answer"].tolist(), image, strict=True)])


def question_scores(frame: "pd.DataFrame", *, whole: bool = False) -> dict[str, Score]:
    """The score of each question, from benchmarks.scoring's columns; `whole` keeps all of them."""
    if whole:
        values = frame.drop(columns=[*QUESTION]).to_dict("records")
    elif "candidate_score" in frame:
        pair = frame[["candidate_score", "reference_score"]]
        values = [*map(tuple, pair.to_numpy(float).tolist())]
    elif "reading" in frame:
        right = zip(frame["correct"].tolist(), frame["readable"], strict=True)
        values = [correct if readable else None for correct, readable in right]
    else:
        values = frame["correct"].tolist()
    return dict(zip(question_names(frame), values, strict=True))


def mismatch(benchmark: Benchmark, frame: "pd.DataFrame", metric: str) -> str | None:
    """What of a benchmark that was scored then is not what was scored now, if anything."""
    if benchmark.metric != metric:
        return f"the metric {benchmark.metric}, not {metric}"
    pairs = {isinstance(s, tuple) for s in benchmark.scores.values() if not isinstance(s, dict)}
    same = benchmark.scores.keys() == set(question_names(frame)) and pairs <= {
        "candidate_score" in frame
    }
    if benchmark.questions != questions_digest(frame) or not same:
        return f"{len(benchmark.scores)} other questions"
    return None


def restore_scores(frame: "pd.DataFrame", kept: dict[str, Score]) -> "pd.DataFrame":
    """The frame with the kept scores in place of its own: the inverse of `scores`."""
    values = [kept[name] for name in question_names(frame)]
    if any(isinstance(value, dict) for value in values):
        columns = {name: [value.get(name) for value in values] for name in values[0]}
        return frame[[name for name in frame if name in QUESTION]].assign(**columns)
    if "candidate_score" in frame:
        candidate, reference = zip(*values, strict=True)
        return frame.assign(candidate_score=candidate, reference_score=reference)
    restored = frame.assign(correct=[value or 0.0 for value in values])
    if "reading" in frame:
        other = {"yes": "no", "no": "yes"}
        restored["reading"] = [
            None if value is None else answer if value else other[answer]
            for value, answer in zip(values, frame["answer"], strict=True)
        ]
    return restored
