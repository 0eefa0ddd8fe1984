"""The content relevance module: Image Instruction Correspondence scores (section 3.2, eq. 1)."""

import math
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from c3l.backbones.base import Backbone
from c3l.packing import padded
from c3l.readings import Readings, ScoreForm
from c3l.runtime.errors import ImageError
from c3l.runtime.progress import track
from c3l.samples import ImageFolder, Sample
from c3l.score_forms import FORMS, divergence
from c3l.scores import ARRAYS, Score


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
    two full-vocabulary forms need and the others ignore. `form` is a name in FORMS:

    - literal_sum: Σ p^v log(p^v/p^d), eq. 1 as printed; literal_mean: the same per token
    - full_vocab_sum, full_vocab_mean: Σ_t KL_t over the vocabulary, and per token
    - renormalised: KL of the answer's p^v and p^d, each divided by its sum over the tokens
    - generalised: eq. 1 − Σ p^v + Σ p^d
    - bernoulli: Σ KL of "this token or another one"
    - logratio: Σ log(p^v/p^d); logratio_mean: the same per token

    Raises ValueError for an answer without a token, which no form defines.
    """
    if form not in FORMS:
        raise ValueError(f"Unknown score form {form!r}.")
    dtype = torch.promote_types(logp_visual.dtype, torch.float32)
    if mask is None:
        mask = torch.ones_like(logp_visual, dtype=torch.bool)
    mask = mask.bool()
    if not mask.any(dim=-1).all():
        raise ValueError("An answer without a single token has no score.")
    # A token of probability zero under both models adds nothing to any form.
    visual, direct = (
        logp.to(dtype).masked_fill(~mask, -torch.inf) for logp in (logp_visual, logp_direct)
    )
    return FORMS[form](visual, direct, mask, kl if kl is None else kl.to(dtype))


def contributions(score: Score) -> Tensor:
    """Each token's term of eq. 1 as printed, p^v log(p^v/p^d), [tokens]."""
    return divergence(*map(torch.from_numpy, (score.logp_visual, score.logp_direct)))


def full_vocabulary_kl(logp: Tensor, logq: Tensor) -> Tensor:
    """KL(p ‖ q) of each position [n], in nats, from log-probabilities [n, vocabulary]."""
    # Rounding may take the divergence of two equal distributions a little below zero.
    return F.kl_div(logq, logp, log_target=True, reduction="none").sum(-1).clamp(min=0)


def in_form(scores: Sequence[Score], form: ScoreForm) -> list[float]:
    """The scores' I²C in any form, without a model; NaN for those without tokens."""
    values = [math.nan] * len(scores)
    scored = [i for i, score in enumerate(scores) if len(score.logp_visual)]
    if scored:
        arrays = [[torch.from_numpy(getattr(scores[i], name)) for i in scored] for name in ARRAYS]
        (visual, mask), (direct, _), (kl, _) = map(padded, arrays)
        for i, value in zip(scored, i2c(visual, direct, mask, form, kl=kl).tolist(), strict=True):
            values[i] = value
    return values


_TEXTS = 8  # answers in a packed row of the pass without an image
_WINDOW = 512  # samples whose pass without an image is in memory at one time


class Pair(NamedTuple):
    """A question, an answer, and the turns before them."""

    question: str
    answer: str
    history: tuple[tuple[str, str], ...] = ()

    @property
    def length(self) -> int:
        """The characters of all texts."""
        return sum(map(len, (self.question, self.answer, *chain.from_iterable(self.history))))


class AnswerStates(NamedTuple):
    """The hidden states [n, d] that predict an answer's tokens [n]."""

    states: Tensor
    tokens: Tensor


