"""What L_c says it would not reach is what a real backward of it does not reach."""

import itertools
from typing import get_args

import pytest
import torch

import c3l
from c3l.artifacts.stage import Source, Stage
from c3l.contrastive import Projection
from c3l.losses import Losses
from c3l.reach import contrast_unreached, model_type
from c3l.readings import Readings, Tuning
from c3l.runtime.errors import UserError
from c3l.selection import Group
from c3l.training import train_generator
from tests.c3l import families
from tests.c3l.training import READINGS, SETTINGS, moved, weights

CHOICES = [
    {"embedding": embedding, "contrastive_image": image, "anchor": anchor}
    for embedding, image, anchor in itertools.product(
        ("last_hidden", "input"), (False, True), ("sampled", "prompt")
    )
]


@pytest.fixture(scope="module", params=["llava", *families.FAMILIES])
def any_backbone(request, tiny_llava, tmp_path_factory):
    name = request.param
    folder = tiny_llava
    if name != "llava":
        folder = families.save(name, tmp_path_factory.mktemp(name))
    return c3l.load_backbone(folder, device="cpu")


@pytest.mark.parametrize("tuning", get_args(Tuning))
def test_what_l_c_reaches_is_known_before_it_is_computed(any_backbone, tuning, samples, images):
    group = Group(samples[0].image, (samples[0],), (samples[4], samples[8]))
    kind = any_backbone.model_part("").config.model_type
    any_backbone.trainable(tuning)
    try:
        torch.manual_seed(0)
        width = any_backbone.model.get_input_embeddings().weight.shape[1]
        for choice in CHOICES:
            readings = Readings(tuning=tuning, **choice)
            losses = Losses(any_backbone, Projection(width), readings)
            text = None if readings.anchor == "prompt" else "A cup is red."
            losses.model.zero_grad()
            losses(None, [(text, group, images[group.image])])[1].backward()
            gradients = [p.grad for p in losses.model.parameters() if p.grad is not None]
            reached = any(bool(gradient.any()) for gradient in gradients)
            assert reached == (contrast_unreached(readings, kind) is None), choice
    finally:
        any_backbone.model.zero_grad()
        any_backbone.merge_adapters()


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        ({"tuning": "projector"}, {"contrastive_image": True}),
        ({"tuning": "projector"}, {"tuning": "lora"}),
        ({"tuning": "lora", "embedding": "input"}, {"embedding": "last_hidden"}),
        ({"tuning": "lora", "embedding": "input"}, {"tuning": "language+projector"}),
        (
            {"tuning": "projector", "embedding": "input"},
            {"embedding": "last_hidden", "contrastive_image": True},
        ),
    ],
    ids=str,
)
def test_no_step_is_taken_without_effect_and_the_remedy_has_one(
    backbone, samples, image_groups, images, tmp_path, change, remedy
):
    before = weights(backbone)
    readings = READINGS.model_copy(update=change)
    for targets in ([], samples):
        given = (backbone, targets, image_groups, images, SETTINGS)
        with pytest.raises(UserError, match="L_c would reach no weight of the model") as error:
            train_generator(*given, readings, 0, tmp_path / "lost")
        assert all(name in str(error.value) for name in remedy)
    assert not moved(before, weights(backbone)) and not (tmp_path / "lost").exists()
    readings = readings.model_copy(update=remedy)
    train_generator(backbone, [], image_groups, images, SETTINGS, readings, 0, tmp_path / "run")
    assert moved(before, weights(backbone))


def test_without_groups_nothing_is_asked_of_l_c(backbone, samples, images, tmp_path):
    readings = READINGS.model_copy(update={"tuning": "projector"})
    metrics = train_generator(backbone, samples, [], images, SETTINGS, readings, 0, tmp_path)
    assert "l_c" not in metrics


def test_the_model_type_is_read_through_what_is_trained_from_it(tiny_llava, tmp_path):
    source = Source(tiny_llava, "key")
    trained = Stage("vlit", 1, print, inputs={"backbone": source})
    assert model_type(source) == model_type(trained) == "llava"
    assert model_type(Source(tmp_path / "nowhere", "key")) is None
