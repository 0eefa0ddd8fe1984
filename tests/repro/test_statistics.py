"""Intervals: known answers, coverage by simulation, and what clustering must do to them."""

import numpy as np
import pytest
from scipy import stats

from repro.statistics import accuracy, bootstrap, mean_f1


def outcomes(right: np.ndarray) -> np.ndarray:
    """Counts [..., 2] from right answers [...], one question an image."""
    return np.stack([right, np.ones_like(right)], axis=-1).astype(float)


def width(counts: np.ndarray) -> float:
    estimate = bootstrap(counts, accuracy, resamples=2000)
    return estimate.high - estimate.low


def test_one_model_gives_the_interval_of_a_proportion():
    right = np.zeros((1, 1, 400))
    right[..., :240] = 1
    value, low, high = bootstrap(outcomes(right), accuracy, resamples=4000)
    exact = stats.binomtest(240, 400).proportion_ci(method="wilson")
    assert value == 60
    assert low == pytest.approx(100 * exact.low, abs=0.5)
    assert high == pytest.approx(100 * exact.high, abs=0.5)


def test_the_value_is_the_mean_over_models():
    right = np.zeros((2, 3, 10))
    right[0, :, :5] = 1
    right[1, 0] = 1
    assert bootstrap(outcomes(right), accuracy, resamples=100).value == pytest.approx(
        (3 * 50 + 100) / 6
    )


def test_mean_f1_is_that_of_the_definition():
    counts = np.array([[8, 2, 4], [5, 5, 0], [0, 3, 0]])
    precision, recall = np.array([0.8, 0.5]), np.array([8 / 12, 1.0])
    f1 = 2 * precision * recall / (precision + recall)
    assert mean_f1(counts) == pytest.approx(100 * (f1.sum() + 0) / 3)


def test_a_category_without_any_yes_counts_as_zero():
    assert mean_f1(np.zeros((3, 3))) == 0


def test_clustering_widens_where_questions_of_an_image_agree():
    rng = np.random.default_rng(0)
    image_is_easy = rng.random(100) < 0.5
    alone = np.repeat(image_is_easy, 6).astype(float)  # six questions, taken for six images
    together = np.stack([6.0 * image_is_easy, np.full(100, 6.0)], axis=-1)
    assert width(together[None, None]) > 2 * width(outcomes(alone)[None, None])


def test_seeds_that_disagree_widen_and_seeds_that_agree_do_not_narrow_to_nothing():
    rng = np.random.default_rng(0)
    right = (rng.random((1, 1, 300)) < 0.5).astype(float)
    agreeing = np.repeat(right, 4, axis=0)
    # The models answer the same questions: four equal ones know no more than one.
    assert width(outcomes(agreeing)) == pytest.approx(width(outcomes(right)), rel=0.1)
    disagreeing = agreeing.copy()
    disagreeing[:2, :, :150], disagreeing[2:, :, :150] = 1, 0
    assert width(outcomes(disagreeing)) > 1.5 * width(outcomes(agreeing))


def test_the_same_seed_gives_the_same_interval():
    counts = outcomes((np.random.default_rng(1).random((2, 2, 50)) < 0.3).astype(float))
    assert bootstrap(counts, accuracy, resamples=300) == bootstrap(counts, accuracy, resamples=300)


@pytest.mark.parametrize(("seeds", "tunings", "least"), [(3, 3, 0.88), (5, 3, 0.91)])
def test_coverage_at_the_variances_of_the_pocket_world(seeds, tunings, least):
    """Data seeds move the score by 2 points, tuning seeds by 3.4, images differ by 20."""
    rng = np.random.default_rng(seeds)
    images, questions, runs, hits = 300, 3, 300, 0
    for run in range(runs):
        skill = (
            0.55
            + rng.normal(0, 0.02, (seeds, 1, 1))
            + rng.normal(0, 0.034, (seeds, tunings, 1))
            + rng.normal(0, 0.2, images)
        )
        right = rng.binomial(questions, skill.clip(0, 1))
        counts = np.stack([right, np.full_like(right, questions)], axis=-1)
        estimate = bootstrap(counts, accuracy, resamples=300, seed=run)
        hits += estimate.low <= 55 <= estimate.high
    assert hits / runs >= least