def score(
    backbone: Backbone,
    samples: Sequence[Sample],
    images: ImageFolder,
    readings: Readings | None = None,
    *,
    batch_size: int = 16,
) -> list[Score]:
    """The scores of the samples under `backbone`, in the order of the samples (eq. 1).

    Each answer is read behind its image and question, and behind its question without the image
    (`Readings.without_image`), both behind earlier turns (`Readings.turns`). A forward holds up to
    `batch_size` answers: those about one image share one copy of it (`c3l.packing`), and samples
    of equal texts share the pass without it. A sample without a score has the reason in `Score`.
    """
    readings = readings or Readings()
    reasons = {i: "empty_answer" for i, s in enumerate(samples) if not s.answer.strip()}
    by_image: dict[str, list[int]] = {}
    for i, sample in enumerate(samples):
        if i not in reasons:
            by_image.setdefault(sample.image, []).append(i)
    # In windows: few passes without an image in memory at a time, and yet most of them shared.
    runs = [
        run[start : start + batch_size]
        for run in by_image.values()
        for start in range(0, len(run), batch_size)
    ]
    # The results lie in three arrays that grow: small objects among what forwards allocate and
    # free would keep the memory from shrinking.
    buffers, spans = [array("f") for _ in ARRAYS], {}
    with torch.inference_mode():
        windows = [*_batches(runs, _WINDOW)]
        for window in track(windows, "samples", [sum(map(len, runs)) for runs in windows]):
            for i, result in _score_window(backbone, samples, window, images, readings, batch_size):
                if isinstance(result, str):
                    reasons[i] = result
                    continue
                spans[i] = slice(len(buffers[0]), len(buffers[0]) + len(result[0]))
                for buffer, part in zip(buffers, result, strict=True):
                    buffer.frombytes(part.tobytes())
    visual, direct, kl = (np.frombuffer(buffer, dtype=np.float32) for buffer in buffers)
    scores = [
        Score(sample.id, unscored=reasons[i])
        if i in reasons
        else Score(sample.id, math.nan, visual[spans[i]], direct[spans[i]], kl[spans[i]])
        for i, sample in enumerate(samples)
    ]
    values = [
        value
        for start in range(0, len(scores), _WINDOW)
        for value in in_form(scores[start : start + _WINDOW], readings.score_form)
    ]
    return [replace(score, i2c=value) for score, value in zip(scores, values, strict=True)]


def _score_window(
    backbone: Backbone,
    samples: Sequence[Sample],
    runs: list[list[int]],
    images: ImageFolder,
    readings: Readings,
    batch_size: int,
) -> Iterator[tuple[int, tuple[np.ndarray, ...] | str]]:
    """The arrays of each sample's score, or the reason why it has none, by the sample's index.

    The indices come in runs of one image.
    """
    with_history = readings.turns != "alone"
    pairs = {
        i: Pair(samples[i].question, samples[i].answer, samples[i].history if with_history else ())
        for run in runs
        for i in run
    }
    direct = _encode_without_image(backbone, set(pairs.values()), readings, batch_size)
    # Runs of similar length together, so that little is padding.
    runs = sorted(runs, key=lambda run: sum(pairs[i].length for i in run))
    for batch in track([*_batches(runs, batch_size)], "batches"):
        readable = []
        for run in batch:
            try:
                readable.append((run, images[samples[run[0]].image]))
            except ImageError as error:
                yield from ((i, error.reason) for i in run)
        if not readable:
            continue
        rows = [i for run, _ in readable for i in run]
        pictures = [picture for run, picture in readable for _ in run]
        group_sizes = [len(run) for run, _ in readable]
        texts = [pairs[i] for i in rows]
        visual = _encode_answers(backbone, texts, pictures, group_sizes, readings)
        passes = [(i, x, direct[pairs[i]]) for i, x in zip(rows, visual, strict=True)]
        fits = [(i, x, y) for i, x, y in passes if x is not None and y is not None]
        yield from ((i, "longer_than_context") for i, x, y in passes if x is None or y is None)
        arrays = _token_scores(backbone, [x for _, x, _ in fits], [y for _, _, y in fits])
        for (i, _, _), tokens in zip(fits, arrays, strict=True):
            if not len(tokens[0]):  # to the tokenizer
                yield i, "empty_answer"
            else:
                yield i, tokens if all(np.isfinite(x).all() for x in tokens) else "not_finite"


