"""The paper profile's models at their full size, on the meta device: shapes without weights."""

import pytest
import torch
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    CLIPVisionConfig,
    IdeficsConfig,
    IdeficsForVisionText2Text,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

from c3l.backbones.minigpt4 import MiniGPT4Config, MiniGPT4ForConditionalGeneration
from c3l.backbones.published import (
    CLIP_L_336,
    EVA_VIT_G,
    IDEFICS_80B,
    LLAMA,
    PUBLISHED,
    Q_FORMER,
    QUERIES,
    configuration,
)
from c3l.convert import rules
from c3l.convert.keys import assemble, model_shapes
from c3l.convert.minigpt4 import NORM_EPS
from c3l.convert.sources import Source
from tests.c3l import published


def llama(size, rows=32000):
    d, inner, layers = LLAMA[size].values() if size == "7b" else list(LLAMA[size].values())[:3]
    return 2 * rows * d + layers * (4 * d * d + 3 * d * inner + 2 * d) + d


def encoder(d, inner, layers, positions, bias):
    """A ViT of patches of 14 pixels: CLIP's has a norm before it and no bias of its patches."""
    layer = 4 * (d * d + d) + 2 * d * inner + inner + d + 4 * d
    around = 2 * d + (d if bias else 2 * d)
    return d + positions * d + 3 * 14 * 14 * d + layers * layer + around


def q_former(d=768, inner=3072, seen=1408):
    norm, ffn = 2 * d, 2 * d * inner + inner + d
    own, cross = 4 * (d * d + d), 2 * (d * d + d) + 2 * (seen * d + d)
    return QUERIES * d + norm + 12 * (own + norm + ffn + norm) + 6 * (cross + norm)


EVA = encoder(1408, 6144, 39, 257, bias=True)
CLIP = encoder(1024, 4096, 24, 577, bias=False)
# InstructBLIP's Q-Former reads text too: 30,523 words, 512 places, layers of their own for both.
READING = (30523 + 512) * 768 + 12 * (2 * 768 * 3072 + 3072 + 768 + 2 * 768)


def text(size, rows=32000):
    return LlamaConfig(vocab_size=rows, **LLAMA[size])


def count(shapes, under=""):
    return sum(shape.numel() for name, shape in shapes.items() if name.startswith(under))


def linear(narrow, wide):
    return narrow * wide + wide


@pytest.mark.parametrize("size", LLAMA)
def test_llava(size):
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**CLIP_L_336), text_config=text(size, 32064)
    )
    found = model_shapes(LlavaForConditionalGeneration, config)
    d = LLAMA[size]["hidden_size"]
    projector = "model.multi_modal_projector"
    assert found[f"{projector}.linear_1.weight"] == (d, 1024)
    assert found[f"{projector}.linear_2.weight"] == (d, d)
    assert count(found, projector) == linear(1024, d) + linear(d, d)
    assert count(found) == CLIP + count(found, projector) + llama(size, 32064)
    if size == "7b":
        assert count(found) == 7_063_427_072  # of llava-hf/llava-1.5-7b-hf's files


@pytest.fixture(scope="module")
def minigpt4_llama2():
    config = MiniGPT4Config(
        vision_config=EVA_VIT_G, text_config=text("7b"), vision_norm_eps=NORM_EPS
    )
    return config, model_shapes(MiniGPT4ForConditionalGeneration, config)


@pytest.fixture(scope="module")
def minigpt4_vicuna():
    config = Blip2Config(
        vision_config=EVA_VIT_G,
        qformer_config=Q_FORMER,
        text_config=text("7b"),
        num_query_tokens=QUERIES,
    )
    return config, model_shapes(Blip2ForConditionalGeneration, config)


def test_minigpt4_with_llama2(minigpt4_llama2):
    config, found = minigpt4_llama2
    assert config.image_seq_length == 64
    projector = "model.multi_modal_projector."
    assert found[f"{projector}linear.weight"] == (4096, 5632)
    assert count(found, projector) == 23_072_768
    assert count(found, "model.vision_tower.") == EVA
    assert count(found) == EVA + 23_072_768 + llama("7b")
    assert llama("7b") == 6_738_415_616  # of Llama-2-7b-chat-hf's files


