"""A backbone's score on every question, in a file to compare a later one with.

Questions are the same if their names, reference answers and shared images are. Pixels do not count:
the decoding of images is part of the test.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationError

from benchmarks.base import Benchmark
from c3l.artifacts.files import digest
from c3l.runtime.errors import UserError
from c3l.runtime.record import Record
from repro.run.screen import write_result

if TYPE_CHECKING:
    import pandas as pd

Score = float | None | tuple[float, float] | dict[str, Any]
"""A question's score, as the benchmark keeps it (`Benchmark.baseline_scores`)."""


class BenchmarkScores(Record):
    """One benchmark of a baseline."""

    settings: dict[str, Any]
    """Settings of the evaluation: task, batch size, length of answers, judge."""
    metric: str | None = None
    value: float | None = None
    """0 to 100."""
    unscored: str | None = None
    """Reason for no value."""
    questions: str | None = None
    """A digest of the questions."""
    scores: dict[str, Score] = Field({})
    """By question."""


class Baseline(Record):
    """The scores that `python -m repro regress` compares with."""

    format: Literal[1] = 1
    backbone: str
    """Its folder or Hub id."""
    digest: str
    """Digest of its files (`Backbone.digest`)."""
    profile: str
    benchmarks: dict[str, BenchmarkScores]
    versions: dict[str, str]
    commit: str
    device: str
    made: str


def read_baseline(path: Path) -> Baseline:
    """Read a baseline. Raises UserError for a file that is none."""
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
    """Write a baseline atomically. Raises UserError where it cannot be written."""
    content = json.dumps(baseline.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"
    write_result(path, content)


def question_names(frame: "pd.DataFrame") -> list[str]:
    """Return the questions' names; POPE's numbers are unique in a category only."""
    return [f"{c}/{q}" for c, q in zip(frame["category"], frame["question_id"], strict=True)]


def questions_digest(frame: "pd.DataFrame") -> str:
    """Return a digest of the questions' names, reference answers and shared images."""
    image = frame["image_id"].factorize()[0].tolist()
    return digest([*zip(question_names(frame), frame["answer"].tolist(), image, strict=True)])


def question_scores(frame: "pd.DataFrame", benchmark: Benchmark) -> dict[str, Score]:
    """Return the score of each question by its name."""
    return dict(zip(question_names(frame), benchmark.baseline_scores(frame), strict=True))


def mismatch(
    stored: BenchmarkScores, frame: "pd.DataFrame", benchmark: Benchmark, metric: str
) -> str | None:
    """Say how a stored benchmark differs from the one that was scored now, or return None."""
    if stored.metric != metric:
        return f"the metric {stored.metric}, not {metric}"
    layouts = [
        {type(score) if isinstance(score, tuple | dict) else float for score in scores}
        for scores in (stored.scores.values(), benchmark.baseline_scores(frame))
    ]
    same = stored.scores.keys() == set(question_names(frame)) and layouts[0] == layouts[1]
    if stored.questions != questions_digest(frame) or not same:
        return f"{len(stored.scores)} other questions"
    return None


def restore_scores(
    frame: "pd.DataFrame", stored: dict[str, Score], benchmark: Benchmark
) -> "pd.DataFrame":
    """Replace the frame's scores with the stored ones: the inverse of `question_scores`."""
    return benchmark.with_scores(frame, [stored[name] for name in question_names(frame)])
