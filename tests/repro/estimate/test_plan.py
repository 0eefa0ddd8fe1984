"""What `plan` says of a run that cannot be started here, and of one that can."""

import re
from dataclasses import replace

import pytest

from benchmarks.judge.judge import TOKENS
from benchmarks.llava_w import LLAVA_W
from c3l.artifacts.graph import closure
from c3l.artifacts.store import Store
from repro import profile as profiles
from repro.estimate import plan, workload
from repro.estimate.cost import TrainingMode
from repro.estimate.devices import GIB, device_named
from repro.recipe import stages
from repro.run.run import Run
from tests.benchmarks import data
from tests.repro import toy

JUDGE = ["scoring.judge=http://127.0.0.1:9/v1"]


def said(tmp_path, table="table4", profile="practical", device="A100-80GB", changes=()):
    loaded, store = profiles.load(profile, list(changes)), Store(tmp_path / "store")
    run = Run.prepare([table], loaded, [0], store, placeholders=True)
    return plan.render_plan(
        run.tables, loaded, store, 1, device_named(device), local=False, missing="It is not"
    )


@pytest.mark.parametrize("profile", ["practical", "paper"])
def test_what_is_not_here_is_planned_by_what_is_published(profile, tmp_path):
    done = toy.repro(
        "plan", "table1", "--profile", profile, "--seeds", 1, "--device", "H200",
        "--runs", tmp_path / "runs",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, _, rest = done.stdout.partition("\n")
    assert "planned as if it were: " in first and "hf download" in first
    assert "assumed, not measured" in rest
    line = re.search(r"\| vlit .*", rest)[0]
    assert "estimated" in line and re.search(r"[1-9][\d.]* GiB", line)
    assert not list((tmp_path / "runs").rglob("manifest.json"))


def test_what_does_not_fit_is_said_with_the_remedy(tmp_path):
    text = said(tmp_path, device="RTX-4090-24GB", changes=["readings.tuning=full"])
    lines = [line for line in text.splitlines() if "does not fit" in line]
    (vlit,) = [line for line in lines if line.startswith("vlit of llava-1.5-7b-hf")]
    assert "--set readings.tuning=lora" in vlit
    assert "does not fit" not in said(tmp_path, device="H200")


def test_the_profile_for_24_gb_fits_there(tmp_path):
    small = {"profile": "practical-24gb", "device": "RTX-4090-24GB"}
    assert "does not fit" not in said(tmp_path, **small)
    changes = ["readings.tuning=lora", "training.joint.gradient_checkpointing=false"]
    assert "does not fit" in said(tmp_path, **small, changes=changes)


def test_every_remedy_makes_it_fit_by_the_same_formulas(tmp_path):
    loaded, small = (
        profiles.load("paper", ["readings.tuning=full"]),
        device_named("RTX-2080-Ti-11GB"),
    )
    run = Run.prepare(["table1"], loaded, [0], Store(tmp_path / "store"), placeholders=True)
    todo = closure(stages(run.tables["table1"])).values()
    told = set()
    for memory in (11, 24, 40, 80, 200):
        estimator = plan.Estimator(replace(small, memory=memory * GIB), loaded)
        for stage in todo:
            one = estimator.estimate(stage)
            if one is None or one.memory <= memory * GIB:
                continue
            remedy = estimator.remedy(stage)
            if found := re.search(r"batch_size=(\d+)", remedy):
                smaller = {"batch_size": int(found[1])}
                assert estimator.fits(replace(stage, config=stage.config | smaller))
            elif "larger GPU" not in remedy and "a GPU of" not in remedy:
                way = workload.training_mode(stage)
                words = {"checkpointing": "checkpointing" in remedy or way.checkpointing}
                if found := re.search(r"tuning=(\w+)", remedy):
                    words["tuning"] = found[1]
                if found := re.search(r"(\d) GPUs", remedy):
                    words["gpus"] = int(found[1])
                assert estimator.fits(stage, way._replace(**words))
            told.add(re.sub(r"\d+", "N", remedy))
    assert len(told) > 4  # of many kinds


def test_ways_change_a_result_least_first():
    found = plan.alternative_modes(TrainingMode("full"))
    assert found[0] == TrainingMode("full", checkpointing=True)
    assert [way.tuning for way in found[1:5]] == ["lora", "lora", "qlora", "qlora"]
    assert {way.gpus for way in found[5:]} == {2, 4, 8}
    assert all(
        way.tuning == "projector" for way in plan.alternative_modes(TrainingMode("projector"))
    )


def test_the_judge_is_counted_and_priced_only_where_a_price_is_stated(tmp_path):
    text = said(tmp_path, "table1", changes=JUDGE)
    # LLaVA, LLaVA w/ C³L: the two rows that the profile has backbones for
    assert re.search(r"The judge: 122 calls, at most [\d,]+ tokens read and 124,928 written", text)
    assert "no price is stated" in text
    text = said(tmp_path, "table1", changes=[*JUDGE, "scoring.judge_price={input: 0, output: 10}"])
    assert "at most 1.25 at the prices stated" in text
    for silent in (said(tmp_path, "table4", changes=JUDGE), said(tmp_path, "table1")):
        assert "The judge" not in silent


def test_the_judges_tokens_are_those_of_lmms_evals_own_prompts(tmp_path, monkeypatch):
    """No prompt that lmms-eval sends of the records is longer than was foretold."""
    import pandas as pd

    from benchmarks.evaluate import load_task

    data.llava_w(tmp_path / "llava_w")
    sent = []
    task = load_task("llava_w", tmp_path / "llava_w", tmp_path / "cache")
    # A failing pipeline is one that lmms-eval logs and goes on from.
    pipeline = lambda: lambda **given: sent.append(given["content"]) or 1 / 0  # noqa: E731
    known = task.config.process_results.__globals__
    monkeypatch.setitem(known, "_get_pipeline", pipeline)
    answer = "A cup. " * 20
    rows = pd.concat(map(pd.read_parquet, (tmp_path / "llava_w").rglob("*.parquet")))
    for record in rows.to_dict("records"):
        task.process_results(record, [answer])
    assert len(sent) == len(rows)
    found = LLAVA_W.judge_tokens(tmp_path / "llava_w", 60, len(answer), TOKENS)
    assert found.calls == len(rows) + 1 and found.written == found.calls * TOKENS
    exact = sum(map(len, sent)) / 4 * found.calls / len(rows)
    assert exact <= found.read <= 1.1 * exact


def test_what_is_measured_comes_before_what_is_estimated(tmp_path, tiny_llava):
    path = toy.profile(tmp_path, tiny_llava)
    loaded, store = profiles.load(str(path)), Store(tmp_path / "runs" / "store")
    run = Run.prepare(["table4"], loaded, [0], store)
    todo = closure(stages(run.tables["table4"])).values()
    captions = next(stage for stage in todo if stage.name == "captions")

    def line(here):
        text = plan.render_plan(run.tables, loaded, store, 1, device_named("cpu"), local=here)
        return re.search(r"\| captions .*", text)[0]

    assert "profile" in line(True) and "estimated" in line(False)
    store.make(captions)
    assert "measured" in line(True) and "estimated" in line(False)
