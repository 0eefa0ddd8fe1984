"""Instruction-following difficulty (Li et al. 2024) of a sample about an image: a rival to I²C.

    IFD = PPL(answer | image, question) / PPL(answer),   PPL = exp(−mean log p of a token)

In the original, about texts, the condition is the instruction; here it is image and question. Below
the line the answer stands behind an empty question, as the original's behind the bare mark of a
response. (With the question below too it would be exp(−logratio_mean), eq. 1 upside down; with the
image in neither it would know nothing of images.)

The original keeps the *highest* difficulties under 1: instruction helps with them, but little.
Samples of 1 and above, where it misleads, are taken for mismatched and come last.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from c3l.scores import Score

if TYPE_CHECKING:
    from c3l.backbones import Backbone


def difficulty(score: Score, answer_logprob: float) -> float:
    """A sample's rank by IFD, more being better: IFD itself below 1, else −log IFD.

    `answer_logprob` is mean log p of a token of the answer without its prompt, in nats.
    """
    log_ifd = answer_logprob - float(score.logp_visual.mean())
    return math.exp(log_ifd) if log_ifd < 0 else -log_ifd


def answer_logprob_without_prompt(
    backbone: "Backbone", answers: Sequence[str], *, batch_size: int
) -> dict[str, float]:
    """Mean log p of a token of each answer behind an empty question, without an image, in nats.

    Answers without a token are left out, and those whose likelihood is no finite number. Every
    other one must fit into the context, as those do that have a score.
    """
    import torch
    import torch.nn.functional as F

    from c3l.relevance import answer_states

    # Answers of similar length together, for little padding.
    ordered = sorted({answer for answer in answers if answer.strip()}, key=lambda a: (len(a), a))
    logprobs: dict[str, float] = {}
    with torch.inference_mode():
        for start in range(0, len(ordered), batch_size):
            texts = ordered[start : start + batch_size]
            batch = backbone.encode([""] * len(texts), answers=texts)
            states, tokens = answer_states(backbone, batch, batch["answer_mask"])
            logp = F.log_softmax(backbone.head(states).float(), -1).gather(1, tokens[:, None])
            lengths = batch["answer_mask"].sum(1).tolist()
            for answer, part in zip(texts, logp[:, 0].split(lengths), strict=True):
                if len(part) and part.isfinite().all():
                    logprobs[answer] = part.mean().item()
    return logprobs
