"""Quality of a score that ranks pairs of known truth: the numbers of the project's own table 6.

A score is measured on the pairs that a generator really wrote, with the verdicts of
`benchmarks.pocket.truth`. frames[data seed][0] holds one pool's pairs in the columns image_id,
class (of instruction), verdict, tokens (the answer's length), value (the score; more is better,
infinite ones are extremes) and chosen (whether the pair is among the best of its whole pool).

A statistic is computed with a weight for each image, and its derivatives by them are the images'
influence. Areas and correlations are exact for these weights, ties included.
"""

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from repro.analysis.statistics import STEP, Influence, UndefinedError, centred

Frames = list[list[pd.DataFrame]]
Weighted = Callable[[np.ndarray], np.ndarray]
"""A statistic: from weights of the images [n, images] to values [n]; NaN where it is undefined."""
BLOCK = 256  # images whose weights are changed at once: bounds the memory of large pools


def area(frames: Frames, against: str | None = None, *, within: str | None = None) -> Influence:
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
    return _influence(frames, statistic, f"a pool has no true_image pair or {name}")


def precision(frames: Frames, against: str | None = None) -> Influence:
    """Percentage of the chosen pairs that are true and need their image.

    With `against`, of those chosen pairs that do or that have this verdict. Raises UndefinedError
    where none was chosen.
    """

    def hits(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
        verdict, counted = frame["verdict"], frame["chosen"]
        if against is not None:
            counted = counted & verdict.isin(["true_image", against])
        return counted & (verdict == "true_image"), counted

    return _share(frames, hits)


def share_of_class(frames: Frames, name: str) -> Influence:
    """Percentage of the chosen pairs that are of an instruction class.

    Raises UndefinedError where nothing was chosen.
    """
    return _share(frames, lambda f: (f["chosen"] & (f["class"] == name), f["chosen"]))


def _share(
    frames: Frames, hits: Callable[[pd.DataFrame], tuple[pd.Series, pd.Series]]
) -> Influence:
    def statistic(frame: pd.DataFrame, image: np.ndarray, images: int) -> Weighted:
        counts = [np.bincount(image[mask], minlength=images) for mask in hits(frame)]
        return lambda weights: np.divide(*(weights @ count for count in counts))

    return _influence(frames, statistic, "nothing such was chosen from a pool")


def length_correlation(frames: Frames) -> Influence:
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

    return _influence(frames, statistic, "all scores or all lengths of a pool are equal")


def _centred_ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mid-ranks less their mean [sets of weights, n], each value [n] repeated `weights` times."""
    _, level = np.unique(values, return_inverse=True)
    order = np.argsort(level, kind="stable")
    starts = np.searchsorted(level[order], np.arange(level.max() + 1))
    at_level = np.add.reduceat(weights[:, order], starts, axis=1)
    ranks = np.cumsum(at_level, axis=1) - at_level / 2
    return ranks[:, level] - weights.sum(axis=1, keepdims=True) / 2


def _influence(
    frames: Frames, statistic: Callable[[pd.DataFrame, np.ndarray, int], Weighted], reason: str
) -> Influence:
    """Mean × 100 over the data seeds, and each image's influence.

    `statistic` takes a pool, the index of each pair's image, and the number of images. A pool that
    does not define it raises UndefinedError for `reason`.
    """
    pools = [frame for (frame,) in frames]
    names = np.unique(np.concatenate([pool["image_id"].to_numpy(dtype=str) for pool in pools]))
    places = [np.searchsorted(names, pool["image_id"].to_numpy(dtype=str)) for pool in pools]
    models, shares = [], []
    with np.errstate(invalid="ignore", divide="ignore"):
        for pool, image in zip(pools, places, strict=True):
            weighted = statistic(pool, image, len(names))
            models.append(weighted(np.ones((1, len(names))))[0])
            less = [weighted(1 - STEP * block) for block in _unit_rows(len(names))]
            shares.append((models[-1] - np.concatenate(less)) / STEP)
    if not np.isfinite(models).all():
        raise UndefinedError(reason)
    table = centred(100 * np.nan_to_num(shares))[:, None]
    return Influence(float(100 * np.mean(models)), 100 * np.array(models)[:, None], names, table)


def _unit_rows(n: int) -> Iterator[np.ndarray]:
    """Yield the identity matrix [n, n], some rows at a time."""
    for start in range(0, n, BLOCK):
        yield np.eye(min(BLOCK, n - start), n, start)
