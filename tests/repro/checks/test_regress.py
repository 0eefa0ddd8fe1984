"""The regression gate: what it compares, what it refuses, and its exit codes."""

import json
import shutil
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from benchmarks.llava_w import LLAVA_W
from benchmarks.pope import POPE, POPE_AUC
from c3l.artifacts.files import SEAL
from c3l.checks.conformance import CHECKS
from c3l.runtime.errors import UserError
from c3l.runtime.hub import seal_weights
from repro import profile
from repro.checks import baseline, junit
from repro.checks.junit import Case
from repro.checks.regress import Gate, run_gate
from repro.columns import COLUMNS, pope_counts
from tests.repro import toy
from tests.repro.toy import ROOT, repro

POCKET = ROOT / "benchmarks" / "pocket"


@pytest.fixture(scope="module")
def toys(tiny_llava, tmp_path_factory):
    """The options of the toy profile's gate, with its baseline just written."""
    folder = tmp_path_factory.mktemp("regress")
    options = ["--backbone", tiny_llava, "--profile", toy.profile(folder, tiny_llava)]
    options += ["--runs", folder / "runs", "--jobs", 1, "--baseline", folder / "baseline.json"]
    done = repro("regress", *options, "--update")
    assert done.returncode == 0, done.stderr
    assert "baseline.json" in done.stdout.splitlines()[-1]
    return options


def gate(options, **changes) -> Gate:
    """The same gate in this process, with changes."""
    told = dict(zip(options[::2], options[1::2], strict=True))
    loaded = profile.load(str(told["--profile"]), changes.pop("set_", None))
    given = {
        "backbone": str(told["--backbone"]),
        "baseline": told["--baseline"],
        "profile": loaded,
        "runs": told["--runs"],
        "jobs": 1,
        "benchmarks": list(loaded.scoring.tasks),
        "tolerance": 0.0,
        "update": False,
        "junit": None,
    }
    return Gate(**given | changes)


def cases(path) -> dict[str, ET.Element]:
    """The test cases of a JUnit file by name, their counts checked."""
    root = ET.parse(path).getroot()
    assert root.tag == "testsuites"
    assert [suite.tag for suite in root] == ["testsuite"] * len(root)
    for suite in root:
        assert int(suite.get("tests")) == len(suite.findall("testcase")) == len(suite)
        assert int(suite.get("failures")) == len(suite.findall("testcase/failure"))
        assert int(suite.get("skipped")) == len(suite.findall("testcase/skipped"))
    assert int(root.get("tests")) == sum(len(suite) for suite in root)
    return {case.get("name"): case for case in root.iter("testcase")}


def test_the_backbone_of_the_baseline_has_not_regressed(toys, tmp_path):
    done = repro("regress", *toys, "--junit", tmp_path / "junit.xml")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "Nothing has regressed."
    found = cases(tmp_path / "junit.xml")
    assert [*found][: len(CHECKS)] == [*CHECKS]
    assert {*found} - CHECKS.keys() == {"SEED", "POPE", "POPE AUC", "LLaVA^W", "MMB"}
    assert [name for name, case in found.items() if len(case) > 1] == ["LLaVA^W"]
    assert "no judge" in found["LLaVA^W"].find("skipped").get("message")
    assert "+0.0 [0.0, 0.0]" in found["SEED"].findtext("system-out")


def test_a_loss_is_a_regression_beyond_the_tolerance(toys, tmp_path):
    kept = json.loads(toys[-1].read_text())
    scores = kept["benchmarks"]["SEED"]["scores"]
    now = 100 * np.mean([*scores.values()])
    kept["benchmarks"]["SEED"] |= {"scores": dict.fromkeys(scores, 1.0), "value": 100.0}
    path = tmp_path / "perfect.json"
    path.write_text(json.dumps(kept))
    written = tmp_path / "junit.xml"
    text, well = run_gate(gate(toys, baseline=path, benchmarks=["SEED"], junit=written))
    assert not well and text.splitlines()[-1] == "Failed: SEED."
    assert "lies wholly below 0" in cases(written)["SEED"].find("failure").get("message")
    text, well = run_gate(gate(toys, baseline=path, benchmarks=["SEED"], tolerance=100 - now))
    assert well


