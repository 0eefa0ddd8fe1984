"""From values to pseudo-labels: the targets of L_r (section 3.2), the groups of L_c (section 3.3).

I²C and its rivals (section 4.4) differ in how they value samples: `values` is all of them, and
`select` makes the pseudo-labels of any. A value is a number of which more is better, not NaN. Two
methods do not rank but label (LABELS): their values are 1 for a positive, 0 for a negative.

A way of one's own is a function in SELECTORS: docs/extending.md adds one.
"""

import hashlib
import inspect
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, get_args

from c3l.readings import ScoreForm
from c3l.runtime.errors import UserError, printable
from c3l.samples import Sample

if TYPE_CHECKING:
    from c3l.scores import Score

Rival = Literal["likelihood", "text_likelihood", "ifd", "length", "self_instruct", "random"]
"""Ways to value the samples that I²C values as well."""
Method = ScoreForm | Rival | Literal["vigc"]
"""All of them. VIGC values no samples but those that it made itself (`c3l.rivals.vigc`)."""
LABELS = ("self_instruct", "vigc")
RIVALS: tuple[str, ...] = get_args(Rival)

Selector = Callable[[Sequence[Sample], Sequence["Score"]], list[float]]
"""From samples and their scores, in the same order, to the value of each."""
SELECTORS: dict[str, Selector] = {
    "likelihood": lambda samples, scores: [float(s.logp_visual.mean()) for s in scores],
    "text_likelihood": lambda samples, scores: [float(s.logp_direct.mean()) for s in scores],
    "length": lambda samples, scores: [float(len(s.kl)) for s in scores],
}
"""The methods that need nothing but samples and scores, by name."""


def code_of(method: str) -> dict[str, str]:
    """What an artefact's key holds of a method besides its name: of one that was added to SELECTORS
    the digest of its source. What it calls does not count: that wants another name.

    Raises UserError for one without a source.
    """
    if method in RIVALS or method not in SELECTORS:
        return {}
    try:
        source = inspect.getsource(SELECTORS[method])
    except (OSError, TypeError) as error:
        raise UserError(
            f"The selector {method!r} has no source to be known by; make it a function in a file."
        ) from error
    return {"code": hashlib.sha256(source.encode()).hexdigest()}


@dataclass(frozen=True)
class Group:
    """Samples of one image, to be told apart by L_c: positives and negatives, best first.

    Ranked samples have one positive, the best of the image. Labelled ones may have any number;
    without a positive or without a negative the training skips the group.
    """

    image: str
    positives: tuple[Sample, ...]
    negatives: tuple[Sample, ...]

    @property
    def instruction(self) -> str:
        """What the anchor is asked for: the class of the first positive."""
        return self.positives[0].instruction


@dataclass(frozen=True)
class Selection:
    """Pseudo-labels: the targets of L_r, best first, and the groups of L_c."""

    targets: list[Sample]
    groups: list[Group]


def values(
    by: Method | str,
    samples: Sequence[Sample],
    scores: Sequence["Score"] = (),
    *,
    alone: Mapping[str, float] | None = None,
    seed: int | None = None,
    rules: Mapping[str, Any] = MappingProxyType({}),
) -> list[float]:
    """The value of each sample by a method, in the order of the samples.

    Forms of eq. 1, "likelihood" (mean log p^v of a token), "text_likelihood" (mean log p^d: what
    the answer's text tells alone), "ifd" (`c3l.rivals.ifd`) and "length" (of the answer, in tokens)
    need the samples' `scores`, in the same order, all of them with tokens; "ifd" also what
    `c3l.rivals.ifd.answer_logprob_without_prompt` says of the answers. "random" needs a seed. "self_instruct" is 1 for
    survivors of that filter, by `rules` (options of `c3l.rivals.self_instruct.survivors`); "vigc" 1 for
    corrected answers. What was added to SELECTORS is asked for by its name. Raises UserError for a
    method that there is not.
    """
    match by:
        case "random":
            rng = random.Random(seed)
            return [rng.random() for _ in samples]
        case "self_instruct":
            from c3l.rivals.self_instruct import survivors

            passed = {sample.id for sample in survivors(samples, seed=seed, **rules)[0]}
            return [float(sample.id in passed) for sample in samples]
        case "vigc":
            from c3l.rivals.vigc import is_corrected

            return [float(is_corrected(sample)) for sample in samples]
        case "ifd":
            from c3l.rivals.ifd import difficulty

            both = zip(samples, scores, strict=True)
            return [difficulty(score, alone[sample.answer]) for sample, score in both]
    if by in SELECTORS:
        return SELECTORS[by](samples, scores)
    if by not in get_args(ScoreForm):
        known = ", ".join(sorted({*get_args(ScoreForm), *RIVALS, *LABELS, *SELECTORS}))
        raise UserError(f"There is no way {by!r} to select samples; use one of {known}.")
    from c3l.relevance import in_form

    return in_form(scores, by)


def select(
    by: Method | str,
    samples: Sequence[Sample],
    values: Sequence[float],
    *,
    share: float,
    within: Literal["pool", "class"] = "pool",
    group: Literal["image", "image_and_class"] = "image",
    seed: int | None = None,
) -> Selection:
    """The pseudo-labels that a method's values make.

    Of a ranking they are `top_share` and `groups`. Of labels every positive of an image is one
    against all its negatives, and the targets are a seeded `share` of the positives: labels say
    nothing of which are best. The order within a group is seeded too: the first positive's class
    is what the anchor is asked for.
    """
    if by not in LABELS:
        return Selection(top_share(samples, values, share, within), groups(samples, values, group))
    rng = random.Random(seed)
    order = [rng.random() for _ in samples]
    positive = {sample.id for sample, value in zip(samples, values, strict=True) if value}
    drawn = [(s, place) for s, place in zip(samples, order, strict=True) if s.id in positive]
    targets = top_share([s for s, _ in drawn], [place for _, place in drawn], share, within)
    found = [
        Group(
            image,
            tuple(sample for sample in some if sample.id in positive),
            tuple(sample for sample in some if sample.id not in positive),
        )
        for image, some in _together(samples, order, group)
    ]
    return Selection(targets, found)


def ranked(samples: Sequence[Sample], scores: Sequence[float]) -> list[Sample]:
    """The samples from the highest score to the lowest; equal scores in the order of sample ids.

    Raises ValueError when the lengths differ or a score is NaN.
    """
    pairs = list(zip(samples, scores, strict=True))
    for sample, score in pairs:
        if math.isnan(score):
            raise ValueError(f"Sample {printable(sample.id)} has no score (NaN).")
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
    together = _together(samples, scores, by)
    return [Group(image, (best,), tuple(rest)) for image, (best, *rest) in together]


def _together(
    samples: Sequence[Sample], scores: Sequence[float], by: Literal["image", "image_and_class"]
) -> list[tuple[str, list[Sample]]]:
    """Each group's image and samples, best first, in the order in which they first appear."""

    def place(sample: Sample) -> tuple[str, str]:
        return sample.image, sample.instruction if by == "image_and_class" else ""

    together: dict[tuple[str, str], list[Sample]] = {place(sample): [] for sample in samples}
    for sample in ranked(samples, scores):
        together[place(sample)].append(sample)
    return [(image, some) for (image, _), some in together.items()]
