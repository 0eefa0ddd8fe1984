"""Every parser of what a model answers, and what each owes to any text at all."""

import contextlib
import math
from collections import Counter

from benchmarks import pope
from benchmarks.judge import judge
from benchmarks.judge.judging import failure_reason, retry_after
from benchmarks.pocket import truth
from benchmarks.pocket.grading import grade, read_caption
from benchmarks.pocket.scenes import draw_scenes
from c3l.filtering import filter_samples
from c3l.generation import parse_pairs
from c3l.rivals.self_instruct import survivors
from c3l.rivals.vigc import build_pool, first_sentence
from c3l.samples import Sample

SCENE = draw_scenes(0, "benchmark", 1)[0]


def parse_anything(text: str) -> None:
    """Hand a text to all parsers; AssertionError where one does not keep what it owes."""
    _pairs(text)
    _sentences(text)
    _filters(text)
    _truths(text)
    _judges(text)


def _letters(text: str) -> Counter:
    return Counter(letter for letter in text if letter.isalnum())


def _pairs(text: str) -> None:
    """No word appears that was not there, and every piece is a pair or counted."""
    for finished in (True, False):
        pairs, dropped = parse_pairs(text, finished=finished)
        assert pairs or dropped
        assert all(question and answer for question, answer in pairs)
        assert not (Counter(a for pair in pairs for a in "".join(pair).split()) and not text)
        assert _letters("".join(map("".join, pairs))) <= _letters(text)
        assert all(count > 0 for count in dropped.values())
        assert set(dropped) <= {"empty", "no_answer", "no_question", "truncated"}


def _sentences(text: str) -> None:
    for finished in (True, False):
        sentence, more = first_sentence(text, finished=finished)
        assert _letters(sentence) <= _letters(text) and isinstance(more, bool)
        assert sentence == " ".join(sentence.split())


def _filters(text: str) -> None:
    """In = out + dropped, by reason."""
    half = len(text) // 2
    texts = [(text, text), (text[:half], text[half:]), ("What is it?", text), (text, "A cup.")]
    samples = [
        Sample(str(k), f"{k % 2}.png", question, answer)
        for k, (question, answer) in enumerate(texts * 2)
    ]
    kept, dropped = filter_samples(samples, blacklist=True)
    assert len(kept) + sum(dropped.values()) == len(samples)
    good, rejected, counts = survivors(samples, blacklist=True)
    assert len(good) + sum(counts.values()) == len(good) + len(rejected) == len(samples)
    pool, lost = build_pool(samples, [text] * len(samples))
    assert len(pool) + sum(lost.values()) == 2 * len(samples)


def _truths(text: str) -> None:
    graph = SCENE.to_dict()
    for question in (text, "What colour is the ball?", "Describe the image in detail."):
        for answer in (text, "It is red."):
            assert truth.judge(question, answer, graph) in truth.VERDICTS
    for value in (grade("What colour is the ball?", text, SCENE), grade(text, "No.", SCENE)):
        assert 1 <= value.value <= 10
    try:
        scene = read_caption(text)
    except ValueError:
        pass
    else:
        assert 1 <= grade("What is it?", text, scene).value <= 10


def _judges(text: str) -> None:
    found = judge.parse_grades(text)
    assert found is None or all(0 <= value <= 10 for value in found)
    assert math.isfinite(retry_after(text[:200])) or text.strip().lower().startswith("inf")
    assert failure_reason({"scores": [-1, -1], "review": f"error: {text}"}) is not None
    assert pope.lmms_eval_reading(text) in ("yes", "no", None)
    assert pope.llava_reading(text) in ("yes", "no")
    with contextlib.suppress(ValueError):
        judge.pocket_reply(text)
