"""Verdicts on differences, and the chances of getting them, against simulation."""

from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from repro.analysis.statistics import Difference
from repro.analysis.verdicts import (
    chance_not_reproduced,
    chance_reproduced,
    combine_verdicts,
    equivalence,
    undecided,
    verdict,
)

ABOVE, BELOW, WITHIN = (0, inf), (-inf, 0), (-2.7, 2.7)


@pytest.mark.parametrize(
    ("value", "error", "bounds", "expected"),
    [
        (1, 0.4, ABOVE, "reproduced"),
        (1, 0.6, ABOVE, "undecided"),
        (-1, 0.4, ABOVE, "not reproduced"),
        (-1, 0.4, BELOW, "reproduced"),
        (0, 0, ABOVE, "not reproduced"),  # no difference is none above zero
        (0, 0, (-0.5, 0.5), "reproduced"),
        (0, 1, WITHIN, "reproduced"),
        (1, 1, WITHIN, "reproduced"),  # two tests at 5%: 1.7 errors from a margin, not 2.0
        (1.2, 1, WITHIN, "undecided"),
        (4, 1, WITHIN, "undecided"),
        (5, 1, WITHIN, "not reproduced"),
    ],
)
def test_a_verdict_is_of_the_whole_interval(value, error, bounds, expected):
    assert verdict(Difference(value, error, 60.0), bounds) == expected


@given(st.floats(-5, 5), st.floats(0.01, 3), st.floats(1, 90))
def test_equivalence_is_what_its_p_says(value, error, df):
    change = Difference(value, error, df)
    p = equivalence(change, WITHIN)
    assert (verdict(change, WITHIN) == "reproduced") == (p < 0.05)


def test_the_worst_part_is_the_whole_claims_verdict():
    order = ("reproduced", "undecided", "untestable", "not reproduced")
    for k, worst in enumerate(order):
        assert combine_verdicts([worst, *order[: k + 1]]) == worst


def test_an_undecided_claim_without_power_cannot_be_decided():
    assert undecided("undecided", 0.79) == "cannot be decided here"
    assert undecided("undecided", 0.8) == undecided("undecided", None) == "open"
    assert undecided("reproduced", 0.1) is None


@pytest.mark.parametrize("bounds", [ABOVE, BELOW, WITHIN])
@pytest.mark.parametrize("truth", [-4.0, 0.0, 2.0])
def test_chances_are_those_of_simulated_experiments(bounds, truth):
    rng, error, df, runs = np.random.default_rng(0), 1.0, 6, 4000
    values = rng.normal(truth, error, runs)
    errors = error * np.sqrt(rng.chisquare(df, runs) / df)
    verdicts = [verdict(Difference(*pair, df), bounds) for pair in zip(values, errors, strict=True)]
    change = Difference(0.0, error, df)
    expected = (
        chance_reproduced(change, truth, bounds),
        chance_not_reproduced(change, truth, bounds),
    )
    for name, chance in zip(("reproduced", "not reproduced"), expected, strict=True):
        assert verdicts.count(name) / runs == pytest.approx(chance, abs=0.025)


@given(
    st.floats(-9, 9), st.floats(0.01, 5), st.floats(1, 90), st.sampled_from([ABOVE, BELOW, WITHIN])
)
def test_chances_are_chances(truth, error, df, bounds):
    change = Difference(0.0, error, df)
    yes, no = chance_reproduced(change, truth, bounds), chance_not_reproduced(change, truth, bounds)
    assert 0 <= yes <= 1
    assert 0 <= no <= 1
    assert yes + no <= 1 + 1e-6
