"""The paper's numbers and claims, and the rows that measure them."""

from math import inf

import pytest
from pydantic import ValidationError

import repro.paper
from repro.columns import COLUMNS
from repro.rows import TABLES

PAPER, CLAIMS = repro.paper.load(), repro.paper.claims()


def test_table_4_is_the_papers():
    rows = repro.paper.load()["table4"].rows
    assert [(row.cells["SEED"], row.cells["POPE"]) for row in rows] == [
        (53.2, 73.2),
        (54.1, 74.4),
        (55.8, 75.1),
        (56.1, 76.0),
    ]
    # The differences that the paper's text names (section 4.3).
    assert rows[1].cells["SEED"] - rows[0].cells["SEED"] == pytest.approx(0.9)
    assert rows[1].cells["POPE"] - rows[0].cells["POPE"] == pytest.approx(1.2)
    assert rows[2].cells["SEED"] - rows[0].cells["SEED"] == pytest.approx(2.6)
    assert rows[2].cells["POPE"] - rows[0].cells["POPE"] == pytest.approx(1.9)


@pytest.mark.parametrize("name", [name for name in PAPER if name in TABLES])
def test_every_row_of_the_paper_is_run_in_its_order(name):
    """Among rows of our own."""
    labels = [row.label for row in PAPER[name].rows]
    assert [row.label for row in TABLES[name].rows if row.label in labels] == labels
    assert set(PAPER[name].columns) <= set(TABLES[name].columns) <= set(COLUMNS)


def test_labels_are_unique():
    for table in PAPER.values():
        assert len({row.label for row in table.rows}) == len(table.rows)


@pytest.mark.parametrize(
    ("table", "row", "base", "column", "said"),
    [
        ("table1", "LLaVA w/ C³L", "InstructBLIP (Vicuna-7b)", "SEED", 2.7),  # section 4.2
        ("table1", "MiniGPT-4 w/ C³L", "MiniGPT-4", "SEED", -2.4),
        ("table1", "MiniGPT-4 w/ C³L", "MiniGPT-4", "POPE", -3.7),
        ("table3", "Ours", "LRV", "SEED", -0.49),
    ],
)
def test_differences_are_those_that_are_spoken_of(table, row, base, column, said):
    numbers = [PAPER[table].cell(label, column) for label in (row, base)]
    assert numbers[0] - numbers[1] == pytest.approx(said)


def test_every_claim_is_about_rows_and_columns_that_exist():
    for claim in CLAIMS:
        paper = PAPER[claim.table]
        ours = TABLES[claim.table].columns if claim.table in TABLES else ()
        for pair in claim.pairs:
            assert {pair.row, pair.base} <= {row.label for row in paper.rows}, claim.id
            assert pair.row != pair.base
            assert pair.column in (*paper.columns, *ours), claim.id


def test_the_papers_own_numbers_are_as_it_claims():
    """Wherever it prints both: no claim is transcribed against its table."""
    checked = set()
    for claim in CLAIMS:
        low, high = claim.bounds
        for pair in claim.pairs:
            values = [PAPER[claim.table].cell(row, pair.column) for row in (pair.row, pair.base)]
            if None not in values:
                assert low < values[0] - values[1] < high, (claim.id, pair)
                checked.add(claim.id)
    assert {claim.id for claim in CLAIMS} - checked == {
        "proportions",  # of figure 3, without numbers
        "crm-correspondence",  # and the two that the paper infers
        "content-relevance",
    }


def test_claims_are_named_once():
    assert len({claim.id for claim in CLAIMS}) == len(CLAIMS)


def test_a_claim_is_about_every_pair_of_a_row_a_base_and_a_column():
    claim = repro.paper.Claim(
        id="c",
        table="t",
        where="here",
        sentence="s",
        holds="above",
        compared=[{"row": "a", "bases": ["b", "c"], "columns": ["X", "Y"]}],
    )
    assert claim.bounds == (0, inf)
    expected = [("a", "b", "X"), ("a", "b", "Y"), ("a", "c", "X"), ("a", "c", "Y")]
    assert [pair[:3] for pair in claim.pairs] == expected
    beside = {"row": "a", "bases": ["b"], "columns": ["X"], "beside": ["Y"]}
    other = claim.model_copy(update={"compared": [repro.paper.Pairs(**beside)]})
    assert other.pairs == [("a", "b", "X", False), ("a", "b", "Y", True)]
    within = claim.model_copy(update={"holds": "within", "margin": 0.5})
    assert within.bounds == (-0.5, 0.5)


@pytest.mark.parametrize("wrong", [{"holds": "within"}, {"margin": 1.0}, {"holds": "best"}])
def test_a_claim_of_another_kind_is_refused(wrong):
    values = CLAIMS[0].model_dump() | {"margin": None} | wrong
    with pytest.raises(ValidationError):
        repro.paper.Claim.model_validate(values)


def test_a_cell_outside_the_columns_is_refused():
    with pytest.raises(ValidationError, match="outside the columns"):
        repro.paper.PaperTable(
            title="t", columns=["A"], rows=[repro.paper.PaperRow(label="r", cells={"B": 1})]
        )
