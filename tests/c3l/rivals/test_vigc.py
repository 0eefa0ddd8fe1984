"""VIGC's data: sentences, rounds, and the pool of both kinds."""

from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.pocket.drawing import draw
from benchmarks.pocket.scenes import draw_scenes
from c3l import load_backbone
from c3l.backbones.base import Generated
from c3l.instructions import CLASSES, caption_prompt, pair_prompt
from c3l.rivals.vigc import (
    ROUNDS,
    Sentence,
    build_pool,
    first_sentence,
    generate_pairs,
    is_corrected,
    refine_answers,
)
from c3l.samples import ImageFolder, Sample

BACKBONE = Path(__file__).parents[3] / "benchmarks" / "pocket" / "backbones" / "llava-7b"


class Speaker:
    """A backbone that says its answer to a question word by word, so many words at a time."""

    def __init__(self, answers, words=100):
        self.answers, self.words, self.calls = answers, words, []

    def generate_with_status(self, questions, images, *, answer_prefix, **settings):
        self.calls.append(list(zip(questions, images, answer_prefix, strict=True)))
        return [self._go_on(*both) for both in zip(questions, answer_prefix, strict=True)]

    def _go_on(self, question, said):
        assert self.answers[question].startswith(said)
        rest = self.answers[question].removeprefix(said).split()
        return Generated(" ".join(rest[: self.words]), finished=len(rest) <= self.words)


def ask(*questions):
    return [Sample(f"s{k}", f"{k}.png", q, "So.", CLASSES[0]) for k, q in enumerate(questions)]


PICTURES = {f"{k}.png": f"picture {k}" for k in range(9)}


@pytest.mark.parametrize(
    ("text", "finished", "expected"),
    [
        ("It is red. It rolls.", True, ("It is red.", True)),
        ("It is red.", True, ("It is red.", False)),
        ("It is red.", False, ("It is red.", True)),
        ('He said "no!" Twice.', True, ('He said "no!"', True)),
        ("It costs 3.50 dollars. Cheap.", True, ("It costs 3.50 dollars.", True)),
        ("It is\n red", True, ("It is red", False)),
        ("It is re", False, ("", False)),
        ("", True, ("", False)),
    ],
)
def test_the_first_sentence_and_whether_more_is_to_come(text, finished, expected):
    assert first_sentence(text, finished=finished) == expected


@pytest.mark.parametrize(
    ("text", "finished", "expected"),
    [
        ("It is red. It rolls.", True, ("It is red.", True)),
        ("It is red.", True, ("It is red.", False)),
        ("It is red.", False, ("It is red.", True)),
        ("Is it red? Yes! It is.", True, ("Is it red? Yes! It is.", False)),
        ("It costs 3.50 dollars.", True, ("It costs 3.", True)),
        ("It is red", True, ("", False)),
        ("Red!", True, ("", False)),
        ("", True, ("", False)),
    ],
)
def test_as_published_a_sentence_ends_in_a_full_stop_and_nothing_else_is_one(
    text, finished, expected
):
    assert first_sentence(text, finished=finished, ends="full_stop") == expected


@given(st.text(alphabet="ab .!?\n", max_size=30), st.booleans())
def test_a_first_sentence_is_the_beginning_and_more_is_to_come_where_some_is_left(text, finished):
    words = " ".join(text.split())
    for ends in get_args(Sentence):
        first, more = first_sentence(text, finished=finished, ends=ends)
        assert words.startswith(first)
        if finished:
            assert more == (first != "" and first != words)
        if ends == "full_stop":
            assert first == "" or (first.endswith(".") and "." not in first[:-1])


def test_as_published_a_round_asks_with_the_instruction_and_the_reply_begins_with_the_question():
    instruction = pair_prompt(CLASSES[0], 1)

    calls = []

    class Writer:
        def generate_with_status(self, questions, images, *, answer_prefix, stop, **settings):
            calls.append((*questions, *answer_prefix, stop))
            text = "One. Two." if answer_prefix[0].endswith("Answer: ") else "Two."
            return [Generated(text, finished=True)]

    answers = refine_answers(
        Writer(), ask("What?"), PICTURES, max_new_tokens=9, asks="instruction_and_question"
    )
    assert answers == ["One. Two."]
    assert calls == [
        (instruction, "Question: What?\nAnswer: ", ("\nQuestion:",)),
        (instruction, "Question: What?\nAnswer: One.", ("\nQuestion:",)),
    ]


