"""Training a backbone in bfloat16: in float32 where it counts, and back to where it was."""

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit

from c3l.backbones import load_backbone
from c3l.trainer import LossTrainer
from c3l.training import train_generator, tune
from tests.c3l.training import PROJECTOR, READINGS, SETTINGS, VISION, moved, weights

HALF = torch.bfloat16


@pytest.fixture
def backbone(tiny_llava):
    return load_backbone(tiny_llava, device="cpu", dtype=HALF)


def dtypes(backbone):
    return {parameter.dtype for parameter in backbone.model.parameters()}


@pytest.mark.parametrize("tuning", ["language+projector", "projector", "lora", "qlora", "full"])
def test_what_trains_is_float32_meanwhile(
    backbone, tiny_llava, samples, images, tmp_path, monkeypatch, tuning
):
    seen = set()
    step = LossTrainer.compute_loss

    def watched(self, *args, **kwargs):
        seen.update(p.dtype for p in self.model.parameters() if p.requires_grad)
        return step(self, *args, **kwargs)

    monkeypatch.setattr(LossTrainer, "compute_loss", watched)
    readings = READINGS.model_copy(update={"tuning": tuning})
    before = weights(backbone)
    half = tune(backbone, samples, images, SETTINGS, readings, 0, tmp_path / "half")
    assert seen == {torch.float32}
    whole = load_backbone(tiny_llava, device="cpu")
    metrics = tune(whole, samples, images, SETTINGS, readings, 0, tmp_path / "whole")
    for ours, theirs in zip(half["history"], metrics["history"], strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=0.02)
    backbone.generate(["What?"], [images["image-0.png"]], max_new_tokens=2)
    backbone.save(tmp_path / "saved")
    saved = load_backbone(tmp_path / "saved", device="cpu", dtype="auto")
    assert dtypes(backbone) == dtypes(saved) == {HALF}
    names = moved(before, weights(saved))
    assert any(name.startswith(PROJECTOR) for name in names)
    assert (tuning == "full") == any(name.startswith(VISION) for name in names)


def test_sampling_anchors_takes_no_gradient_away(
    backbone, tiny_llava, image_groups, images, tmp_path
):
    """What is cast to half precision for them has no gradient: it must not serve the loss too."""
    whole = load_backbone(tiny_llava, device="cpu")
    names = []
    for some, folder in ((whole, "whole"), (backbone, "half")):
        before = weights(some)
        train_generator(some, [], image_groups, images, SETTINGS, READINGS, 0, tmp_path / folder)
        # A norm's weight of 1 is too coarse in half precision for so small a step.
        names.append({name for name in moved(before, weights(some)) if "norm" not in name})
    assert names[0] == names[1] and any("q_proj" in name for name in names[0])


def test_a_stage_loads_what_was_saved_in_half_precision_as_it_is(backbone, tmp_path):
    backbone.save(tmp_path)
    assert load_backbone(tmp_path, device="cpu", dtype="auto").dtype == HALF
    assert load_backbone(tmp_path, device="cpu").dtype == torch.float32


@pytest.mark.parametrize("tuning", ["lora", "qlora"])
def test_adapters_are_merged_before_they_are_rounded(backbone, tuning):
    """One rounding, of the sum; two would lose steps smaller than the adapters' own spacing."""
    torch.manual_seed(0)
    backbone.trainable(tuning)
    name = "model.language_model.layers.0.self_attn.q_proj"
    layer = backbone.model.get_base_model().get_submodule(name)
    a, b = (part["default"].weight for part in (layer.lora_A, layer.lora_B))
    with torch.no_grad():
        b.normal_(std=0.1)
    delta = layer.scaling["default"] * (b.detach() @ a.detach())
    base = layer.base_layer
    weight = base.weight.detach().clone()
    if tuning == "qlora":
        weight = dequantize_4bit(base.weight.data, base.weight.quant_state)
    backbone.merge_adapters()
    assert dtypes(backbone) == {HALF}
    merged = backbone.model.get_submodule(name).weight
    assert torch.equal(merged, (weight.float() + delta).to(HALF))
