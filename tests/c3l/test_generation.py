"""Parsing is total and loses nothing; two-step generation on a tiny random LLaVA."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import c3l
from c3l.backbones import Generated
from c3l.generation import captions, parse_pairs, write_pairs
from c3l.instructions import CLASSES, format_pair, pair_prompt_from_caption
from c3l.samples import ImageFolder, Sample
from tests.tiny import as_numbers

SCRAPS = st.lists(
    st.sampled_from(
        ["Question:", "Answer:", "Q:", "A:", "Q1.", "1.", "2)", "**", "\n", " ", "\t", ":", "ball"]
    )
    | st.text(max_size=5),
    max_size=30,
).map("".join)
# Plain sentences: what no label or number can be mistaken in.
WORDS = st.sampled_from(["the", "red", "ball", "is", "a", "box,", "é", "3", "why?", "answer"])
SENTENCES = st.lists(WORDS, min_size=1).map(lambda words: "So " + " ".join(words))
PAIRS = st.lists(st.tuples(SENTENCES, SENTENCES), min_size=1, max_size=6)


@given(text=st.text() | SCRAPS, finished=st.booleans())
def test_any_text_is_parsed_into_whole_pairs(text, finished):
    pairs, dropped = parse_pairs(text, finished=finished)
    assert len(pairs) + sum(dropped.values()) >= 1
    assert all(question.strip() and answer.strip() for question, answer in pairs)
    assert set(dropped) <= {"no_answer", "no_question", "empty", "truncated"}
    assert all(count > 0 for count in dropped.values())
    assert dropped.get("truncated", 0) == (not finished)


@given(text=st.text() | SCRAPS)
def test_cutting_off_costs_exactly_one_piece(text):
    whole, dropped = parse_pairs(text)
    cut, cut_dropped = parse_pairs(text, finished=False)
    assert len(whole) + sum(dropped.values()) == len(cut) + sum(cut_dropped.values())
    assert cut in (whole, whole[:-1])


@given(pairs=PAIRS)
def test_what_is_formatted_is_read_back(pairs):
    text = "\n".join(format_pair(*pair) for pair in pairs)
    assert parse_pairs(text) == (pairs, {})
    assert parse_pairs(text, finished=False) == (pairs[:-1], {"truncated": 1})


@given(pairs=PAIRS, lone=st.lists(SENTENCES, max_size=3), lead=st.sampled_from(["", "Sure, here:"]))
def test_every_piece_is_counted(pairs, lone, lead):
    lines = [lead, *(format_pair(*pair) for pair in pairs), *(f"Question: {q}" for q in lone)]
    kept, dropped = parse_pairs("\n".join(lines))
    assert kept == pairs
    assert dropped.get("no_answer", 0) == len(lone)
    assert dropped.get("no_question", 0) == bool(lead)


@pytest.mark.parametrize(
    "text",
    [
        "Q: Why is it red?\nA: It is hot.",
        "q: Why is it red?\na: It is hot.",
        "Question 1: Why is it red?\nAnswer 1: It is hot.",
        "1. Question: Why is it red?\n   Answer: It is hot.",
        "**Question 1:** Why is it red?\n**Answer:** It is hot.",
        "**Question**: Why is it red?\n**Answer**: It is hot.",
        "- Q1. Why is it red?\n- A1. It is hot.",
        "Question: Why is it red? Answer: It is hot.",
        "1. Why is it red?\nAnswer: It is hot.",
        "1. Why is it red?\n2. Answer: It is hot.",
        "1) **Why is it red?**\nA: It is hot.",
        "Question:\nWhy is\nit red?\n\nAnswer:\nIt is\nhot.\n",
        "QUESTION：Why is it red?\r\nANSWER：It is hot.",
    ],
)
def test_the_styles_models_write_in(text):
    assert parse_pairs(text) == ([("Why is it red?", "It is hot.")], {})


@pytest.mark.parametrize(
    ("text", "dropped"),
    [
        ("", {"empty": 1}),
        (" \n", {"empty": 1}),
        ("A red ball.", {"no_question": 1}),
        ("Answer: It is hot.", {"no_question": 1}),
        ("Question: Why?", {"no_answer": 1}),
        ("Question: Why?\nAnswer:", {"no_answer": 1}),
        ("Question:\nAnswer: So.", {"no_question": 1}),
        ("Question: Why?\nQuestion: How?", {"no_answer": 2}),
    ],
)
def test_pieces_that_are_no_pairs(text, dropped):
    assert parse_pairs(text) == ([], dropped)


def test_an_answer_may_hold_numbers_and_choices():
    answer = "It has 1. a ball 2. a box, and A. is right: vitamin a: yes."
    assert parse_pairs(f"Question: What?\nAnswer: {answer}") == ([("What?", answer)], {})


class Scripted:
    """A backbone that answers from a list; `write` alone is what write_pairs needs."""

    def __init__(self, answers):
        self.answers = answers

    def generate_with_status(self, questions, images=None, **settings):
        self.questions, self.images = questions, images
        return [Generated(*answer) for answer in self.answers]


def test_samples_and_counts_of_written_pairs():
    pair = format_pair("Why is it red?", "Heat.")
    backbone = Scripted(
        [(f"{pair}\n{pair}", True), (f"{pair}\n{pair}", False), ("Question: Why?", True)]
    )
    samples, dropped = write_pairs(backbone, {"a/b.png": "A ball."}, n=2, max_new_tokens=9)
    assert samples == [
        Sample("a/b.png-c-0", "a/b.png", "Why is it red?", "Heat.", CLASSES[0]),
        Sample("a/b.png-c-1", "a/b.png", "Why is it red?", "Heat.", CLASSES[0]),
        Sample("a/b.png-d-0", "a/b.png", "Why is it red?", "Heat.", CLASSES[1]),
    ]
    assert dropped == {"truncated": 1, "no_answer": 1}
    assert backbone.questions == [pair_prompt_from_caption(c, 2, "A ball.") for c in CLASSES]
    assert backbone.images is None
    write_pairs(backbone, {"a": "A ball."}, n=2, max_new_tokens=9, images={"a": "the picture"})
    assert backbone.images == ["the picture"] * len(CLASSES)


@pytest.fixture(scope="module")
def backbone(tiny_llava):
    return c3l.load_backbone(tiny_llava, device="cpu")


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_captions_do_not_depend_on_batches(backbone, tiny_images, temperature):
    images = ImageFolder(tiny_images)
    names, settings = images.names(), {"max_new_tokens": 8, "temperature": temperature, "seed": 1}
    together = captions(backbone, images, names, **settings)
    assert together == captions(backbone, images, names, batch_size=4, **settings)
    assert together[::-1] == captions(backbone, images, names[::-1], **settings)


def test_pairs_depend_on_their_image_and_not_on_others(backbone, monkeypatch):
    """So shards and batches change nothing, and equal captions have pairs of their own."""
    settings = {"n": 1, "max_new_tokens": 12, "temperature": 1.5, "seed": 3}
    texts = dict.fromkeys(["a.png", "b.png", "c.png"], "A red ball.")
    written, generate = [], backbone.generate_with_status

    def spy(*args, **settings):
        written.append(generate(*args, **settings))
        return written[-1]

    as_numbers(backbone, monkeypatch)
    monkeypatch.setattr(backbone, "generate_with_status", spy)
    write_pairs(backbone, texts, **settings)
    write_pairs(backbone, {"c.png": "A red ball."}, batch_size=2, **settings)
    assert written[1] == written[0][-len(CLASSES) :]
    assert len({answer.text for answer in written[0]}) == len(written[0])


def test_a_random_model_writes_nothing_that_is_lost(backbone):
    settings = {"n": 2, "max_new_tokens": 8, "seed": 3, "batch_size": 4}
    texts = {"a.png": "A red ball.", "b.png": "<image></s>"}
    samples, dropped = write_pairs(backbone, texts, **settings)
    assert len(samples) + sum(dropped.values()) >= len(texts) * len(CLASSES)
    assert (samples, dropped) == write_pairs(backbone, texts, **settings)
