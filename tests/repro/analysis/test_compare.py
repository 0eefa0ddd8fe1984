"""Claims: verdicts from intervals, and a table whose answers are known, claim by claim."""

import pandas as pd
import pytest

import repro.paper
from c3l.artifacts.store import Job, Stage, Store
from repro import profile
from repro.analysis import compare
from repro.analysis.compare import claims_about, findings, tables_with_claims
from repro.render.claims import render_claims
from repro.rows import TABLES, Row, Table

ROWS = {"base": 40, "better": 60, "alike": 41, "worse": 20}  # of 100 questions right
PAPER = repro.paper.PaperTable(
    title="Ours",
    columns=["SEED", "POPE"],
    rows=[
        repro.paper.PaperRow(label="base", cells={"SEED": 40.0}),
        repro.paper.PaperRow(label="better", cells={"SEED": 42.5}),
    ],
)
SEEDS = 3


def answer(job: Job) -> dict:
    """Right on the first config["right"] of a hundred questions about fifty images."""
    right = [float(k < job.config["right"]) for k in range(100)]
    columns = {"question_id": [str(k) for k in range(100)], "category": "attribute"}
    frame = pd.DataFrame(columns | {"image_id": [str(k // 2) for k in range(100)]})
    frame.assign(correct=right).to_parquet(job.out / "samples.parquet")
    return {"metric": "the share of right answers", "n": 100, "value": sum(right), "extra": {}}


def fail(job: Job) -> dict:
    return {"unscored": "no judge"}


@pytest.fixture
def find(tmp_path, monkeypatch):
    """A function from claims to the findings about a table of ROWS and of "failed"."""
    store = Store(tmp_path / "store")
    labels = (*ROWS, "failed")
    table = Table("Ours", tuple(Row(label) for label in labels), ("SEED", "POPE"))
    monkeypatch.setitem(TABLES, "table9", table)
    monkeypatch.setattr(repro.paper, "load", lambda: {"table9": PAPER})
    cells = {}
    for label in labels:
        made = fail if label == "failed" else answer
        config = {"right": ROWS.get(label), "label": label}
        stages = [Stage("toy", 1, made, config, seed=seed) for seed in range(SEEDS)]
        cells[label] = {"SEED": [[stage] for stage in stages]}
        for stage in stages:
            store.make(stage)

    def find(*some: dict, name: str = "pocket") -> dict:
        made = [repro.paper.Claim.model_validate(claim) for claim in some]
        monkeypatch.setattr(repro.paper, "claims", lambda: made)
        loaded = profile.load("pocket").model_copy(update={"name": name})
        return findings("table9", cells, loaded, list(range(SEEDS)), store)

    return find


def claim(row: str, *bases: str, holds: str = "above", column: str = "SEED", **values) -> dict:
    compared = [{"row": row, "bases": list(bases), "columns": [column]}]
    told = {"id": "c", "table": "table9", "where": "section 9", "sentence": "It is so."}
    return told | {"holds": holds, "compared": compared} | values


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (claim("better", "base"), "reproduced"),
        (claim("base", "better"), "not reproduced"),
        (claim("worse", "base", holds="below"), "reproduced"),
        (claim("better", "base", holds="below"), "not reproduced"),
        (claim("alike", "base"), "undecided"),
        (claim("alike", "base", holds="within", margin=6), "reproduced"),
        (claim("better", "base", holds="within", margin=6), "not reproduced"),
        (claim("worse", "base", holds="within", margin=6), "not reproduced"),
        (claim("alike", "base", holds="within", margin=0.5), "undecided"),
        (claim("failed", "base"), "untestable"),
        (claim("better", "base", "worse"), "reproduced"),
        (claim("base", "worse", "better", "failed"), "not reproduced"),
        (claim("better", "base", "failed"), "untestable"),
        (claim("alike", "worse", "base"), "undecided"),
        (claim("better", "base", column="POPE"), "untestable"),
    ],
)
def test_a_claim_has_the_verdict_of_the_known_answers(find, told, expected):
    (found,) = find(told)["claims"]
    assert found["verdict"] == expected


def test_what_a_verdict_rests_on(find):
    (found,) = find(claim("better", "base", "failed"))["claims"]
    first, second = found["pairs"]
    assert first["difference"]["value"] == 20
    low, high = first["difference"]["interval"]
    assert 0 < low < 20 < high
    assert first["difference"]["detectable"] > 0
    assert first["difference"]["df"] >= SEEDS - 1
    assert 0 < first["difference"]["power_if_paper"] < 0.8
    assert first["difference"]["false_alarm"] == 0.025
    assert (found["power_if_paper"], found["undecided"]) == (None, None)
    assert (first["n"], first["paper"], first["untestable"]) == (100, 2.5, None)
    assert (second["n"], second["paper"], second["difference"]) == (0, None, None)
    assert second["untestable"] == "failed: no judge"


def test_a_column_that_is_not_measured_is_the_reason(find):
    (found,) = find(claim("better", "base", column="POPE"))["claims"]
    assert found["pairs"][0]["untestable"] == ("better: POPE is not measured in the pocket profile")


def test_a_measure_beside_is_shown_and_counts_for_nothing(find):
    compared = [{"row": "worse", "bases": ["base"], "columns": ["SEED"], "beside": ["POPE"]}]
    findings = find(claim("worse", "base", holds="below", compared=compared))
    (found,) = findings["claims"]
    assert [(p["column"], p["beside"]) for p in found["pairs"]] == [("SEED", False), ("POPE", True)]
    assert (found["verdict"], found["pairs"][1]["verdict"]) == ("reproduced", "untestable")
    text = render_claims(findings)
    assert "beside: untestable" in text and "does not count for the claim's verdict" in text
    assert "beside" not in render_claims(find(claim("better", "base")))


def test_numbers_are_compared_with_the_papers_in_the_paper_profile_alone(find):
    assert find(claim("better", "base"))["numbers"] == []
    numbers = find(claim("better", "base"), name="paper")["numbers"]
    assert [(n["row"], n["paper"], n["contains"]) for n in numbers] == [
        ("base", 40.0, True),
        ("better", 42.5, False),
    ]


@pytest.mark.parametrize(
    "told", [claim("best", "base"), claim("base", "best"), claim("better", "base", column="MMB")]
)
def test_a_claim_about_what_the_table_does_not_have_is_a_fault(find, told):
    with pytest.raises(ValueError, match=r"claim 'c': table9 has no (best|MMB)"):
        find(told)


def test_an_undecided_claim_is_open_unless_the_paper_says_how_large_the_difference_is(find):
    claims = claim("alike", "base"), claim("base", "better", holds="within", margin=22, id="d")
    first, second = find(*claims)["claims"]
    assert (first["undecided"], first["power_if_paper"]) == ("open", None)
    assert second["verdict"] == "undecided"
    assert second["undecided"] == "open"
    assert 0.8 < second["power_if_paper"] <= 1
    assert 0.05 < second["pairs"][0]["difference"]["equivalence"] < 1


@pytest.mark.parametrize("name", tables_with_claims())
def test_the_papers_claims_are_about_rows_and_columns_of_our_tables(name):
    assert claims_about(name)


def test_what_is_printed_has_every_claim_pair_and_reason(find):
    text = render_claims(find(claim("better", "base"), claim("alike", "base", "failed", id="d")))
    assert (
        "**What the paper claims of table 9**, pocket profile: 1 reproduced, 1 untestable." in text
    )
    assert (
        "**c: reproduced.** “It is so.” (section 9) Holds where every difference is above" in text
    )
    line = next(line for line in text.splitlines() if line.startswith("| better − base"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert (cells[1], cells[2], cells[4], cells[-1]) == ("SEED", "+2.5", "100", "reproduced")
    assert cells[3].startswith("+20.0 [")
    assert "untestable: failed: no judge" in text
    assert "data seeds 0, 1, 2" in text
    assert "only the order of rows" in text
    assert "The paper's numbers" not in text
    assert compare.FEW_SEEDS not in text


def test_a_margin_is_printed_with_its_reason(find):
    told = claim("alike", "base", holds="within", margin=2.5, why="so it is said")
    assert "less than 2.5 either way (so it is said)" in render_claims(find(told))


def test_the_papers_numbers_are_printed_in_its_own_profile(find):
    text = render_claims(find(claim("better", "base"), name="paper"))
    assert "**The paper's numbers.**" in text
    assert "only the order of rows" not in text
