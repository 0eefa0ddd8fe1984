"""Settings of the training tests, and what moved."""

import torch

from c3l.readings import Readings
from c3l.training import TrainingSettings

SETTINGS = TrainingSettings(
    learning_rate=1e-3,
    batch_size=4,
    anchor_tokens=6,
    save_steps=2,
)
# The first step of a warm-up moves nothing.
READINGS = Readings(tuning="language+projector", warmup_ratio=0)
VISION, PROJECTOR = "model.vision_tower.", "model.multi_modal_projector."


def weights(backbone):
    return {name: value.clone() for name, value in backbone.model.state_dict().items()}


def moved(before, after):
    return {name for name, value in after.items() if not torch.equal(value, before[name])}


def largest_gap(one, other):
    return max((one[name] - other[name]).abs().max().item() for name in one)
