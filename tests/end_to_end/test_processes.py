"""`accelerate launch -m c3l train` in two processes, on processors: what one process does."""

import json
import os
import socket
import subprocess
import sys

import pytest
from safetensors.torch import load_file

from c3l.cli.train import train
from c3l.data.scored import with_scores, write_scored
from c3l.instructions import CLASSES
from c3l.samples import Sample
from c3l.scores import Score
from c3l.settings import MethodSettings
from tests.repro.toy import ROOT

CHANGES = [
    "tuning=language+projector",
    "warmup_ratio=0",
    "training.learning_rate=1e-3",
    "training.batch_size=4",
    "training.save_steps=1",
    "training.anchor_tokens=6",
    "share=0.5",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Fourteen scored samples of four images: the last step of four is half a one."""
    path = tmp_path_factory.mktemp("data") / "data.jsonl"
    samples = [
        Sample(
            f"s{i}", f"image-{i % 4}.png", f"What is {i}?", "A cup. " * (i % 3 + 1), CLASSES[i % 3]
        )
        for i in range(14)
    ]
    scores = [Score(sample.id) for sample in samples]
    write_scored(path, with_scores(samples, scores, [float(k) for k in range(len(samples))]))
    return path


@pytest.fixture(scope="module")
def alone(tiny_llava, tiny_images, data, tmp_path_factory):
    """A function that trains in this process: the folder."""

    def run(*changes, generator=False):
        out = tmp_path_factory.mktemp("alone") / "out"
        settings = MethodSettings().changed([*CHANGES, *changes])
        train(
            tiny_llava, data, tiny_images, out, settings=settings, generator=generator, device="cpu"
        )
        return out

    return run


@pytest.fixture(scope="module")
def launched(tiny_llava, tiny_images, data):
    """A function that runs the command line in two processes, into a folder: how it ended."""

    def run(
        out,
        *changes,
        generator=False,
        how="ddp",
        module="c3l",
        killed_in=None,
        images=tiny_images,
        strict=False,
    ):
        with socket.socket() as some:
            some.bind(("127.0.0.1", 0))
            port = some.getsockname()[1]
        command = [sys.executable, "-m", "accelerate.commands.launch"]
        command += ["--config_file", str(ROOT / "c3l" / "launch" / f"{how}.yaml")]
        command += ["--num_processes", "2", "--main_process_port", str(port)]
        command += ["-m", module, "train", "--backbone", str(tiny_llava), "--data", str(data)]
        command += ["--images", str(images), "--out", str(out), "--device", "cpu"]
        command += ["--generator"] if generator else []
        command += ["--strict"] if strict else []
        command += [word for change in (*CHANGES, *changes) for word in ("--set", change)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        if killed_in:
            environment["KILLED_IN"] = str(killed_in)
        return subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600
        )

    return run


@pytest.fixture(scope="module")
def generator(launched, tmp_path_factory):
    """A generator that two processes trained."""
    out = tmp_path_factory.mktemp("generator") / "out"
    ended = launched(out, generator=True)
    assert ended.returncode == 0, ended.stderr
    return out


def history(out):
    return json.loads((out / "history.json").read_text())


def assert_alike(out, other, within=1e-5):
    """Both trained to the same losses, step by step, and to the same weights."""
    some, more = history(out), history(other)
    assert [record.keys() for record in some] == [record.keys() for record in more]
    for record, twin in zip(some, more, strict=True):
        for name in record.keys() - {"epoch"}:  # the last step is filled up, and counted whole
            value = record[name]
            assert value == pytest.approx(twin[name], abs=within), (name, record["step"])
    weights, twins = (load_file(folder / "model.safetensors") for folder in (out, other))
    assert weights.keys() == twins.keys()
    for name, weight in weights.items():
        assert (weight - twins[name]).abs().max() < 5 * within, name


def left_beside(out):
    return sorted(path.name for path in out.parent.iterdir())


def test_tuning_is_what_one_process_does(alone, launched, tmp_path):
    out = tmp_path / "out"
    ended = launched(out)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("Trained in 4 steps") == 1  # one of them speaks
    assert left_beside(out) == ["out"]
    assert_alike(out, alone())


def test_a_generator_is_what_one_process_trains(alone, generator):
    assert_alike(generator, alone(generator=True))
    assert all("l_r" in record and "l_c" in record for record in history(generator))


def test_parts_of_a_step_without_anything_to_do(alone, launched, tmp_path):
    """One loss after the other: steps of either and of both, in four parts on two processes, some
    of which have nothing for a loss that the others compute."""
    changes = ["joining=sequential", "training.accumulation=2"]
    ended = launched(tmp_path / "out", *changes, generator=True)
    assert ended.returncode == 0, ended.stderr
    assert_alike(tmp_path / "out", alone(*changes, generator=True))
    # Seven of each: the second step holds three samples for L_r and one group for L_c.
    steps = [("l_r" in record, "l_c" in record) for record in history(tmp_path / "out")]
    assert steps == [(True, False), (True, True), (False, True), (False, True)]


def test_a_killed_training_ends_as_one_left_alone(launched, generator, tmp_path):
    out = tmp_path / "out"
    ended = launched(out, generator=True, module="tests.end_to_end.launched", killed_in=2)
    assert ended.returncode != 0 and "SIGKILL" in ended.stderr
    (checkpoints,) = tmp_path.iterdir()  # and no folder `out`
    assert [path.name for path in checkpoints.glob("checkpoint-*")] == ["checkpoint-1"]
    ended = launched(out, generator=True)
    assert ended.returncode == 0, ended.stderr
    assert left_beside(out) == ["out"]
    for name in ("model.safetensors", "history.json"):
        assert (out / name).read_bytes() == (generator / name).read_bytes()


def test_weights_in_shards_train_alike_and_go_on(alone, launched, tmp_path):
    """FSDP: killed in the second step, gone on with."""
    out = tmp_path / "out"
    options = {"generator": True, "how": "fsdp", "module": "tests.end_to_end.launched"}
    ended = launched(out, **options, killed_in=2)
    assert ended.returncode != 0 and "SIGKILL" in ended.stderr
    (checkpoint,) = tmp_path.glob(".out.training-*/checkpoint-1")
    assert (checkpoint / "optimizer.bin").is_file()  # as FSDP writes it
    ended = launched(out, **options)
    assert ended.returncode == 0, ended.stderr
    assert left_beside(out) == ["out"]
    assert_alike(out, alone(generator=True))


def test_what_one_process_finds_wrong_ends_all_in_one_sentence(launched, tiny_images, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for path in tiny_images.iterdir():
        (images / path.name).write_bytes(path.read_bytes())
    (images / "image-3.png").write_bytes(b"no picture")
    ended = launched(tmp_path / "out", images=images, strict=True)
    assert ended.returncode != 0
    assert ended.stderr.count("image_unreadable") == 1
    assert "exitcode  : 2" in ended.stderr and "exitcode  : 1" not in ended.stderr
    assert not (tmp_path / "out").exists()
