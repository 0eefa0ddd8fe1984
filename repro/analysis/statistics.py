"""Intervals by crossed random effects: data seeds, tuning seeds in them, and images.

A model's number is written as a mean over images, each with all its questions, by its influence
function (exact for a mean, the delta method for F1 and ratios). Images are crossed with the data
seeds, tuning seeds are averaged within theirs, and the mean squares of the two factors and of their
interaction give the variance of the mean (Cornfield and Tukey 1956)

    MS(seeds) + max(MS(images) − MS(interaction), 0), each over the number of values,

with Satterthwaite's degrees of freedom. Two rows are compared by the differences of their images'
values: paired by image, data seed and tuning seed. Few seeds say little about their own variance,
so a difference takes half of it from the other rows of its table that were made alike.

docs/records/coverage.md has the coverage by simulation; `python -m tests.coverage` makes it.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

Statistic = Callable[[np.ndarray], np.ndarray]
LEVEL = 0.95
STEP = 1e-6  # of an image's weight, for the derivative of a statistic
OWN = 0.5  # of a difference's variance over seeds, the part that comes from its own two rows


class Estimate(NamedTuple):
    """A number with its 95% interval, both on the scale of the statistic. A count has none."""

    value: float
    low: float | None
    high: float | None


class Difference(NamedTuple):
    """A row minus another, with its standard error and degrees of freedom."""

    value: float
    error: float
    df: float

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Return the interval of Student's t."""
        half = self.error * float(stats.t.ppf((1 + level) / 2, self.df))
        return self.value - half, self.value + half

    @property
    def detectable(self) -> float:
        """The smallest true difference that 80% of such comparisons would detect, at 5%."""
        return float(stats.t.ppf([(1 + LEVEL) / 2, 0.8], self.df).sum() * self.error)


class UndefinedError(ValueError):
    """A statistic that the samples do not define; the message is a cell's reason to be unscored."""


class Influence(NamedTuple):
    """A row's number in one column, and how much each image moves it."""

    value: float
    """What the table shows: the mean over models."""
    models: np.ndarray
    """[data seeds, tuning seeds]: each model's number, before any rounding."""
    images: np.ndarray
    """[images]: names, sorted."""
    shares: np.ndarray
    """[data seeds, tuning seeds, images]: an image's part of a model's number, less that of an
    average one; they sum to zero."""


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


def score_ratio(counts: np.ndarray) -> np.ndarray:
    """100 x mean candidate / mean reference score, from counts [..., 3]; see `relative_score`."""
    with np.errstate(invalid="ignore"):
        return 100 * counts[..., 0] / counts[..., 1]


def relative_score(counts: np.ndarray) -> np.ndarray:
    """LLaVA^W: 100 x mean candidate / mean reference score, from counts [..., 3].

    The counts are both scores, candidate first, and how many answers they are of. Both means and
    their ratio are rounded as lmms-eval rounds them, so that a cell is its number.
    """
    rounded = np.frompyfunc(round, 2, 1)  # numpy's own rounds a few numbers otherwise
    means = rounded(counts[..., :2] / counts[..., 2:], 3).astype(float)
    return np.asarray(rounded(means[..., 0] / means[..., 1] * 100, 1), float)


def linearise(
    counts: np.ndarray,
    images: Sequence[str],
    statistic: Statistic,
    smooth: Statistic | None = None,
) -> Influence:
    """Return a row's influence from counts [data seeds, tuning seeds, images, ...].

    Args:
        counts: additive counts for each image, the same images for every model.
        images: the images' names, sorted.
        statistic: maps summed counts [..., *counts.shape[3:]] to values [...].
        smooth: the statistic without its rounding, if it has one.

    Raises:
        UndefinedError: a model has nothing to count.
    """
    smooth, total = smooth or statistic, counts.sum(axis=2, keepdims=True)
    value, models = statistic(total[:, :, 0]).mean(), smooth(total[:, :, 0])
    if np.isnan(models).any():
        raise UndefinedError("a model or a data set has no samples")
    shares = (models[..., None] - smooth(total - STEP * counts)) / STEP
    return Influence(float(value), models, np.asarray(images), centred(shares))


