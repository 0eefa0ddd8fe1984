"""Intervals: closed forms, invariances, coverage by simulation, and what pairing must do."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from repro.analysis.statistics import (
    Difference,
    Influence,
    UndefinedError,
    accuracy,
    difference,
    estimate,
    holm,
    linearise,
    mcnemar,
    mean_f1,
    relative_score,
    score_ratio,
    standard_error,
)
from tests.coverage import COLUMNS, Components, coverage, measure

TABLES = st.tuples(
    st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 3), st.integers(2, 12)
)


def influence(counts: np.ndarray, statistic=accuracy) -> Influence:
    return linearise(counts, [f"{k:04}" for k in range(counts.shape[2])], statistic)


def outcomes(right: np.ndarray) -> Influence:
    """Influence of right answers [...], one question an image."""
    return influence(np.stack([right, np.ones_like(right)], axis=-1).astype(float))


def error(row: Influence) -> float:
    value, low, high = estimate(row)
    assert value - low == pytest.approx(high - value)
    return (high - low) / 2


def random_counts(seed: int, *shape: int, like=()) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 9, (*shape, *like)).astype(float)


def test_one_model_gives_the_interval_of_a_proportion():
    right = np.zeros((1, 1, 400))
    right[..., :240] = 1
    value, low, high = estimate(outcomes(right))
    half = stats.t.ppf(0.975, 399) * 100 * np.sqrt(0.6 * 0.4 / 399)
    assert (value, low, high) == pytest.approx((60, 60 - half, 60 + half), abs=1e-3)


def test_the_value_is_the_mean_over_models():
    right = np.zeros((2, 3, 10))
    right[0, :, :5] = 1
    right[1, 0] = 1
    assert estimate(outcomes(right)).value == pytest.approx((3 * 50 + 100) / 6)


def test_mean_f1_is_that_of_the_definition():
    counts = np.array([[8, 2, 4], [5, 5, 0], [0, 3, 0]])
    precision, recall = np.array([0.8, 0.5]), np.array([8 / 12, 1.0])
    f1 = 2 * precision * recall / (precision + recall)
    assert mean_f1(counts) == pytest.approx(100 * (f1.sum() + 0) / 3)


def test_a_category_without_any_yes_counts_as_zero():
    assert mean_f1(np.zeros((3, 3))) == 0


@given(TABLES)
def test_a_mean_is_linear_its_images_parts_are_its_deviations(table):
    counts = random_counts(*table, like=(2,))
    counts[..., 1] = 3
    row = influence(counts)
    expected = 100 * (counts[..., 0] / 3 - counts[..., 0].mean(axis=2, keepdims=True) / 3)
    assert row.shares * table[3] == pytest.approx(expected, abs=1e-3)


@given(TABLES, st.sampled_from([((2,), accuracy), ((3, 3), mean_f1), ((3,), score_ratio)]))
def test_an_images_part_is_the_derivative_by_its_weight(table, of):
    shape, statistic = of
    counts = random_counts(*table, like=shape)
    row = influence(counts, statistic)
    assert row.shares.sum(axis=-1) == pytest.approx(0, abs=1e-6)
    heavier = counts.copy()
    heavier[:, :, 0] *= 1 + 1e-5
    change = (influence(heavier, statistic).models - row.models) / 1e-5
    assert row.shares[..., 0] == pytest.approx(change, abs=0.05)


def test_a_rounded_ratio_has_the_interval_of_the_ratio():
    counts = np.random.default_rng(0).uniform(5, 10, (3, 2, 60, 3))
    counts[..., 2] = 1
    names = [str(k) for k in range(60)]
    shown = linearise(counts, names, relative_score, score_ratio)
    exact = linearise(counts, names, score_ratio)
    assert shown.value == pytest.approx(exact.value, abs=0.06)
    assert error(shown) == pytest.approx(error(exact))


@given(st.integers(0, 2**32 - 1), st.integers(2, 10))
def test_where_seeds_are_all_that_varies_it_is_the_t_interval_of_their_means(seed, seeds):
    values = np.random.default_rng(seed).normal(60, 3, (seeds, 2, 1)).repeat(50, axis=2)
    means = values.mean(axis=(1, 2))
    assert standard_error(values) == pytest.approx((stats.sem(means), seeds - 1))


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 3))
def test_where_images_are_all_that_varies_it_is_the_t_interval_of_their_means(seed, seeds, tunings):
    images = np.random.default_rng(seed).normal(60, 3, 40)
    values = np.broadcast_to(images, (seeds, tunings, 40))
    assert standard_error(values) == pytest.approx((stats.sem(images), 39))


@given(TABLES, st.floats(-50, 50), st.floats(0.1, 10), st.randoms(use_true_random=False))
def test_order_and_origin_do_not_matter_and_scale_scales(table, shift, scale, random):
    seed, *shape = table
    values = np.random.default_rng(seed).normal(0, 1, shape)
    shuffled = values
    for axis in (0, 2):
        order = random.sample(range(shape[axis]), shape[axis])
        shuffled = np.take(shuffled, order, axis)
    spread, df = standard_error(values)
    assert standard_error(shift + scale * shuffled) == pytest.approx((scale * spread, df), rel=1e-6)


@given(TABLES)
def test_degrees_of_freedom_lie_between_those_of_the_fewest_and_of_all(table):
    seed, *shape = table
    seeds = shape[0] if shape[0] > 1 else shape[1]
    _, df = standard_error(np.random.default_rng(seed).normal(0, 1, shape))
    assert max(1, seeds - 1) <= df <= max(1, seeds - 1) + seeds * (shape[2] - 1)


def test_one_data_seed_leaves_its_tuning_seeds_and_one_of_both_the_images():
    values = np.random.default_rng(0).normal(0, 1, (1, 3, 20))
    assert standard_error(values) == standard_error(values.transpose(1, 0, 2))
    assert standard_error(values[:, :1]) == pytest.approx((stats.sem(values[0, 0]), 19))


def test_clustering_widens_where_questions_of_an_image_agree():
    image_is_easy = np.random.default_rng(0).random(100) < 0.5
    alone = np.repeat(image_is_easy, 6).astype(float)  # six questions, taken for six images
    together = np.stack([6.0 * image_is_easy, np.full(100, 6.0)], axis=-1)
    assert error(influence(together[None, None])) > 2 * error(outcomes(alone[None, None]))


def test_seeds_that_disagree_widen_and_seeds_that_agree_do_not_narrow_to_nothing():
    right = (np.random.default_rng(0).random((1, 1, 300)) < 0.5).astype(float)
    agreeing = np.repeat(right, 4, axis=0)
    # The models answer the same questions: four equal ones know no more than one.
    assert error(outcomes(agreeing)) == pytest.approx(error(outcomes(right)))
    disagreeing = agreeing.copy()
    disagreeing[:2, :, :150], disagreeing[2:, :, :150] = 1, 0.2
    assert error(outcomes(disagreeing)) > 1.5 * error(outcomes(agreeing))


@pytest.mark.parametrize(("shape", "statistic"), [((2,), accuracy), ((3, 3), mean_f1)])
def test_a_row_differs_from_itself_by_exactly_nothing(shape, statistic):
    row = influence(random_counts(2, 3, 2, 40, like=shape), statistic)
    assert difference(row, row, [row, row, row]) == (0, 0, 2)


def test_a_strictly_better_row_is_above_zero_and_pairing_makes_that_plain():
    base = (np.random.default_rng(3).random((2, 2, 300)) < 0.5).astype(float)
    base[1] = base[0]
    better = base.copy()
    better[..., :12] = 1  # right wherever its base is, and on some questions more
    rows = outcomes(better), outcomes(base)
    change = difference(*rows)
    low, high = change.interval()
    assert change.value == pytest.approx(rows[0].value - rows[1].value)
    assert 0 < low < change.value < high
    assert high - low < 0.5 * np.hypot(*map(error, rows))


def test_what_a_seed_does_to_both_rows_is_no_part_of_their_difference():
    base = np.random.default_rng(1).normal(60, 5, (4, 3, 200))
    names = np.array([f"{k:03}" for k in range(200)])

    def row(values: np.ndarray) -> Influence:
        models = values.mean(axis=2)
        return Influence(models.mean(), models, names, (values - models[..., None]) / 200)

    gain = np.random.default_rng(2).normal(1, 5, 200)
    change = difference(row(base + gain), row(base))
    assert change == pytest.approx((gain.mean(), stats.sem(gain), 199))


def test_rows_of_other_seeds_are_not_compared():
    row = influence(np.ones((2, 2, 10, 2)))
    for other in (np.ones((1, 2, 10, 2)), np.ones((2, 1, 10, 2))):
        with pytest.raises(ValueError, match="seeds"):
            difference(row, influence(other))


@settings(max_examples=40)
@given(TABLES, st.sampled_from([((2,), accuracy), ((3, 3), mean_f1)]))
def test_swapping_the_rows_mirrors_the_difference(table, of):
    shape, statistic = of
    rows = [
        influence(random_counts(table[0] - k, *table[1:], like=shape), statistic)
        for k in ([0, 1, 2] if table[0] > 2 else [0, -1, -2])
    ]
    change = difference(rows[0], rows[1], rows)
    mirrored = difference(rows[1], rows[0], rows)
    assert mirrored == pytest.approx((-change.value, change.error, change.df))


def test_other_rows_lend_their_variance_over_seeds_but_one_that_has_none_does_not():
    rng = np.random.default_rng(5)
    rows = [
        influence(np.stack([rng.binomial(9, 0.5, (3, 2, 30)), np.full((3, 2, 30), 9)], -1) * 1.0)
        for _ in range(4)
    ]
    still = outcomes(np.ones((3, 2, 30)))
    own = difference(rows[0], rows[1])
    assert difference(rows[0], rows[1], rows[:2]) == own
    assert difference(rows[0], rows[1], [*rows[:2], still]) == own
    assert difference(rows[0], still, [*rows, still]) == difference(rows[0], still)
    pooled = difference(rows[0], rows[1], rows)
    assert pooled.df > own.df
    assert difference(rows[0], rows[1], [*rows[::-1], still]) == pytest.approx(pooled)


def test_the_error_is_that_of_a_difference_of_proportions():
    rng = np.random.default_rng(4)
    rows = [outcomes((rng.random((1, 1, 900)) < p).astype(float)) for p in (0.6, 0.5)]
    change = difference(*rows)
    assert change.error == pytest.approx(100 * np.sqrt((0.6 * 0.4 + 0.5 * 0.5) / 900), rel=0.08)
    assert change.detectable == pytest.approx(2.8016 * change.error, rel=5e-3)


def test_few_degrees_of_freedom_make_the_detectable_difference_larger():
    assert Difference(0, 1, 4).detectable == pytest.approx(2.776 + 0.941, abs=1e-3)


def test_an_image_that_one_row_has_no_sample_of_counts_for_the_other_alone():
    counts = np.zeros((2, 1, 4, 2))
    counts[0, 0] = [[1, 1], [0, 1], [1, 1], [0, 1]]
    counts[1, 0, 0] = [1, 1]  # the only sample of its data set
    row = influence(counts)
    assert row.value == 75
    assert np.isfinite(estimate(row)).all()
    less = linearise(counts[:, :, :1] + 1, ["0000"], accuracy)
    assert np.isfinite(difference(row, less)).all()
    assert difference(row, less).error == pytest.approx(difference(less, row).error)


def test_a_model_without_samples_has_no_number():
    counts = np.ones((2, 1, 4, 2))
    counts[1] = 0
    with pytest.raises(UndefinedError, match="no samples"):
        influence(counts)


@pytest.mark.parametrize("name", COLUMNS)
def test_intervals_hold_the_truth_with_three_data_seeds(name):
    """Of 150 tables of rows without a difference, six differences each, at measured components."""
    shares = coverage(COLUMNS[name], seeds=3, runs=150)
    assert 0.915 <= shares.pooled <= 0.985
    assert 0.89 <= shares.alone <= 0.98
    assert 0.89 <= shares.cell <= 0.99


def test_components_are_those_that_values_were_drawn_with():
    rng, images = np.random.default_rng(7), 60
    components = Components(2.0, 1.5, 0.5, 0.3, 0.8)
    shapes = [(20, 15, 1, 1), (20, 15, 2, 1), (20, 1, 1, images), (20, 15, 1, images)]
    shapes += [(20, 15, 2, images)]
    scales = [1, 1, images, images, images]
    values = sum(
        rng.normal(0, np.sqrt(variance * scale), shape)
        for variance, scale, shape in zip(components, scales, shapes, strict=True)
    )
    names = np.array([f"{k:02}" for k in range(images)])
    models = values.mean(axis=3)
    rows = [
        Influence(m.mean(), m, names, (v - m[..., None]) / images)
        for v, m in zip(values, models, strict=True)
    ]
    assert tuple(measure(rows)) == pytest.approx(tuple(components), rel=0.25)


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
