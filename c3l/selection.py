"""From values to pseudo-labels: the targets of L_r (section 3.2), the groups of L_c (section 3.3).

METHODS has a `Selector` for each way to value samples: I²C, its forms and its rivals (section 4.4).
More is better. Add one by `METHODS["name"] = function` (docs/extending.md).
"""

import hashlib
import inspect
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from c3l.runtime.errors import UserError, printable
from c3l.runtime.plugins import Registry
from c3l.samples import Sample
from c3l.score_forms import FORMS

if TYPE_CHECKING:
    from c3l.scores import Score


@dataclass(frozen=True)
class Selector:
    """A way to value samples.

    `value` takes the samples and their scores, in the same order, and returns one number a sample.
    It takes `answer_logprobs` as a keyword if that is among `needs`, and `seed` if it is `seeded`.
    """

    value: Callable[..., list[float]]
    needs: tuple[Literal["scores", "answer_logprobs"], ...] = ("scores",)
    """The inputs it reads besides the samples."""
    labels: bool = False
    """True if values are 1 for a positive and 0 for a negative, rather than ranks."""
    seeded: bool = False


def _form_values(form: str) -> Selector:
    def value(_: Sequence[Sample], scores: "Sequence[Score]") -> list[float]:
        from c3l.relevance import in_form

        return in_form(scores, form)

    return Selector(value)


def _difficulty(
    samples: Sequence[Sample], scores: "Sequence[Score]", answer_logprobs: Mapping[str, float]
) -> list[float]:
    from c3l.rivals.ifd import difficulty

    pairs = zip(samples, scores, strict=True)
    return [difficulty(score, answer_logprobs[sample.answer]) for sample, score in pairs]


def _survivors(samples: Sequence[Sample], _, seed: int | None, **rules: Any) -> list[float]:
    from c3l.rivals.self_instruct import survivors

    passed = {sample.id for sample in survivors(samples, seed=seed, **rules)[0]}
    return [float(sample.id in passed) for sample in samples]


def _corrected(samples: Sequence[Sample], _, seed: int | None) -> list[float]:
    from c3l.rivals.vigc import is_corrected

    return [float(is_corrected(sample)) for sample in samples]


def _random(samples: Sequence[Sample], _, seed: int | None) -> list[float]:
    rng = random.Random(seed)
    return [rng.random() for _ in samples]


METHODS: Registry[Selector | Callable[..., list[float]]] = Registry(
    "c3l.selectors",
    {
        **{form: _form_values(form) for form in FORMS.shipped},
        # mean log p^v of a token
        "likelihood": Selector(lambda _, scores: [float(s.logp_visual.mean()) for s in scores]),
        # mean log p^d: the answer's text alone
        "text_likelihood": Selector(
            lambda _, scores: [float(s.logp_direct.mean()) for s in scores]
        ),
        "ifd": Selector(_difficulty, needs=("scores", "answer_logprobs")),
        # in tokens
        "length": Selector(lambda _, scores: [float(len(s.kl)) for s in scores]),
        "self_instruct": Selector(_survivors, needs=(), labels=True, seeded=True),
        "random": Selector(_random, needs=(), seeded=True),
        # Values no samples but those that it wrote itself (`c3l.rivals.vigc`).
        "vigc": Selector(_corrected, needs=(), labels=True, seeded=True),
    },
)
"""The methods by name. A bare function stands for `Selector(function)`."""

SELECTORS = METHODS
"""The name under which scripts have registered functions so far."""


def selector(name: str) -> Selector:
    """Return a method by its name. Raises UserError for an unknown one."""
    if name in METHODS:
        method = METHODS[name]
        return method if isinstance(method, Selector) else Selector(method)
    if name in FORMS:
        return _form_values(name)
    names = ", ".join(sorted({*FORMS, *METHODS}))
    raise UserError(f"There is no way {name!r} to select samples; use one of {names}.")


def code_of(name: str) -> dict[str, str]:
    """Return what an artefact's key holds of a method or form of eq. 1 besides its name.

    Nothing of a built-in one; of any other the digest of its own source, without what it calls.
    Raises UserError for a function without a source.
    """
    functions = [FORMS[name]] if name in FORMS else []
    functions += [selector(name).value] if name in METHODS else []
    for function in functions:
        if function.__module__ in (__name__, "c3l.score_forms"):
            continue
        try:
            source = inspect.getsource(function)
        except (OSError, TypeError) as error:
            raise UserError(
                f"The selector {name!r} has no source to be known by; make it a function in a file."
            ) from error
        return {"code": hashlib.sha256(source.encode()).hexdigest()}
    return {}


