"""Benchmarks of somebody's own, whose metrics are of the whole data set: F1, a median, a ratio."""

import json

import numpy as np
import pandas as pd
import pytest

from benchmarks import BENCHMARKS, Benchmark
from benchmarks.base import COLUMNS
from benchmarks.evaluate import evaluate
from c3l.runtime.errors import UserError
from repro.analysis.statistics import accuracy
from repro.analysis.table import disagreement
from repro.checks import baseline
from repro.columns import computed, correct_counts, counted
from tests.benchmarks import data
from tests.benchmarks.data import TableBackbone

UTILS = """
from sklearn.metrics import f1_score


def visual(doc):
    return [doc["image"].convert("RGB")]


def text(doc, lmms_eval_specific_kwargs=None):
    return doc["question"]


def results(doc, results):
    said, gold = results[0].strip().lower(), doc["answer"]
    found = {
        "pair": (gold, said),
        "words": {"said": len(said.split()), "gold": len(gold), "parts": said.split()},
        "length": len(said),
        "mixed": {"value": said if said == "yes" else 0},
        "nothing": 1,
        "text": said,
    }
    if gold != "no":
        found["some"] = {"right": said == gold}
    return found


def macro_f1(pairs):
    return f1_score(*zip(*pairs), average="macro")


def rounded_ratio(words):
    return round(100 * sum(w["said"] for w in words) / sum(w["gold"] for w in words), 1)


def median(lengths):
    return sorted(lengths)[len(lengths) // 2]


def share(some):
    return sum(one["right"] for one in some) / len(some)


def values(mixed):
    return len(mixed)


def nan(items):
    return float("nan")


def parts(items):
    return {"all": len(items)}


def same(texts):
    return texts.count("yes") / len(texts)
"""
METRICS = {
    "pair": "macro_f1",
    "words": "rounded_ratio",
    "length": "median",
    "some": "share",
    "mixed": "values",
    "nothing": "nan",
    "text": "same",
}
SAID = {"number 0?": "yes", "number 1?": "no", "number 2?": "yes yes", "number 3?": "no"}


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A task of one's own in a folder, and its data."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "utils.py").write_text(UTILS)
    lists = [
        f"  - metric: {name}\n    aggregation: !function utils.{function}\n"
        "    higher_is_better: true\n"
        for name, function in METRICS.items()
    ]
    (folder / "own.yaml").write_text(
        "task: own\ntest_split: test\noutput_type: generate_until\ndoc_to_target: answer\n"
        "doc_to_visual: !function utils.visual\ndoc_to_text: !function utils.text\n"
        "process_results: !function utils.results\n"
        "generation_kwargs:\n  max_new_tokens: 8\nmetric_list:\n" + "".join(lists)
    )
    rows = [
        {"image": data.image(k // 2), "question": f"Is it number {k}?", "answer": answer}
        for k, answer in enumerate(("yes", "no", "maybe", "yes", "no", "no"))
    ]
    features = {"image": data.Image(), "question": data.TEXT, "answer": data.TEXT}
    data.write(folder / "data", rows, features, "test")
    return folder


@pytest.fixture
def scored(own, tmp_path, monkeypatch):
    """A cell and its samples, by the key of the metric."""

    def score(key: str, scale: float = 1.0) -> tuple[dict, pd.DataFrame]:
        own_benchmark = Benchmark(str(own / "own.yaml"), key, key, scale)
        monkeypatch.setitem(BENCHMARKS, "own", own_benchmark)
        cell = evaluate(TableBackbone(SAID, "maybe"), "own", own / "data", tmp_path / key)
        json.dumps(cell, allow_nan=False)
        return cell, pd.read_parquet(tmp_path / key / "samples.parquet")

    return score


def macro_f1(samples):
    from sklearn.metrics import f1_score

    return 100 * f1_score(samples["scored.0"], samples["scored.1"], average="macro")


def ratio(samples):
    return 100 * samples["scored.said"].sum() / samples["scored.gold"].sum()


def median(samples):
    return sorted(samples["correct"])[len(samples) // 2]


@pytest.mark.parametrize(
    ("key", "scale", "value"),
    [("pair", 100, macro_f1), ("words", 1, ratio), ("length", 1, median)],
)
def test_a_metric_of_the_whole_data_set_is_scored(scored, key, scale, value):
    cell, samples = scored(key, scale)
    assert cell["unscored"] is None
    assert cell["n"] == len(samples) == 6
    column = computed("questions", value)
    found = column.estimate(column.influence([[samples]]))
    assert disagreement([cell["value"]], found.value) is None
    assert found.value == pytest.approx(cell["value"], abs=0.05)
    assert found.low <= found.value <= found.high


def test_what_a_metric_keeps_of_a_question_is_in_columns(scored):
    _, samples = scored("words")
    assert samples["scored.said"].tolist() == [1, 1, 2, 1, 1, 1]
    assert samples["scored.parts"].tolist()[2] == '["yes", "yes"]'
    assert "correct" not in samples
    assert scored("pair")[1]["scored.1"].tolist() == ["yes", "no", "yes yes", "no", *["maybe"] * 2]
    assert scored("length")[1]["correct"].tolist() == [3, 2, 7, 2, 5, 5]
    assert scored("mixed")[1]["scored.value"].tolist() == ['"yes"', *"00000"]
    assert scored("text")[1]["scored"].tolist()[0] == "yes"


def test_a_question_that_a_metric_leaves_out_is_no_row(scored):
    cell, samples = scored("some", 100)
    assert samples["question_id"].tolist() == ["0", "2", "3"]
    assert (cell["n"], cell["value"]) == (3, pytest.approx(100 / 3))
    assert samples["scored.right"].tolist() == [True, False, False]


def test_a_number_that_the_column_does_not_give_is_another(scored):
    cell, samples = scored("pair", 100)
    samples = samples.assign(correct=(samples["scored.0"] == samples["scored.1"]).astype(float))
    found = counted("questions", correct_counts, accuracy).influence([[samples]])
    assert "the benchmark says" in disagreement([cell["value"]], found.value)


def test_a_number_that_is_none_is_unscored(scored):
    cell, _ = scored("nothing")
    assert (cell["value"], cell["unscored"]) == (None, "lmms-eval's number is nan")


def test_a_metric_that_is_not_there_is_one_sentence(scored):
    with pytest.raises(UserError, match="own has no metric 'f1'; it has pair, words, length"):
        scored("f1")


def test_a_table_of_ones_own_says_what_it_lacks(scored, monkeypatch):
    columns = {name: ["a"] for name in COLUMNS[:-1]}
    monkeypatch.setattr(Benchmark, "table", lambda *log: pd.DataFrame(columns))
    with pytest.raises(UserError, match="table of own has no column readable"):
        scored("pair")


def test_a_baseline_keeps_what_such_a_number_is_computed_from(scored):
    cell, samples = scored("pair", 100)
    benchmark = BENCHMARKS["own"]
    kept = baseline.BenchmarkScores(
        settings={},
        metric="pair",
        value=cell["value"],
        questions=baseline.questions_digest(samples),
        scores=baseline.question_scores(samples, benchmark),
    )
    kept = baseline.BenchmarkScores.model_validate_json(kept.model_dump_json())
    worse = samples.assign(**{"scored.1": "no", "response": "no"})
    assert baseline.mismatch(kept, worse, benchmark, "pair") is None
    before = baseline.restore_scores(worse, kept.scores, benchmark)
    assert before[samples.columns].equals(samples)
    assert macro_f1(before) == pytest.approx(cell["value"])
    assert macro_f1(worse) < cell["value"]


def test_what_a_metric_keeps_may_be_of_any_number_type(tmp_path):
    import torch

    def kept(*values):
        logged = [
            {"doc_id": k, "target": "\ud800", "filtered_resps": ["said"], "it": value}
            for k, value in enumerate(values)
        ]
        frame = Benchmark("it.yaml", "it", "it").table(logged, {})
        frame.to_parquet(tmp_path / "samples.parquet")
        return frame

    assert kept(np.bool_(True), np.array(0.0))["correct"].tolist() == [1, 0]
    assert kept(torch.tensor(0.5), np.float32(1))["correct"].tolist() == [0.5, 1]
    assert kept(np.array([1, 2]), np.array([3, 4]))["scored.1"].tolist() == [2, 4]
    assert kept({"hit": True}, {"hit": 0.5})["scored.hit"].tolist() == [1, 0.5]
    assert kept({"n": 2**70}, {"n": 1})["scored.n"].tolist() == [2**70, 1]
    assert kept({"said": "\udc80"})["scored.said"].tolist() == ["?"]