def test_a_backbone_that_its_seal_does_not_match_is_told_what_to_do(toys, tiny_llava, tmp_path):
    folder = tmp_path / "edited"
    shutil.copytree(tiny_llava, folder)
    seal_weights(folder)
    (folder / "generation_config.json").write_text("{}")
    for _ in range(2):
        with pytest.raises(UserError) as error:
            run_gate(gate(toys, backbone=str(folder)))
        assert f"The backbone in {folder} is damaged: " in str(error.value)
        assert f"if it was edited on purpose, remove {folder / SEAL}" in str(error.value)
        (folder / SEAL).write_text("{}")  # the seal itself is damaged


def test_a_damaged_backbone_regresses_against_the_shipped_baseline(tmp_path, pocket_runs):
    folder = tmp_path / "llava-7b"
    shutil.copytree(POCKET / "backbones" / "llava-7b", folder)
    tensors = load_file(folder / "model.safetensors")
    torch.manual_seed(0)
    for name, tensor in tensors.items():
        if "projector" in name:
            tensor += torch.randn(tensor.shape).to(tensor.dtype) * tensor.float().std()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    (folder / SEAL).unlink()  # with it, it would be refused as damaged
    options = ["--baseline", POCKET / "baselines" / "llava-7b.json", "--benchmarks", "POPE"]
    options += ["--runs", pocket_runs(tmp_path / "runs"), "--jobs", 1]
    options += ["--junit", tmp_path / "junit.xml"]
    done = repro("regress", "--backbone", folder, *options)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    found = cases(tmp_path / "junit.xml")
    failed = [name for name, case in found.items() if case.find("failure") is not None]
    assert failed == ["POPE"]


def other_questions(kept):
    kept["benchmarks"]["SEED"]["questions"] = "0" * 64


def another_metric(kept):
    kept["benchmarks"]["POPE"]["metric"] = "accuracy"


def a_question_less(kept):
    kept["benchmarks"]["MMB"]["scores"].popitem()


def no_such_benchmark(kept):
    del kept["benchmarks"]["MMB"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (other_questions, "other questions in SEED"),
        (another_metric, "has the metric accuracy, not .* in POPE"),
        (a_question_less, "other questions in MMB"),
        (no_such_benchmark, "has no MMB"),
    ],
)
def test_what_cannot_be_compared_is_refused(toys, tmp_path, monkeypatch, change, said):
    monkeypatch.setattr("repro.checks.regress._conformance", lambda _: ({"dtype": "float32"}, []))
    kept = json.loads(toys[-1].read_text())
    change(kept)
    path = tmp_path / "baseline.json"
    path.write_text(json.dumps(kept))
    with pytest.raises(UserError, match=said) as error:
        run_gate(gate(toys, baseline=path))
    assert "\n" not in str(error.value) and "--update" in str(error.value)


def test_a_folder_in_place_of_a_file_is_refused_before_any_work(toys, tmp_path):
    asked = {"baseline": tmp_path, "update": True}, {"junit": tmp_path}
    for options in asked:
        with pytest.raises(UserError, match="is a folder; give the name of a file"):
            run_gate(gate(toys, runs=tmp_path / "new", **options))
    assert not (tmp_path / "new").exists()


