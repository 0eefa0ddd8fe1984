"""Targets and groups: the cut, the ties, the images; rankings and labels."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from c3l.readings import Readings
from c3l.runtime.errors import UserError
from c3l.samples import Sample
from c3l.score_forms import FORMS
from c3l.scores import Score
from c3l.selection import (
    METHODS,
    SELECTORS,
    Selector,
    code_of,
    groups,
    ranked,
    select,
    selector,
    top_share,
    values,
)


def make(scores, images=3):
    return [Sample(f"s{i:03}", f"{i % images}.png", "q", "a") for i in range(len(scores))]


SCORES = st.lists(st.sampled_from([-2.0, 0.0, 0.5, 1.0, float("inf")]), min_size=1, max_size=40)


def ids(samples):
    return [sample.id for sample in samples]


@pytest.mark.parametrize(
    ("n", "share", "expected"), [(30, 0.1, 3), (31, 0.1, 4), (1, 0.1, 1), (7, 1.0, 7), (0, 0.1, 0)]
)
def test_the_cut_is_rounded_up(n, share, expected):
    samples = make([0.0] * n)
    assert ids(top_share(samples, [0.0] * n, share)) == ids(samples)[:expected]


@pytest.mark.parametrize("share", [0, -0.1, 1.1])
def test_a_share_is_a_share(share):
    with pytest.raises(ValueError, match="share"):
        top_share(make([1.0]), [1.0], share)


def test_a_missing_score_is_an_error():
    with pytest.raises(ValueError, match="s001"):
        ranked(make([1.0, 2.0]), [1.0, float("nan")])
    with pytest.raises(ValueError, match="zip"):
        ranked(make([1.0, 2.0]), [1.0])


@given(SCORES, st.randoms(), st.sampled_from([0.05, 0.1, 0.5]))
def test_selection_does_not_depend_on_the_order(scores, random, share):
    pairs = list(zip(make(scores), scores, strict=True))
    best = top_share(*zip(*pairs, strict=True), share)
    random.shuffle(pairs)
    samples, shuffled = zip(*pairs, strict=True)
    assert ids(top_share(samples, shuffled, share)) == ids(best)
    rest = [score for sample, score in pairs if sample not in best]
    least = min(score for sample, score in pairs if sample in best)
    assert all(score <= least for score in rest)


@given(SCORES, st.integers(1, 5))
def test_groups_hold_every_sample_once(scores, images):
    samples = make(scores, images)
    by_id = dict(zip(ids(samples), scores, strict=True))
    found = groups(samples, scores)
    assert [group.image for group in found] == list(dict.fromkeys(s.image for s in samples))
    members = [s for group in found for s in (*group.positives, *group.negatives)]
    assert sorted(ids(members)) == ids(samples)
    for group in found:
        assert len(group.positives) == 1
        valued = [by_id[s.id] for s in (*group.positives, *group.negatives)]
        assert valued == sorted(valued, reverse=True)
        assert {s.image for s in (*group.positives, *group.negatives)} == {group.image}


def test_an_image_with_one_sample_has_no_negative():
    assert groups(make([1.0]), [1.0])[0].negatives == ()


def test_a_ranking_chooses_its_best_share_and_each_images_best():
    samples, scores = make(range(9)), [float(k) for k in range(9)]
    chosen = select("ifd", samples, scores, share=0.2)
    assert chosen.targets == top_share(samples, scores, 0.2) == [samples[8], samples[7]]
    assert chosen.groups == groups(samples, scores)


@given(
    st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=40),
    st.integers(1, 5),
    st.sampled_from([name for name in METHODS if selector(name).labels]),
    st.integers(0, 9),
)
def test_labels_make_every_positive_one_against_all_negatives_of_its_image(
    labels, images, by, seed
):
    samples = make(labels, images)
    positive = {sample.id for sample, label in zip(samples, labels, strict=True) if label}
    chosen = select(by, samples, labels, share=0.1, seed=seed)
    assert len(chosen.targets) == -(-len(positive) // 10)
    assert set(ids(chosen.targets)) <= positive
    assert [group.image for group in chosen.groups] == list(dict.fromkeys(s.image for s in samples))
    for group in chosen.groups:
        here = {sample.id for sample in samples if sample.image == group.image}
        assert sorted(ids(group.positives)) == sorted(here & positive)
        assert sorted(ids(group.negatives)) == sorted(here - positive)
    assert chosen == select(by, samples, labels, share=0.1, seed=seed)


def test_targets_and_first_positives_of_labels_are_drawn():
    """Twenty positives of one image: over the seeds every one is a target, and every one first."""
    samples = make([1.0] * 20, images=1)
    chosen = [select("vigc", samples, [1.0] * 20, share=0.05, seed=seed) for seed in range(400)]
    for drawn in (
        Counter(selection.targets[0].id for selection in chosen),
        Counter(selection.groups[0].positives[0].id for selection in chosen),
    ):
        assert len(drawn) == 20
        assert max(drawn.values()) < 50  # 20 are expected


def test_groups_of_labels_may_be_of_an_image_and_class():
    samples = [Sample(f"s{k}", "a", "q", "a", "cdr"[k % 3]) for k in range(6)]
    chosen = select("vigc", samples, [1, 0] * 3, share=0.1, group="image_and_class", seed=0)
    assert [(ids(g.positives), ids(g.negatives)) for g in chosen.groups] == [
        (["s0"], ["s3"]),
        (["s4"], ["s1"]),
        (["s2"], ["s5"]),
    ]


def test_values_that_need_no_score():
    samples = [
        Sample("a", "1.png", "What colour is the ball?", "Red.", meta={"vigc": "direct"}),
        Sample("b", "1.png", "Why?", "Because.", meta={"vigc": "iterative"}),
    ]
    assert values("self_instruct", samples) == [1.0, 0.0]
    assert values("vigc", samples) == [0.0, 1.0]
    assert values("random", samples, seed=1) == values("random", samples, seed=1)
    assert values("random", samples, seed=1) != values("random", samples, seed=2)


def shortest(samples, scores):
    return [-float(len(sample.answer)) for sample in samples]


def peak(logp_visual, logp_direct, mask, kl):
    return (logp_visual - logp_direct).amax(-1)


def longest(samples, scores):
    return [float(len(sample.answer)) for sample in samples]


def test_an_added_selector_is_asked_for_by_its_name(monkeypatch):
    samples = [Sample(f"s{n}", "0.png", "q", "a" * n) for n in (2, 5, 3)]
    monkeypatch.setitem(SELECTORS, "mine", shortest)
    value = values("mine", samples, [])
    assert value == [-2, -5, -3]
    chosen = select("mine", samples, value, share=0.5)
    assert ids(chosen.targets) == ["s2", "s3"]
    assert ids(chosen.groups[0].positives) == ["s2"]


def test_an_added_selector_is_known_by_its_source(monkeypatch):
    known = []
    for function in (shortest, longest, shortest):
        monkeypatch.setitem(SELECTORS, "mine", function)
        known.append(code_of("mine"))
    assert known[0] == known[2] != known[1]
    # What was there before stays known by its name alone.
    monkeypatch.delitem(METHODS, "mine")
    assert all(code_of(method) == {} for method in ("i2c", *METHODS))
    monkeypatch.setitem(METHODS, "length", longest)
    assert code_of("length") == known[1]
    monkeypatch.setitem(SELECTORS, "mine", max)
    with pytest.raises(UserError, match="'mine' has no source"):
        code_of("mine")


def test_an_added_form_of_eq_1_is_a_method_and_a_reading(monkeypatch):
    monkeypatch.setitem(FORMS, "peak", peak)
    scores = [Score("s", 0.0, *(np.array(a, np.float32) for a in ([-2, -1], [-3, -4], [0, 0])))]
    assert values("peak", make([0.0]), scores) == [3.0]
    readings = Readings(score_form="peak")
    assert readings.of("best") == {"score_form": "peak"}
    assert code_of("peak").keys() == {"code"}


def test_a_method_says_what_it_needs(monkeypatch):
    def by_seed(samples, scores, seed):
        return [float(seed)] * len(samples)

    monkeypatch.setitem(METHODS, "mine", Selector(by_seed, needs=(), seeded=True))
    assert values("mine", make([0.0]), seed=3) == [3.0]
    assert selector("ifd").needs == ("scores", "answer_logprobs")


def test_a_method_that_there_is_not_is_named_with_those_there_are():
    with pytest.raises(UserError, match=r"no way 'i2d' to select.*likelihood.*self_instruct"):
        values("i2d", make([1.0]), [])
