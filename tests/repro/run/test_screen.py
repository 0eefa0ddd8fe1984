"""Results on a terminal: tables that fit and lose no word; a pipe gets the markdown's bytes."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from repro.run import screen
from tests.repro.toy import ROOT

WORDS = st.text("abcdefghij.[]|†12", min_size=1, max_size=12)
CELLS = st.lists(WORDS, max_size=4).map(" ".join)


def markdown(rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|:" + "---|:" * len(rows[0]) + "|", *lines[1:]])


def shown(rows: list[list[str]], width: int) -> str:
    out = io.StringIO()
    screen._show_table(Console(file=out, width=width, no_color=True), rows)
    return out.getvalue()


@settings(max_examples=40)
@given(
    rows=st.integers(2, 7).flatmap(
        lambda n: st.lists(st.lists(CELLS, min_size=n, max_size=n), min_size=2, max_size=4)
    ),
    width=st.integers(40, 120),
)
def test_tables_fit_and_no_word_is_cut(rows, width):
    text = shown(rows, width)
    assert max(map(len, text.splitlines())) <= width
    for row in rows:
        for cell in row[1:]:
            assert all(word in text for word in cell.split())


@given(rows=st.lists(st.lists(CELLS, min_size=3, max_size=3), min_size=2, max_size=4))
def test_cells_are_read_as_they_were_written(rows):
    lines = markdown(rows).split("\n")
    assert [screen._cells(line) for line in (lines[0], *lines[2:])] == rows


@pytest.mark.parametrize("file", sorted((ROOT / "tables" / "pocket").glob("table*.md")))
def test_a_pipe_gets_the_bytes(file, capsys):
    text = file.read_text()
    screen.show(text)
    assert capsys.readouterr().out == text + "\n"
    tables = [
        block
        for block in screen._blocks(text)
        if screen._RULE.match(block[-1]) or block[0][:1] == "|"
    ]
    assert len(tables) == 1
    assert "\n".join("\n".join(block) for block in screen._blocks(text)) == text
