"""Table 4 at toy size through the real command line, checked (tests/faults disturbs it).

All in one file, so that parallel test workers share its one undisturbed run.
"""

import json
import os
import subprocess
from pathlib import Path
from statistics import fmean

import pandas as pd
import pytest
from lmms_eval.tasks.pope.utils import pope_aggregate_f1_score

import repro.paper
from benchmarks.pope import CATEGORIES
from tests.benchmarks import plain
from tests.faults.running import leftovers, made
from tests.repro import toy


def options(profile: Path, runs: Path) -> list:
    return ["table4", "--profile", profile, "--runs", runs, "--seeds", 1, "--jobs", 2]


SEED = {"seedbench": "seed_image,none", "seedbench_ppl": "acc,none"}  # lmms-eval's number


@pytest.fixture(scope="module")
def finished(toy_profile, tmp_path_factory):
    """The runs folder of an undisturbed run, and what it printed."""
    runs = tmp_path_factory.mktemp("undisturbed") / "runs"
    done = toy.repro(*options(toy_profile, runs))
    assert done.returncode == 0, done.stderr
    return runs, done.stdout


def files(runs: Path) -> dict[str, str]:
    """The table's files by suffix."""
    return {path.suffix: path.read_text() for path in (runs / "toy").glob("table4.*")}


def test_every_cell_is_measured(finished):
    runs, said = finished
    rows = toy.table(runs)["rows"]
    for row in rows:
        for cell in row["cells"].values():
            assert cell["unscored"] is None
            low, high = cell["interval"]
            assert low <= cell["value"] <= high
            assert 0 <= cell["value"] <= 100
            assert [len(some) for some in cell["extra"]["values"]] == [2]
    assert [row["cells"]["POPE"]["paper"] for row in rows] == [73.2, 74.4, 75.1, 76.0]
    assert files(runs).keys() == {".md", ".csv", ".json"}
    assert said.strip() == files(runs)[".md"].strip()
    assert not leftovers(runs)


def test_a_stored_table_is_read_without_torch(finished, toy_profile, tmp_path):
    runs, said = finished
    before = files(runs)
    for module in ("torch", "lmms_eval"):  # importing them takes seconds
        (tmp_path / f"{module}.py").write_text("raise ImportError('not needed')")
    again = toy.repro(*options(toy_profile, runs), env=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert again.returncode == 0, again.stderr
    assert again.stdout == said
    assert files(runs) == before


def test_claims_are_compared_with_what_is_stored_and_nothing_is_run(finished, toy_profile):
    runs, _ = finished
    before = files(runs), made(runs)
    compare = ["compare", "table4", "--profile", toy_profile, "--runs", runs, "--seeds"]
    done = toy.repro(*compare, 1)
    assert done.returncode == 0, done.stderr
    for claim in repro.paper.claims():
        assert (f"“{claim.sentence}”" in done.stdout) == (claim.table == "table4")
    assert "image-dependent claims, % is not measured in the toy profile" in done.stdout
    more = toy.repro(*compare, 2)
    assert more.returncode == 2
    assert more.stdout == ""
    assert "table4 has not been run with these options" in more.stderr
    assert (files(runs), made(runs)) == before


@pytest.fixture
def read_only(finished, tmp_path):
    """The runs folder on a disk that cannot be written."""
    runs, place = finished[0], tmp_path / "read-only"
    place.mkdir()
    mount = ["mount", "--bind", str(runs), str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a file system")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(place)], check=True)
        with pytest.raises(OSError, match="Read-only"):
            (place / "file").touch()
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_what_only_reads_runs_on_a_read_only_disk(read_only, toy_profile, tmp_path):
    options = ["--profile", toy_profile, "--seeds", 1, "--runs", read_only]
    out = tmp_path / "report.html"
    for command, words in (
        (["compare", "table4"], "What the paper claims"),
        (["plan", "table4"], "0 of "),
        (["report", "--out", out], "report.html"),
    ):
        done = toy.repro(*command, *options)
        assert done.returncode == 0, done.stderr
        assert words in done.stdout
        assert "cannot be written" not in done.stdout + done.stderr
    assert "table4" in out.read_text()
    inside = toy.repro("report", *options)
    assert inside.returncode == 2
    assert "report.html cannot be written (Read-only file system)" in inside.stderr
    assert "Traceback" not in inside.stderr


@pytest.mark.parametrize("column", ["SEED", "POPE"])
def test_a_cell_is_what_lmms_eval_alone_says(finished, toy_profile, tmp_path, column):
    """Of the saved checkpoint, with transformers alone and lmms-eval's own task."""
    store = finished[0] / "store"
    cell = toy.table(finished[0])["rows"][-1]["cells"][column]
    ours = store / "evaluation" / cell["artefacts"][0]
    manifest = json.loads((ours / "manifest.json").read_text())
    task, length = manifest["config"]["task"], manifest["config"]["answer_tokens"]
    theirs = plain.outcome(
        store / "vlit" / manifest["inputs"]["weights"],
        task,
        toy_profile.parent / "world" / "benchmarks" / task.removesuffix("_ppl"),
        tmp_path,
        length,
    )
    samples, answers = theirs["samples"], pd.read_parquet(ours / "samples.parquet")
    if task != "seedbench_ppl":
        said = [sample["filtered_resps"][0] for sample in samples]
        assert [text.strip() for text in answers["response"]] == said
    if task == "pope":  # the paper's number is the mean over the three samplings
        value = fmean(
            pope_aggregate_f1_score(
                [s["pope_f1_score"] for s in samples if s["doc"]["category"] == category]
            )
            for category in CATEGORIES
        )
    else:
        value = theirs["results"][SEED[task]]
    assert cell["extra"]["values"][0][0] == pytest.approx(100 * value)