def test_minigpt4_with_vicuna(minigpt4_vicuna):
    _, found = minigpt4_vicuna
    assert found["language_projection.weight"] == (4096, 768)
    assert count(found, "language_projection.") == 3_149_824
    assert found["query_tokens"] == (1, 32, 768)
    assert count(found) == EVA + q_former() + 3_149_824 + llama("7b")


def test_the_converters_know_every_published_key_at_full_size(minigpt4_llama2, minigpt4_vicuna):
    with torch.device("meta"):
        eva, queries = published.eva_vit(EVA_VIT_G), published.q_former(Q_FORMER, 1408, QUERIES)
        four = published.linear("llama_proj", 4096, 4 * 1408)
        one = published.linear("llama_proj", 4096, 768)
    assert len(eva) == 4 + 39 * 13

    def check(shapes, parts, constants=None):
        shapes = {k: v for k, v in shapes.items() if "language_model" not in k and "head" not in k}
        return assemble(parts, shapes, constants)

    tower = "model.vision_tower"
    norm = {f"{tower}.post_layernorm.{kind}": torch.ones(1408) for kind in ("weight", "bias")}
    made = check(
        minigpt4_llama2[1],
        [
            (Source("eva", [], eva), rules.eva_vit(tower)),
            (
                Source("linear", [], four),
                rules.minigpt4_projection("model.multi_modal_projector.linear"),
            ),
        ],
        norm,
    )
    assert not any(made.unused.values())
    encoder = [*rules.eva_vit("vision_model"), *rules.q_former()]
    parts = [(Source("eva", [], eva), encoder), (Source("blip2", [], queries), encoder)]
    linear = rules.minigpt4_projection("language_projection")
    made = check(minigpt4_vicuna[1], [*parts, (Source("linear", [], one), linear)])
    assert made.unused["eva"] == made.unused["linear"] == []
    assert len(made.unused["blip2"]) == 3


@pytest.mark.parametrize("size", LLAMA)
def test_instructblip_and_blip2_with_vicuna(size):
    d = LLAMA[size]["hidden_size"]
    given = {"vision_config": EVA_VIT_G, "text_config": text(size, 32001)}
    config = InstructBlipConfig(qformer_config={**Q_FORMER, "vocab_size": 30523}, **given)
    found = model_shapes(InstructBlipForConditionalGeneration, config)
    assert found["language_projection.weight"] == (d, 768)
    whole = EVA + q_former() + linear(768, d) + llama(size, 32001)
    assert count(found) == whole + READING
    if size == "13b":
        config = Blip2Config(qformer_config=Q_FORMER, num_query_tokens=QUERIES, **given)
        assert count(model_shapes(Blip2ForConditionalGeneration, config)) == whole


def test_idefics_80b():
    config = IdeficsConfig(**IDEFICS_80B)
    found = model_shapes(IdeficsForVisionText2Text, config)
    assert 79.5e9 < count(found) < 80.5e9
    cross = [name for name in found if name.endswith("cross_attn.q_proj.weight")]
    assert len(cross) == 20  # before every fourth of 80 layers
    # 64 latents an image, of CLIP-H's width
    (latents,) = [shape for name, shape in found.items() if name.endswith("latents")]
    assert latents == (64, 1280)


# Of the published files' own indexes, where one has been seen; else as counted above.
PARAMETERS = {
    "llava-1.5-7b-hf": 7_063_427_072,
    "llava-stage1-7b": 7_063_427_072,
    "minigpt4-llama2": EVA + 23_072_768 + llama("7b"),
    "minigpt4-vicuna": EVA + q_former() + 3_149_824 + llama("7b"),
    "instructblip-vicuna-7b": EVA + q_former() + READING + linear(768, 4096) + llama("7b", 32001),
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_what_is_published_is_known_by_its_name(name):
    family, config = configuration(f"somewhere/{name}")
    assert count(model_shapes(family.model_class, config)) == PARAMETERS[name]
    assert set(PARAMETERS) <= set(PUBLISHED)
