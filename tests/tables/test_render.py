"""Rendering: what stands in a table, and that an unscored cell holds no number."""

import csv
import io

import pytest

from tables import render


@pytest.fixture
def table() -> dict:
    measured = {
        "value": 51.23,
        "interval": [48.0, 54.44],
        "n": 900,
        "paper": 56.1,
        "metric": "seed_image",
        "judge": None,
        "artefacts": ["abc"],
        "unscored": None,
    }
    unscored = measured | {
        "value": None,
        "interval": None,
        "n": 0,
        "metric": None,
        "unscored": "no | judge",
    }
    return {
        "table": "table4",
        "title": "Ablation",
        "profile": "pocket",
        "seeds": [0, 1],
        "tuning_seeds": 3,
        "commit": "0123abc",
        "interval": "95% intervals",
        "units": {"SEED": "questions a model", "truth": "samples a data set"},
        "rows": [
            {"label": "first", "cells": {"SEED": measured, "truth": measured | {"paper": None}}},
            {"label": "second", "cells": {"SEED": unscored, "truth": unscored | {"paper": None}}},
        ],
    }


def test_the_paper_stands_beside_what_it_measured(table):
    header, _, first, second = render.markdown(table).split("\n\n")[1].splitlines()
    assert [cell.strip() for cell in header.strip("|").split("|")] == [
        "row",
        "SEED (paper)",
        "SEED (pocket)",
        "truth (pocket)",
    ]
    assert "56.1" in first and "51.2 [48.0, 54.4]" in first
    assert "unscored: no \\| judge" in second


def test_an_unscored_cell_holds_no_number(table):
    cell = table["rows"][1]["cells"]["SEED"]
    assert not any(character.isdigit() for character in render.measured(cell))


def test_the_footer_says_what_is_behind_the_numbers(table):
    text = render.markdown(table)
    for words in (
        "Profile pocket",
        "data seeds 0, 1",
        "3 tuning seeds",
        "commit 0123abc",
        "95% intervals",
        "SEED: seed_image; n = 900 questions a model; judge: none.",
        "only the order of rows and the sign",
    ):
        assert words in text


def test_the_paper_profile_may_be_compared(table):
    table["profile"] = "paper"
    assert "only the order" not in render.markdown(table)


def test_csv_has_one_line_a_cell(table):
    rows = list(csv.DictReader(io.StringIO(render.comma_separated(table))))
    assert [(row["row"], row["column"], row["value"]) for row in rows] == [
        ("first", "SEED", "51.23"),
        ("first", "truth", "51.23"),
        ("second", "SEED", ""),
        ("second", "truth", ""),
    ]
    assert rows[2]["unscored"] == "no | judge"
    assert rows[0]["low"] == "48.0"
