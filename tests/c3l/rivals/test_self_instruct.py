"""Self-Instruct's filter: nobody is lost, each rule works, similarity is ROUGE-L."""

from collections import Counter
from dataclasses import replace
from itertools import product
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from c3l.readings import Unit
from c3l.rivals.self_instruct import BLACKLIST, _words, blacklisted, rouge_l, survivors
from c3l.samples import Sample

GOOD = Sample("1", "a.png", "What colour is the ball?", "Red.")
WORDS = st.lists(st.sampled_from(["what", "is", "the", "ball", "7"]), max_size=12).map(tuple)
QUESTIONS = st.sampled_from(
    [
        "",
        "What is it?",
        "What colour is the ball?",
        "what colour is the BALL",
        "What colour is the box?",
        "Why would anybody want a lamp?",
        "Write a program that sorts.",
        "- What is this thing?",
        "Draw a map of it.",
    ]
) | st.text(max_size=20)
RULES = st.fixed_dictionaries(
    {
        "blacklist": st.booleans(),
        "unit": st.sampled_from(get_args(Unit)),
        "instances": st.sampled_from([None, 1, 2]),
        "contradiction": st.sampled_from(["image", "instruction"]),
        "seed": st.integers(0, 3),
    }
)
SAMPLES = st.lists(
    st.builds(
        Sample,
        id=st.text(max_size=2),
        image=st.sampled_from(["a.png", "b.png"]),
        question=QUESTIONS,
        answer=st.sampled_from(["Red.", "Blue.", " ", "As follows:"]),
    ),
    max_size=10,
)


def longest_common_subsequence(a, b) -> int:
    """The textbook's table."""
    table = {(i, j): 0 for i in range(len(a) + 1) for j in range(len(b) + 1)}
    for i, j in product(range(len(a)), range(len(b))):
        longer = max(table[i, j + 1], table[i + 1, j])
        table[i + 1, j + 1] = table[i, j] + 1 if a[i] == b[j] else longer
    return table[len(a), len(b)]


@given(a=WORDS, b=WORDS)
def test_similarity_is_rouge_l(a, b):
    expected = 2 * longest_common_subsequence(a, b) / (len(a) + len(b)) if a or b else 1
    assert rouge_l(a, b) == pytest.approx(expected)


@given(samples=SAMPLES, rules=RULES)
def test_in_is_kept_plus_rejected_in_their_order(samples, rules):
    kept, rejected, counts = survivors(samples, **rules)
    assert len(rejected) == sum(counts.values())
    assert len(samples) == len(kept) + len(rejected)
    for some in (kept, rejected):
        remaining = iter(samples)
        assert all(any(sample is other for other in remaining) for sample in some)


@given(samples=SAMPLES, rules=RULES)
def test_survivors_of_survivors_are_all_of_them(samples, rules):
    kept, _, _ = survivors(samples, **rules)
    assert survivors(kept, **rules) == (kept, [], {})


@given(samples=SAMPLES, rules=RULES)
def test_a_stricter_rule_keeps_some_of_what_a_milder_one_does(samples, rules):
    """Ids repeat, so samples are told apart by their place."""
    samples = [replace(sample, id=str(place)) for place, sample in enumerate(samples)]
    kept, _, _ = survivors(samples, **rules)
    milder = rules | {"instances": None, "contradiction": "image"}
    assert {sample.id for sample in kept} <= {s.id for s in survivors(samples, **milder)[0]}


@given(samples=SAMPLES, most=st.integers(1, 3), seed=st.integers(0, 9))
def test_of_each_instruction_as_many_instances_are_kept_as_may_be(samples, most, seed):
    whole, fewer = (
        Counter(_words(sample.question) for sample in survivors(samples, **some)[0])
        for some in ({}, {"instances": most, "seed": seed})
    )
    assert fewer == Counter({question: min(count, most) for question, count in whole.items()})


def test_which_instances_are_kept_is_the_seeds():
    samples = [replace(GOOD, id=str(k), image=f"{k}.png") for k in range(30)]
    kept = [
        [sample.id for sample in survivors(samples, instances=5, seed=seed)[0]]
        for seed in (0, 0, 1)
    ]
    assert kept[0] == kept[1] != kept[2] and {*map(len, kept)} == {5}


