"""Gradient checkpointing: the same training with less kept in memory, and the same records."""

import pytest
import torch

from c3l.backbones import load_backbone
from c3l.trainer import LossTrainer
from c3l.training import train_generator
from tests.c3l.training import READINGS, SETTINGS, largest_gap, weights

ON = SETTINGS.model_copy(update={"gradient_checkpointing": True})


@pytest.mark.parametrize("tuning", ["language+projector", "lora", "full"])
def test_the_same_weights_with_less_in_memory(
    tiny_llava, samples, image_groups, images, tmp_path, monkeypatch, tuning
):
    kept, ended = [], []
    step = LossTrainer.training_step

    def counted(self, *args, **kwargs):
        def keep(tensor):
            kept[-1] += tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            return step(self, *args, **kwargs)

    monkeypatch.setattr(LossTrainer, "training_step", counted)
    # The adapters' dropout draws as many numbers as there are places that are computed.
    monkeypatch.setattr(torch.nn.Dropout, "forward", lambda self, x: x)
    readings = READINGS.model_copy(update={"tuning": tuning, "contrastive_image": True})
    for settings in (SETTINGS, ON):
        kept.append(0)
        backbone = load_backbone(tiny_llava, device="cpu")
        folder = tmp_path / str(settings.gradient_checkpointing)
        train_generator(backbone, samples, image_groups, images, settings, readings, 0, folder)
        backbone.save(folder / "saved")
        ended.append(weights(backbone))
    assert kept[1] < 0.8 * kept[0]
    assert largest_gap(*ended) < 1e-5


def test_a_record_says_so_only_where_it_is_on():
    assert "gradient_checkpointing" not in SETTINGS.model_dump()
    assert type(ON)(**ON.model_dump()) == ON
