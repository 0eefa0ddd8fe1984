"""Targets and groups: the cut, the ties, the images."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from c3l.samples import Sample
from c3l.selection import groups, ranked, top_share


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
    members = [s for group in found for s in (group.positive, *group.negatives)]
    assert sorted(ids(members)) == ids(samples)
    for group in found:
        values = [by_id[s.id] for s in (group.positive, *group.negatives)]
        assert values == sorted(values, reverse=True)
        assert {s.image for s in (group.positive, *group.negatives)} == {group.image}


def test_an_image_with_one_sample_has_no_negative():
    assert groups(make([1.0]), [1.0])[0].negatives == ()