def test_each_round_asks_again_with_the_answer_so_far():
    backbone = Speaker({"What?": "One. Two. Three.", "Why?": "Because."})
    answers = refine_answers(backbone, ask("What?", "Why?"), PICTURES, max_new_tokens=9)
    assert answers == ["One. Two. Three.", "Because."]
    assert backbone.calls == [
        [("What?", "picture 0", ""), ("Why?", "picture 1", "")],
        [("What?", "picture 0", "One.")],
        [("What?", "picture 0", "One. Two.")],
    ]


def test_four_rounds_at_most_and_batches_do_not_matter():
    long = {f"Q{k}?": " ".join(f"S{k} {i}." for i in range(k)) for k in range(1, 8)}
    samples = ask(*long)
    expected = [" ".join(f"S{k} {i}." for i in range(min(k, ROUNDS))) for k in range(1, 8)]
    for size in (1, 3, 64):
        backbone = Speaker(long)
        assert (
            refine_answers(backbone, samples, PICTURES, max_new_tokens=9, batch_size=size)
            == expected
        )


def test_a_sentence_that_is_cut_off_is_no_answer():
    backbone = Speaker(
        {"What?": "Much too long a word.", "Why?": "So. And much too long."}, words=3
    )
    answers = refine_answers(backbone, ask("What?", "Why?"), PICTURES, max_new_tokens=9)
    assert answers == ["", "So."]


def test_on_llava_the_rounds_are_one_answer_cut_after_four_sentences(tmp_path):
    """Its image tokens do not depend on the text. In the pocket world, where captions are long."""
    for number, scene in enumerate(draw_scenes(0, "initial", 6)):
        draw(scene).save(tmp_path / f"{number}.png")
    backbone, images = load_backbone(BACKBONE, device="cpu"), ImageFolder(tmp_path)
    samples = ask(*[caption_prompt()] * 6)
    pictures = [images[sample.image] for sample in samples]
    whole = backbone.generate([s.question for s in samples], pictures, max_new_tokens=96)
    cut = [" ".join(text.split(". ")[:ROUNDS]) for text in whole]
    found = refine_answers(backbone, samples, images, max_new_tokens=96)
    assert [text.replace(".", "") for text in found] == [text.replace(".", "") for text in cut]
    assert any(len(text.split(". ")) > ROUNDS for text in whole)


def test_direct_generation_sees_the_image_and_no_caption():
    class Writer:
        def generate_with_status(self, questions, images, **settings):
            self.asked = list(zip(questions, images, strict=True))
            return [Generated("Question: Why is it red?\nAnswer: Heat.", True)] * len(questions)

    backbone = Writer()
    samples, dropped = generate_pairs(backbone, PICTURES, ["2.png"], n=2, max_new_tokens=9)
    assert backbone.asked == [(pair_prompt(name, 2), "picture 2") for name in CLASSES]
    assert [sample.id for sample in samples] == ["2.png-c-0", "2.png-d-0", "2.png-r-0"]
    assert dropped == {}


def test_a_pool_holds_each_question_twice_but_for_equal_and_missing_corrections():
    pairs = ask("What?", "Why?", "Who?")
    pool, dropped = build_pool(pairs, ["It is red.", "So.", ""])
    assert [(s.id, s.question, s.answer, is_corrected(s)) for s in pool] == [
        ("s0", "What?", "So.", False),
        ("s0-v", "What?", "It is red.", True),
        ("s2", "Who?", "So.", False),
    ]
    assert dropped == {"same_answer": 2, "no_correction": 1}
    assert len(pool) + sum(dropped.values()) == 2 * len(pairs)
