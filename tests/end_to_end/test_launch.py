"""`--launch`: a stage that trains, in two processes on processors, is what one process makes."""

import json
import multiprocessing
import time

import psutil
import pytest

from c3l.artifacts.store import Source, Store
from c3l.instructions import CLASSES
from c3l.readings import Readings
from c3l.runtime import plugins
from c3l.runtime.errors import UserError
from c3l.samples import Sample, write_samples
from c3l.settings import TrainingSettings
from c3l.stages import common, launcher, models
from c3l.stages.common import backbone_source
from c3l.stages.training import generator, vlit
from tests.end_to_end.test_processes import assert_alike
from tests.repro import toy

READINGS = Readings(tuning="language+projector", warmup_ratio=0)
SETTINGS = TrainingSettings(learning_rate=1e-3, batch_size=4, save_steps=1, anchor_tokens=6)


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """A folder of six samples of two images, and a selection among them."""
    folder = tmp_path_factory.mktemp("samples")
    some = [
        Sample(
            f"s{i}", f"image-{i % 2}.png", f"What is {i}?", "A cup. " * (i % 3 + 1), CLASSES[i % 3]
        )
        for i in range(6)
    ]
    write_samples(folder / common.SAMPLES, some)
    selection = {
        "targets": [f"s{i}" for i in range(6)],
        "groups": [
            {"image": "image-0.png", "positive": "s0", "negatives": ["s2", "s4"]},
            {"image": "image-1.png", "positive": "s1", "negatives": ["s3", "s5"]},
        ],
    }
    (folder / "selection.json").write_text(json.dumps(selection))
    return folder


@pytest.fixture(scope="module")
def trained(tiny_llava, tiny_images, samples):
    """The stage of a generator that trains in three steps."""
    source, images = Source.from_path(samples), Source.from_path(tiny_images)
    weights = backbone_source(str(tiny_llava))
    how = (images, SETTINGS, READINGS, 0)
    return generator(weights, source, source, *how, crm=True, clm=True)


PLUGIN = """
import os
from pathlib import Path

from c3l.selection import METHODS

if rank := os.environ.get("RANK"):  # in what was launched, not in these tests
    METHODS["longest"] = lambda samples, scores: [float(len(s.answer)) for s in samples]
    Path(__file__).with_name(f"methods-{rank}").write_text(" ".join(METHODS))
"""


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    """A file that adds a selector, and writes beside it the selectors of each process."""
    file = tmp_path_factory.mktemp("plugin") / "longest.py"
    file.write_text(PLUGIN)
    return file


@pytest.fixture(scope="module")
def launched(trained, plugin, tmp_path_factory):
    """The generator that two processes trained, which a plugin file was given to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(plugins.VARIABLE, str(plugin))
        return made(trained, tmp_path_factory.mktemp("launched"))


def made(stage, root, how="ddp"):
    """A stage's artefact in a store of its own."""
    launcher.request_launch(how)
    try:
        with models.model_options("cpu", None):
            return Store(root).make(stage)
    finally:
        launcher.request_launch(None)


def test_a_stage_is_what_one_process_makes(trained, launched, tmp_path):
    alone = made(trained, tmp_path, how=None)
    assert_alike(launched, alone)
    some, more = (json.loads((path / "manifest.json").read_text()) for path in (launched, alone))
    assert some["facts"].pop("processes") == 2
    assert some["facts"] == pytest.approx(more["facts"], abs=1e-5)
    assert some["files"].keys() == more["files"].keys()


def test_each_process_has_the_selector_of_a_plugin(launched, plugin):
    for rank in range(2):
        assert "longest" in plugin.with_name(f"methods-{rank}").read_text().split()


def test_processes_end_with_the_one_that_waits_and_go_on(trained, launched, tmp_path):
    waiting = multiprocessing.get_context("spawn").Process(target=made, args=(trained, tmp_path))
    waiting.start()
    deadline = time.monotonic() + 300
    while not list(tmp_path.glob("generator/.partial-*/launched-*/checkpoint-1/seal.json")):
        assert waiting.is_alive() and time.monotonic() < deadline
        time.sleep(0.02)
    waiting.kill()
    waiting.join()
    while training_in(tmp_path):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    path = made(trained, tmp_path)
    for name in ("model.safetensors", "history.json"):
        assert (path / name).read_bytes() == (launched / name).read_bytes()
    assert not list(tmp_path.glob("generator/.*"))


def training_in(folder):
    """Processes at work on a stage below a folder."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        at_work = "c3l.stages.launched" in words and any(str(folder) in word for word in words)
        if at_work and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def test_what_a_process_finds_wrong_is_said_here(tiny_llava, tiny_images, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    lost = Sample("lost", "image-77.png", "What?", "A cup.", CLASSES[0])
    write_samples(data / common.SAMPLES, [lost] * 4)
    sources = (Source.from_path(data), Source.from_path(tiny_images))
    stage = vlit(backbone_source(str(tiny_llava)), *sources, SETTINGS, READINGS, 0)
    with pytest.raises(UserError, match=r"^[^\n]*left out: image_missing 4[^\n]*$"):
        made(stage, tmp_path / "store")


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("nonsense", "give ddp, fsdp, or a file"),
        ("tox.ini", "give ddp, fsdp, or a file"),
        ("ddp:1", "two processes or more"),
        ("ddp:3", "3 processes times accumulation 1 do not divide the batch_size 4 of "),
    ],
)
def test_a_launch_that_cannot_be_is_said_before_anything_runs(how, words, toy_profile, tmp_path):
    done = toy.repro(
        "table4", "--profile", toy_profile, "--seeds", 1, "--launch", how, "--runs", tmp_path
    )
    assert done.returncode == 2
    assert words in done.stderr and done.stderr.count("\n") == 1
    assert not list(tmp_path.glob("store/captions*"))


def test_four_bits_are_not_sharded():
    fsdp, ddp = launcher.request_launch("fsdp:2"), launcher.request_launch("ddp")
    launcher.request_launch(None)
    ddp.check(SETTINGS, "qlora", "vlit")
    with pytest.raises(UserError, match="give ddp"):
        fsdp.check(SETTINGS, "qlora", "vlit")