def centred(shares: np.ndarray) -> np.ndarray:
    """Return shares [..., images] that sum to zero over the images."""
    return shares - shares.mean(axis=-1, keepdims=True)


def estimate(row: Influence) -> Estimate:
    """Return a row's number with its interval."""
    error, df = standard_error(image_values([row])[0])
    low, high = Difference(row.value, error, df).interval()
    return Estimate(row.value, low, high)


def difference(row: Influence, base: Influence, alike: Sequence[Influence] = ()) -> Difference:
    """Return a row's number minus its base's.

    `alike` are the rows made like these two, both among them: their variance over seeds is pooled
    where it is not zero. Raises ValueError where the rows differ in their seeds.
    """
    if row.models.shape != base.models.shape:
        raise ValueError("a row and its base differ in their seeds")
    values = np.subtract(*image_values([row, base]))
    means = np.array([_by_seed(r.models) for r in alike if r.models.shape == row.models.shape])
    varies = all(np.ptp(_by_seed(r.models)) > 0 for r in (row, base))
    others = means[np.ptp(means, axis=1) > 0] if varies and len(means) else means[:0]
    return Difference(row.value - base.value, *standard_error(values, others))


def standard_error(values: np.ndarray, alike: np.ndarray | None = None) -> tuple[float, float]:
    """Standard error of the mean of values [data seeds, tuning seeds, images], and its degrees of
    freedom.

    With one data seed its tuning seeds take the place of the data seeds, and with one of both the
    images are all that varies. `alike` [rows, seeds] are means of three or more rows of which the
    values are the difference of two: a row's variance over seeds, less what all rows share.
    """
    table = _by_seed(values)
    seeds, images = table.shape
    by_seed, by_image = table.mean(axis=1), table.mean(axis=0)
    rest = table - by_seed[:, None] - by_image + table.mean()
    between = _mean_square(by_seed - by_seed.mean(), seeds - 1) / seeds
    of_images = _mean_square(by_image - by_image.mean(), images - 1) / images
    interaction = _mean_square(rest, (seeds - 1) * (images - 1)) / table.size
    df = float(seeds - 1)
    if alike is not None and len(alike) > 2 and values.any():
        effects = alike - alike.mean(axis=0)
        effects = effects - effects.mean(axis=1, keepdims=True)
        rows = len(alike) - 1
        pooled = 2 * _mean_square(effects, rows * (seeds - 1)) / seeds
        between = OWN * between + (1 - OWN) * pooled
        df /= OWN**2 + (1 - OWN**2) / rows
    parts = [(between, df)]
    if of_images > interaction:
        parts += [(of_images, images - 1), (-interaction, (seeds - 1) * (images - 1))]
    variance = sum(part for part, _ in parts)
    spread = sum(part**2 / max(df, 1) for part, df in parts)
    return float(np.sqrt(variance)), max(variance**2 / spread if spread else 0.0, seeds - 1, 1)


def _by_seed(values: np.ndarray) -> np.ndarray:
    """[seeds, ...] of [data seeds, tuning seeds, ...]: the outermost that there are several of."""
    return values.mean(axis=1) if len(values) > 1 else values[0]


def _mean_square(residuals: np.ndarray, df: int) -> float:
    return float((residuals**2).sum() / df) if df else 0.0


def image_values(rows: Sequence[Influence]) -> list[np.ndarray]:
    """Values [data seeds, tuning seeds, images] of rows over the images of any; their means over
    images are the models' numbers."""
    names = np.unique(np.concatenate([row.images for row in rows]))
    tables = []
    for row in rows:
        shares = np.zeros((*row.models.shape, len(names)))
        shares[..., np.searchsorted(names, row.images)] = row.shares
        tables.append(row.models[..., None] + len(names) * shares)
    return tables


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