def test_as_published_one_contradiction_costs_an_instruction_all_its_instances():
    contradictory = [GOOD, replace(GOOD, id="2", answer="Blue.")]
    same = replace(GOOD, id="3", image="b.png", answer="Blue.")
    other = replace(GOOD, id="4", question="Why would anybody want one?")
    found = survivors([*contradictory, same, other], contradiction="instruction")
    assert found == ([other], [*contradictory, same], {"contradictory": 3})


def test_by_the_unit_sample_a_question_is_accepted_once_and_contradicts_nothing():
    again = [replace(GOOD, id="2", answer="Blue."), replace(GOOD, id="3", image="b.png")]
    assert survivors([GOOD, *again], unit="sample") == ([GOOD], again, {"similar": 2})


@pytest.mark.parametrize(
    ("question", "answer", "reason"),
    [
        ("What is it?", "Red.", "short"),
        ("", "Red.", "short"),
        ("why " * 151, "Red.", "long"),
        ("Write a program that sorts things.", "Red.", "program"),
        ("write a Program that sorts things.", "Red.", "program"),
        ("(What colour is the lamp?)", "Red.", "punctuation"),
        ("¿What colour is the lamp?", "Red.", "not_ascii"),
        ("What colour is the lamp?", "Red.", "similar"),
        ("Why would anybody want one?", " ", "no_answer"),
        ("Why would anybody want one?", "For these reasons: ", "unfinished"),
        ("what COLOUR is the ball", "Red.", "duplicate"),
    ],
)
def test_each_reason(question, answer, reason):
    bad = replace(GOOD, id="2", question=question, answer=answer)
    assert survivors([GOOD, bad]) == ([GOOD], [bad], {reason: 1})


def test_the_limits_are_the_published_ones():
    four, longest = "Why is it red?", "why " * 150
    kept, _, _ = survivors([replace(GOOD, question=four), replace(GOOD, question=longest)])
    assert len(kept) == 2


def test_an_image_with_two_answers_to_a_question_loses_both_and_no_other_image_does():
    contradictory = [GOOD, replace(GOOD, id="2", answer="Blue.")]
    other = replace(GOOD, id="3", image="b.png", answer="Blue.")
    expected = [other], contradictory, {"contradictory": 2}
    assert survivors([*contradictory, other]) == expected


def test_an_answer_that_fails_alone_contradicts_nothing():
    empty = replace(GOOD, id="2", answer=" ")
    assert survivors([GOOD, empty]) == ([GOOD], [empty], {"no_answer": 1})


def test_an_accepted_question_may_be_asked_of_other_images():
    samples = [replace(GOOD, image=image) for image in ("a.png", "b.png", "c.png")]
    assert survivors(samples) == (samples, [], {})


def test_similarity_counts_against_every_accepted_question_whatever_the_image():
    other = replace(GOOD, image="b.png", question="What colour is the box?")
    assert survivors([GOOD, other])[2] == {"similar": 1}
    assert survivors([other, GOOD])[2] == {"similar": 1}


def test_a_rejected_question_rejects_no_other():
    # 1 and 2 share 6 of 8 words (F1 0.75), 2 and 3 as well, 1 and 3 four (F1 0.5)
    questions = ("a b c d e f g h", "a b c d e f y z", "a b c d w x y z")
    samples = [replace(GOOD, question=question) for question in questions]
    assert survivors(samples) == ([samples[0], samples[2]], [samples[1]], {"similar": 1})


def test_seventy_percent_is_not_above_seventy_percent():
    shared = [f"w{k}" for k in range(7)]
    questions = (" ".join([*shared, "a", "b", "c"]), " ".join([*shared, "x", "y", "z"]))
    samples = [replace(GOOD, question=question) for question in questions]
    assert survivors(samples)[0] == samples


@pytest.mark.parametrize("word", BLACKLIST)
def test_the_blacklist_rejects_its_words_when_it_is_on(word):
    sample = replace(GOOD, question=f"What does the {word.upper()} show?")
    assert survivors([sample], blacklist=True) == ([], [sample], {"blacklisted": 1})
    assert survivors([sample]) == ([sample], [], {})


@given(word=st.sampled_from(BLACKLIST), mark=st.sampled_from(" ?!.,;:'\"()-"))
def test_a_blacklisted_word_may_stand_before_any_mark(word, mark):
    assert blacklisted(f"a {word}{mark}")


@given(word=st.sampled_from(BLACKLIST), letters=st.sampled_from(["x", "7", "_", "é"]))
def test_a_part_of_a_word_is_not_blacklisted(word, letters):
    assert not blacklisted(f"a {word}{letters}")
    assert not blacklisted(f"a {letters}{word}")
