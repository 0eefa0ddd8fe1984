"""QLoRA: what lies in four bits, what trains, and what is left when the adapters are merged."""

import sys

import pytest
import torch

from c3l.backbones import load_backbone
from c3l.readings import Readings
from c3l.runtime.errors import UserError
from c3l.samples import ImageFolder, Sample
from c3l.trainer import LossTrainer
from c3l.training import TrainingSettings, tune
from tests.c3l.training import weights

LANGUAGE = "model.language_model.layers."
BLOCK = 64  # weights that share a scale
# Half of NF4's widest gap (-1 to -0.6962) in units of a block's largest weight, and a little for
# the scales, which are rounded too.
ROUNDING = 0.1519 + 0.02


def test_linears_of_the_language_model_lie_in_four_bits(backbone):
    whole = {name: p.numel() for name, p in backbone.model.named_parameters()}
    backbone.trainable("qlora")
    low = {
        name.removeprefix("base_model.model.").replace(".base_layer", ""): p
        for name, p in backbone.model.named_parameters()
        if p.dtype == torch.uint8
    }
    linears = {n for n in whole if n.startswith(LANGUAGE) and n.endswith("_proj.weight")}
    assert low.keys() == linears and len(linears) >= 7
    for name, parameter in low.items():
        assert parameter.numel() == whole[name] / 2  # two weights a byte
        assert not parameter.requires_grad


def test_untrained_adapters_leave_rounded_weights(backbone, tmp_path):
    before = weights(backbone)
    backbone.trainable("qlora")
    prompts = ["What is on the left?", "Name a colour."]
    written = backbone.generate(prompts, max_new_tokens=8)
    backbone.save(tmp_path)
    again = load_backbone(tmp_path, device="cpu")
    assert again.generate(prompts, max_new_tokens=8) == written
    after = weights(again)
    assert after.keys() == before.keys()
    for name, old in before.items():
        new = after[name]
        if not (name.startswith(LANGUAGE) and name.endswith("_proj.weight")):
            assert torch.equal(new, old), name
            continue
        assert not torch.equal(new, old)
        blocks = zip(*(weight.flatten().split(BLOCK) for weight in (new, old)), strict=True)
        for ours, theirs in blocks:
            assert len(ours.unique()) <= 16  # what four bits can tell apart
            assert (ours - theirs).abs().max() <= ROUNDING * theirs.abs().max()


def test_gradients_reach_adapters_and_projector_alone(backbone, tiny_images, tmp_path, monkeypatch):
    trained, step = set(), LossTrainer.training_step

    def watched(self, *args, **kwargs):
        loss = step(self, *args, **kwargs)
        trained.update(name for name, p in self.model.named_parameters() if p.grad is not None)
        return loss

    monkeypatch.setattr(LossTrainer, "training_step", watched)
    samples = [Sample(f"s{i}", f"image-{i}.png", "What is it?", "A red cup.", "") for i in range(4)]
    settings = TrainingSettings(learning_rate=1e-2, batch_size=2, epochs=4)
    readings = Readings(tuning="qlora", warmup_ratio=0, schedule="constant_with_warmup")
    before = weights(backbone)
    metrics = tune(backbone, samples, ImageFolder(tiny_images), settings, readings, 0, tmp_path)
    losses = [record["loss"] for record in metrics["history"]]
    assert losses[-1] < losses[0]
    assert all("lora_" in name or "multi_modal_projector" in name for name in trained)
    assert any("lora_" in name for name in trained)
    after = weights(backbone)
    assert after.keys() == before.keys()  # merged
    # More than rounding moved them.
    name = f"{LANGUAGE}0.self_attn.q_proj.weight"
    assert all(len(block.unique()) > 16 for block in after[name].flatten().split(BLOCK))
    assert not torch.equal(
        after["model.multi_modal_projector.linear_1.weight"],
        before["model.multi_modal_projector.linear_1.weight"],
    )


def test_without_the_package(backbone, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(UserError, match=r"needs bitsandbytes.*or use lora"):
        backbone.trainable("qlora")
