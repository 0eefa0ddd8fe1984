"""Every family does what LLaVA does: reads, scores packed, writes, is tuned and saved."""

import pytest
import torch
from PIL import Image
from transformers import LlamaConfig

import c3l
from benchmarks.pocket.pretrain import graft
from c3l.backbones import minigpt4
from c3l.relevance import answer_states, score
from c3l.samples import ImageFolder, Sample

QUESTIONS = ["What colour is the ball?", "Why?", "How many trees are there in the snow?"]
ANSWERS = ["Red.", "Because it is cold.", "Two."]


@pytest.fixture(scope="module")
def backbone(family):
    return c3l.load_backbone(family, device="cpu")


@pytest.fixture(scope="module")
def pictures(tiny_images):
    return [Image.open(tiny_images / f"image-{k}.png") for k in range(3)]


def test_states_and_logits_are_the_models_own(backbone, pictures):
    """Through transformers' own forward of the whole model."""
    batch = backbone.encode(QUESTIONS, pictures, ANSWERS)
    everywhere = batch["attention_mask"].bool()
    inputs = {k: v for k, v in batch.items() if k not in ("labels", "answer_mask")}
    if "_model_inputs" in vars(type(backbone)):  # the model takes them in another form
        inputs = backbone._model_inputs(inputs)
    with torch.inference_mode():
        logits = backbone.head(backbone.hidden_states(batch, everywhere))
        torch.testing.assert_close(logits, backbone.model(**inputs).logits[everywhere])


def test_the_picture_is_seen(backbone, pictures):
    with torch.inference_mode():
        found = []
        for picture in pictures[:2]:
            batch = backbone.encode(QUESTIONS[:1], [picture], ANSWERS[:1])
            found.append(answer_states(backbone, batch, batch["answer_mask"])[0])
    assert (found[0] - found[1]).abs().max() > 1e-3


def test_scores_packed_are_scores_one_by_one(backbone, tiny_images):
    samples = [
        Sample(f"{i}-{k}", f"image-{i}.png", QUESTIONS[k], ANSWERS[k])
        for i in range(2)
        for k in range(3)
    ]
    images = ImageFolder(tiny_images)
    together = score(backbone, samples, images)
    for sample, found in zip(samples, together, strict=True):
        (alone,) = score(backbone, [sample], images)
        assert found.i2c == pytest.approx(alone.i2c, abs=1e-5)
        assert found.unscored is None


def test_minigpt4_joins_four_neighbours_and_has_the_published_projector():
    vision = {"hidden_size": 1408, "num_hidden_layers": 1, "intermediate_size": 16}
    text = LlamaConfig(hidden_size=4096, num_hidden_layers=1)
    config = minigpt4.MiniGPT4Config(vision_config=vision, text_config=text)
    assert config.image_seq_length == 64
    with torch.device("meta"):
        joiner = minigpt4.PatchJoiner(config)
    # Linear 5632 → 4096 of the published checkpoint
    assert sum(p.numel() for p in joiner.parameters()) == 23_072_768
    small = minigpt4.PatchJoiner(
        minigpt4.MiniGPT4Config(
            vision_config={**vision, "hidden_size": 2},
            text_config=LlamaConfig(hidden_size=8, num_attention_heads=2),
        )
    )
    with torch.no_grad():
        small.linear.weight.copy_(torch.eye(8))
        small.linear.bias.zero_()
    patches = torch.arange(16.0).view(1, 8, 2)
    assert small(patches).tolist() == [[[*range(8)], [*range(8, 16)]]]


def test_a_language_model_grown_or_as_a_glm_is_the_same_function(tiny_llava):
    llama = graft.language_model(c3l.load_backbone(tiny_llava, device="cpu").model).eval()
    ids = torch.arange(5, 45)[None]
    with torch.no_grad():
        logits = llama(ids).logits
        for layers in (3, 4):
            grown = graft.with_more_layers(llama, layers).eval()
            assert len(grown.model.layers) == layers
            torch.testing.assert_close(grown(ids).logits, logits)
        torch.testing.assert_close(graft.as_glm(llama).eval()(ids).logits, logits)
