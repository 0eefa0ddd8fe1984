"""LLaVA models of a given shape with random weights, which suffice to measure speed."""

from pathlib import Path
from typing import NamedTuple

import torch
from transformers import (
    AutoProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

from c3l.backbones.llava import Llava

# Of shapes with random weights, tokenizer and chat template are read from it.
POCKET_MODEL = Path(__file__).parents[1] / "pocket" / "backbones" / "llava-7b"
_DIMENSIONS = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")


class ModelShape(NamedTuple):
    """The dimensions that decide a LLaVA's cost; of both parts those of _DIMENSIONS."""

    pixels: int
    patch: int
    vision: tuple[int, int, int, int]
    language: tuple[int, int, int, int]
    vocabulary: int


# The small models have the proportions of LLaVA-1.5-7B, so that its ways of being scored compare
# alike: there the vision encoder holds 5% of the language model's weights and the
# head 2%. A head of 32,000 words on a model this narrow would hold more than all its layers.
_LANGUAGE = (512, 4, 4, 1376)
_VISION = (128, 4, 2, 512)
SHAPES = {
    "tiny, 9 image tokens": ModelShape(24, 8, (32, 2, 4, 64), (32, 2, 4, 64), 833),
    "small, 144 image tokens": ModelShape(168, 14, _VISION, _LANGUAGE, 833),
    "small, 576 image tokens": ModelShape(336, 14, _VISION, _LANGUAGE, 833),
    "small, 576 image tokens, 32,000 words": ModelShape(336, 14, _VISION, _LANGUAGE, 32_000),
    # Large enough for weights and activations to outweigh a process's baseline.
    "middle, 144 image tokens": ModelShape(168, 14, (256, 6, 4, 1024), (768, 12, 12, 2048), 32_000),
    # openai/clip-vit-large-patch14-336 and llava-hf/llava-1.5-7b-hf, as published.
    "LLaVA-1.5-7B": ModelShape(336, 14, (1024, 24, 16, 4096), (4096, 32, 32, 11008), 32_064),
}


def make_model(
    name: str,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> Llava:
    """Make a backbone of the shape SHAPES[name], its weights drawn on the device in that type.

    The tokenizer and the chat template are the pocket world's; words beyond theirs are never read.
    """
    shape = SHAPES[name]
    processor = _processor(shape)
    device = torch.device(device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), device:
        torch.manual_seed(seed)
        # There and in that type from the start: seven billion weights may fit no other way.
        model = LlavaForConditionalGeneration._from_config(
            shape_config(name, processor.tokenizer), dtype=dtype
        )
    return Llava(model, processor, name=name, files=[])


def _processor(shape: ModelShape):
    processor = AutoProcessor.from_pretrained(POCKET_MODEL)
    processor.patch_size = shape.patch
    processor.image_processor = type(processor.image_processor)(
        # As LLaVA-1.5's: the shorter edge to the encoder's size, then the middle.
        size={"shortest_edge": shape.pixels},
        crop_size={"height": shape.pixels, "width": shape.pixels},
    )
    return processor


def shape_config(name: str, tokenizer=None) -> LlavaConfig:
    """The configuration of the shape SHAPES[name], by default with the pocket tokenizer."""
    shape = SHAPES[name]
    tokenizer = tokenizer or _processor(shape).tokenizer
    vision = CLIPVisionConfig(
        **dict(zip(_DIMENSIONS, shape.vision, strict=True)),
        image_size=shape.pixels,
        patch_size=shape.patch,
        projection_dim=shape.vision[0],
    )
    text = LlamaConfig(
        **dict(zip(_DIMENSIONS, shape.language, strict=True)),
        vocab_size=shape.vocabulary,
        max_position_embeddings=4096,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(shape.pixels // shape.patch) ** 2,
        vision_feature_layer=-2,
    )
