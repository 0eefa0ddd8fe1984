"""Areas, precisions and correlations against scipy, with ties, weights and infinities."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from repro.analysis.ranking import area, length_correlation, precision, share_of_class
from repro.analysis.statistics import STEP, Estimate, UndefinedError, estimate

VERDICTS = ("true_image", "no_image", "false", "malformed")
SCORES = st.sampled_from([-np.inf, -1.5, 0.0, 0.25, 3.0, np.inf])
PAIRS = st.lists(
    st.tuples(
        st.sampled_from("abcd"),  # image
        st.sampled_from(VERDICTS),
        st.integers(1, 4),  # tokens
        SCORES,
        st.booleans(),  # chosen
    ),
    min_size=2,
    max_size=30,
)
COLUMNS = ["image_id", "verdict", "tokens", "value", "chosen"]


def pool(rows) -> pd.DataFrame:
    """Pairs whose class is "long" where the answer has three tokens or more."""
    frame = pd.DataFrame(rows, columns=COLUMNS)
    return frame.assign(**{"class": np.where(frame["tokens"] >= 3, "long", "short")})


def made_up(seed: int, pairs: int, images: int, signal: float = 1.0) -> pd.DataFrame:
    """A pool whose true pairs, and those of some images, score higher; every second is true."""
    rng = np.random.default_rng(seed)
    image = rng.integers(images, size=pairs)
    true = rng.random(pairs) < 0.5
    tokens = rng.integers(3, 30, size=pairs)
    luck = rng.normal(size=images)[image]
    value = signal * true + luck + 0.05 * tokens + rng.normal(size=pairs)
    verdict = np.where(true, "true_image", np.where(rng.random(pairs) < 0.5, "false", "no_image"))
    return pool(zip(image.astype(str), verdict, tokens, value, value > 1.5, strict=True))


def reference_area(frame: pd.DataFrame, against: str | None = None) -> float:
    true = frame["verdict"] == "true_image"
    other = ~true if against is None else frame["verdict"] == against
    wins = stats.mannwhitneyu(frame["value"][true], frame["value"][other]).statistic
    return 100 * wins / (true.sum() * other.sum())


@given(rows=PAIRS)
def test_areas_within_a_class_are_the_areas_of_each_by_how_many_pairs_meet(rows):
    frame = pool(rows)
    won = met = 0
    for _, part in frame.groupby("class"):
        true, false = (part[part["verdict"] == name] for name in ("true_image", "false"))
        if len(true) and len(false):
            won += reference_area(part, "false") * len(true) * len(false)
            met += len(true) * len(false)
    assume(met)
    found = area([[frame]], "false", within="class")
    assert found.value == pytest.approx(won / met)


def test_shares_of_chosen_pairs():
    rows = [("a", verdict, n, 1.0, n > 1) for n, verdict in enumerate(VERDICTS * 2)]
    frame = pool(rows)  # chosen: two false, two malformed, one true, one that needs no image
    assert precision([[frame]]).value == pytest.approx(100 / 6)
    assert precision([[frame]], "false").value == pytest.approx(100 / 3)
    assert precision([[frame]], "no_image").value == pytest.approx(50)
    assert share_of_class([[frame]], "long").value == pytest.approx(500 / 6)
    with pytest.raises(UndefinedError, match="chosen"):
        share_of_class([[frame.assign(chosen=False)]], "long")


def reference_precision(frame: pd.DataFrame) -> float:
    return 100 * (frame["verdict"][frame["chosen"]] == "true_image").mean()


def reference_correlation(frame: pd.DataFrame) -> float:
    # ranked first: spearmanr takes infinities for what is missing
    return 100 * stats.spearmanr(frame["value"].rank(), frame["tokens"]).statistic


@given(rows=PAIRS, against=st.sampled_from([None, "false", "no_image"]))
def test_the_area_is_the_probability_of_superiority(rows, against):
    frame = pool(rows)
    verdicts = set(frame["verdict"])
    defined = "true_image" in verdicts and (
        len(verdicts) > 1 if against is None else against in verdicts
    )
    if defined:
        expected = reference_area(frame, against)
        assert area([[frame]], against).value == pytest.approx(expected)
    else:
        with pytest.raises(UndefinedError, match=against or "true_image"):
            area([[frame]], against)


@given(rows=PAIRS)
def test_precision_is_the_share_of_the_chosen(rows):
    frame = pool(rows)
    assume(frame["chosen"].any())
    assert precision([[frame]]).value == pytest.approx(reference_precision(frame))


@given(rows=PAIRS)
def test_the_length_correlation_is_spearmans(rows):
    frame = pool(rows)
    if frame["value"].nunique() > 1 and frame["tokens"].nunique() > 1:
        expected = reference_correlation(frame)
        assert length_correlation([[frame]]).value == pytest.approx(expected)
    else:
        with pytest.raises(UndefinedError, match="equal"):
            length_correlation([[frame]])


def test_nothing_chosen_is_a_reason():
    with pytest.raises(UndefinedError, match="nothing such was chosen"):
        precision([[made_up(0, 20, 4).assign(chosen=False)]])


def test_one_seed_that_lacks_a_side_leaves_all_without_a_value():
    whole, lacking = made_up(0, 40, 4), made_up(1, 40, 4).assign(verdict="true_image")
    with pytest.raises(UndefinedError):
        area([[whole], [lacking]])


def interval(frames: list[list[pd.DataFrame]]) -> Estimate:
    return estimate(area(frames))


@pytest.mark.parametrize(
    ("measure", "reference"),
    [
        (area, reference_area),
        (precision, reference_precision),
        (length_correlation, reference_correlation),
    ],
)
def test_an_images_part_is_what_more_of_it_would_change(measure, reference):
    """Beside scipy on pools in which all images are written out 50 times and one 51 times."""
    pools, copies = [made_up(seed, 60, 8) for seed in range(2)], 50
    row = measure([[frame] for frame in pools])
    assert row.models[:, 0] == pytest.approx([reference(frame) for frame in pools])
    assert row.value == pytest.approx(row.models.mean())
    for pool, shares in zip(pools, row.shares[:, 0], strict=True):
        for image, share in zip(row.images, shares, strict=True):
            times = copies + (pool["image_id"] == image)
            more = reference(pool.loc[pool.index.repeat(times)].reset_index(drop=True))
            change = (more - reference(pool)) * copies
            assert share == pytest.approx(change, abs=0.05 * abs(row.shares).max() + STEP)


def test_a_pool_without_one_side_but_for_an_image_has_no_width():
    rows = [("a", "true_image", 3, 1.0, True), ("b", "false", 4, 0.0, True)]
    assert interval([[pool(rows)]]) == (100, 100, 100)


def test_images_are_the_same_for_every_seed_though_some_wrote_nothing():
    first, second = made_up(0, 200, 20), made_up(1, 200, 20)
    less = second[second["image_id"] != "7"]
    expected = (reference_area(first) + reference_area(less)) / 2
    assert area([[first], [less]]).value == pytest.approx(expected)


def test_the_intervals_hold_the_truth():
    """Independent pools of one world: the mean of many lies in about nineteen of twenty."""
    truth = np.mean([reference_area(made_up(seed, 300, 60)) for seed in range(1000, 1200)])
    estimates = [interval([[made_up(seed, 300, 60)]]) for seed in range(100)]
    assert np.mean([low <= truth <= high for _, low, high in estimates]) > 0.88


def test_pairs_of_an_image_stand_or_fall_together():
    rows = [(str(k), "true_image" if k % 2 else "false", 3, k % 5, True) for k in range(40)]
    alone = pool([(f"{row[0]}-{copy}", *row[1:]) for row in rows for copy in range(8)])
    together = pool([row for row in rows for _ in range(8)])
    widths = [e.high - e.low for e in (interval([[frame]]) for frame in (alone, together))]
    assert widths[1] > 2 * widths[0]


def test_seeds_that_differ_widen():
    frames = [[made_up(seed, 400, 40, signal)] for seed, signal in enumerate((0.0, 3.0))]
    both, one = interval(frames), interval(frames[:1])
    assert both.high - both.low > 2 * (one.high - one.low)
    assert both.value == pytest.approx(np.mean([reference_area(frame) for (frame,) in frames]))
