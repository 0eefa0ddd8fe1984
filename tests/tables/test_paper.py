"""The paper's numbers: those of its table 4, and the rows that measure them."""

import pytest
from pydantic import ValidationError

import tables.paper
from repro.columns import COLUMNS
from repro.rows import TABLES


def test_table_4_is_the_papers():
    rows = tables.paper.load()["table4"].rows
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


def test_every_row_of_the_paper_is_run_in_its_order():
    for name, table in tables.paper.load().items():
        assert [row.label for row in TABLES[name].rows] == [row.label for row in table.rows]
        assert set(table.columns) <= set(TABLES[name].columns) <= set(COLUMNS)


def test_a_cell_outside_the_columns_is_refused():
    with pytest.raises(ValidationError, match="outside the columns"):
        tables.paper.Table(
            title="t", columns=["A"], rows=[tables.paper.Row(label="r", cells={"B": 1})]
        )