def _encode_without_image(
    backbone: Backbone, pairs: Iterable[Pair], readings: Readings, batch_size: int
) -> dict[Pair, AnswerStates | None]:
    """Each pair's states without its image; None for one longer than the context."""
    ordered = sorted(pairs, key=lambda pair: (pair.length, pair))
    kind = readings.without_image
    picture = None if kind == "removed" else backbone.no_picture(kind)
    encoded: dict[Pair, AnswerStates | None] = {}
    for start in range(0, len(ordered), batch_size):
        batch = ordered[start : start + batch_size]
        pictures = None if picture is None else [picture] * len(batch)
        group_sizes = [len(batch[k : k + _TEXTS]) for k in range(0, len(batch), _TEXTS)]
        states = _encode_answers(backbone, batch, pictures, group_sizes, readings)
        encoded.update(zip(batch, states, strict=True))
    return encoded


def _encode_answers(
    backbone: Backbone,
    pairs: Sequence[Pair],
    pictures: Sequence[Image.Image] | None,
    group_sizes: Sequence[int],
    readings: Readings,
) -> list[AnswerStates | None]:
    """Each answer's states and tokens, packed in runs of `group_sizes`; None if it is too long."""
    questions, answers, histories = map(list, zip(*pairs, strict=True))
    batch = backbone.encode(questions, pictures, answers, histories=histories)
    fits = batch["attention_mask"].sum(dim=1) <= backbone.context
    group_sizes = [int(run.sum()) for run in fits.split(list(group_sizes)) if run.any()]
    if not group_sizes:
        return [None] * len(pairs)
    if not fits.all():  # else it would copy every picture
        batch = {name: tensor[fits] for name, tensor in batch.items()}
    mask = batch["labels"] != -100 if readings.score_eos else batch["answer_mask"]
    lengths = mask.sum(dim=1).tolist()
    states, tokens = answer_states(backbone, batch, mask, group_sizes)
    answers_that_fit = map(AnswerStates, states.split(lengths), tokens.split(lengths))
    return [next(answers_that_fit) if fit else None for fit in fits.tolist()]


def _token_scores(
    backbone: Backbone, visual: Sequence[AnswerStates], direct: Sequence[AnswerStates]
) -> list[tuple[np.ndarray, ...]]:
    """log p^v, log p^d and the full vocabulary's KL of each answer, by token."""
    if not visual:
        return []
    tokens = torch.cat([answer.tokens for answer in visual])
    if not torch.equal(tokens, torch.cat([answer.tokens for answer in direct])):
        raise RuntimeError("An answer has other tokens without the image.")
    logp, logq = (
        F.log_softmax(backbone.head(torch.cat([answer.states for answer in answers])).float(), -1)
        for answers in (visual, direct)
    )
    kl = full_vocabulary_kl(logp, logq)
    of_tokens = [x.gather(1, tokens.unsqueeze(1))[:, 0] for x in (logp, logq)]
    ends = np.cumsum([len(answer.tokens) for answer in visual])[:-1]
    # Split by numpy: a tensor for each of an answer's arrays would take more memory than they do.
    parts = (np.split(x.cpu().numpy(), ends) for x in (*of_tokens, kl))
    return list(zip(*parts, strict=True))


def answer_states(
    backbone: Backbone,
    batch: Mapping[str, Tensor],
    mask: Tensor,
    group_sizes: Sequence[int] | None = None,
    in_pairs: bool = False,
) -> tuple[Tensor, Tensor]:
    """The hidden states [n, d] that predict the n tokens under `mask` [b, t], and the tokens [n].

    `batch` comes from `Backbone.encode`, padded on the right; `group_sizes` and `in_pairs` are
    those of `Backbone.hidden_states`. `backbone.head` makes logits for these positions alone: they
    fill the memory.
    """
    # The state of a position predicts the next token. Before the first one there is no state.
    predicting = F.pad(mask[:, 1:], (0, 1))
    options = {"in_pairs": True} if in_pairs else {}
    states = backbone.hidden_states(batch, predicting, group_sizes, **options)
    return states, batch["input_ids"][mask]


def _batches(runs: Iterable[list[int]], size: int) -> Iterator[list[list[int]]]:
    """The runs in their order, together as long as they hold at most `size` indices."""
    batch: list[list[int]] = []
    for run in runs:
        if batch and sum(map(len, batch)) + len(run) > size:
            yield batch
            batch = []
        batch.append(run)
    if batch:
        yield batch
