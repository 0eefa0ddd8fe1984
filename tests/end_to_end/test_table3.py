"""Tables 2 and 3 from the command line: published sets read, cut and tuned on beside ours."""

import json

import pytest

from repro.rows import CUT, SETS
from tests.repro import toy


@pytest.fixture(scope="module")
def runs(toy_profile, tmp_path_factory):
    """A runs folder in which table 2 was run, then table 3."""
    folder = tmp_path_factory.mktemp("table3") / "runs"
    for name in ("table2", "table3"):
        less = ["--seeds", 1, "--jobs", 2, "--set", "sizes.tuning_seeds=1"]
        done = toy.repro(name, "--profile", toy_profile, "--runs", folder, *less)
        assert done.returncode == 0, done.stderr
    return folder


def cells(runs, name, column):
    return {row["label"]: row["cells"][column] for row in toy.table(runs, name)["rows"]}


def test_table_2_counts_what_was_published_and_can_be_used(runs):
    found = cells(runs, "table2", "instances")
    assert list(found) == [row.label for row in SETS]
    assert [found[label]["value"] for label in ("ComVint", "LLaVA-158k")] == [11, 5]
    assert 1 <= found["Ours"]["value"] <= 8  # as many as are drawn, if so many were written
    assert [found[label]["n"] for label in ("ComVint", "LLaVA-158k")] == [11, 10]
    assert cells(runs, "table2", "words a record")["LLaVA-158k"]["value"] == 10
    assert cells(runs, "table2", "Q len")["ComVint"]["value"] == 3


def test_table_3_compares_every_set_with_ours(runs):
    found = cells(runs, "table3", "SEED")
    assert list(found) == [row.label for row in SETS + CUT]
    for label in ("ComVint", "LLaVA-158k", "ComVint, cut to our size"):
        assert found[label]["n"] == found["Ours"]["n"] > 0
        assert found[label]["difference"]["base"] == "Ours"


def test_a_set_that_is_not_there_is_unscored_and_the_others_are_scored(runs):
    for name, column in (("table2", "instances"), ("table3", "SEED")):
        for label, cell in cells(runs, name, column).items():
            assert (cell["value"] is None) == label.startswith("LRV")
            if cell["value"] is None:
                assert "no file in comparison/lrv/data" in cell["unscored"]


def test_in_is_out_and_dropped_and_a_cut_is_of_our_size(runs):
    facts = {
        kind: [json.loads(path.read_text())["facts"] for path in runs.glob(f"store/{kind}/*/m*")]
        for kind in ("comparison", "cut")
    }
    scored = [one for one in facts["comparison"] if "unscored" not in one]
    assert [one["read"] - one["samples"] for one in scored] == [
        sum(one["dropped"].values()) for one in scored
    ]
    assert sorted(one["dropped"]["image_missing"] for one in scored) == [1, 2]
    assert {one["samples"] for one in facts["cut"] if "unscored" not in one} == {8}
