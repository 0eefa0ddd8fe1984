"""One cell of each benchmark is what lmms-eval, called plainly, says of the saved checkpoint."""

import importlib.util
from functools import cache
from pathlib import Path
from statistics import fmean

import lmms_eval.tasks
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lmms_eval.tasks.pope.utils import pope_aggregate_f1_score
from lmms_eval.utils import load_yaml_config
from sklearn.metrics import roc_auc_score

from benchmarks import BENCHMARKS
from benchmarks.evaluate import evaluate
from benchmarks.judge.judge import POCKET_MODEL, Judge
from benchmarks.pope import CATEGORIES, POPE, POPE_AUC
from c3l import load_backbone
from repro.analysis.statistics import relative_score
from repro.profile import load
from tests.benchmarks.plain import outcome

CHECKPOINT = load("pocket").backbones["LLaVA-7B"].weights
TOKENS = 20


@pytest.fixture(scope="module")
def backbone():
    return load_backbone(CHECKPOINT, device="cpu")


@pytest.fixture
def judged(monkeypatch):
    """lmms-eval's own variables, as one would export them in a shell."""
    with Judge().running() as url:
        names = {"API_TYPE": "openai", "OPENAI_API_URL": url, "OPENAI_API_KEY": "none"}
        for name, value in (names | {"MODEL_VERSION": POCKET_MODEL}).items():
            monkeypatch.setenv(name, value)
        yield


@pytest.mark.parametrize(
    ("task", "alone", "number"),
    [
        ("seedbench_ppl", "seedbench_ppl", lambda plain: 100 * plain["results"]["acc,none"]),
        ("pope", "pope", lambda plain: 100 * mean_f1(plain["samples"])),
        ("pope_auc", "pope_auc", lambda plain: 100 * mean_area(plain["samples"])),
        ("mmbench", "mmbench_en_dev_static", lambda plain: plain["results"]["gpt_eval_score,none"]),
        (
            "llava_w",
            "llava-in-the-wild",
            lambda plain: plain["results"]["gpt_eval_llava_all,none"],
        ),
    ],
)
def test_a_cell_is_what_lmms_eval_alone_gives(
    backbone, world, tmp_path, judged, task, alone, number
):
    folder = world / "benchmarks" / (BENCHMARKS[task].folder or task)
    settings = {"max_new_tokens": TOKENS, "judge": Judge()}
    ours = evaluate(backbone, task, folder, tmp_path / "out", 16, **settings)
    plain = outcome(CHECKPOINT, alone, folder, tmp_path / "plain", TOKENS)
    assert ours["value"] == pytest.approx(number(plain), abs=1e-9)
    assert 0 < ours["value"] < 100  # neither all wrong nor all right, which would prove little
    samples = pd.read_parquet(tmp_path / "out" / "samples.parquet")
    if task == "pope":
        for key, value in ours["extra"]["pooled"].items():
            assert value == pytest.approx(100 * plain["results"][f"pope_{key},none"])
    if task == "pope_auc":
        assert ours["value"] == pytest.approx(100 * plain["results"]["pope_auc,none"], abs=1e-9)
    if task == "llava_w":
        scores = [sample["gpt_eval_llava_all"]["scores"] for sample in plain["samples"]]
        assert samples[["reference_score", "candidate_score"]].to_numpy().tolist() == scores
    if task in ("pope", "llava_w"):
        said = [sample["filtered_resps"][0].strip() for sample in plain["samples"]]
        assert [text.strip() for text in samples["response"]] == said


def mean_f1(samples: list[dict]) -> float:
    """LLaVA's convention, by lmms-eval's own F1 over each way of drawing negatives."""
    return fmean(
        pope_aggregate_f1_score([s["pope_f1_score"] for s in samples if s["doc"]["category"] == c])
        for c in CATEGORIES
    )


def test_the_area_is_of_the_questions_that_lmms_eval_asks_for_f1():
    root = Path(lmms_eval.tasks.__file__).parent
    generative, ranked = (load_yaml_config(str(root / b.yaml)) for b in (POPE, POPE_AUC))
    for name in ("dataset_path", "test_split"):
        assert ranked[name] == generative[name]
    for name in ("doc_to_text", "doc_to_visual"):
        assert ranked[name].__name__ == generative[name].__name__
    prompts = (config["lmms_eval_specific_kwargs"]["default"] for config in (generative, ranked))
    assert next(prompts) == next(prompts)


def mean_area(samples: list[dict]) -> float:
    """By another's code, from the losses of "Yes" and "No" that lmms-eval logged."""
    by_category = {name: ([], []) for name in CATEGORIES}
    for sample in samples:
        (yes, _), (no, _) = sample["filtered_resps"]
        answers, scores = by_category[sample["doc"]["category"]]
        answers.append(sample["doc"]["answer"] == "yes")
        scores.append(float(no) - float(yes))
    return fmean(roc_auc_score(*columns) for columns in by_category.values())


HALVES = st.integers(2, 20).map(lambda n: n / 2)


@given(st.lists(st.tuples(HALVES, HALVES), min_size=1, max_size=80))
def test_the_relative_score_is_lmms_evals_to_the_last_digit(scores):
    results = [{"scores": list(pair)} for pair in scores]
    counts = np.array([*np.sum(scores, axis=0)[::-1], len(scores)])
    assert relative_score(counts) == llava_aggregation()(results, "all")


@cache
def llava_aggregation():
    """lmms-eval's own; the name of its folder is none that can be imported."""
    folder = Path(lmms_eval.tasks.__file__).parent / "llava-in-the-wild"
    spec = importlib.util.spec_from_file_location("llava_in_the_wild", folder / "utils.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.llava_aggregation
