"""Columns: counts from answers, and estimates over the same images in the same order."""

import numpy as np
import pandas as pd
import pytest

from repro.analysis.statistics import accuracy, estimate, linearise
from repro.columns import (
    COLUMNS,
    claim_counts,
    correct_counts,
    pope_counts,
    relevance_counts,
    score_counts,
)


def answers(right: dict[str, list[int]]) -> pd.DataFrame:
    """One row a question: images' ids to the answers about them, right (1) or wrong (0)."""
    pairs = [(image, float(one)) for image, some in right.items() for one in some]
    return pd.DataFrame(pairs, columns=["image_id", "correct"])


def test_right_answers_are_counted_by_image_in_the_order_asked_for():
    samples = answers({"a": [1, 0], "b": [1], "c": [0]})
    assert correct_counts(samples, ["c", "x", "a", "b"]).tolist() == [
        [0, 1],
        [0, 0],
        [1, 2],
        [1, 1],
    ]


def test_claims_are_counted_by_image_and_long_answers_weigh_more():
    rows = [
        ("a", ["true_image", "false", "true_image"]),
        ("b", ["malformed"]),
        ("a", ["no_image"]),
    ]
    samples = pd.DataFrame(rows, columns=["image_id", "claims"])
    assert claim_counts(samples, ["b", "x", "a"]).tolist() == [[0, 1], [0, 0], [2, 4]]
    row = COLUMNS["image-dependent claims, %"].influence([[samples]])
    assert row.value == pytest.approx(100 * 2 / 5)


def test_the_area_of_pope_does_not_see_how_readily_yes_is_said():
    rows = [
        (f"image-{k % 6}", category, answer, float(k % 5 + (answer == "yes") * 2))
        for k, category in enumerate(("random", "popular", "adversarial") * 12)
        for answer in ("yes", "no")
    ]
    samples = pd.DataFrame(rows, columns=["image_id", "category", "answer", "score"])
    column = COLUMNS["POPE AUC"]
    row = column.influence([[samples]])
    _, low, high = column.estimate(row)
    assert 50 < low < row.value < high
    eager = samples.assign(score=samples["score"] + 9)
    assert column.difference(column.influence([[eager]]), row)[:2] == (0, 0)


def test_relevance_is_summed_over_pairs_or_tokens():
    rows = [("a", 1.5, 3), ("b", -1.0, 2), ("a", 0.5, 1)]
    samples = pd.DataFrame(rows, columns=["image_id", "i2c", "tokens"])
    assert relevance_counts(samples, ["b", "a"]).tolist() == [[-1, 1], [2, 2]]
    assert relevance_counts(samples, ["a", "b"], by_token=True).tolist() == [[200, 4], [-100, 2]]
    for name, value in (("I²C", 1 / 3), ("I²C a token", 100 / 6)):
        assert COLUMNS[name].influence([[samples]]).value == pytest.approx(value)


def test_yes_is_counted_by_image_and_category_and_an_unreadable_answer_is_no_yes():
    columns = ["image_id", "category", "answer", "reading"]
    rows = [
        ("a", "random", "yes", "yes"),
        ("a", "random", "no", "yes"),
        ("a", "popular", "yes", "no"),
        ("a", "popular", "no", "no"),
        ("b", "adversarial", "yes", None),
        ("b", "adversarial", "yes", "yes"),
        ("b", "adversarial", "yes", "yes"),
    ]
    a, b = pope_counts(pd.DataFrame(rows, columns=columns), ["a", "b"])
    assert a.tolist() == [[1, 1, 0], [0, 0, 1], [0, 0, 0]]
    assert b.tolist() == [[0, 0, 0], [0, 0, 0], [2, 0, 0]]


def judgements(scores: dict[str, list[tuple[float, float]]]) -> pd.DataFrame:
    """Images' ids to the scores (reference, candidate) of the answers about them."""
    rows = [(image, *pair) for image, some in scores.items() for pair in some]
    return pd.DataFrame(rows, columns=["image_id", "reference_score", "candidate_score"])


def test_scores_are_summed_by_image():
    samples = judgements({"a": [(10, 5), (9, 8.5)], "b": [(5.5, 5.5)]})
    assert score_counts(samples, ["b", "x", "a"]).tolist() == [
        [5.5, 5.5, 1],
        [0, 0, 0],
        [13.5, 19, 2],
    ]


def test_llava_w_is_a_ratio_of_means_and_no_mean_of_ratios():
    row = COLUMNS["LLaVA^W"].influence([[judgements({"a": [(10, 10)], "b": [(2, 1)]})]])
    assert row.value == 91.7
    assert row.shares[0, 0] == pytest.approx(np.array([500, -500]) / 72, rel=1e-3)


def test_an_estimate_is_that_of_the_counts():
    frames = [[answers({"a": [1, 0], "b": [1]})], [answers({"a": [0, 0], "b": [0]})]]
    counts = np.array([[[[1, 2], [1, 1]]], [[[0, 2], [0, 1]]]])
    expected = estimate(linearise(counts, ["a", "b"], accuracy))
    column = COLUMNS["SEED"]
    assert column.estimate(column.influence(frames)) == expected
    assert expected.value == pytest.approx(100 / 3)


def test_rows_are_compared_image_by_image_in_whatever_order_they_were_answered():
    rng = np.random.default_rng(0)
    images = [f"image-{k}" for k in range(60)]
    outcome = {image: list(rng.integers(0, 2, 3)) for image in images}
    better = {image: [1, 1, 1] if image in images[:9] else outcome[image] for image in images}
    base, row = answers(outcome), answers(better)
    shuffled = row.sample(frac=1, random_state=1)
    column = COLUMNS["SEED"]
    rows = [column.influence([[frame]]) for frame in (shuffled, row, base)]
    change = column.difference(rows[0], rows[2])
    assert change == pytest.approx(column.difference(rows[1], rows[2]))
    assert change.interval()[0] > 0


def test_an_image_that_one_row_has_no_sample_of_counts_for_the_other_alone():
    images = [f"image-{k:02}" for k in range(40)]
    row = answers({image: [1, 0] for image in images[:30]})
    base = answers({image: [1, 0, 0, 0] for image in images[10:]})
    column = COLUMNS["MMB"]
    change = column.difference(*(column.influence([[frame]]) for frame in (row, base)))
    assert change[:2] == pytest.approx((25, 0), abs=1e-6)


def test_what_is_counted_has_no_interval_and_an_exact_difference():
    column = COLUMNS["instances"]
    sets = [
        [[pd.DataFrame({"record": [str(k) for k in range(n)]})] for n in sizes]
        for sizes in ((5, 6), (9, 9))
    ]
    few, many = map(column.influence, sets)
    assert column.estimate(few) == (5.5, None, None)
    assert column.difference(few, many).interval() == (-3.5, -3.5)
