"""Intervals by bootstrap, clustered by image, over questions, data seeds and tuning seeds.

Three levels are drawn: images with all their questions (the same draw for every model, since the
questions are crossed with the seeds), data seeds, and tuning seeds within each data seed. A metric
is computed anew from each resample; one that draws none of a model's images is left out. Two rows
are compared within each resample: what both share is no part of their difference.

With few seeds a percentile interval is narrower than its name says: with three data seeds and three
tuning seeds each, at the variances seen in the pocket world, it held the truth in about nine of ten
simulated runs (tests/repro/analysis/test_statistics.py).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

Statistic = Callable[[np.ndarray], np.ndarray]


class Estimate(NamedTuple):
    """A number with its 95% interval, both on the scale of the statistic. A count has none."""

    value: float
    low: float | None
    high: float | None


class Difference(NamedTuple):
    """A row minus another, with its 95% interval and its standard error."""

    value: float
    low: float
    high: float
    error: float

    @property
    def detectable(self) -> float:
        """The smallest true difference that 80% of such comparisons would detect.

        For a two-sided test at 5% of a normal estimate with this standard error.
        """
        return float((stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * self.error)


class UndefinedError(ValueError):
    """A statistic that the samples do not define; the message is a cell's reason to be unscored."""


def accuracy(counts: np.ndarray) -> np.ndarray:
    """Percentage right, from counts [..., 2]: right, all. NaN of nothing."""
    return mean(np.multiply(counts, (100, 1)))


def mean(counts: np.ndarray) -> np.ndarray:
    """A mean, from counts [..., 2]: the sum, and of how many. NaN of nothing."""
    with np.errstate(invalid="ignore"):
        return counts[..., 0] / counts[..., 1]


def mean_f1(counts: np.ndarray) -> np.ndarray:
    """Mean over categories of F1 x 100, from counts [..., categories, 3].

    The counts are true positives, false positives and false negatives; a category without any of
    them has F1 = 0, as in lmms-eval.
    """
    true, false, missed = np.moveaxis(counts, -1, 0)
    with np.errstate(invalid="ignore"):
        f1 = 2 * true / (2 * true + false + missed)
    return 100 * np.nan_to_num(f1).mean(axis=-1)


def relative_score(counts: np.ndarray) -> np.ndarray:
    """LLaVA^W: 100 x mean candidate / mean reference score, from counts [..., 3].

    The counts are both scores, candidate first, and how many answers they are of. Both means and
    their ratio are rounded as lmms-eval rounds them, so that a cell is its number.
    """
    rounded = np.frompyfunc(round, 2, 1)  # numpy's own rounds a few numbers otherwise
    means = rounded(counts[..., :2] / counts[..., 2:], 3).astype(float)
    return np.asarray(rounded(means[..., 0] / means[..., 1] * 100, 1), float)


def bootstrap(
    counts: np.ndarray, statistic: Statistic, *, resamples: int, seed: int = 0
) -> Estimate:
    """Mean of a statistic over seeds and tuning seeds, with a 95% percentile interval.

    Args:
        counts: [data seeds, tuning seeds, images, ...], additive counts for each image; the same
            images, in the same order, for every seed.
        statistic: maps summed counts [..., *counts.shape[3:]] to values [...].
        resamples: how many; 2,000 of 9 models on 1,000 images take about a second.

    Raises:
        UndefinedError: a model has nothing to count.
    """
    return estimate_of(*_resampled(counts, statistic, resamples, seed))


def _resampled(
    counts: np.ndarray, statistic: Statistic, resamples: int, seed: int
) -> tuple[float, np.ndarray]:
    """Mean of a statistic over seeds and tuning seeds, and its means in the resamples."""
    seeds, tunings, images, *shape = counts.shape
    rng = np.random.default_rng(seed)
    flat = np.moveaxis(counts, 2, 0).reshape(images, -1).astype(float)
    summed = image_draws(images, resamples, rng).astype(float) @ flat
    values = statistic(summed.reshape(resamples, seeds, tunings, *shape))
    return float(statistic(counts.sum(axis=2)).mean()), seed_means(values, rng)


def image_draws(images: int, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Draws of each image, [resamples, images]."""
    return rng.multinomial(images, np.full(images, 1 / images), size=resamples)


def seed_means(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Means [resamples] of values [resamples, seeds, tunings], over seeds drawn anew for each."""
    resamples, seeds, tunings = values.shape
    r = np.arange(resamples)[:, None, None]
    s = rng.integers(seeds, size=(resamples, seeds, 1))
    t = rng.integers(tunings, size=(resamples, seeds, tunings))
    return values[r, s, t].mean(axis=(1, 2))


NOTHING_DRAWN = "a model or a data set has no samples"


def estimate_of(value: float, means: np.ndarray, reason: str = NOTHING_DRAWN) -> Estimate:
    """An estimate from its value and the resamples' means.

    Raises UndefinedError for `reason` where the value or all means are NaN.
    """
    return Estimate(*difference_of(value, means, reason)[:3])


def difference_of(value: float, means: np.ndarray, reason: str = NOTHING_DRAWN) -> Difference:
    """A difference, likewise."""
    means = means[~np.isnan(means)]
    if np.isnan(value) or not len(means):
        raise UndefinedError(reason)
    return Difference(value, *np.percentile(means, [2.5, 97.5]).tolist(), float(means.std()))


def bootstrap_difference(
    counts: np.ndarray, base: np.ndarray, statistic: Statistic, *, resamples: int, seed: int = 0
) -> Difference:
    """A row's mean minus its base's, as `bootstrap` estimates each of them.

    Both are computed from the same resamples: paired by image with its questions, by data seed and
    by tuning seed. `counts` and `base` are over the same images in the same order. Raises
    ValueError for shapes that differ, UndefinedError as `bootstrap` does.
    """

    def statistic_difference(summed: np.ndarray) -> np.ndarray:  # [..., 2, *shape] to [...]
        return np.subtract(*np.moveaxis(statistic(summed), -1, 0))

    stacked = np.stack([counts, base], axis=3)
    return difference_of(*_resampled(stacked, statistic_difference, resamples, seed))


def mcnemar(better: int, worse: int) -> float:
    """Two-sided p of McNemar's exact test, from the discordant pairs of either kind.

    `better` questions are answered right by one model and wrong by the other, `worse` the other way
    round; without any of them p is 1. The test takes the questions as independent and the two
    models as given: it does not account for other seeds or several questions about one image.
    """
    n = better + worse
    return float(stats.binomtest(better, n).pvalue) if n else 1.0


def holm(p: Sequence[float]) -> np.ndarray:
    """The p values [m] of m comparisons, adjusted by Holm so that one limit serves all of them.

    Whatever their dependence, the chance of one or more false rejections at p <= α is at most α.
    """
    order = np.argsort(p)
    steps = np.asarray(p)[order] * np.arange(len(p), 0, -1)
    return np.minimum(np.maximum.accumulate(steps), 1)[np.argsort(order)]
