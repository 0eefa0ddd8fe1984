"""Rendering: what stands in a table, and that an unscored cell holds no number."""

import csv
import io
import json

import pytest

from repro.paper import data_folder
from repro.render import markdown

COMMITTED = data_folder()


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
    header, _, first, second = markdown.render_table(table).split("\n\n")[1].splitlines()
    assert [cell.strip() for cell in header.strip("|").split("|")] == [
        "row",
        "SEED (paper)",
        "SEED (pocket)",
        "truth (pocket)",
    ]
    assert "56.1" in first and "51.2 [48.0, 54.4]" in first
    assert "unscored: no \\| judge" in second


def test_a_count_stands_without_brackets_and_without_decimals_from_a_thousand_up(table):
    cell = table["rows"][0]["cells"]["SEED"] | {"interval": None, "paper": 158000.0}
    table["rows"][0]["cells"]["SEED"] = cell | {"value": 3000.0}
    first = markdown.render_table(table).split("\n\n")[1].splitlines()[2]
    assert [text.strip() for text in first.strip("|").split("|")][1:3] == ["158000", "3000"]
    assert markdown.format_cell(cell | {"value": 999.94}) == "999.9"
    assert ",3000.0,,," in markdown.render_csv(table)


def test_an_unscored_cell_holds_no_number(table):
    cell = table["rows"][1]["cells"]["SEED"]
    assert not any(character.isdigit() for character in markdown.format_cell(cell))


def test_the_footer_says_what_is_behind_the_numbers(table):
    text = markdown.render_table(table)
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
    assert "only the order" not in markdown.render_table(table)


@pytest.fixture
def compared(table) -> dict:
    """The table with a row that is worse than the first, and one worse than another base."""
    cell = table["rows"][0]["cells"]["SEED"]
    worse = {"base": "first", "value": -1.16, "interval": [-2.55, 0.3]}
    none = {"base": "third", "value": -0.04, "interval": [-1.0, 2.0]}
    table["rows"] = [
        {"label": "first", "cells": {"SEED": cell, "truth": cell}},
        {"label": "second", "cells": {"SEED": cell | {"difference": worse}, "truth": cell}},
        {"label": "third", "cells": {"SEED": cell, "truth": cell}},
        {"label": "fourth", "cells": {"SEED": cell | {"difference": none}, "truth": cell}},
        {"label": "fifth", "cells": {"SEED": cell | {"difference": None}, "truth": cell}},
    ]
    return table


def test_differences_stand_beside_what_was_measured(compared):
    header, _, *rows = markdown.render_table(compared).split("\n\n")[1].splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in (header, *rows)]
    assert cells[0] == [
        "row",
        "SEED (paper)",
        "SEED (pocket)",
        "Δ SEED",
        "truth (paper)",
        "truth (pocket)",
    ]
    assert [row[3] for row in cells[1:]] == [
        "–",
        "-1.2 [-2.5, 0.3]",
        "–",
        "+0.0 [-1.0, 2.0]",
        "–",
    ]


def test_the_footer_says_what_a_difference_is(compared):
    text = markdown.render_table(compared)
    assert (
        "- Δ: difference from “first” (of “fourth” from “third”), paired by image with its "
        "questions, data seed and tuning seed.\n"
    ) in text
    compared["rows"] = compared["rows"][:2]
    assert "difference from “first”, paired" in markdown.render_table(compared)
    compared["rows"] = compared["rows"][:1]
    assert "Δ" not in markdown.render_table(compared)


def test_without_the_papers_numbers_there_is_nothing_not_to_compare(table):
    for row in table["rows"]:
        for name, cell in row["cells"].items():
            row["cells"][name] = cell | {"paper": None}
    text = markdown.render_table(table)
    assert "paper" not in text


def test_what_a_comparison_could_have_seen_stands_beside_it(compared):
    better, none = (compared["rows"][k]["cells"]["SEED"]["difference"] for k in (1, 3))
    better |= {"detectable": 2.04, "p": 0.001, "p_holm": 0.002}
    none |= {"detectable": 3.0, "p": 0.2, "p_holm": 0.2}
    text = markdown.render_table(compared)
    assert "| -1.2 [-2.5, 0.3]† (2.0) |" in text
    assert " +0.0 [-1.0, 2.0] (3.0) |" in text
    assert "in round brackets the smallest true difference" in text
    assert "p below 0.05 after Holm's correction for the 2 comparisons" in text
    rows = list(csv.DictReader(io.StringIO(markdown.render_csv(compared))))
    found = [(row["detectable"], row["p"], row["p_holm"]) for row in rows]
    assert found[2] == ("2.04", "0.001", "0.002")
    assert found[0] == ("", "", "")


@pytest.mark.parametrize(
    ("number", "text"), [(76.0, "76.0"), (56.58, "56.58"), (158000, "158000"), (-0.49, "-0.49")]
)
def test_a_number_of_the_paper_keeps_its_decimals(number, text):
    assert markdown.format_paper_value(number) == text
    assert markdown.format_paper_value(abs(number), "+") == f"+{text.removeprefix('-')}"


def test_csv_holds_differences_and_leaves_them_empty_without(compared):
    rows = list(csv.DictReader(io.StringIO(markdown.render_csv(compared))))
    found = [
        (row["difference"], row["difference_low"], row["difference_high"])
        for row in rows
        if row["column"] == "SEED"
    ]
    empty = ("", "", "")
    assert found == [empty, ("-1.16", "-2.55", "0.3"), empty, ("-0.04", "-1.0", "2.0"), empty]


def test_csv_has_one_line_a_cell(table):
    rows = list(csv.DictReader(io.StringIO(markdown.render_csv(table))))
    assert [(row["row"], row["column"], row["value"]) for row in rows] == [
        ("first", "SEED", "51.23"),
        ("first", "truth", "51.23"),
        ("second", "SEED", ""),
        ("second", "truth", ""),
    ]
    assert rows[2]["unscored"] == "no | judge"
    assert rows[0]["low"] == "48.0"


@pytest.mark.parametrize("path", sorted(COMMITTED.glob("*/*.json")), ids=lambda path: path.stem)
def test_a_committed_table_is_rendered_as_it_stands(path):
    text = markdown.render_table(json.loads(path.read_text(encoding="utf-8")))
    assert path.with_suffix(".md").read_text(encoding="utf-8").startswith(text.rstrip())
