"""A table that the paper does not have, from artefacts whose answers are known."""

import numpy as np
import pandas as pd
import pytest

import repro.analysis.table
from c3l.artifacts.store import Job, Stage, Store
from repro import profile
from repro.analysis.statistics import Influence
from repro.analysis.table import disagreement
from repro.columns import COLUMNS, Column
from repro.rows import TABLES, TRUTH, Row, Table

SEEDS = 2
BASES = {"better": "base", "same": "base"}


def answer(job: Job) -> dict:
    """A model that answers the first config["right"] of forty questions about ten images right."""
    right = [float(k < job.config["right"]) for k in range(40)]
    columns = {"question_id": [str(k) for k in range(40)], "category": "attribute"}
    frame = pd.DataFrame(columns | {"image_id": [str(k % 10) for k in range(40)], "correct": right})
    frame["claims"] = [["true_image" if one else "false"] for one in right]
    frame.to_parquet(job.out / "samples.parquet")
    value = {} if job.config["silent"] else {"value": job.config.get("said", 2.5 * sum(right))}
    judged = {name: job.config[name] for name in ("judge",) if name in job.config}
    return {"metric": "the share of right answers", "n": 40, "extra": {}} | value | judged


def fail(job: Job) -> dict:
    return {"unscored": "it wrote nothing"}


@pytest.fixture
def finish(tmp_path, monkeypatch):
    """A function from rows and their stages' settings to the finished cells, by row."""

    def finish(rows: dict[str, dict], bases: dict[str, str], column: str = "SEED") -> dict:
        store = Store(tmp_path / "store")
        table = Table("Ours", tuple(Row(label, base=bases.get(label)) for label in rows), (column,))
        monkeypatch.setitem(TABLES, "table9", table)
        cells = {}
        for label, config in rows.items():
            run = config.pop("run", answer)
            stages = [
                Stage("toy", 1, run, {"silent": False, "label": label} | config, seed=seed)
                for seed in range(SEEDS)
            ]
            cells[label] = {column: [[stage] for stage in stages]}
            for stage in stages:
                store.make(stage)
        loaded = profile.load("pocket")
        found = repro.analysis.table.finished_table(
            "table9", cells, loaded, list(range(SEEDS)), store
        )
        assert found["title"] == "Ours"
        return {row["label"]: row["cells"][column] for row in found["rows"]}

    return finish


def test_a_row_is_compared_with_its_base_and_the_base_with_nothing(finish):
    cells = finish({"base": {"right": 20}, "better": {"right": 24}, "same": {"right": 20}}, BASES)
    assert [cell["value"] for cell in cells.values()] == [50, 60, 50]
    assert [cell["paper"] for cell in cells.values()] == [None] * 3
    assert "difference" not in cells["base"]
    found = cells["better"]["difference"]
    low, high = found["interval"]
    assert found["base"] == "base"
    assert found["value"] == 10
    assert (low + high) / 2 == pytest.approx(10)
    assert low < high
    assert found["detectable"] > 0
    assert found["df"] >= 1
    assert found["power_if_paper"] is found["false_alarm"] is None
    assert (found["p"], found["p_holm"]) == (0.125, 0.25)  # 4 of 40 questions, all one way
    same = cells["same"]["difference"]
    assert (same["value"], same["detectable"], same["p"], same["p_holm"]) == (0, 0, 1, 1)
    assert same["interval"] == [0, 0]


def test_what_is_no_benchmark_has_no_p(finish):
    """Rows' own samples are not paired one by one, though they are right or wrong."""
    rows = {"base": {"right": 20}, "better": {"right": 24}}
    found = finish(rows, {"better": "base"}, TRUTH)["better"]["difference"]
    chances = {"df", "power_if_paper", "false_alarm"}
    assert found.keys() == {"base", "value", "interval", "detectable"} | chances


