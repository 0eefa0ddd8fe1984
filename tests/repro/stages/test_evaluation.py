"""Evaluation stages: who judges is part of a key where a judge decides the number, nowhere else."""

from pathlib import Path

import pytest

from benchmarks.judge.judge import POCKET_MODEL
from c3l.artifacts.store import Source
from repro import profile
from repro.stages.evaluation import evaluation

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
