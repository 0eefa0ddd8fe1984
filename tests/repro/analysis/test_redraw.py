"""Metrics of any form: their intervals, and that means get the ones that they always had."""

import numpy as np
import pandas as pd
import pytest

from repro.analysis.redraw import redraw
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
        }
    )


def mean(samples: pd.DataFrame) -> float:
    return 100 * samples["correct"].mean()


def macro_f1(samples: pd.DataFrame) -> float:
    from sklearn.metrics import f1_score

    return 100 * f1_score(samples["scored.gold"], samples["scored.said"], average="macro")


def median(samples: pd.DataFrame) -> float:
    return samples["scored.tokens"].median()


def ratio(samples: pd.DataFrame) -> float:
    return 100 * samples["correct"].sum() / samples["scored.tokens"].sum()


ROW = [[model(0), model(1)], [model(2), model(3)]]
BASE = [[model(4), model(5)], [model(6), model(7)]]


def test_a_mean_has_the_interval_that_its_counts_give_it():
    slow, fast = computed("", mean), counted("", correct_counts, accuracy)
    assert slow.estimate(ROW, 50) == pytest.approx(fast.estimate(ROW, 50))
    assert slow.difference(ROW, BASE, 50) == pytest.approx(fast.difference(ROW, BASE, 50))


@pytest.mark.parametrize("metric", [macro_f1, median, ratio])
def test_a_number_is_the_metrics_own_and_its_interval_is_around_it(metric):
    column = computed("", metric)
    found = column.estimate(ROW, 100)
    assert found.value == pytest.approx(np.mean([metric(f) for some in ROW for f in some]))
    assert found.low <= found.value <= found.high
    assert found.low < found.high
    base = column.estimate(BASE, 100)
    assert column.difference(ROW, BASE, 100).value == pytest.approx(found.value - base.value)
    assert column.difference(ROW, ROW, 100)[:3] == (0, 0, 0)  # paired: the same draws for both


def test_an_interval_is_clustered_by_image():
    """Four equal answers about each of a few images say as much as one."""
    frame = model(0, 15).assign(image_id=[f"image {k}" for k in range(15)])
    four = pd.concat([frame] * 4, ignore_index=True)
    one, same = (computed("", mean).estimate([[f]], 200) for f in (frame, four))
    assert one == pytest.approx(same)


def test_an_image_that_is_drawn_twice_is_two_images():
    """Both questions about an image have to be right: the mean over images, not over pairs."""
    frame = pd.DataFrame(
        {"question_id": ["0", "1", "2"], "image_id": ["a", "a", "b"], "correct": [1.0, 1.0, 0.0]}
    )
    drawn = redraw(frame, np.array([2, 2, 1]))
    assert drawn["image_id"].tolist() == ["a", "a (copy 1)", "a", "a (copy 1)", "b"]
    assert drawn["question_id"].is_unique
    assert drawn["correct"].tolist() == [1, 1, 1, 1, 0]
    assert drawn.groupby("image_id")["correct"].min().mean() == pytest.approx(2 / 3)
    assert frame["image_id"].tolist() == ["a", "a", "b"]
    assert redraw(frame, np.zeros(3, int)).empty


def test_a_draw_that_divides_by_zero_says_nothing():
    frame = model(0, 12)
    frame["yes"] = frame["image_id"] == "image 0"
    share = computed(
        "", lambda samples: samples["correct"].sum().item() / samples["yes"].sum().item()
    )
    found = share.estimate([[frame]], 200)
    assert np.isfinite(found).all()
    with pytest.raises(UndefinedError):
        share.estimate([[frame.assign(yes=False)]], 200)


def test_rows_of_other_seeds_are_not_paired():
    with pytest.raises(ValueError, match="seeds"):
        computed("", mean).difference(ROW, BASE[:1], 50)


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
        computed("questions", metric).estimate([[model(0)]], 5)
