"""Filtering keeps order, counts every drop, and knows each reason."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from c3l.filtering import filter_samples
from c3l.samples import Sample

GOOD = Sample("1", "a.png", "What colour is the ball?", "Red.")
TEXTS = st.sampled_from(
    ["", "?", "Why is it red?", "why is it RED", "Red.", "12 34 56", "word " * 70]
) | st.text(max_size=12)
SAMPLES = st.lists(
    st.builds(
        Sample,
        id=st.text(max_size=2),
        image=st.sampled_from(["a.png", "b.png"]),
        question=TEXTS,
        answer=TEXTS,
    ),
    max_size=8,
)


@given(samples=SAMPLES)
def test_in_is_out_plus_dropped(samples):
    kept, dropped = filter_samples(samples)
    assert len(samples) == len(kept) + sum(dropped.values())
    remaining = iter(samples)
    assert all(any(sample is other for other in remaining) for sample in kept)  # in their order


@given(samples=SAMPLES)
def test_filtering_twice_changes_nothing(samples):
    kept, _ = filter_samples(samples)
    assert filter_samples(kept) == (kept, {})


@pytest.mark.parametrize(
    ("question", "answer", "reason"),
    [
        ("", "Red.", "empty"),
        ("What colour is it?", " ...", "empty"),
        ("12 34 56", "Red.", "question_without_letters"),
        ("Colour?", "Red.", "question_too_short"),
        ("why " * 61, "Red.", "question_too_long"),
        ("What colour is it?", "red " * 301, "answer_too_long"),
        ("What colour is it?", "what colour  is it", "answer_equals_question"),
        ("What is it?", "What is it? What is it?", "answer_repeats_question"),
        ("What is it?", "What colour is the ball?", "answer_repeats_question"),
        ("what colour is the BALL", "Blue.", "duplicate"),
    ],
)
def test_each_reason(question, answer, reason):
    bad = replace(GOOD, id="2", question=question, answer=answer)
    assert filter_samples([GOOD, bad]) == ([GOOD], {reason: 1})


def test_limits_are_parameters():
    assert filter_samples([GOOD], min_answer_words=2) == ([], {"answer_too_short": 1})
    assert filter_samples([GOOD], max_answer_words=0) == ([], {"answer_too_long": 1})
    short = replace(GOOD, question="Colour?")
    assert filter_samples([short], min_question_words=1) == ([short], {})
    assert filter_samples([GOOD], max_question_words=4) == ([], {"question_too_long": 1})


def test_an_answer_that_goes_on_after_the_question_is_kept():
    sample = replace(GOOD, answer="What colour is the ball? It is red.")
    assert filter_samples([sample]) == ([sample], {})


def test_an_answer_put_as_a_question_costs_no_other_answer():
    wrong = replace(GOOD, id="2", question="Red.", answer="What?")
    assert filter_samples([wrong, GOOD]) == ([GOOD], {"question_too_short": 1})


def test_the_same_question_about_another_image_is_kept():
    other = replace(GOOD, id="2", image="b.png")
    assert filter_samples([GOOD, other]) == ([GOOD, other], {})


def test_an_invalid_sample_does_not_make_a_valid_one_its_duplicate():
    empty = replace(GOOD, answer="")
    assert filter_samples([empty, GOOD]) == ([GOOD], {"empty": 1})
