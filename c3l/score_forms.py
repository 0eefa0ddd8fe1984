"""The forms of eq. 1 (section 3.2), by the names that `Readings.score_form` takes.

A form makes the scores [batch] of answers from what is known of their tokens, [batch, tokens]
each: log p^v (with the image), log p^d (without it), the mask of the tokens that count, and the
divergence KL(p^v ‖ p^d) over the whole vocabulary. Log-probabilities are in nats and -inf outside
the mask; 0·log 0 = 0. `c3l.relevance.i2c` calls them.

Light to import: settings are validated before torch is loaded.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from c3l.runtime.plugins import Registry

if TYPE_CHECKING:
    from torch import Tensor

Form = Callable[["Tensor", "Tensor", "Tensor", "Tensor | None"], "Tensor"]
"""From log p^v, log p^d, mask and KL [batch, tokens] to scores [batch]."""


def log_ratio(a: "Tensor", b: "Tensor") -> "Tensor":
    """log(exp(a)/exp(b)), and 0 where both are zero."""
    return (a - b).masked_fill(a == b, 0)


def divergence(a: "Tensor", b: "Tensor") -> "Tensor":
    """exp(a)·(a − b), and 0 where exp(a) is zero."""
    return (a.exp() * log_ratio(a, b)).masked_fill(a.exp() == 0, 0)


def _log_normalise(a: "Tensor") -> "Tensor":
    """The log-probabilities as shares of their sum; all -inf stays all -inf."""
    return a.log_softmax(-1).masked_fill(a.isneginf(), -float("inf"))


def _log_complement(a: "Tensor") -> "Tensor":
    """log(1 − exp(a)).

    A log-probability that rounds to 0 is not certainty, only closer to 1 than the type resolves.
    It counts as half a unit in the last place below, so a sure model does not score infinity.
    """
    import torch

    return (-a.clamp(max=-torch.finfo(a.dtype).eps / 2).expm1()).log()


def _sum_kl(kl: "Tensor | None", mask: "Tensor") -> "Tensor":
    if kl is None:
        raise ValueError("A full-vocabulary form needs the divergence of every token (kl).")
    return kl.masked_fill(~mask, 0).sum(-1)


def _renormalised(visual: "Tensor", direct: "Tensor", *_) -> "Tensor":
    return divergence(_log_normalise(visual), _log_normalise(direct)).sum(-1)


def _generalised(visual: "Tensor", direct: "Tensor", *_) -> "Tensor":
    return (divergence(visual, direct) - visual.exp() + direct.exp()).sum(-1)


def _bernoulli(visual: "Tensor", direct: "Tensor", *_) -> "Tensor":
    complement = divergence(_log_complement(visual), _log_complement(direct))
    return (divergence(visual, direct) + complement).sum(-1)


FORMS: Registry[Form] = Registry(
    "c3l.score_forms",
    {
        # eq. 1 as printed
        "literal_sum": lambda visual, direct, mask, kl: divergence(visual, direct).sum(-1),
        "literal_mean": lambda visual, direct, mask, kl: (
            divergence(visual, direct).sum(-1) / mask.sum(-1)
        ),
        "full_vocab_sum": lambda visual, direct, mask, kl: _sum_kl(kl, mask),
        "full_vocab_mean": lambda visual, direct, mask, kl: _sum_kl(kl, mask) / mask.sum(-1),
        "renormalised": _renormalised,
        "generalised": _generalised,
        "bernoulli": _bernoulli,
        "logratio": lambda visual, direct, mask, kl: log_ratio(visual, direct).sum(-1),
        "logratio_mean": lambda visual, direct, mask, kl: (
            log_ratio(visual, direct).sum(-1) / mask.sum(-1)
        ),
    },
)
"""Add a form of your own: `FORMS["name"] = function`, before any command runs."""
