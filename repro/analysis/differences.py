"""One row minus another in one column, from the samples of both rows' artefacts."""

from io import BytesIO

import pandas as pd

from c3l.artifacts.store import Store
from repro.analysis.statistics import UndefinedError, mcnemar
from repro.columns import Column, Frames
from repro.recipe import Runs


def frames(runs: Runs, store: Store) -> Frames:
    """The samples of a cell's artefacts, all of which are in the store."""
    return [
        [pd.read_parquet(BytesIO(store.read(stage, "samples.parquet"))) for stage in some]
        for some in runs
    ]


def rounded(estimate: tuple[float, float | None, float | None]) -> dict:
    """An estimate's `value` and `interval`, to four decimals; a count has no interval."""
    value, *interval = (None if number is None else round(number, 4) for number in estimate)
    return {"value": value, "interval": None if None in interval else interval}


def difference(column: Column, runs: Runs, base: Runs, resamples: int, store: Store) -> dict | None:
    """A scored row minus another scored one, paired by image, data seed and tuning seed.

    Returns:
        `value`, `interval` (95%), `detectable` (the smallest true difference that would have been
        seen in 80% of such comparisons, at 5% two-sided) and, where the questions are the same for
        every row and answered right or wrong, `p` of McNemar's exact test over questions. None
        where the column does not compare rows or the samples do not define a difference.
    """
    if column.difference is None:
        return None
    ours, others = frames(runs, store), frames(base, store)
    try:
        found = column.difference(ours, others, resamples)
    except UndefinedError:
        return None
    said = rounded(found[:3]) | {"detectable": round(found.detectable, 4)}
    if column.benchmark and (pairs := discordant(ours, others)):
        said["p"] = mcnemar(*pairs)
    return said


def discordant(ours: Frames, others: Frames) -> tuple[int, int] | None:
    """How many of a benchmark's questions one row has right more often than another, and less.

    None where answers are not right or wrong. With one model a row these are the discordant pairs
    of McNemar's test. With more, a question is asked once for each data seed and tuning seed, and
    what counts is in which row more models have it right: the unit stays the question, for several
    models' answers to it are not independent. Pooling so takes the models as given: the test's p is
    about these models, not about what made them. At the variances of the pocket world it is below
    0.05 in every other simulated comparison of rows that differ in nothing but their seeds
    (docs/records/decisions.md); the interval is what counts seeds.
    """
    both = [pd.concat([frame for some in row for frame in some]) for row in (ours, others)]
    if not all("correct" in answers for answers in both):
        return None
    # POPE numbers the questions of each category from 1.
    right, right_of_others = (
        answers.groupby(["category", "question_id"])["correct"].sum() for answers in both
    )
    more = right - right_of_others
    return int((more > 0).sum()), int((more < 0).sum())
