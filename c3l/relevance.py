"""The content relevance module: Image Instruction Correspondence scores (section 3.2, eq. 1)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from transformers import PreTrainedModel

from c3l.backbones.base import Backbone
from c3l.errors import UserError
from c3l.readings import Readings, ScoreForm
from c3l.samples import ImageFolder, Sample


def i2c(
    logp_visual: Tensor,
    logp_direct: Tensor,
    mask: Tensor | None = None,
    form: ScoreForm = "literal_sum",
    *,
    kl: Tensor | None = None,
) -> Tensor:
    """S(I²C) of each answer, [batch], from the log-probabilities of its tokens, [batch, tokens].

    `logp_visual` is log p^v_t (with the image), `logp_direct` log p^d_t (without it), in nats;
    -inf is allowed, and 0·log 0 = 0. `mask` is true on the answer's tokens; default: everywhere.
    `kl` [batch, tokens] is the divergence of the whole vocabulary at each position, which the
    two full-vocabulary forms are made of and the others ignore.

    - literal_sum: Σ p^v log(p^v/p^d), eq. 1 as printed; literal_mean: the same per token
    - full_vocab_sum, full_vocab_mean: Σ_t KL_t over the vocabulary, and per token
    - renormalised: KL of the answer's p^v and p^d, each divided by its sum over the tokens
    - generalised: eq. 1 − Σ p^v + Σ p^d
    - bernoulli: Σ KL of "this token or another one"
    - logratio: Σ log(p^v/p^d); logratio_mean: the same per token

    Raises ValueError for an answer without a token, which no form defines.
    """
    dtype = torch.promote_types(logp_visual.dtype, torch.float32)
    visual, direct = logp_visual.to(dtype), logp_direct.to(dtype)
    if mask is None:
        mask = torch.ones_like(visual, dtype=torch.bool)
    mask = mask.bool()
    if not mask.any(dim=-1).all():
        raise ValueError("An answer without a single token has no score.")
    # A token of probability zero under both models adds nothing to any form.
    visual, direct = visual.masked_fill(~mask, -torch.inf), direct.masked_fill(~mask, -torch.inf)
    length = mask.sum(dim=-1)
    match form:
        case "literal_sum":
            return _divergence(visual, direct).sum(-1)
        case "literal_mean":
            return _divergence(visual, direct).sum(-1) / length
        case "full_vocab_sum" | "full_vocab_mean":
            if kl is None:
                raise ValueError(f"The form {form} needs the divergence of every token (kl).")
            total = kl.to(dtype).masked_fill(~mask, 0).sum(-1)
            return total if form == "full_vocab_sum" else total / length
        case "renormalised":
            return _divergence(_log_normalise(visual), _log_normalise(direct)).sum(-1)
        case "generalised":
            return (_divergence(visual, direct) - visual.exp() + direct.exp()).sum(-1)
        case "bernoulli":
            others = _divergence(_log_complement(visual), _log_complement(direct))
            return (_divergence(visual, direct) + others).sum(-1)
        case "logratio":
            return _log_ratio(visual, direct).sum(-1)
        case "logratio_mean":
            return _log_ratio(visual, direct).sum(-1) / length
    raise ValueError(f"Unknown score form {form!r}.")


def _log_ratio(a: Tensor, b: Tensor) -> Tensor:
    """log(exp(a)/exp(b)), and 0 where both are zero."""
    return torch.where(a == b, 0, a - b)


def _divergence(a: Tensor, b: Tensor) -> Tensor:
    """exp(a)·(a − b), and 0 where exp(a) is zero."""
    return torch.where(a.exp() == 0, 0, a.exp() * _log_ratio(a, b))


def _log_normalise(a: Tensor) -> Tensor:
    """The log-probabilities as shares of their sum; all -inf stays all -inf."""
    return torch.where(a.isneginf(), a, F.log_softmax(a, dim=-1))


def _log_complement(a: Tensor) -> Tensor:
    """log(1 − exp(a)).

    A log-probability that rounds to 0 is one the type cannot tell from 1, not certainty: it is
    taken half a unit in the last place below, so that a sure model does not score infinity.
    """
    return torch.log(-torch.expm1(a.clamp(max=-torch.finfo(a.dtype).eps / 2)))


@dataclass(frozen=True, eq=False)
class Score:
    """A sample's score with what it was made of, so that any form is recomputed without a model.

    The arrays are float32, one entry for each token of the answer: log p^v_t and log p^d_t in
    nats, and the divergence KL(p^v ‖ p^d) over the whole vocabulary at that position.
    """

    id: str
    i2c: float
    logp_visual: np.ndarray
    logp_direct: np.ndarray
    kl: np.ndarray


def score(
    backbone: Backbone,
    samples: Sequence[Sample],
    images: ImageFolder,
    readings: Readings | None = None,
    *,
    batch_size: int = 16,
) -> list[Score]:
    """The scores of the samples under `backbone`, in the order of the samples (eq. 1).

    Each answer is read twice, behind its image and question and behind its question alone (the
    image tokens and their wrapper leave the prompt, the rest stays). Batches hold up to
    `batch_size` answers of similar length; the reading without an image is shared by samples of
    equal question and answer. Raises UserError for an empty answer.
    """
    for sample in samples:
        if not sample.answer.strip():
            raise UserError(f"sample {sample.id} has an empty answer and no score; remove it")
    readings = readings or Readings()
    by_pair: dict[tuple[str, str], list[int]] = {}
    for i, sample in enumerate(samples):
        by_pair.setdefault((sample.question, sample.answer), []).append(i)
    pairs = sorted(by_pair, key=lambda pair: (len(pair[0]) + len(pair[1]), pair))
    scores: dict[int, Score] = {}
    with torch.inference_mode():
        for some_pairs in _batches(pairs, batch_size):
            direct = dict(
                zip(some_pairs, _distributions(backbone, some_pairs, None, readings), strict=True)
            )
            for part in _batches([i for pair in some_pairs for i in by_pair[pair]], batch_size):
                some = [samples[i] for i in part]
                keys = [(sample.question, sample.answer) for sample in some]
                pictures = [images[sample.image] for sample in some]
                visual = _distributions(backbone, keys, pictures, readings)
                for i, sample, key, seen in zip(part, some, keys, visual, strict=True):
                    scores[i] = _score(sample, seen, direct[key], readings.score_form)
    return [scores[i] for i in range(len(samples))]


def _score(
    sample: Sample, visual: tuple[Tensor, Tensor], direct: tuple[Tensor, Tensor], form: ScoreForm
) -> Score:
    """A sample's score from its distributions [tokens, vocabulary] with and without the image."""
    (logp, tokens), (logq, tokens_direct) = visual, direct
    if not torch.equal(tokens, tokens_direct):
        raise RuntimeError(f"The answer of sample {sample.id} has other tokens without the image.")
    chosen = [x.gather(1, tokens.unsqueeze(1)).T for x in (logp, logq)]
    # Rounding may take the divergence of two equal distributions a little below zero.
    kl = F.kl_div(logq, logp, log_target=True, reduction="none").sum(dim=1).clamp(min=0)[None]
    value = i2c(*chosen, form=form, kl=kl).item()
    return Score(sample.id, value, *(x[0].cpu().numpy() for x in (*chosen, kl)))


