"""One row minus another in one column, from the samples of both rows' artefacts."""

from io import BytesIO

import pandas as pd

from c3l.artifacts.store import Store
from repro.analysis.statistics import UndefinedError, mcnemar
from repro.columns import Column, Frames
from repro.recipe import Runs


def frames(runs: Runs, store: Store) -> Frames:
    """Read the samples of a cell's artefacts, all of which are stored."""
    return [
        [pd.read_parquet(BytesIO(store.read(stage, "samples.parquet"))) for stage in run]
        for run in runs
    ]


def rounded(estimate: tuple[float, float | None, float | None]) -> dict:
    """Return `value` and `interval` of an estimate, to four decimals; a count has no interval."""
    value, *interval = (number if number is None else round(number, 4) for number in estimate)
    return {"value": value, "interval": None if None in interval else interval}


def row_difference(
    column: Column, runs: Runs, base: Runs, resamples: int, store: Store
) -> dict | None:
    """A scored row minus another scored one, paired by image, data seed and tuning seed.

    Returns:
        `value`, `interval` (95%), `detectable` (the smallest true difference that 80% of such
        comparisons would detect, at 5% two-sided) and, where the questions are the same for every
        row and answered right or wrong, `p` of McNemar's exact test over questions. None where the
        column does not compare rows or the samples do not define a difference.
    """
    if column.difference is None:
        return None
    rows = frames(runs, store), frames(base, store)
    try:
        difference = column.difference(*rows, resamples)
    except UndefinedError:
        return None
    fields = rounded(difference[:3]) | {"detectable": round(difference.detectable, 4)}
    if column.benchmark and (pairs := discordant_questions(*rows)):
        fields["p"] = mcnemar(*pairs)
    return fields


def discordant_questions(row: Frames, base: Frames) -> tuple[int, int] | None:
    """Count the benchmark questions that a row has right more often than its base, and less often.

    None where answers are not right or wrong. With one model a row these are the discordant pairs
    of McNemar's test. With several, a question counts once, for the row in which more models have
    it right: several models' answers to it are not independent. The test's p is about these models,
    not about the way they were made: at the variances of the pocket world it is below 0.05 in every
    other simulated comparison of rows that differ in nothing but their seeds
    (docs/records/decisions.md); the interval accounts for seeds.
    """
    answers = [pd.concat([frame for run in runs for frame in run]) for runs in (row, base)]
    if not all("correct" in frame for frame in answers):
        return None
    # POPE numbers the questions of each category from 1.
    right, base_right = (f.groupby(["category", "question_id"])["correct"].sum() for f in answers)
    margin = right - base_right
    return int((margin > 0).sum()), int((margin < 0).sum())
