"""Metrics of any form: their numbers, and intervals by leaving out groups of images."""

import numpy as np
import pandas as pd
import pytest

from repro.analysis.statistics import UndefinedError, accuracy
from repro.columns import computed, correct_counts, counted


def model(seed: int, questions: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    gold, said = (rng.choice(["yes", "no", "unknown"], questions) for _ in range(2))
    return pd.DataFrame(
        {
            "question_id": [str(k) for k in range(questions)],
            "image_id": [f"image {k // 4}" for k in range(questions)],
            "correct": (gold == said).astype(float),
            "scored.gold": gold,
            "scored.said": said,
            "scored.tokens": rng.integers(1, 9, questions),
            "scored.seconds": rng.gamma(2, 1, questions),
        }
    )


def mean(samples: pd.DataFrame) -> float:
    return 100 * samples["correct"].mean()


def macro_f1(samples: pd.DataFrame) -> float:
    from sklearn.metrics import f1_score

    return 100 * f1_score(samples["scored.gold"], samples["scored.said"], average="macro")


def median(samples: pd.DataFrame) -> float:
    return samples["scored.seconds"].median()


def ratio(samples: pd.DataFrame) -> float:
    return 100 * samples["correct"].sum() / samples["scored.tokens"].sum()


ROW = [[model(0), model(1)], [model(2), model(3)]]
BASE = [[model(4), model(5)], [model(6), model(7)]]


def test_a_mean_has_the_interval_that_its_counts_give_it():
    """In expectation: groups of images in place of each."""
    slow, fast = computed("", mean), counted("", correct_counts, accuracy)
    rows, base = ([[model(k, 2000) for k in range(start, start + 3)]] for start in (0, 3))
    for one, same in zip(
        *([c.influence(rows), c.influence(base)] for c in (slow, fast)), strict=True
    ):
        assert one.models == pytest.approx(same.models)
        assert (one.shares**2).sum() == pytest.approx((same.shares**2).sum(), rel=0.35)
    change = slow.difference(slow.influence(rows), slow.influence(base))
    expected = fast.difference(fast.influence(rows), fast.influence(base))
    assert change.value == pytest.approx(expected.value)
    assert change.error == pytest.approx(expected.error, rel=0.2)


@pytest.mark.parametrize("metric", [macro_f1, median, ratio])
def test_a_number_is_the_metrics_own_and_its_interval_is_around_it(metric):
    column = computed("", metric)
    row, base = column.influence(ROW), column.influence(BASE)
    value, low, high = column.estimate(row)
    assert value == pytest.approx(np.mean([metric(f) for run in ROW for f in run]))
    assert low < value < high
    assert column.difference(row, base).value == pytest.approx(value - base.value)
    assert column.difference(row, row)[:2] == (0, 0)


def test_an_interval_is_clustered_by_image():
    """Four equal answers about each of a few images say as much as one."""
    frame = model(0, 15).assign(image_id=[f"image {k}" for k in range(15)])
    four = pd.concat([frame] * 4, ignore_index=True)
    column = computed("", mean)
    one, same = (column.estimate(column.influence([[f]])) for f in (frame, four))
    assert one == pytest.approx(same)


@pytest.mark.parametrize(("metric", "least"), [(macro_f1, 0.85), (median, 0.75)])
def test_the_interval_of_one_model_holds_the_truth(metric, least):
    """In 40 simulated runs; a median of few images falls short of 95%."""
    truth = np.mean([metric(model(seed, 4000)) for seed in range(5)])
    column = computed("", metric)
    estimates = [column.estimate(column.influence([[model(k, 240)]])) for k in range(40)]
    held = np.mean([low - 1e-6 <= truth <= high + 1e-6 for _, low, high in estimates])
    assert held >= least


def test_an_image_is_left_out_with_all_its_questions_by_every_model():
    seen = []
    computed("", lambda samples: seen.append(set(samples["image_id"])) or 0).influence(ROW)
    everything = {f"image {k}" for k in range(15)}
    left_out = [frozenset(everything - images) for images in seen if images != everything]
    groups = set(left_out)
    assert all(left_out.count(group) == 4 for group in groups)  # by each model
    assert sorted(image for group in groups for image in group) == sorted(everything)


def test_a_group_without_which_the_metric_divides_by_zero_counts_as_an_average_one():
    frame = model(0, 12)
    frame["yes"] = frame["image_id"] == "image 0"
    share = computed(
        "", lambda samples: samples["correct"].sum().item() / samples["yes"].sum().item()
    )
    assert np.isfinite(share.estimate(share.influence([[frame]]))).all()
    with pytest.raises(UndefinedError):
        share.influence([[frame.assign(yes=False)]])


def test_rows_of_other_seeds_are_not_paired():
    column = computed("", mean)
    with pytest.raises(ValueError, match="seeds"):
        column.difference(column.influence(ROW), column.influence(BASE[:1]))


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        (lambda samples: samples["nope"].mean(), "the column's metric fails .KeyError: "),
        (lambda samples: "none", "the column's metric fails .ValueError: "),
        (lambda samples: None, "the column's metric fails .TypeError: "),
        (lambda samples: float("inf"), "do not define the metric"),
    ],
)
def test_a_metric_that_fails_leaves_its_cell_unscored(metric, said):
    with pytest.raises(UndefinedError, match=said):
        computed("questions", metric).influence([[model(0)]])