def _distributions(
    backbone: Backbone,
    pairs: Sequence[tuple[str, str]],
    pictures: Sequence[Image.Image] | None,
    readings: Readings,
) -> list[tuple[Tensor, Tensor]]:
    """Of each answer, the log-probabilities [tokens, vocabulary] (float32) and its tokens."""
    questions, answers = zip(*pairs, strict=True)
    batch = backbone.encode(list(questions), pictures, list(answers))
    mask = batch["labels"] != -100 if readings.score_eos else batch["answer_mask"].bool()
    logits, tokens = answer_logits(backbone.model, batch, mask)
    lengths = mask.sum(dim=1).tolist()
    logp = F.log_softmax(logits.float(), dim=-1)
    return list(zip(logp.split(lengths), tokens.split(lengths), strict=True))


def answer_logits(
    model: PreTrainedModel, batch: Mapping[str, Tensor], mask: Tensor
) -> tuple[Tensor, Tensor]:
    """The logits [n, vocabulary] that predict the n tokens under `mask`, and the tokens [n].

    `batch` is what `Backbone.encode` gives, padded on the right; tokens come row after row. The
    language model's head is applied from the first masked column on, which leaves out the image
    and most of the question: at 32,000 words the logits are what fills the memory. At least one
    token must be under the mask.
    """
    inputs = {k: v for k, v in batch.items() if k not in ("labels", "answer_mask")}
    first = int(mask.any(dim=0).nonzero()[0])
    keep = mask.shape[1] - first + 1
    # The logits of a position predict the next one: from the column before the first one on.
    logits = model(**inputs, logits_to_keep=keep, use_cache=False).logits[:, :-1]
    tail = mask[:, first:]
    return logits[tail], batch["input_ids"][:, first:][tail]


def _batches(items: Sequence, size: int) -> Iterator[Sequence]:
    return (items[start : start + size] for start in range(0, len(items), size))
