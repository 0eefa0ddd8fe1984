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


def test_the_report_is_of_what_has_been_run_with_these_options(finished, toy_profile, runs):
    options = ("report", "--profile", toy_profile, "--runs", runs)
    less = ("--set", "sizes.tuning_seeds=1")
    done = toy.repro(*options, *less)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{runs / 'toy' / 'report.html'}\n"
    page = Path(done.stdout.strip()).read_text(encoding="utf-8")
    assert "Figure 3:" in page and "Figure 4:" in page
    assert f"repro table4 --profile {toy_profile} --set sizes.tuning_seeds=1 --runs {runs}" in page
    assert '"stage":"relevance"' in page
    out = runs / "other.html"
    done = toy.repro(*options, *less, "--seeds", 1, "--out", out)
    assert (done.returncode, done.stdout) == (0, f"{out}\n")
    done = toy.repro(*options, *less, "--seeds", 2, "--out", runs / "none.html")
    assert done.returncode == 2 and not (runs / "none.html").exists()
    assert "were made with other options" in done.stderr
    done = toy.repro(*options, "--out", runs / "none.html")  # other tuning seeds: figure 4 has none
    assert done.returncode == 0, done.stderr
    page = (runs / "none.html").read_text(encoding="utf-8")
    assert "Figure 4:" in page and "Figure 3:" not in page
    assert "figure3</b> was last run with other options" in page
