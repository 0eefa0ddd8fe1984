"""Figure 3: one bar a scored point, the paper's colours, nothing drawn that was not measured."""

import xml.etree.ElementTree as ET

import pytest

from repro.render import figures

SVG = "{http://www.w3.org/2000/svg}"
SHARES = (5, 10, 20, 30, 50, 100)


def cell(value: float | None, reason: str | None = None) -> dict:
    interval = None if value is None else [value - 2, value + 3]
    return {
        "value": value,
        "interval": interval,
        "n": 60,
        "paper": None,
        "metric": "a score",
        "judge": "the rules",
        "unscored": reason,
    }


@pytest.fixture
def table() -> dict:
    """Two columns; one line is measured nowhere, of the other one cell is not."""
    rows = []
    for line in ("LLaVA", "MiniGPT-4"):
        for share in SHARES:
            lacking = line == "MiniGPT-4"
            first = cell(None, "it is not here") if lacking else cell(50 + share / 10)
            second = cell(None, "no & judge") if lacking or share == 30 else cell(40.0)
            rows.append({"label": f"{line}, {share}%", "cells": {"LLaVA^W": first, "S": second}})
    return {
        "table": "figure3",
        "title": "Proportions",
        "profile": "pocket",
        "seeds": [0, 1],
        "tuning_seeds": 2,
        "commit": "0123abc",
        "interval": "95% intervals",
        "units": {"LLaVA^W": "questions a model", "S": "samples a data set"},
        "rows": rows,
        "notes": ["One seed is no seed."],
    }


def bars(svg: ET.Element, name: str) -> list[ET.Element]:
    return [part for g in svg.iter(f"{SVG}g") if g.get("id") == name for part in g.iter()][1:]


def said(svg: ET.Element) -> str:
    return " ".join(" ".join(text.itertext()).strip() for text in svg.iter(f"{SVG}text"))


def test_every_scored_point_has_a_bar_and_no_other_has(table):
    svg = ET.fromstring(figures.draw_figure(table)["figure3.svg"])
    assert len(bars(svg, "intervals-0-LLaVA")) == 6
    assert len(bars(svg, "intervals-1-LLaVA")) == 5
    assert not bars(svg, "intervals-0-MiniGPT-4")
    scored = table["rows"][-1]["cells"]
    scored["S"] = cell(30.0)
    svg = ET.fromstring(figures.draw_figure(table)["figure3.svg"])
    assert len(bars(svg, "intervals-1-MiniGPT-4")) == 1


def test_lines_have_the_papers_colours(table):
    for row in table["rows"]:
        row["cells"] = {"S": cell(30.0)}
    svg = ET.fromstring(figures.draw_figure(table)["figure3.svg"])
    for line, colour in (("LLaVA", "#ff7f0e"), ("MiniGPT-4", "#1f77b4")):
        found = bars(svg, f"intervals-0-{line}")
        assert len(found) == 6
        assert all(colour in bar.get("style") for bar in found)


def test_the_caption_says_how_it_was_measured_and_what_is_missing(table):
    words = said(ET.fromstring(figures.draw_figure(table)["figure3.svg"]))
    assert "Figure 3. Proportions" in words
    assert "Profile pocket; data seeds 0, 1; 2 tuning seeds for each; commit 0123abc." in words
    assert "LLaVA^W: a score; n = 60 questions a model; judge: the rules." in words
    every = "5, 10, 20, 30, 50, 100%"
    assert f"Not measured: LLaVA^W of MiniGPT-4 at {every}: it is not here." in words
    assert "Bars: 95% intervals." in words and "One seed is no seed." in words
    assert "Not measured: S of LLaVA at 30%: no & judge." in words
    assert figures.X_LABEL in words and "LLaVA^W (pocket)" in words


def test_the_same_table_gives_the_same_bytes(table):
    first, second = figures.draw_figure(table), figures.draw_figure(table)
    assert list(first) == ["figure3.svg", "figure3.png"]
    assert first == second
    assert first["figure3.png"].startswith(b"\x89PNG")
    assert b"<dc:date>" not in first["figure3.svg"]
    table["rows"][0]["cells"]["S"] = cell(41.0)
    assert figures.draw_figure(table)["figure3.png"] != first["figure3.png"]


def test_an_interval_without_its_value_is_drawn(table):
    table["rows"][0]["cells"]["S"]["interval"] = [41.0, 43.0]  # the value is 40
    figures.draw_figure(table)


def test_with_nothing_measured_the_figure_is_still_there(table):
    for row in table["rows"]:
        row["cells"] = {"S": cell(None, "nothing worked")}
    svg = ET.fromstring(figures.draw_figure(table)["figure3.svg"])
    every = "5, 10, 20, 30, 50, 100%"
    assert f"Not measured: S of LLaVA at {every}: nothing worked." in said(svg)


def test_what_is_measured_in_no_column_for_one_reason_is_said_once(table):
    for row in table["rows"]:
        row["cells"] = dict.fromkeys(row["cells"], cell(None, "nothing worked"))
    words = said(ET.fromstring(figures.draw_figure(table)["figure3.svg"]))
    assert words.count("Not measured: LLaVA^W and S of ") == words.count("Not measured") == 2
