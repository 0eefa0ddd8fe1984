"""Evaluation stages: who judges is part of a key where a judge decides the number, nowhere else."""

import json
import random
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.judge.judge import POCKET_MODEL
from benchmarks.pocket.conversations import pairs
from benchmarks.pocket.scenes import draw_scenes
from benchmarks.pocket.truth import VERDICTS, judge, split_sentences
from c3l.artifacts.store import Job, Source, Stage, Store
from c3l.instructions import CLASSES
from c3l.samples import Sample, write_samples
from c3l.stages.common import SAMPLES
from repro import profile
from repro.stages.evaluation import evaluation, judge_claims, truth

WEIGHTS, DATA = Source(Path("weights"), "w"), Source(Path("data"), "d")
ADDRESS = ["scoring.judge=https://host/v1"]
JUDGES = [[], ["scoring.judge=null"], ADDRESS, [*ADDRESS, "scoring.judge_model=other"]]


def stages(task: str, changes: list[list[str]]):
    return [
        evaluation(WEIGHTS, task, DATA, profile.load("pocket", some).scoring) for some in changes
    ]


@pytest.mark.parametrize("task", ["seedbench", "seedbench_ppl", "pope", "mmbench"])
def test_no_judge_is_in_the_key_of_what_it_does_not_judge(task):
    found = stages(task, JUDGES)
    assert len({stage.key for stage in found}) == 1
    assert found[0].config == {"task": task, "batch_size": 64, "answer_tokens": 64}
    assert found[0].version == 1


def test_another_judge_is_another_evaluation():
    found = stages("llava_w", JUDGES)
    assert len({stage.key for stage in found}) == len(JUDGES)
    pocket, nobody, address, other = (stage.config["judge"] for stage in found)
    assert pocket == {"model": POCKET_MODEL, "url": None, "key_variable": None}
    assert nobody is None
    assert address["url"] == other["url"] == "https://host/v1"
    assert address["key_variable"] == "OPENAI_API_KEY"


def test_what_only_an_address_needs_is_no_matter_to_the_pocket_judge():
    one, other = stages("llava_w", [[], ["scoring.judge_model=other", "scoring.judge_key=MINE"]])
    assert one.key == other.key


def test_a_key_is_in_no_configuration(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "s3cret")
    [stage] = stages("llava_w", [ADDRESS])
    assert "s3cret" not in repr(stage)


def written(seed: int) -> list[Sample]:
    """Pairs about one scene, all classes: some cut, joined or about the other scene."""
    rng, (scene, other) = random.Random(seed), draw_scenes(seed, "final", 2)
    texts = [
        (question, rng.choice((answer, f"{answer} {answer}", f"{answer} Quite so.", answer[:-3])))
        for about in (scene, other)
        for name in CLASSES
        for question, answer in pairs(rng, about, name, 3)
    ]
    texts.append((texts[0][0], ""))
    return [Sample(str(k), "a.png", *text) for k, text in enumerate(texts)]


@given(st.integers(0, 1000))
def test_a_pair_is_what_its_claims_are(seed):
    graph = draw_scenes(seed, "final", 1)[0].to_dict()
    for sample in written(seed):
        claims = judge_claims(sample.question, sample.answer, graph)
        worst = max(claims, key=VERDICTS.index)
        assert judge(sample.question, sample.answer, graph) == worst
        assert len(claims) == max(1, len(split_sentences(sample.answer)))
        # A general question has no claim about the image, any other no claim but about it.
        assert {"true_image", "no_image"} - {*claims}


def write(job: Job) -> dict:
    write_samples(job.out / SAMPLES, written(job.config["seed"]))
    return {}


def test_shares_of_claims_stand_beside_shares_of_pairs(tmp_path):
    seed, store = 3, Store(tmp_path / "store")
    graph = draw_scenes(seed, "final", 1)[0].to_dict()
    (tmp_path / "graphs.jsonl").write_text(json.dumps({"image": "a.png"} | graph))
    samples = Stage("final", 1, write, {"seed": seed})
    stage = truth(samples, Source.from_path(tmp_path / "graphs.jsonl"))
    store.make(samples)
    frame = pd.read_parquet(store.make(stage) / "samples.parquet")
    facts = store.metadata(stage)
    for shares in (facts["extra"]["claims"], facts["extra"]["verdicts"]):
        assert sum(shares.values()) == pytest.approx(100)
        assert len([share for share in shares.values() if share]) == len(VERDICTS)
    assert facts["value"] == facts["extra"]["claims"]["true_image"]
    assert facts["n"] == frame["claims"].map(len).sum() > facts["extra"]["samples"] == len(frame)
    assert facts["extra"]["verdicts"]["true_image"] == 100 * frame["correct"].mean()
