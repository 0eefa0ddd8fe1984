"""What a table measures: how a column's number comes from the answers kept beside it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from repro.statistics import Statistic, accuracy, mean_f1

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Column:
    """A column: additive counts of one model's answers for each image, and their statistic."""

    unit: str
    counts: "Callable[[pd.DataFrame, pd.Index], np.ndarray]"
    """From samples and the images' ids, in order, to [images, ...]."""
    statistic: Statistic
    benchmark: bool = True
    """Measured on each tuned model; otherwise once on the data it is tuned on."""


def correct_counts(samples: "pd.DataFrame", images: "pd.Index") -> np.ndarray:
    """[images, 2]: answers that are right, and all."""
    counts = samples.groupby("image_id")["correct"].agg(["sum", "count"])
    return counts.reindex(images, fill_value=0).to_numpy(float)


def pope_counts(samples: "pd.DataFrame", images: "pd.Index") -> np.ndarray:
    """[images, 3 categories, 3]: true positives, false positives, false negatives of "yes".

    An unreadable answer is none of them, as in lmms-eval.
    """
    answer, reading = samples["answer"], samples["reading"]
    kinds = [
        (answer == "yes") & (reading == "yes"),
        (answer == "no") & (reading == "yes"),
        (answer == "yes") & (reading == "no"),
    ]
    counts = [
        (kind & (samples["category"] == category)).groupby(samples["image_id"]).sum()
        for category in ("random", "popular", "adversarial")
        for kind in kinds
    ]
    columns = [count.reindex(images, fill_value=0).to_numpy(float) for count in counts]
    return np.stack(columns, axis=-1).reshape(len(images), 3, 3)


COLUMNS = {
    "SEED": Column("questions a model", correct_counts, accuracy),
    "POPE": Column("questions a model", pope_counts, mean_f1),
    "image-dependent, %": Column("samples a data set", correct_counts, accuracy, benchmark=False),
}
