"""From scores to pseudo-labels: the targets of L_r (section 3.2), the groups of L_c (section 3.3).

A score is any number of which more is better; it must not be NaN.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from c3l.samples import Sample


@dataclass(frozen=True)
class Group:
    """Samples of one image: the best one, and the others from the second best down."""

    image: str
    positive: Sample
    negatives: tuple[Sample, ...]


def ranked(samples: Sequence[Sample], scores: Sequence[float]) -> list[Sample]:
    """The samples from the highest score to the lowest; equal scores in the order of sample ids.

    Raises ValueError when the lengths differ or a score is NaN.
    """
    pairs = list(zip(samples, scores, strict=True))
    for sample, score in pairs:
        if math.isnan(score):
            raise ValueError(f"Sample {sample.id} has no score (NaN).")
    return [sample for sample, _ in sorted(pairs, key=lambda pair: (-pair[1], pair[0].id))]


def top_share(
    samples: Sequence[Sample],
    scores: Sequence[float],
    share: float = 0.10,
    within: Literal["pool", "class"] = "pool",
) -> list[Sample]:
    """The best `share` (0 to 1) of the whole pool, rounded up, best first (section 3.2).

    Within "class" it is the best share of each instruction class.
    """
    if not 0 < share <= 1:
        raise ValueError(f"A share lies above 0 and at most at 1, not at {share}.")
    pools: dict[str, list[Sample]] = {}
    for sample in ranked(samples, scores):
        pools.setdefault(sample.instruction if within == "class" else "", []).append(sample)
    # As a fraction: 0.1 × 30 is 3.0000000000000004 in floating point, and would round up to 4.
    part = Fraction(str(share))
    return [sample for pool in pools.values() for sample in pool[: math.ceil(part * len(pool))]]


def groups(
    samples: Sequence[Sample],
    scores: Sequence[float],
    by: Literal["image", "image_and_class"] = "image",
) -> list[Group]:
    """One group for each image, in the order in which the images first appear (section 3.3).

    The positive is the image's best sample. By "image_and_class" each instruction class of an image
    makes a group of its own. A single sample makes a group without negatives, which the training
    skips and counts.
    """

    def place(sample: Sample) -> tuple[str, str]:
        return sample.image, sample.instruction if by == "image_and_class" else ""

    together: dict[tuple[str, str], list[Sample]] = {place(sample): [] for sample in samples}
    for sample in ranked(samples, scores):
        together[place(sample)].append(sample)
    return [Group(image, best, tuple(rest)) for (image, _), (best, *rest) in together.items()]
