"""A run that was killed ends as one left alone; the seed decides all else."""

import contextlib
import shutil

import pytest

from c3l.backbones import load_backbone
from c3l.runtime.distributed_trainer import last_checkpoint
from c3l.runtime.errors import UserError
from c3l.trainer import LossTrainer
from c3l.training import train_generator, tune
from tests.c3l.training import READINGS, SETTINGS, moved, weights


@contextlib.contextmanager
def killed_after(steps, monkeypatch):
    """A run that dies in the step after the given one, as it starts."""

    class Killed(Exception):
        pass

    step = LossTrainer.compute_loss

    def dying(self, *args, **kwargs):
        if self.state.global_step == steps:
            raise Killed
        return step(self, *args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(LossTrainer, "compute_loss", dying)
        yield


@pytest.mark.parametrize(
    ("tuning", "steps"), [("language+projector", 1), ("lora", 2), ("qlora", 1)]
)
def test_a_killed_run_ends_as_one_left_alone(
    tiny_llava, samples, image_groups, images, tmp_path, monkeypatch, tuning, steps
):
    """With sampled anchors, between checkpoints, and with a half-written checkpoint in the way."""
    settings = SETTINGS.model_copy(update={"epochs": 2, "anchor_steps": steps})
    readings = READINGS.model_copy(update={"tuning": tuning})

    def train(folder):
        backbone = load_backbone(tiny_llava, device="cpu")
        metrics = train_generator(
            backbone, samples, image_groups, images, settings, readings, 7, folder
        )
        return backbone, metrics

    alone, metrics = train(tmp_path / "alone")
    with killed_after(5, monkeypatch):
        train(tmp_path / "killed")
    assert last_checkpoint(tmp_path / "killed").endswith("checkpoint-4")
    broken = tmp_path / "killed" / "checkpoint-6"
    shutil.copytree(tmp_path / "killed" / "checkpoint-4", broken)
    (broken / "trainer_state.json").write_text('{"global_step": 6, "log_')
    resumed, resumed_metrics = train(tmp_path / "killed")
    assert not moved(weights(alone), weights(resumed))
    first, second = (
        (tmp_path / name / "projection.safetensors").read_bytes() for name in ("alone", "killed")
    )
    assert first == second
    assert resumed_metrics["steps"] == metrics["steps"] == 6
    assert resumed_metrics["loss"] == metrics["loss"]


def test_a_damaged_checkpoint_is_named_and_not_used(
    tiny_llava, samples, images, tmp_path, monkeypatch, caplog
):
    def train(folder):
        backbone = load_backbone(tiny_llava, device="cpu")
        tune(backbone, samples, images, SETTINGS, READINGS, 0, folder)
        return weights(backbone)

    alone = train(tmp_path / "alone")
    with killed_after(2, monkeypatch):
        train(tmp_path / "killed")
    checkpoint = tmp_path / "killed" / "checkpoint-2"
    content = bytearray((checkpoint / "trained.safetensors").read_bytes())
    content[-1] ^= 1
    (checkpoint / "trained.safetensors").write_bytes(content)
    assert not moved(alone, train(tmp_path / "killed"))
    assert f"{checkpoint} is damaged: trained.safetensors does not match" in caplog.text


def test_a_finished_run_is_not_done_again(tiny_llava, samples, images, tmp_path, monkeypatch):
    def train():
        backbone = load_backbone(tiny_llava, device="cpu")
        return (
            weights(backbone)
            if tune(backbone, samples, images, SETTINGS, READINGS, 0, tmp_path)
            else None
        )

    first = train()
    monkeypatch.setattr(LossTrainer, "compute_loss", None)
    assert not moved(first, train())


def test_the_seed_decides(tiny_llava, samples, images, tmp_path):
    ended = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        backbone = load_backbone(tiny_llava, device="cpu")
        tune(backbone, samples, images, SETTINGS, READINGS, seed, tmp_path / name)
        ended.append(weights(backbone))
    assert not moved(ended[0], ended[1])
    assert moved(ended[0], ended[2])


def test_a_checkpoint_of_another_training_is_refused(tiny_llava, samples, images, tmp_path):
    tune(load_backbone(tiny_llava, device="cpu"), samples, images, SETTINGS, READINGS, 0, tmp_path)
    other = READINGS.model_copy(update={"tuning": "projector"})
    with pytest.raises(UserError, match="of other weights"):
        tune(load_backbone(tiny_llava, device="cpu"), samples, images, SETTINGS, other, 0, tmp_path)
