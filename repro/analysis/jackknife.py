"""Metrics of any form under the jackknife: computed anew without each of some groups of images.

A metric takes a model's samples as a table and gives a number.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np

from c3l.runtime.errors import short_repr
from repro.analysis.statistics import Influence, UndefinedError, centred

if TYPE_CHECKING:
    import pandas as pd

Metric = Callable[["pd.DataFrame"], float]
Frames = "list[list[pd.DataFrame]]"

GROUPS = 30
"""Enough for Student's t, and few enough for a median, which one image hardly moves."""


def metric_influence(frames: Frames, *, metric: Metric) -> Influence:
    """Return a row's influence by image, its images in at most 30 groups by their names.

    A group without which the metric divides by zero counts as an average one. Raises UndefinedError
    where the samples of a model do not define the metric.
    """
    models = np.array([[_value(metric, frame) for frame in run] for run in frames])
    if np.isnan(models).any():
        raise UndefinedError("the samples of a model do not define the metric")
    group = {image: crc32(str(image).encode()) % GROUPS for image in image_ids(frames)}
    groups, sizes = np.unique([*group.values()], return_counts=True)

    def left_out(frame: "pd.DataFrame") -> list[float]:
        place = frame["image_id"].map(group)
        return [_value(metric, frame[place != one].reset_index(drop=True)) for one in groups]

    without = np.array([[left_out(frame) for frame in run] for run in frames])
    shares = (1 - sizes / sizes.sum()) * np.nan_to_num(models[..., None] - without)
    return Influence(float(models.mean()), models, groups, centred(shares))


def image_ids(frames: Frames) -> list[str]:
    """The images of all samples, in order."""
    return sorted({image for run in frames for frame in run for image in frame["image_id"]})


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
