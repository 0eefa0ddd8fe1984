"""Quality of a score that ranks pairs of known truth: the numbers of the project's own table 6.

A score is measured on the pairs that a generator really wrote, with the verdicts of
`benchmarks.pocket.truth`. frames[data seed][0] holds one pool's pairs in the columns image_id,
class (of instruction), verdict, tokens (the answer's length), value (the score; more is better,
infinite ones are extremes) and chosen (whether the pair is among the best of its whole pool).

Resamples are those of `repro.analysis.statistics`, over images and data seeds; each pair weighs as
often as its image was drawn. Areas and correlations are exact for these weights, ties included.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from repro.analysis.statistics import Estimate, estimate_of, image_draws, seed_means

Frames = list[list[pd.DataFrame]]
Weighted = Callable[[np.ndarray], np.ndarray]
"""A statistic: from weights of the images [resamples, images] to values [resamples]; NaN where it
is undefined."""


def area(
    frames: Frames, resamples: int, against: str | None = None, *, within: str | None = None
) -> Estimate:
    """Area under the ROC curve × 100: how often a true pair that needs its image scores above
    another one, a tie counting one half.

    The other one is of the verdict `against`, or of any but "true_image", and if `within` names a
    column, equal to the first in that. Raises UndefinedError where there are no two such pairs.
    """

    def statistic(frame: pd.DataFrame, image: np.ndarray, images: int) -> Weighted:
        verdict = frame["verdict"]
        true = (verdict == "true_image").to_numpy()
        other = ~true if against is None else (verdict == against).to_numpy()
        _, level = np.unique(frame["value"].to_numpy(), return_inverse=True)
        wins, meetings = np.zeros((2, images, images))  # [image of the true pair, of the other one]
        parts = np.zeros(len(frame)) if within is None else frame[within].to_numpy()
        for part in np.unique(parts):
            counts = np.zeros((2, images, level.max() + 1))  # pairs of an image with a score
            for side, mask in zip(counts, (true, other), strict=True):
                mask = mask & (parts == part)
                np.add.at(side, (image[mask], level[mask]), 1)
            below = np.cumsum(counts[1], axis=1) - counts[1] / 2
            wins += counts[0] @ below.T
            meetings += np.outer(*counts.sum(axis=2))

        def mean_win(weights: np.ndarray) -> np.ndarray:
            won, met = (((weights @ x) * weights).sum(axis=1) for x in (wins, meetings))
            return won / met

        return mean_win

    name = "none that is not" if against is None else f"no {against} pair beside those that are"
    return _estimate(frames, resamples, statistic, f"a pool has no true_image pair or {name}")


def precision(frames: Frames, resamples: int, against: str | None = None) -> Estimate:
    """Percentage of the chosen pairs that are true and need their image.

    With `against`, of those chosen pairs that do or that have this verdict. Raises UndefinedError
    where none was chosen.
    """

    def hits(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
        verdict, counted = frame["verdict"], frame["chosen"]
        if against is not None:
            counted = counted & verdict.isin(["true_image", against])
        return counted & (verdict == "true_image"), counted

    return _share(frames, resamples, hits)


def share_of_class(frames: Frames, resamples: int, name: str) -> Estimate:
    """Percentage of the chosen pairs that are of an instruction class.

    Raises UndefinedError where nothing was chosen.
    """
    return _share(frames, resamples, lambda f: (f["chosen"] & (f["class"] == name), f["chosen"]))


def _share(
    frames: Frames, resamples: int, hits: Callable[[pd.DataFrame], tuple[pd.Series, pd.Series]]
) -> Estimate:
    def statistic(frame: pd.DataFrame, image: np.ndarray, images: int) -> Weighted:
        counts = [np.bincount(image[mask], minlength=images) for mask in hits(frame)]
        return lambda weights: np.divide(*(weights @ count for count in counts))

    return _estimate(frames, resamples, statistic, "nothing such was chosen from a pool")


def length_correlation(frames: Frames, resamples: int) -> Estimate:
    """Spearman's rank correlation × 100 of score and answer length in tokens.

    Raises UndefinedError where all scores or all lengths of a pool are equal.
    """

    def statistic(frame: pd.DataFrame, image: np.ndarray, images: int) -> Weighted:
        columns = [frame[name].to_numpy() for name in ("value", "tokens")]

        def correlation(weights: np.ndarray) -> np.ndarray:
            each = weights[:, image].astype(float)
            value, tokens = (_centred_ranks(column, each) for column in columns)
            spread = ((each * r * r).sum(axis=1) for r in (value, tokens))
            return (each * value * tokens).sum(axis=1) / np.sqrt(np.prod(list(spread), axis=0))

        return correlation

    return _estimate(frames, resamples, statistic, "all scores or all lengths of a pool are equal")


def _centred_ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mid-ranks less their mean [resamples, n], each value [n] repeated `weights` times."""
    _, level = np.unique(values, return_inverse=True)
    order = np.argsort(level, kind="stable")
    starts = np.searchsorted(level[order], np.arange(level.max() + 1))
    at_level = np.add.reduceat(weights[:, order], starts, axis=1)
    ranks = np.cumsum(at_level, axis=1) - at_level / 2
    return ranks[:, level] - weights.sum(axis=1, keepdims=True) / 2


def _estimate(
    frames: Frames,
    resamples: int,
    statistic: Callable[[pd.DataFrame, np.ndarray, int], Weighted],
    reason: str,
) -> Estimate:
    """Mean × 100 over the data seeds, and its interval.

    `statistic` takes a pool, the index of each pair's image, and the number of images. A resample
    that does not define a pool's statistic is left out; a pool that does not define it raises
    UndefinedError for `reason`.
    """
    pools = [frame for (frame,) in frames]
    names = np.unique(np.concatenate([pool["image_id"].to_numpy(dtype=str) for pool in pools]))
    statistics = [
        statistic(pool, np.searchsorted(names, pool["image_id"].to_numpy(dtype=str)), len(names))
        for pool in pools
    ]
    rng = np.random.default_rng(0)
    weights = image_draws(len(names), resamples, rng).astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        value = np.mean([weighted(np.ones((1, len(names))))[0] for weighted in statistics])
        values = np.stack([weighted(weights) for weighted in statistics], axis=1)
    return estimate_of(float(100 * value), 100 * seed_means(values[..., None], rng), reason)