def test_a_cell_names_its_judge(finish):
    cells = finish({"base": {"right": 20}, "better": {"right": 24, "judge": "somebody"}}, BASES)
    assert [cell["judge"] for cell in cells.values()] == [None, "somebody"]


@pytest.mark.parametrize("unscored", ["base", "better"])
def test_with_an_unscored_side_there_is_no_difference(finish, unscored):
    rows = {"base": {"right": 20}, "better": {"right": 24}} | {unscored: {"run": fail}}
    cells = finish(rows, BASES)
    assert cells[unscored]["unscored"] == "it wrote nothing"
    assert cells["better"]["difference"] is None


@pytest.mark.parametrize("said", [51.0, 50.1, 50.0600001, 49.987654])
def test_a_number_that_is_not_the_artefacts_is_unscored(finish, said):
    cell = finish({"base": {"right": 20, "said": said}}, {})["base"]
    assert cell["value"] is cell["interval"] is None
    assert cell["unscored"] == (
        f"the column computes 50.0000 from the samples, the benchmark says {said:.4f}"
    )


@pytest.mark.parametrize(("right", "said"), [(20, 50.0), (13, 32.5), (27, 67.5)])
def test_a_number_that_the_benchmark_rounds_is_still_its_own(finish, right, said):
    assert finish({"base": {"right": right, "said": said}}, {})["base"]["unscored"] is None


@pytest.mark.parametrize(
    ("value", "rounded", "same"),
    [
        (200 / 3, 66.7, True),
        (200 / 3, 66.67, True),
        (200 / 3, 66.66, False),
        (200 / 3, 66.66667, True),
        (200 / 3, 66.6, False),
        (200 / 3, 67.0, False),
        (75.0, 80.0, False),
        (79.96, 80.0, True),
        (200 / 3, 200 / 3, True),
        (200 / 3, 200 / 3 + 1e-5, False),
        (100 * 0.1, 10.000000000000002, True),
    ],
)
def test_a_difference_within_rounding_is_none(value, rounded, same):
    assert (disagreement([rounded], value) is None) == same


def test_a_column_may_compute_what_no_artefact_says(finish, monkeypatch):
    """And be of a kind that rows are not compared by."""

    def longest(frames) -> Influence:
        lengths = np.array([[float(len(frame)) for frame in run] for run in frames])
        return Influence(lengths.max(), lengths, np.array(["a"]), 0 * lengths[..., None])

    column = Column("answers", longest, metric="how many there are", compared=False)
    monkeypatch.setitem(COLUMNS, "length", column)
    rows = {"base": {"right": 3, "silent": True}, "same": {"right": 4, "silent": True}}
    cells = finish(rows, BASES, "length")
    assert cells["base"]["value"] == 40
    assert cells["base"]["interval"] == [40, 40]
    assert cells["base"]["metric"] == "how many there are"
    assert cells["base"]["extra"] == {}
    assert cells["same"]["difference"] is None


def test_what_is_set_aside_on_the_way_stands_below_the_table():
    def manifest(stage: str, name: str, **facts) -> dict:
        return {"stage": stage, "config": {"name": name}, "facts": facts}

    manifests = [
        manifest("comparison", "LRV", read=9, dropped={"image_missing": 2, "empty_answer": 1}),
        manifest("comparison", "ComVint", read=9, dropped={}),
        manifest("comparison", "nothing", unscored="there is no data of it"),
        manifest("scores", "", samples=10, without_score={"too_long": 1}),
        manifest("scores", "", samples=10, without_score={"too_long": 1, "not_finite": 2}),
        manifest("filtered", "", samples=3, read=9, dropped={"duplicate": 6}),
    ]
    assert repro.analysis.table._left_out(manifests) == [
        "LRV: 3 of 9 published turns are left out (empty_answer 1, image_missing 2).",
        "4 of 20 samples have no score and count for no selection (not_finite 2, too_long 2).",
    ]
    assert repro.analysis.table._left_out(manifests[1:3]) == []
