"""Figures 3 and 4 at toy size through the real command line."""

import json
from pathlib import Path

import pytest

from repro.rows import PROPORTIONS
from tests.repro import toy

FIGURES = ("figure3", "figure4")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("figures") / "runs"


@pytest.fixture(scope="module")
def finished(toy_profile, runs):
    """What each figure printed; a function that runs one."""

    def run(name: str) -> str:
        less = ("--seeds", 1, "--jobs", 1, "--set", "sizes.tuning_seeds=1")
        done = toy.repro(name, "--profile", toy_profile, "--runs", runs, *less)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return {name: run(name) for name in FIGURES}, run


def files(runs: Path, name: str) -> dict[str, bytes]:
    """A figure's files by their path."""
    found = (path for path in (runs / "toy").rglob("*.*") if name in str(path))
    return {str(path.relative_to(runs / "toy")): path.read_bytes() for path in found}


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_written_and_drawn(finished, runs, name):
    said, found = finished[0][name], files(runs, name)
    assert said.startswith(f"**Figure {name[-1]}.** ")
    assert said == found[f"{name}.md"].decode() + "\n"
    table = json.loads(found[f"{name}.json"])
    drawn = {"figure3.svg", "figure3.png"}
    if name == "figure4":
        drawn = {image["file"] for image in table["gallery"]["images"]}
        assert 1 <= len(drawn) <= 4  # so few pairs are drawn that not every image is in both
    assert found.keys() == {f"{name}.{kind}" for kind in ("md", "csv", "json")} | drawn
    assert all(file in said for file in drawn if file != "figure3.png")


@pytest.mark.parametrize("name", FIGURES)
def test_from_the_store_not_a_byte_is_different(finished, runs, name):
    said, run = finished
    before = files(runs, name)
    assert run(name) == said[name]
    assert files(runs, name) == before


def test_a_proportion_whose_backbone_is_not_there_says_so(finished, runs):
    table = json.loads(files(runs, "figure3")["figure3.json"])
    assert [row["label"] for row in table["rows"]] == [row.label for row in PROPORTIONS]
    reason = "the profile toy has no backbone MiniGPT-4"
    for row in table["rows"]:
        here = row["label"].startswith("LLaVA")
        for cell in row["cells"].values():
            assert (cell["unscored"] != reason) == here
            assert cell["value"] is None  # the toy world has no judge
    assert f"unscored: {reason}" in finished[0]["figure3"]
