"""Intervals: known answers, coverage by simulation, and what clustering must do to them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from repro.analysis.statistics import (
    UndefinedError,
    accuracy,
    bootstrap,
    bootstrap_difference,
    holm,
    mcnemar,
    mean_f1,
)


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


def test_rows_that_differ_in_their_seeds_alone_are_seldom_told_apart():
    """Three data seeds, two tuning seeds, at the variances of the pocket world."""
    rng = np.random.default_rng(8)
    questions, runs, apart = 600, 200, 0
    for run in range(runs):
        difficulty = rng.normal(0, 0.2, questions)
        rows = []
        for _ in range(2):
            luck = rng.normal(0, 0.02, (3, 1, 1)) + rng.normal(0, 0.034, (3, 2, 1))
            skill = (0.6 + luck + difficulty).clip(0, 1)
            rows.append(outcomes((rng.random((3, 2, questions)) < skill).astype(float)))
        found = bootstrap_difference(*rows, accuracy, resamples=200, seed=run)
        apart += found.low > 0 or found.high < 0
    assert apart / runs <= 0.12


@pytest.mark.parametrize(("shape", "statistic"), [((2,), accuracy), ((3, 3), mean_f1)])
def test_a_row_differs_from_itself_by_exactly_nothing(shape, statistic):
    counts = np.random.default_rng(2).integers(1, 5, (3, 2, 40, *shape))
    assert bootstrap_difference(counts, counts, statistic, resamples=500) == (0, 0, 0, 0)


def test_a_strictly_better_row_is_above_zero_and_pairing_makes_that_plain():
    rng = np.random.default_rng(3)
    base = (rng.random((2, 2, 300)) < 0.5).astype(float)
    better = base.copy()
    better[..., :12] = 1  # right wherever its base is, and on some questions more
    counts, others = outcomes(better), outcomes(base)
    value, low, high, _ = bootstrap_difference(counts, others, accuracy, resamples=2000)
    assert value == pytest.approx(accuracy(counts).mean() - accuracy(others).mean())
    assert 0 < low < value < high
    assert high - low < 0.5 * np.hypot(width(counts), width(others))


def test_what_a_seed_does_to_both_rows_is_no_part_of_their_difference():
    right = np.zeros((4, 3, 200))
    for seed in range(4):
        for tuning in range(3):
            right[seed, tuning, : 60 + 20 * seed + 7 * tuning] = 1
    base = outcomes(right)
    counts = base.copy()
    counts[..., 0] -= 0.5 * base[0, 0, :, 0]  # the same for every seed: half of what all know
    one = bootstrap_difference(counts[:1, :1], base[:1, :1], accuracy, resamples=1000)
    assert bootstrap_difference(counts, base, accuracy, resamples=1000) == pytest.approx(one)


def test_rows_of_other_seeds_or_images_are_not_compared():
    counts = np.ones((2, 2, 10, 2))
    for other in (counts[:1], counts[:, :1], counts[:, :, :9]):
        with pytest.raises(ValueError, match="same shape"):
            bootstrap_difference(counts, other, accuracy, resamples=100)


@settings(max_examples=25)
@given(
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(2, 12)),
    st.sampled_from([((2,), accuracy), ((3, 3), mean_f1)]),
)
def test_swapping_the_rows_mirrors_the_difference(seed, size, of):
    shape, statistic = of
    counts, base = np.random.default_rng(seed).integers(1, 9, (2, *size, *shape))
    value, low, high, error = bootstrap_difference(
        counts, base, statistic, resamples=100, seed=seed
    )
    mirrored = bootstrap_difference(base, counts, statistic, resamples=100, seed=seed)
    assert mirrored == pytest.approx((-value, -high, -low, error), abs=1e-9)


def test_the_error_is_that_of_a_difference_of_proportions():
    rng = np.random.default_rng(4)
    counts, base = (outcomes((rng.random((1, 1, 900)) < p).astype(float)) for p in (0.6, 0.5))
    expected = 100 * np.sqrt((0.6 * 0.4 + 0.5 * 0.5) / 900)
    found = bootstrap_difference(counts, base, accuracy, resamples=4000)
    assert found.error == pytest.approx(expected, rel=0.08)
    assert found.detectable == pytest.approx(2.8016 * found.error, rel=1e-4)


def test_a_detectable_difference_is_seen_in_four_of_five_runs():
    rng = np.random.default_rng(5)
    images, runs = 300, 300

    def run(gain: float):
        counts, base = (
            outcomes((rng.random((1, 1, images)) < p).astype(float))
            for p in (0.5 + gain / 200, 0.5 - gain / 200)
        )
        return bootstrap_difference(counts, base, accuracy, resamples=200)

    detectable = np.mean([run(0).detectable for _ in range(20)])
    seen = np.mean([run(detectable).low > 0 for _ in range(runs)])
    assert seen == pytest.approx(0.8, abs=0.06)


def test_clustering_widens_a_difference_where_questions_of_an_image_agree():
    rng = np.random.default_rng(6)
    sides = rng.choice([0.0, 6.0], (2, 100))  # six questions an image, all right or all wrong
    alone = [outcomes(np.repeat(side / 6, 6))[None, None] for side in sides]
    together = [np.stack([side, np.full(100, 6.0)], axis=-1)[None, None] for side in sides]
    one, other = (
        bootstrap_difference(*counts, accuracy, resamples=1000) for counts in (together, alone)
    )
    assert one.value == pytest.approx(other.value)
    assert one.error > 2 * other.error


def test_a_resample_without_samples_is_left_out():
    """Two data sets: one has its only sample on one of four images."""
    counts = np.zeros((2, 1, 4, 2))
    counts[0, 0] = [[1, 1], [0, 1], [1, 1], [0, 1]]
    counts[1, 0, 0] = [1, 1]
    value, low, high = bootstrap(counts, accuracy, resamples=2000)
    assert value == 75
    assert 0 <= low < value <= high <= 100
    found = bootstrap_difference(counts, counts[::-1], accuracy, resamples=2000)
    assert np.isfinite(found).all()


def test_a_model_without_samples_has_no_number():
    counts = np.ones((2, 1, 4, 2))
    counts[1] = 0
    with pytest.raises(UndefinedError, match="no samples"):
        bootstrap(counts, accuracy, resamples=100)
    with pytest.raises(UndefinedError, match="no samples"):
        bootstrap_difference(counts, np.ones_like(counts), accuracy, resamples=100)


@pytest.mark.parametrize(
    ("better", "worse", "p"),
    [
        (0, 0, 1),
        (3, 3, 1),
        (1, 0, 1),  # either way: one coin
        (5, 0, 2 / 2**5),
        (10, 2, 2 * (1 + 12 + 66) / 2**12),
        (2, 10, 2 * (1 + 12 + 66) / 2**12),
    ],
)
def test_mcnemar_is_the_sign_test_of_discordant_pairs(better, worse, p):
    assert mcnemar(better, worse) == pytest.approx(p)


def test_mcnemar_is_wrong_in_at_most_one_of_twenty_runs_without_a_difference():
    rng = np.random.default_rng(7)
    right = rng.random((600, 2, 300)) < 0.6
    better = (right[:, 0] & ~right[:, 1]).sum(axis=1)
    worse = (right[:, 1] & ~right[:, 0]).sum(axis=1)
    rejected = np.mean([mcnemar(*pair) <= 0.05 for pair in zip(better, worse, strict=True)])
    assert 0.01 < rejected <= 0.06


@pytest.mark.parametrize(
    ("p", "adjusted"),
    [
        ([], []),
        ([0.04], [0.04]),
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.5, 0.6, 0.01], [1, 1, 0.03]),
        ([0.02, 0.02], [0.04, 0.04]),
    ],
)
def test_holm_of_known_answers(p, adjusted):
    assert holm(p) == pytest.approx(adjusted)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_holm_lies_between_no_correction_and_bonferronis_whatever_the_order(p, random):
    adjusted = holm(p)
    assert (adjusted >= p).all()
    assert (adjusted <= np.minimum(1, len(p) * np.array(p))).all()
    order = random.sample(range(len(p)), len(p))
    assert holm([p[k] for k in order]) == pytest.approx(adjusted[order])
