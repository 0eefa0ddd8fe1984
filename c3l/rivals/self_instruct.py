"""Self-Instruct's filter (Wang et al. 2022) for pairs about images: a rival to I²C in table 5.

Its instruction is the question here, its input the image and its output the answer. Survivors are
the positives, the others the negatives. Two of its rules have no work here: what stopped on length
is dropped and counted as "truncated" by `c3l.generation.parse_pairs`, and an output cannot equal
its input, an image.
"""

import random
import re
import string
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Literal

from rapidfuzz.distance import Indel
from rapidfuzz.process import extractOne

from c3l.readings import Unit
from c3l.samples import Sample

BLACKLIST = (
    *("image", "images", "graph", "graphs", "picture", "pictures", "file", "files"),
    *("map", "maps", "draw", "plot", "go to"),
    # Stanford Alpaca, which took over the list, added the last five.
    *("video", "audio", "music", "flowchart", "diagram"),
)
"""Words a text-only model cannot act on; "image" and "picture" are among them."""

MAX_SIMILARITY = 0.7
"""ROUGE-L F1 above which two instructions are the same in other words."""

_BLACKLISTED = re.compile(rf"\b(?:{'|'.join(BLACKLIST)})\b", re.IGNORECASE)

# ROUGE-L F1 (Lin 2004) is twice the longest common subsequence over the sum of the lengths: the
# similarity by insertions and deletions, here of words.
rouge_l = Indel.normalized_similarity

Words = tuple[str, ...]


def blacklisted(text: str) -> bool:
    """True if a text has a word of the blacklist: a whole word, in any case."""
    return _BLACKLISTED.search(text) is not None


def survivors(
    samples: Sequence[Sample],
    *,
    blacklist: bool = False,
    unit: Unit = "question",
    instances: int | None = None,
    contradiction: Literal["image", "instruction"] = "image",
    seed: int | None = None,
) -> tuple[list[Sample], list[Sample], dict[str, int]]:
    """The samples that pass and those that fail, in their order, and the failures by reason.

    A sample fails for the first of these that applies: "short" (a question of three words or
    fewer) or "long" (of more than 150); "blacklisted" (only if `blacklist`); "program" ("Write a
    program…"); "punctuation" or "not_ascii" (what it begins with); "similar"; "no_answer";
    "unfinished" (the answer ends in a colon); "contradictory" (its image has, for this question,
    another answer as well; with `contradiction` "instruction" any image has); "duplicate";
    "surplus" (of more than `instances` samples of one question those that a draw by `seed` leaves).

    "similar" is a question with ROUGE-L F1 above 0.7 against one accepted before it, whatever the
    image. As in Self-Instruct an accepted instruction may have many instances, so a repeated
    question is not similar to itself. With the `unit` "sample" it has one, and none contradicts it;
    that leaves nearly all images without a positive. To compare within an image alone would not
    keep the pool of instructions varied, and would leave many images without a negative.
    """
    instructions = _Instructions(unit)
    contradicted = _contradicted(samples) if unit == "question" else set()
    lost = {words for _, words in contradicted} if contradiction == "instruction" else set()
    seen: set[tuple[str, Words]] = set()
    reasons: list[str | None] = []
    for sample in samples:
        key = sample.image, _words(sample.question)
        reason = (
            _unfit(sample.question, blacklist)
            or (None if instructions.accept(key[1]) else "similar")
            or _incomplete(sample.answer)
            or ("contradictory" if key in contradicted or key[1] in lost else None)
            or ("duplicate" if key in seen else None)
        )
        if reason is None:
            seen.add(key)
        reasons.append(reason)
    if instances is not None:
        _draw(samples, reasons, instances, seed)
    judged = list(zip(samples, reasons, strict=True))
    accepted = [sample for sample, reason in judged if reason is None]
    rejected = [sample for sample, reason in judged if reason is not None]
    return accepted, rejected, dict(Counter(filter(None, reasons)))


def _contradicted(samples: Sequence[Sample]) -> set[tuple[str, Words]]:
    """Return each image and question with more than one answer.

    Answers that fail by themselves are no instances, and contradict nothing.
    """
    answers: dict[tuple[str, Words], set[str]] = defaultdict(set)
    for sample in samples:
        if _incomplete(sample.answer) is None:
            answers[sample.image, _words(sample.question)].add(sample.answer.strip())
    return {key for key, distinct in answers.items() if len(distinct) > 1}


def _draw(
    samples: Sequence[Sample], reasons: list[str | None], instances: int, seed: int | None
) -> None:
    """Write "surplus" into the reasons of all but `instances` passing samples of each question."""
    rng, passing = random.Random(seed), defaultdict(list)
    for i, (sample, reason) in enumerate(zip(samples, reasons, strict=True)):
        if reason is None:
            passing[_words(sample.question)].append(i)
    for indices in passing.values():
        if len(indices) > instances:
            for i in {*indices} - {*rng.sample(indices, instances)}:
                reasons[i] = "surplus"


def _unfit(question: str, blacklist: bool) -> str | None:
    question = question.strip()
    words, first = len(question.split()), question[:1]
    faults = {
        "short": words <= 3,
        "long": words > 150,
        "blacklisted": blacklist and blacklisted(question),
        "program": re.match(r"write\s+a\s+program", question, re.IGNORECASE),
        "punctuation": first in string.punctuation,
        "not_ascii": not first.isascii(),
    }
    return next((reason for reason, applies in faults.items() if applies), None)


def _incomplete(answer: str) -> str | None:
    answer = answer.strip()
    if not answer:
        return "no_answer"
    return "unfinished" if answer.endswith(":") else None


def _words(text: str) -> Words:
    """A text as ROUGE compares it: lower case, words of ASCII letters and digits."""
    return tuple(re.findall(r"[a-z0-9]+", text.lower()))


class _Instructions:
    """The accepted instructions, each unlike all others; with the unit "sample" accepted once."""

    def __init__(self, unit: Unit) -> None:
        self._once = unit == "sample"
        self._verdicts: dict[Words, bool] = {}
        self._accepted: list[Words] = []

    def accept(self, words: Words) -> bool:
        """Accept an instruction that is unlike all others. Return True for an accepted one."""
        if words in self._verdicts and self._once:
            return False
        if words not in self._verdicts:
            # Twenty thousand different instructions take a minute; a Python loop would take hours.
            best = extractOne(words, self._accepted, scorer=rouge_l, score_cutoff=MAX_SIMILARITY)
            self._verdicts[words] = best is None or best[1] <= MAX_SIMILARITY
            if self._verdicts[words]:
                self._accepted.append(words)
        return self._verdicts[words]