@dataclass(frozen=True)
class Group:
    """Samples of one image that L_c contrasts: positives and negatives, best first.

    Ranked samples have one positive, the best of the image. Labelled ones may have any number;
    without a positive or without a negative the training skips the group.
    """

    image: str
    positives: tuple[Sample, ...]
    negatives: tuple[Sample, ...]

    @property
    def instruction(self) -> str:
        """The class the anchor is requested for: that of the first positive."""
        return self.positives[0].instruction


@dataclass(frozen=True)
class Selection:
    """Pseudo-labels: the targets of L_r, best first, and the groups of L_c."""

    targets: list[Sample]
    groups: list[Group]


def values(
    method: str,
    samples: Sequence[Sample],
    scores: "Sequence[Score]" = (),
    *,
    answer_logprobs: Mapping[str, float] | None = None,
    seed: int | None = None,
    rules: Mapping[str, Any] = MappingProxyType({}),
) -> list[float]:
    """The value of each sample by a method, in the order of the samples.

    Where the method needs `scores`, they are those of the samples, in order, all with tokens.
    `answer_logprobs` holds mean log p of each answer without its prompt
    (`c3l.rivals.ifd.answer_logprob_without_prompt`). `rules` are options of
    `c3l.rivals.self_instruct.survivors`. Raises UserError for an unknown method.
    """
    entry = selector(method)
    options: dict[str, Any] = {"seed": seed} if entry.seeded else {}
    if "answer_logprobs" in entry.needs:
        options["answer_logprobs"] = answer_logprobs
    return entry.value(samples, scores, **options, **rules)


def select(
    method: str,
    samples: Sequence[Sample],
    values: Sequence[float],
    *,
    share: float,
    within: Literal["pool", "class"] = "pool",
    group: Literal["image", "image_and_class"] = "image",
    seed: int | None = None,
) -> Selection:
    """The pseudo-labels that a method's values make.

    For ranks they are `top_share` and `groups`. For labels every positive of an image is one
    against all its negatives, and the targets are a seeded `share` of the positives. The order
    within a group is seeded too: the first positive's class is the anchor's.
    """
    if not selector(method).labels:
        return Selection(top_share(samples, values, share, within), groups(samples, values, group))
    rng = random.Random(seed)
    order = [rng.random() for _ in samples]
    positive = {sample.id for sample, value in zip(samples, values, strict=True) if value}
    candidates = [(s, rank) for s, rank in zip(samples, order, strict=True) if s.id in positive]
    targets = top_share([s for s, _ in candidates], [rank for _, rank in candidates], share, within)
    pseudo_groups = [
        Group(
            image,
            tuple(sample for sample in members if sample.id in positive),
            tuple(sample for sample in members if sample.id not in positive),
        )
        for image, members in _members(samples, order, group)
    ]
    return Selection(targets, pseudo_groups)


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
    # A fraction: 0.1 × 30 is 3.0000000000000004 in floating point and would round up to 4.
    exact = Fraction(str(share))
    return [sample for pool in pools.values() for sample in pool[: math.ceil(exact * len(pool))]]


def groups(
    samples: Sequence[Sample],
    scores: Sequence[float],
    key: Literal["image", "image_and_class"] = "image",
) -> list[Group]:
    """One group for each image, in the order in which the images first appear (section 3.3).

    The positive is the image's best sample. By "image_and_class" each instruction class of an image
    makes a group. A single sample makes a group without negatives, which training skips and counts.
    """
    members = _members(samples, scores, key)
    return [Group(image, (best,), tuple(rest)) for image, (best, *rest) in members]


def _members(
    samples: Sequence[Sample], scores: Sequence[float], key: Literal["image", "image_and_class"]
) -> Iterator[tuple[str, list[Sample]]]:
    """Each group's image and samples, best first, in the order in which they first appear."""

    def key_of(sample: Sample) -> tuple[str, str]:
        return sample.image, sample.instruction if key == "image_and_class" else ""

    members: dict[tuple[str, str], list[Sample]] = {key_of(sample): [] for sample in samples}
    for sample in ranked(samples, scores):
        members[key_of(sample)].append(sample)
    for (image, _), group in members.items():
        yield image, group
