"""Every task through lmms-eval, with answers known beforehand."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lmms_eval.tasks.pope import utils as official
from PIL import ImageFile

from benchmarks import BENCHMARKS, Benchmark, pope
from benchmarks.evaluate import NO_JUDGE, evaluate
from c3l.runtime.errors import UserError
from tests.benchmarks import data
from tests.benchmarks.data import TableBackbone

SEED = {f"number {i}?": "ABCD"[i % 4] for i in reversed(range(12))}
POPE_RIGHT = {"the yes": "Yes", "the no": "No"}


@pytest.fixture(scope="module")
def benchmarks(tmp_path_factory):
    root = tmp_path_factory.mktemp("benchmarks")
    for name in ("seedbench", "pope", "mmbench", "llava_w"):
        getattr(data, name)(root / name)
    return root


def test_seed_all_right(benchmarks, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    cell = evaluate(TableBackbone(SEED), "seedbench", benchmarks / "seedbench", tmp_path / "out")
    assert (cell["metric"], cell["value"], cell["unscored"]) == ("seed_image", 100, None)
    assert (cell["n"], cell["unreadable"]) == (12, 0)  # the video question is left out
    assert set(cell["extra"]["categories"].values()) == {100}
    assert json.loads((tmp_path / "out" / "results.json").read_text())["cell"] == cell
    samples = pd.read_parquet(tmp_path / "out" / "samples.parquet")
    assert list(samples["question_id"]) == [str(1000 + i) for i in range(12)]
    assert samples["image_id"].nunique() == 6
    assert samples["image_id"].is_monotonic_increasing or len(set(samples["image_id"][:2])) == 1
    # Nothing on the two standard streams, nothing beside the output folder, no cache left.
    assert capfd.readouterr() == ("", "")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "samples.parquet",
        "results.json",
        "lmms_eval.log",
    }


def test_a_benchmark_that_was_added_is_a_mean_over_its_questions(tmp_path, monkeypatch):
    added = Benchmark("realworldqa/realworldqa.yaml", "exact_match", "RealWorldQA", 100)
    monkeypatch.setitem(BENCHMARKS, "realworldqa", added)
    rows = [
        {"image": data.image(k // 2), "question": f"What is {k}?", "answer": str(k)}
        for k in range(6)
    ]
    features = {"image": data.Image(), "question": data.TEXT, "answer": data.TEXT}
    folder = data.write(tmp_path / "data", rows, features, "test")
    table = {f"is {k}?": str(k) for k in (0, 1, 3, 4)}
    cell = evaluate(TableBackbone(table, otherwise="none"), "realworldqa", folder, tmp_path)
    assert (cell["metric"], cell["n"], cell["unscored"]) == ("RealWorldQA", 6, None)
    assert cell["value"] == pytest.approx(100 * 4 / 6)
    samples = pd.read_parquet(tmp_path / "samples.parquet")
    assert samples["correct"].tolist() == [1, 1, 0, 1, 1, 0]
    assert samples["response"].tolist() == ["0", "1", "none", "3", "4", "none"]
    assert samples["image_id"].nunique() == 3


def test_seed_reads_the_first_character(benchmarks, tmp_path):
    table = SEED | {"number 1?": "(B)", "number 2?": "The answer is C"}
    cell = evaluate(TableBackbone(table), "seedbench", benchmarks / "seedbench", tmp_path)
    assert cell["value"] == pytest.approx(100 * 10 / 12)
    assert cell["unreadable"] == pytest.approx(2 / 12)


def test_seed_sets_its_own_length_and_decodes_greedily(benchmarks, tmp_path):
    backbone = TableBackbone(SEED)
    evaluate(backbone, "seedbench", benchmarks / "seedbench", tmp_path, batch_size=5)
    assert [len(call["questions"]) for call in backbone.calls] == [5, 5, 2]
    assert {call["max_new_tokens"] for call in backbone.calls} == {16}
    assert {call["temperature"] for call in backbone.calls} == {0.0}
    assert {call["stop"] for call in backbone.calls} == {("ASSISTANT:",)}


def test_changed_data_under_an_old_name_is_read_anew(tmp_path):
    folder = data.seedbench(tmp_path / "data", n=4)
    assert evaluate(TableBackbone(SEED), "seedbench", folder, tmp_path / "one")["n"] == 4
    data.seedbench(tmp_path / "data", n=8)
    assert evaluate(TableBackbone(SEED), "seedbench", folder, tmp_path / "two")["n"] == 8


def test_pope_all_right(benchmarks, tmp_path):
    cell = evaluate(TableBackbone(POPE_RIGHT), "pope", benchmarks / "pope", tmp_path)
    assert cell["value"] == cell["extra"]["pooled"]["accuracy"] == 100
    assert cell["extra"]["llava_rule"] == {"mean_f1": 100, "accuracy": 100, "yes_share": 50}
    samples = pd.read_parquet(tmp_path / "samples.parquet")
    assert samples["image_id"].nunique() == 4  # one image in three categories is one cluster


def test_pope_known_mistakes(benchmarks, tmp_path):
    # In "random" every no-question is answered yes: F1 = 2·4 / (2·4 + 4) = 2/3.
    table = {"no random": "yes"} | POPE_RIGHT
    cell = evaluate(TableBackbone(table), "pope", benchmarks / "pope", tmp_path)
    assert cell["value"] == pytest.approx(100 * (2 / 3 + 1 + 1) / 3)
    assert cell["extra"]["pooled"]["f1_score"] == pytest.approx(100 * 24 / 28)
    assert cell["extra"]["yes_share"] == pytest.approx(100 * 16 / 24)


def test_pope_a_whole_sentence_is_unreadable_to_lmms_eval_only(benchmarks, tmp_path):
    table = {"yes adversarial": "Yes, there is."} | POPE_RIGHT
    cell = evaluate(TableBackbone(table), "pope", benchmarks / "pope", tmp_path)
    assert cell["value"] == pytest.approx(100 * 2 / 3)
    assert cell["unreadable"] == pytest.approx(4 / 24)
    assert cell["extra"]["llava_rule"]["mean_f1"] == 100


@given(st.lists(st.tuples(st.sampled_from(["yes", "no"]), st.sampled_from(["yes", "no", "hm"]))))
def test_pope_f1_equals_lmms_evals(pairs):
    answers = np.array([a for a, _ in pairs], dtype=object)
    readings = np.array([pope.lmms_eval_reading(r) for _, r in pairs], dtype=object)
    results = [{"prediction": r, "ground_truth": a} for a, r in pairs]
    assert pope.f1(answers, readings) == pytest.approx(official.pope_aggregate_f1_score(results))


def test_pope_without_a_category_is_unscored(tmp_path):
    folder = data.pope(tmp_path / "pope", categories=("random", "adversarial"))
    cell = evaluate(TableBackbone(POPE_RIGHT), "pope", folder, tmp_path / "out")
    assert cell["value"] is None
    assert cell["unscored"] == "no questions of POPE's popular sampling"


def test_mmbench_wants_every_rotation_right(benchmarks, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = {"thing 1, turn 1": "A", "turn 0": "A", "turn 1": "The thing is \x00\x0cred."}
    cell = evaluate(TableBackbone(table), "mmbench", benchmarks / "mmbench", tmp_path / "out")
    assert cell["value"] == pytest.approx(100 * 2 / 3)
    assert (cell["n"], cell["unreadable"]) == (3, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_llava_w_without_a_judge_is_unscored_and_asks_no_one(benchmarks, tmp_path, monkeypatch):
    def no_network(*args, **kwargs):
        raise AssertionError("the network was called")

    monkeypatch.setattr("socket.socket.connect", no_network)
    cell = evaluate(TableBackbone({}, "A ball."), "llava_w", benchmarks / "llava_w", tmp_path)
    assert (cell["value"], cell["unscored"], cell["n"]) == (None, NO_JUDGE, 3)
    assert set(pd.read_parquet(tmp_path / "samples.parquet")["response"]) == {"A ball."}


def test_the_limit_on_length_bounds_the_tasks_own(benchmarks, tmp_path):
    backbone = TableBackbone({}, "A ball.")
    evaluate(backbone, "llava_w", benchmarks / "llava_w", tmp_path, max_new_tokens=32)
    assert {call["max_new_tokens"] for call in backbone.calls} == {32}


@pytest.mark.parametrize(
    ("task", "folder", "message"),
    [
        ("vqa", ".", "There is no benchmark 'vqa'"),
        ("pope", "nowhere", "No parquet files for pope"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, task, folder, message):
    with pytest.raises(UserError, match=message):
        evaluate(TableBackbone({}), task, tmp_path / folder, tmp_path / "out")


def test_a_file_that_is_no_parquet(tmp_path):
    (tmp_path / "test.parquet").write_bytes(b"not parquet")
    with pytest.raises(UserError, match="cannot be read"):
        evaluate(TableBackbone({}), "pope", tmp_path, tmp_path / "out")


def test_lmms_eval_leaves_cut_images_an_error():
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