def test_another_setting_is_refused_before_any_work(toys, tmp_path):
    done = repro("regress", *toys, "--set", "scoring.batch_size=3", "--runs", tmp_path / "new")
    assert done.returncode == 2 and done.stdout == ""
    assert "with batch_size 8, the profile toy with 3" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "There is no baseline .*--update makes one"),
        ("{", "is no baseline .*--update"),
        ("[]", "is no baseline .*--update"),
        ('{"format": 2}', "is no baseline .*--update"),
    ],
)
def test_a_baseline_that_is_none_is_one_sentence(toys, tmp_path, content, said):
    path = tmp_path / "baseline.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=said) as error:
        run_gate(gate(toys, baseline=path, runs=tmp_path / "new"))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--baseline", "nowhere.json"], "--update makes one"),
        ([], "give --baseline FILE"),
        (["--baseline", "x", "--benchmarks", "SEED,GQA"], "no benchmark 'GQA'"),
    ],
)
def test_bad_usage_is_one_sentence_and_exit_2(options, said):
    done = repro("regress", "--backbone", "anything", *options)
    assert done.returncode == 2 and done.stdout == ""
    assert said in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_failed_check_keeps_a_baseline_from_being_written(toys, tmp_path, monkeypatch):
    failed = [Case("batch independence", "failed", "it depends", 0.1, "It does not.")]
    monkeypatch.setattr(
        "repro.checks.regress._conformance", lambda _: ({"dtype": "float32"}, failed)
    )
    text, well = run_gate(gate(toys, baseline=tmp_path / "new.json", update=True))
    assert not well and "No baseline is written." in text
    assert not (tmp_path / "new.json").exists()


def test_code_and_packages_are_part_of_what_is_stored(toys, monkeypatch):
    from repro.checks.regress import _surroundings

    before = _surroundings()
    assert before == _surroundings()
    monkeypatch.setattr("c3l.artifacts.provenance.device", lambda: "another")
    assert before != _surroundings()


marks = st.lists(st.tuples(st.sampled_from(["yes", "no"]), st.sampled_from(["yes", "no", None])))


@given(marks.filter(bool))
def test_restored_scores_are_those_that_were_kept(rows):
    """POPE's counts, which tell unreadable answers from wrong ones, from the scores alone."""
    answer, reading = map(list, zip(*rows, strict=True))
    frame = pd.DataFrame({"answer": answer, "reading": reading})
    frame["category"], frame["question_id"] = "random", [str(k) for k in range(len(rows))]
    frame["image_id"] = "one"
    frame["readable"] = [read is not None for read in reading]
    frame["correct"] = [float(a == r) for a, r in rows]
    other = frame.assign(reading="yes", correct=0.0)
    again = baseline.restore_scores(other, baseline.question_scores(frame, POPE), POPE)
    assert np.array_equal(pope_counts(again, ["one"]), pope_counts(frame, ["one"]))
    assert again["correct"].tolist() == frame["correct"].tolist()


@given(st.lists(st.floats(-9, 9), min_size=1))
def test_restored_likelihoods_are_those_that_were_kept(scores):
    frame = pd.DataFrame({"question_id": [str(k) for k in range(len(scores))], "score": scores})
    frame["category"], frame["answer"], frame["image_id"] = "random", "yes", "one"
    stored = baseline.question_scores(frame, POPE_AUC)
    again = baseline.restore_scores(frame.assign(score=0.0), stored, POPE_AUC)
    assert again["score"].tolist() == scores


@settings(max_examples=20)
@given(st.lists(st.tuples(st.floats(1, 10), st.floats(1, 10)), min_size=1, max_size=6))
def test_restored_judgements_are_those_that_were_kept(rows):
    frame = pd.DataFrame(rows, columns=["candidate_score", "reference_score"])
    frame["category"], frame["question_id"] = "detail", [str(k) for k in range(len(rows))]
    frame["image_id"] = frame["question_id"]
    scores = baseline.question_scores(frame, LLAVA_W)
    again = baseline.restore_scores(frame.assign(candidate_score=0.0), scores, LLAVA_W)
    column = COLUMNS["LLaVA^W"]
    change = column.difference(*(column.influence([[one]]) for one in (again, frame)))
    assert change[:2] == (0, 0)


def test_junit_holds_what_xml_cannot():
    text = 'a\x00b <&"> \ud800 🐈'
    content = junit.xml("x", {"suite": [Case(text, "failed", text, 0.5, text)]})
    (case,) = ET.fromstring(content).iter("testcase")
    assert case.get("name") == case.find("failure").get("message") == 'a�b <&"> � 🐈'
