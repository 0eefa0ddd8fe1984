"""The families around a language model, untrained: real transformers classes at pocket size.

An EVA ViT is `Blip2VisionModel` with smaller patches than CLIP's; a Q-Former has as many queries as
the other families have image tokens.
"""

from dataclasses import dataclass

from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    IdeficsConfig,
    IdeficsForVisionText2Text,
    IdeficsImageProcessor,
    IdeficsProcessor,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
    InstructBlipProcessor,
    LlavaProcessor,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from benchmarks.pocket.pretrain.llava import build_processor
from benchmarks.pocket.pretrain.vision import image_processor
from c3l.backbones.minigpt4 import MiniGPT4Config, MiniGPT4ForConditionalGeneration


@dataclass(frozen=True)
class FamilySize:
    """The size of an encoder and a Q-Former."""

    side: int = 48
    """Pixels of the image's side."""
    patch: int = 8
    width: int = 96
    layers: int = 4
    queries_layers: int = 2
    """Layers of the Q-Former."""
    tokens: int = 9
    """Image tokens of a picture."""


POCKET = FamilySize()


def minigpt4(
    text: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase, shape: FamilySize = POCKET
) -> tuple[PreTrainedModel, LlavaProcessor]:
    """MiniGPT-4 with Llama-2: four patches joined to one token."""
    config = MiniGPT4Config(
        vision_config=_eva(shape),
        text_config=text,
        image_token_id=_image_token(tokenizer),
        image_seq_length=shape.tokens,
        initializer_range=text.initializer_range,
        tie_word_embeddings=text.tie_word_embeddings,
    )
    # The processor counts tokens by patches: four of them are a square twice as wide.
    processor = build_processor(tokenizer, shape.side, 2 * shape.patch)
    return MiniGPT4ForConditionalGeneration(config), processor


def blip2(
    text: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase, shape: FamilySize = POCKET
) -> tuple[PreTrainedModel, Blip2Processor]:
    """BLIP-2, MiniGPT-4 with Vicuna and, around a GLM, VisualGLM."""
    config = Blip2Config(**_qformer_family(text, tokenizer, shape))
    images = image_processor(shape.side)
    processor = Blip2Processor(images, tokenizer, num_query_tokens=shape.tokens)
    return Blip2ForConditionalGeneration(config), _with_chat_template(processor)


def instructblip(
    text: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase, shape: FamilySize = POCKET
) -> tuple[PreTrainedModel, InstructBlipProcessor]:
    """InstructBLIP: the Q-Former reads the question, in the language model's own tokens here."""
    config = InstructBlipConfig(**_qformer_family(text, tokenizer, shape))
    processor = InstructBlipProcessor(
        image_processor(shape.side), tokenizer, tokenizer, num_query_tokens=shape.tokens
    )
    return InstructBlipForConditionalGeneration(config), _with_chat_template(processor)


def idefics(
    text: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase, shape: FamilySize = POCKET
) -> tuple[PreTrainedModel, IdeficsProcessor]:
    """IDEFICS: before each second layer of a Llama, one that looks at the picture."""
    shared = (
        *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers"),
        *("num_attention_heads", "max_position_embeddings", "rope_parameters", "rms_norm_eps"),
        *("bos_token_id", "eos_token_id", "pad_token_id"),
        *("initializer_range", "tie_word_embeddings"),
    )
    config = IdeficsConfig(
        **{name: getattr(text, name) for name in shared},
        cross_layer_interval=2,
        freeze_text_layers=False,
        freeze_vision_layers=False,
        vision_config={
            "embed_dim": shape.width,
            "image_size": shape.side,
            "patch_size": 2 * shape.patch,
            "intermediate_size": 3 * shape.width,
            "num_hidden_layers": shape.layers,
            "num_attention_heads": 4,
            "hidden_act": "quick_gelu",  # as CLIP's
        },
    )
    clip = image_processor(shape.side)
    images = IdeficsImageProcessor(
        image_size=shape.side, image_mean=clip.image_mean, image_std=clip.image_std
    )
    return IdeficsForVisionText2Text(config), _with_chat_template(
        IdeficsProcessor(images, tokenizer)
    )


def _eva(shape: FamilySize) -> dict:
    return {
        "hidden_size": shape.width,
        "intermediate_size": 3 * shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": 4,
        "image_size": shape.side,
        "patch_size": shape.patch,
        # transformers' own default, 1e-10, is for weights that are read from a file
        "initializer_range": 0.02,
    }


def _qformer_family(
    text: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase, shape: FamilySize
) -> dict:
    """The configuration of a family with a Q-Former."""
    qformer = {
        "vocab_size": len(tokenizer),
        "hidden_size": shape.width,
        "intermediate_size": 3 * shape.width,
        "num_hidden_layers": shape.queries_layers,
        "num_attention_heads": 4,
        "cross_attention_frequency": 1,
        "encoder_hidden_size": shape.width,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "pad_token_id": tokenizer.pad_token_id,
    }
    return {
        "vision_config": _eva(shape),
        "qformer_config": qformer,
        "text_config": text,
        "num_query_tokens": shape.tokens,
        "image_token_index": _image_token(tokenizer),
    }


def _with_chat_template(processor):
    """Set the tokenizer's chat template, for which these classes take no argument."""
    processor.chat_template = processor.tokenizer.chat_template
    return processor


def _image_token(tokenizer: PreTrainedTokenizerBase) -> int:
    return tokenizer.convert_tokens_to_ids("<image>")
