"""Metrics of any form under the bootstrap, computed anew from the rows of each resample.

A metric takes a model's samples as a table and gives a number. The draws are those of
`repro.analysis.statistics`: images with all their questions, data seeds, and tuning seeds in them.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np

from c3l.runtime.errors import short_repr
from repro.analysis import statistics
from repro.analysis.statistics import Difference, Estimate, UndefinedError

if TYPE_CHECKING:
    import pandas as pd

Metric = Callable[["pd.DataFrame"], float]
Frames = "list[list[pd.DataFrame]]"

IDS = ("image_id", "question_id")


def bootstrap_metric(frames: Frames, resamples: int, *, metric: Metric) -> Estimate:
    """Mean of a metric over data seeds and tuning seeds, with its 95% interval.

    Raises UndefinedError where the samples of a model do not define the metric.
    """
    (mean,), values, rng = _resampled([frames], metric, resamples)
    return statistics.estimate_of(mean, statistics.seed_means(values[0], rng))


def bootstrap_metric_difference(
    frames: Frames, base: Frames, resamples: int, *, metric: Metric
) -> Difference:
    """A row's mean minus its base's: the same images, data seeds and tuning seeds for both.

    Raises UndefinedError as `bootstrap_metric` does, ValueError where the rows differ in their
    seeds.
    """
    if [len(run) for run in frames] != [len(run) for run in base]:
        raise ValueError("a row and its base differ in their seeds")
    (mean, base_mean), values, rng = _resampled([frames, base], metric, resamples)
    means = statistics.seed_means(values[0] - values[1], rng)
    return statistics.difference_of(mean - base_mean, means)


def _resampled(
    rows: list[Frames], metric: Metric, resamples: int
) -> tuple[list[float], np.ndarray, np.random.Generator]:
    """Each row's mean on all its samples, and values [rows, resamples, data seeds, tuning seeds].

    The images are those of any row.
    """
    images = image_ids(rows)
    rng = np.random.default_rng(0)
    draws = statistics.image_draws(len(images), resamples, rng)
    means = [float(np.mean([[_value(metric, f) for f in run] for run in row])) for row in rows]
    if np.isnan(means).any():
        raise UndefinedError("the samples of a model do not define the metric")
    position = {image: k for k, image in enumerate(images)}

    def resampled_values(frame: "pd.DataFrame") -> list[float]:
        places = frame["image_id"].map(position).to_numpy(int)
        return [_value(metric, redraw(frame, draw[places])) for draw in draws]

    values = np.array([[[resampled_values(frame) for frame in run] for run in row] for row in rows])
    return means, np.moveaxis(values, -1, 1), rng


def image_ids(rows: Iterable[Frames]) -> list[str]:
    """The images of all samples, in order."""
    return sorted({i for row in rows for run in row for frame in run for i in frame["image_id"]})


def redraw(frame: "pd.DataFrame", times: np.ndarray) -> "pd.DataFrame":
    """Repeat each row of a table as often as `times` [rows] says.

    Copies get new ids, so that a metric that groups by image or question keeps them apart.
    """
    rows = np.repeat(np.arange(len(times)), times)
    copies = np.arange(len(rows)) - np.repeat(np.cumsum(times) - times, times)
    sample = frame.take(rows).reset_index(drop=True)
    for name in IDS:
        if name in sample:
            pairs = zip(sample[name], copies.tolist(), strict=True)
            sample[name] = [f"{value} (copy {copy})" if copy else value for value, copy in pairs]
    return sample


def _value(metric: Metric, frame: "pd.DataFrame") -> float:
    """The metric of a table; NaN of no rows, and where it divides by zero.

    Raises UndefinedError where the metric raises anything else, or gives no number.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        try:
            value = np.nan if frame.empty else float(metric(frame))
        except ZeroDivisionError:
            return np.nan
        # A user's own function: an error costs its cells, not a table that took hours.
        except Exception as error:
            raise UndefinedError(
                f"the column's metric fails ({type(error).__name__}: {short_repr(str(error))})"
            ) from error
    return value if np.isfinite(value) else np.nan
