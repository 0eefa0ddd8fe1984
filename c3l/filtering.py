"""Heuristic filtering of generated samples (section 3.1): duplicates and invalid pairs go.

Every dropped sample is counted under the first reason that applies, so in = out + dropped.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from c3l.rivals.self_instruct import blacklisted
from c3l.samples import Sample


class Lengths(NamedTuple):
    """Minimum and maximum number of words, separated by white space.

    The defaults keep one-word answers, which benchmarks ask for, and answers as long as
    LLaVA-158k's.
    """

    min_question_words: int = 3
    max_question_words: int = 60
    min_answer_words: int = 1
    max_answer_words: int = 300


def filter_samples(
    samples: Iterable[Sample], *, blacklist: bool = False, **lengths: int
) -> tuple[list[Sample], dict[str, int]]:
    """The valid samples, in their order, and the number dropped, by reason.

    `lengths` are fields of `Lengths`. Texts are compared by their letters and digits only. The
    reasons: "empty", "question_without_letters", "question_too_short", "question_too_long",
    "answer_too_short", "answer_too_long", "answer_equals_question", "answer_repeats_question" (the
    answer holds nothing but its own question over and over, or is another question about the
    image), "duplicate" (the image has a valid sample of this question), and with `blacklist`
    "blacklisted_word" (the question has a word of Self-Instruct's list).
    """
    verdicts = list(judged(samples, blacklist=blacklist, **lengths))
    dropped = Counter(reason for _, reason in verdicts if reason)
    return [sample for sample, reason in verdicts if not reason], dict(dropped)


def judged(
    samples: Iterable[Sample], *, blacklist: bool, **lengths: int
) -> Iterator[tuple[Sample, str | None]]:
    """Yield each sample with the reason for which `filter_samples` drops it, or None."""
    samples, limits = list(samples), Lengths(**lengths)
    questions: dict[str, set[str]] = defaultdict(set)
    for sample in samples:
        questions[sample.image].add(_bare(sample.question))
    seen: set[tuple[str, str]] = set()
    for sample in samples:
        key = (sample.image, _bare(sample.question))
        reason = _invalid(sample, limits, questions[sample.image])
        if not reason and key in seen:
            reason = "duplicate"
        elif not reason and blacklist and blacklisted(sample.question):
            reason = "blacklisted_word"
        elif not reason:
            seen.add(key)
        yield sample, reason


def _invalid(sample: Sample, lengths: Lengths, questions: set[str]) -> str | None:
    """The reason why a sample is invalid in itself, or None."""
    question, answer = _bare(sample.question), _bare(sample.answer)
    question_words, answer_words = len(sample.question.split()), len(sample.answer.split())
    # Else a generator's "Red." in a question's place would cost every answer "Red.".
    is_question = sample.answer.rstrip().endswith("?")
    repeated = " ".join([question] * ((len(answer) + 1) // (len(question) + 1)))
    rules = {
        "empty": not question or not answer,
        "question_without_letters": not any(letter.isalpha() for letter in sample.question),
        "question_too_short": question_words < lengths.min_question_words,
        "question_too_long": question_words > lengths.max_question_words,
        "answer_too_short": answer_words < lengths.min_answer_words,
        "answer_too_long": answer_words > lengths.max_answer_words,
        "answer_equals_question": answer == question,
        "answer_repeats_question": answer == repeated or (is_question and answer in questions),
    }
    return next((reason for reason, applies in rules.items() if applies), None)


def _bare(text: str) -> str:
    """A text as its words of letters and digits, without case and punctuation."""
    return " ".join(re.findall(r"\w+", text.casefold()))
