"""Table 6 in the pocket world itself, with its shipped backbone, on fewer images."""

import json

import pytest

from repro.rows import RANKING, RANKINGS
from tests.repro import toy


@pytest.fixture(scope="module")
def table(tmp_path_factory, pocket_runs):
    runs = pocket_runs(tmp_path_factory.mktemp("table6") / "runs")
    less = ["--set", "sizes.initial_images=24"]
    done = toy.repro("table6", "--seeds", 1, "--jobs", 1, "--runs", runs, *less)
    assert done.returncode == 0, done.stderr
    return json.loads((runs / "pocket" / "table6.json").read_text()) | {"said": done.stdout}


def value(table, label, column):
    return next(row["cells"][column]["value"] for row in table["rows"] if row["label"] == label)


def test_every_row_is_measured(table):
    assert [row["label"] for row in table["rows"]] == [row.label for row in RANKINGS]
    for row in table["rows"]:
        assert list(row["cells"]) == list(RANKING)
        for cell in row["cells"].values():
            # Of so few pairs none may be in a tenth; then the cell says so.
            assert (cell["value"] is None) == (cell["unscored"] is not None)
        areas = [row["cells"][name] for name in RANKING[:3]]
        assert all(0 <= cell["interval"][0] <= cell["value"] <= 100 for cell in areas)


def test_the_image_is_what_tells_which_pairs_need_it(table):
    right = value(table, "literal_sum", "AUROC, no image")
    assert right > 80
    for control in ("shuffled", "constant"):
        assert value(table, f"literal_sum, {control} image", "AUROC, no image") < right - 10
        assert value(table, f"likelihood, {control} image", "AUROC, false") < value(
            table, "likelihood", "AUROC, false"
        )


def test_controls_are_named(table):
    assert table["tuning_seeds"] is None
    assert table["said"].count("Control, ") == 6
