"""Pictures read by a frozen encoder once: the same states, texts and trained weights."""

from contextlib import contextmanager

import pytest
import torch

import c3l
from c3l.backbones.features import FrozenFeatures, are_frozen
from c3l.backbones.llava import Llava
from c3l.readings import Readings
from c3l.relevance import answer_states
from c3l.samples import ImageFolder
from c3l.training import TrainingSettings, tune

QUESTIONS = ["What is this?", "Why is it so, do you think?", "How many?"]
ANSWERS = ["A ball.", "Because it is.", "Two."]
NAMES = ["image-0.png", "image-1.png", "image-0.png"]
SETTINGS = TrainingSettings(learning_rate=1e-3, batch_size=2, epochs=2)


class Unknown(Llava):
    """A family that does not say that its features can be kept."""

    frozen_features = False


@pytest.fixture(scope="module")
def backbone(request, tiny_llava):
    return c3l.load_backbone(tiny_llava, device="cpu")


@contextmanager
def encoded(backbone):
    """The number of pictures in each run of the vision encoder."""
    sizes: list[int] = []
    vision = backbone.model_part("model.vision_tower")
    with vision.register_forward_hook(lambda _, args, out: sizes.append(len(args[0]))):
        yield sizes


def test_every_family_reads_the_features_as_the_picture(family, tiny_images):
    """States, their gradient and what is written behind them, each family its own way."""
    backbone, images = c3l.load_backbone(family, device="cpu"), ImageFolder(tiny_images)
    features = FrozenFeatures(backbone, images, NAMES)
    weight = next(backbone.model_part(backbone.projector).parameters())
    results = []
    for source in (images, features):
        pictures = [source[name] for name in NAMES]
        batch = backbone.encode(QUESTIONS, pictures, ANSWERS)
        packed, _ = answer_states(backbone, batch, batch["answer_mask"], [1, 1, 1])
        states, _ = answer_states(backbone, batch, batch["answer_mask"], in_pairs=True)
        probe = torch.linspace(-1, 1, states.shape[1])
        (slope,) = torch.autograd.grad((states * probe).sum(), weight)
        texts, _ = backbone.text_states(backbone.encode_texts(ANSWERS, pictures))
        written = backbone.generate(QUESTIONS, pictures, max_new_tokens=6)
        results.append((packed, states, slope, texts, written))
    for own, other in zip(*(result[:4] for result in results), strict=True):
        torch.testing.assert_close(own, other, atol=1e-5, rtol=1e-4)
    assert results[0][4] == results[1][4]


def test_a_picture_is_encoded_once_within_the_bound(backbone, tiny_images):
    images = ImageFolder(tiny_images)
    states = FrozenFeatures(backbone, images, NAMES[:1])[NAMES[0]]
    # One is encoded for its size; then all together, if memory has room for them.
    for room, expected in ((2, [1, 2]), (1, [1, 1, 1, 1]), (0, [1, 1, 1, 1])):
        with encoded(backbone) as sizes:
            features = FrozenFeatures(backbone, images, NAMES, memory=room * states.nbytes)
            first, _, last = [features[name] for name in NAMES]
        assert sizes == expected
        torch.testing.assert_close(first, states)
        assert torch.equal(last, first)


@pytest.mark.parametrize("tuning", ["language+projector", "lora", "projector", "full"])
def test_training_encodes_each_picture_once(tiny_llava, samples, images, tmp_path, tuning):
    """With the vision encoder among the trained weights it encodes all in each step."""
    backbone = c3l.load_backbone(tiny_llava, device="cpu")
    with encoded(backbone) as sizes:
        tune(backbone, samples[:4], images, SETTINGS, Readings(tuning=tuning), 0, tmp_path)
    pictures = len({sample.image for sample in samples[:4]})
    assert sizes == ([2] * 4 if tuning == "full" else [1, pictures])


def test_trained_weights_are_those_of_an_encoder_in_every_step(
    tiny_llava, samples, images, tmp_path
):
    weights = []
    for kind in (Llava, Unknown):
        backbone = c3l.load_backbone(tiny_llava, device="cpu")
        backbone.__class__ = kind
        tune(backbone, samples[:6], images, SETTINGS, Readings(), 0, tmp_path / kind.__name__)
        weights.append(backbone.model.state_dict())
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], atol=1e-5, rtol=0)


def test_features_are_frozen_without_dropout_only(tiny_llava):
    backbone = c3l.load_backbone(tiny_llava, device="cpu")
    assert are_frozen(backbone, "lora")
    assert not are_frozen(backbone, "full")
    backbone.model.config.vision_config.attention_dropout = 0.1
    assert not are_frozen(backbone, "lora")
