"""`lmms-eval --model c3l`, as one types it: the same answers as through our own evaluation."""

import json
import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.evaluate import evaluate
from c3l import load_backbone
from c3l.lmms import C3LModel
from c3l.runtime import plugins
from c3l.runtime.errors import UserError
from repro.profile import load
from tests.benchmarks.plain import local_task

CHECKPOINT = load("pocket").backbones["LLaVA-7B"].weights
# Options by likelihood; answers of the length that we set where a task sets none; of its own.
TASKS = ("seedbench_ppl", "seedbench", "pope")


def questions(world: Path, task: str) -> Path:
    return world / "benchmarks" / task.removesuffix("_ppl")


def lmms_eval(*arguments) -> subprocess.CompletedProcess:
    """The real command line, in a process of its own."""
    points = {point.name for point in entry_points(group="lmms_eval.models")}
    # Where tox has just installed the package a missing entry point is a fault, and shows below.
    if "c3l" not in points and "TOX_ENV_NAME" not in os.environ:
        pytest.skip("the installed package has no entry point yet; run `pip install -e .` again")
    command = [sys.executable, "-m", "lmms_eval", "--model", "c3l", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)


PLUGIN = """
from pathlib import Path

from c3l.backbones.llava import Llava
from c3l.backbones.loading import FAMILIES


class Mine(Llava):
    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        Path(__file__).with_name("loaded").touch()


FAMILIES["llava"] = Mine
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("plugin")


@pytest.fixture(scope="module")
def logged(world, folder):
    """What lmms-eval's command line wrote about each question, by task."""
    (folder / "mine.py").write_text(PLUGIN)
    names = {task: local_task(task, questions(world, task), folder) for task in TASKS}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(plugins.VARIABLE, str(folder / "mine.py"))
        done = lmms_eval(
            *("--model_args", f"pretrained={CHECKPOINT},device=cpu,batch_size=5"),
            *("--tasks", ",".join(names.values()), "--include_path", folder / "tasks"),
            *("--output_path", folder / "out", "--log_samples"),
        )
    found = {task: [*folder.glob(f"out/*/*_samples_{name}.jsonl")] for task, name in names.items()}
    assert all(len(files) == 1 for files in found.values()), done.stdout + done.stderr
    read = {task: map(json.loads, files[0].open()) for task, files in found.items()}
    return {task: sorted(some, key=lambda sample: sample["doc_id"]) for task, some in read.items()}


def test_the_backbone_of_a_plugin_file_is_loaded(logged, folder):
    assert (folder / "loaded").exists()


@pytest.mark.parametrize("task", TASKS)
def test_every_answer_is_that_of_our_own_evaluation(world, logged, tmp_path, task):
    backbone = load_backbone(CHECKPOINT, device="cpu")
    evaluate(backbone, task, questions(world, task), tmp_path)
    ours = pd.read_parquet(tmp_path / "samples.parquet")
    theirs = [answer(sample["filtered_resps"]) for sample in logged[task]]
    assert ours["response"].tolist() == theirs
    assert len(set(theirs)) > 1
    if task == "seedbench_ppl":
        assert ours["correct"].tolist() == [sample["acc"] for sample in logged[task]]
        assert 0 < ours["correct"].mean() < 1


def answer(responses: str | list) -> str:
    """The text that was written, or the letter of the option with the smallest loss."""
    if isinstance(responses, str):
        return responses
    losses = [float(loss) for loss, _ in responses]
    return "ABCD"[losses.index(min(losses))]


def test_a_wrong_argument_ends_lmms_eval_with_one_sentence(world, tmp_path):
    name = local_task("pope", questions(world, "pope"), tmp_path)
    done = lmms_eval(
        *("--model_args", f"pretrained={tmp_path / 'nothing'}", "--tasks", name),
        *("--include_path", tmp_path / "tasks"),
    )
    assert done.returncode == 2
    assert f"c3l: there is no backbone at {tmp_path / 'nothing'}" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        ("", {}, "names no backbone"),
        ("device=cpu", {}, "names no backbone"),
        (f"{CHECKPOINT}", {}, "is no name=value; write pretrained=FOLDER"),
        ("pretrained=", {}, "'pretrained=' is no name=value"),
        (
            f"pretrained={CHECKPOINT},load_in_8bit=true",
            {},
            "no 'load_in_8bit'; use pretrained, dev",
        ),
        (f"pretrained={CHECKPOINT},batch_size=0", {}, "batch_size=0: give a whole number"),
        (f"pretrained={CHECKPOINT},batch_size=2.5", {}, "batch_size=2.5: give a whole number"),
        (f"pretrained={CHECKPOINT}", {"batch_size": "auto"}, "batch_size=auto: give a whole"),
        (f"pretrained={CHECKPOINT},max_new_tokens=-1", {}, "max_new_tokens=-1: give a whole"),
        (f"pretrained={CHECKPOINT},dtype=float7", {}, "dtype float7 is unknown; use float32"),
        (f"pretrained={CHECKPOINT}", {"device": "tpu"}, "device tpu cannot be used here; try cpu"),
    ],
)
def test_what_is_wrong_is_one_sentence(capsys, arguments, options, words):
    with pytest.raises(SystemExit) as stopped:
        C3LModel.create_from_arg_string(arguments, options)
    *bars, said = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 2
    assert said.startswith("c3l: ") and words in said
    assert not any(line.startswith("c3l: ") or "Traceback" in line for line in bars)


def test_what_model_args_say_goes_before_lmms_evals_options():
    options = {"batch_size": "3", "max_batch_size": None, "device": None}
    arguments = f"pretrained={CHECKPOINT}, dtype=bfloat16,device=cpu"
    by_option = C3LModel.create_from_arg_string(arguments, options)
    assert (by_option.batch_size, by_option.max_new_tokens) == (3, None)
    assert str(by_option.backbone.dtype) == "torch.bfloat16"
    said = C3LModel.create_from_arg_string(f"{arguments},batch_size=7,max_new_tokens=9", options)
    assert (said.batch_size, said.max_new_tokens) == (7, 9)
    assert repr(by_option) != repr(said)


def test_in_python_a_wrong_value_is_an_error_and_no_end():
    with pytest.raises(UserError, match="batch_size=-3"):
        C3LModel.from_pretrained(CHECKPOINT, batch_size=-3)
