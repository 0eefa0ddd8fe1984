"""Verdict on a difference that a claim sets bounds to, and the chances of getting it.

A difference is reproduced if its 95% interval lies within the bounds, and not reproduced if it lies
outside. A margin on either side of zero is a claim of equivalence: two one-sided tests at 5%, which
is the 90% interval within the margin (Schuirmann 1987).
"""

from math import inf

import numpy as np
from scipy import stats

from repro.analysis.statistics import LEVEL, Difference

REPRODUCED, NOT_REPRODUCED = "reproduced", "not reproduced"
UNDECIDED, UNTESTABLE = "undecided", "untestable"
OPEN, UNDECIDABLE = "open", "cannot be decided here"
QUANTILES = 1000
POWER = 0.8  # less than this, and a claim that is true would too seldom be called so

Bounds = tuple[float, float]


def verdict(difference: Difference, bounds: Bounds) -> str:
    """Compare a difference's interval with the bounds that the claim sets it."""
    lower, upper = bounds
    low, high = difference.interval()
    if high <= lower or upper <= low:
        return NOT_REPRODUCED
    low, high = difference.interval(_level(bounds))
    return REPRODUCED if lower < low and high < upper else UNDECIDED


def combine_verdicts(verdicts: list[str]) -> str:
    """Return a claim's verdict: the first of not reproduced, untestable, undecided and
    reproduced that a part has.
    """
    return min(verdicts, key=(NOT_REPRODUCED, UNTESTABLE, UNDECIDED, REPRODUCED).index)


def undecided(verdict: str, power: float | None) -> str | None:
    """Return what an undecided claim is: open, or without the power to be decided; else None."""
    if verdict != UNDECIDED:
        return None
    return UNDECIDABLE if power is not None and power < POWER else OPEN


def equivalence(difference: Difference, bounds: Bounds) -> float:
    """The greater p of the two one-sided tests that the difference lies within finite bounds."""
    lower, upper = bounds
    if not difference.error:
        return 0.0 if lower < difference.value < upper else 1.0
    distance = min(difference.value - lower, upper - difference.value)
    return float(stats.t.sf(distance / difference.error, difference.df))


def chance_reproduced(difference: Difference, truth: float, bounds: Bounds) -> float:
    """P(reproduced) if the true difference is `truth`, and its standard error the measured one.

    That is noncentral t; for two finite bounds, both tests at once.
    """
    lower, upper = bounds
    if not difference.error:
        return float(lower < truth < upper)
    half = _halves(difference, _level(bounds))
    below, above = upper - half - truth, lower + half - truth
    inside = stats.norm.cdf(below / difference.error) - stats.norm.cdf(above / difference.error)
    return float(np.maximum(inside, 0).mean())


def chance_not_reproduced(difference: Difference, truth: float, bounds: Bounds) -> float:
    """P(not reproduced) if the true difference is `truth`, likewise."""
    lower, upper = bounds
    if not difference.error:
        return float(not lower < truth < upper)
    half = _halves(difference, LEVEL)
    below, above = lower - half - truth, upper + half - truth
    outside = stats.norm.cdf(below / difference.error) + stats.norm.sf(above / difference.error)
    return float(outside.mean())


def _level(bounds: Bounds) -> float:
    """Level of the interval that has to lie within the bounds: 95%, and 90% for equivalence."""
    return 2 * LEVEL - 1 if inf not in map(abs, bounds) else LEVEL


def _halves(difference: Difference, level: float) -> np.ndarray:
    """Quantiles of an interval's half width, as its estimated standard error varies."""
    share = (np.arange(QUANTILES) + 0.5) / QUANTILES
    errors = difference.error * np.sqrt(stats.chi2.ppf(share, difference.df) / difference.df)
    return stats.t.ppf((1 + level) / 2, difference.df) * errors
