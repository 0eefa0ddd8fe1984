"""Table 4 at toy size through the real command line: left alone, stopped, killed, and checked.

All in one file, so that parallel test workers share its one undisturbed run.
"""

import json
import os
import shutil
from pathlib import Path
from statistics import fmean

import pandas as pd
import pytest
from lmms_eval.tasks.pope.utils import pope_aggregate_f1_score

import tables.paper
from benchmarks.pope import CATEGORIES
from tests.benchmarks import plain
from tests.end_to_end.running import HALF_DONE, Running, options
from tests.repro import toy

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


def what_lasts(runs: Path) -> dict:
    """The table's files without dates and times, and without the commit: a checkout may change
    while its tests run."""
    found = files(runs)
    table = json.loads(found[".json"])
    times = {name: table.pop(name) for name in ("made", "core_seconds", "wall_clock_seconds")}
    assert all(times.values())
    return found | {".json": table, ".md": found[".md"].replace(table.pop("commit"), "")}


def manifests(runs: Path) -> list[Path]:
    return [p for p in (runs / "store").glob("*/*/manifest.json") if p.parent.name[0] != "."]


def made(runs: Path) -> dict[Path, tuple[int, int]]:
    """Each artefact's manifest, and what changes when it is written again."""
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in manifests(runs)}


def contents(runs: Path) -> dict[str, dict[str, str]]:
    """Of each artefact the digests of its files; not of lmms-eval's log, which has the time."""
    found = {}
    for path in manifests(runs):
        digests = json.loads(path.read_text())["files"]
        digests.pop("lmms_eval.log", None)
        found[f"{path.parent.parent.name}/{path.parent.name}"] = digests
    return found


def leftovers(runs: Path) -> list[Path]:
    return [*runs.rglob(".tmp-*"), *runs.rglob(".partial-*"), *runs.glob("store/damaged")]


def test_every_cell_is_measured(finished):
    runs, said = finished
    rows = toy.table(runs)["rows"]
    for row in rows:
        for cell in row["cells"].values():
            assert cell["unscored"] is None
            low, high = cell["interval"]
            assert 0 <= low <= cell["value"] <= high <= 100
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
    for claim in tables.paper.claims():
        assert (f"“{claim.sentence}”" in done.stdout) == (claim.table == "table4")
    assert "image-dependent, % is not measured in the toy profile" in done.stdout
    more = toy.repro(*compare, 2)
    assert more.returncode == 2
    assert more.stdout == ""
    assert "table4 has not been run with these options" in more.stderr
    assert (files(runs), made(runs)) == before


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


def test_sigterm_ends_a_run_in_order(toy_profile, tmp_path):
    with Running(toy_profile, tmp_path / "runs") as run:
        run.half_done("captions")
        run.process.terminate()
        assert run.process.wait(timeout=30) == 130
        assert run.all_dead(seconds=10)
    assert "run the same command again" in run.said.read_text()
    assert not list((tmp_path / "runs").rglob(".tmp-*"))


def test_a_run_killed_in_each_stage_ends_with_the_same_table(finished, toy_profile, tmp_path):
    runs = tmp_path / "runs"
    for kind in HALF_DONE:
        before = made(runs)
        for _ in range(5):
            with Running(toy_profile, runs) as run:
                key = run.half_done(kind)
                assert len(run.alive()) > 1
                run.process.kill()  # it alone: its workers have to notice
                assert run.all_dead(seconds=10)
            artefact = runs / "store" / kind / key
            if not artefact.exists():
                break
            shutil.rmtree(artefact)  # it was finished before its worker was dead: once more
        else:
            pytest.fail(f"{kind} was always finished before its worker was dead")
        assert artefact.with_name(f".tmp-{key}").exists()
        assert not (runs / "toy" / "table4.json").exists()
        assert before.items() <= made(runs).items()
    before = made(runs)
    done = toy.repro(*options(toy_profile, runs))
    assert done.returncode == 0, done.stderr
    assert before.items() <= made(runs).items()
    assert not leftovers(runs)
    assert contents(runs) == contents(finished[0])
    assert what_lasts(runs) == what_lasts(finished[0])
