"""VIGC's data (Wang et al. 2023a): a rival to I²C in table 5, which makes its own pairs.

*Direct generation* writes question and answer in one pass from the image. *Iterative generation*
answers the same questions again, keeping one sentence a round and asking again with the answer so
far. Iterative answers are the positives, the direct ones of the same questions the negatives.

VIGC first trains its generator for both tasks; here the backbone does them as it is. Answers are
decoded deterministically (by beams there, greedily here), so the rounds differ from one
uninterrupted answer only where image features depend on the text, as a Q-Former's do. With LLaVA a
correction is a greedy answer to the bare question, cut after four sentences.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from c3l.generation import write_pairs
from c3l.instructions import format_pair, pair_prompt
from c3l.runtime.errors import NotFiniteError
from c3l.runtime.progress import track
from c3l.samples import ImageFolder, Sample

if TYPE_CHECKING:
    from c3l.backbones import Backbone

ROUNDS = 4
NEXT = "\nQuestion:"  # a reply that goes on to another pair has answered
Asks = Literal["question", "instruction_and_question"]
Sentence = Literal["any_mark", "full_stop"]
_SENTENCE = re.compile(r"(.+?[.!?][\"')\]]*)(?:\s+|$)", re.DOTALL)


def generate_pairs(
    backbone: "Backbone", images: ImageFolder, names: Sequence[str], *, n: int, **settings
) -> tuple[list[Sample], dict[str, int]]:
    """`n` pairs of each instruction class for each named image, and the dropped pieces by reason.

    Settings as in `c3l.generation.write_pairs`.
    """
    return write_pairs(backbone, dict.fromkeys(names), n=n, images=images, **settings)


def refine_answers(
    backbone: "Backbone",
    samples: Sequence[Sample],
    images: ImageFolder,
    *,
    max_new_tokens: int,
    batch_size: int = 64,
    asks: Asks = "question",
    sentence: Sentence = "any_mark",
) -> list[str]:
    """A new answer to each sample's question, sentence by sentence, in up to ROUNDS rounds.

    An answer ends where the model ends it or does not end its sentence within `max_new_tokens`; if
    that is its first one, the answer is "". `asks` and `sentence` are `Readings.vigc_asks` and
    `Readings.vigc_sentence`.
    """
    answers = [""] * len(samples)
    # By class and wording, which predict the number of rounds.
    order = sorted(range(len(samples)), key=lambda i: (samples[i].instruction, samples[i].question))
    # Batch by batch, so that no more images than one batch's need be in memory.
    for start in track(range(0, len(order), batch_size), "batches"):
        going = order[start : start + batch_size]
        for _ in range(ROUNDS):
            if not going:
                break
            try:
                requests = [_request(samples[i], answers[i], asks) for i in going]
                written = backbone.generate_with_status(
                    [question for question, _ in requests],
                    [images[samples[i].image] for i in going],
                    answer_prefix=[prefix for _, prefix in requests],
                    stop=() if asks == "question" else (NEXT,),
                    max_new_tokens=max_new_tokens,
                    batch_size=batch_size,
                )
            except NotFiniteError as error:
                raise NotFiniteError(error.rows, [samples[i].id for i in going]) from None
            unfinished = []
            for i, answer in zip(going, written, strict=True):
                first, rest = first_sentence(answer.text, finished=answer.finished, ends=sentence)
                answers[i] = f"{answers[i]} {first}".strip()
                if rest:
                    unfinished.append(i)
            going = unfinished
    return answers


def _request(sample: Sample, answer: str, asks: Asks) -> tuple[str, str]:
    """Return the request of a round, and the beginning of the reply to it."""
    if asks == "question":
        return sample.question, answer
    return pair_prompt(sample.instruction, 1), format_pair(sample.question, answer)


def first_sentence(text: str, *, finished: bool, ends: Sentence = "any_mark") -> tuple[str, bool]:
    """The first sentence with its white space collapsed, and whether more is to come.

    A text's last sentence needs no full stop if the text is `finished`; else it is not a sentence
    yet, and none is to come. Where a sentence `ends` in a "full_stop", whatever follows it, a text
    without one has no sentence.
    """
    if ends == "full_stop":
        words, stop, rest = text.strip().partition(".")
        sentence = " ".join(f"{words}{stop}".split()) if stop else ""
        return sentence, bool(stop) and (bool(rest.strip()) or not finished)
    match = _SENTENCE.match(text.strip())
    if match is None:
        return (" ".join(text.split()) if finished else ""), False
    return " ".join(match[1].split()), match.end() < len(text.strip()) or not finished


def build_pool(
    direct: Sequence[Sample], answers: Sequence[str]
) -> tuple[list[Sample], dict[str, int]]:
    """Both kinds as one pool, a question's direct answer before its correction; and what is not.

    A correction has its pair's id with "-v" behind it. In pool + dropped each pair counts twice:
    "same_answer" counts both of a pair whose answers are equal, which teaches nothing of what
    divides them; "no_correction" a correction that is empty. `meta` says which kind a sample is.
    """
    pool: list[Sample] = []
    dropped: Counter[str] = Counter()
    for sample, answer in zip(direct, answers, strict=True):
        if answer == " ".join(sample.answer.split()):
            dropped["same_answer"] += 2
            continue
        pool.append(replace(sample, meta={"vigc": "direct"}))
        if answer:
            corrected = {"id": f"{sample.id}-v", "answer": answer, "meta": {"vigc": "iterative"}}
            pool.append(replace(sample, **corrected))
        else:
            dropped["no_correction"] += 1
    return pool, dict(dropped)


def is_corrected(sample: Sample) -> bool:
    """True for a sample of iterative generation."""
    return sample.meta["vigc"] == "iterative"
