"""The configurations of published backbones, as far as they decide shapes.

`python -m repro plan` needs no weights, only these.
"""

from pathlib import Path
from typing import Any

from transformers import AutoConfig, Blip2QFormerConfig, Blip2VisionConfig, PreTrainedConfig

from c3l.backbones.base import Backbone
from c3l.backbones.configuration import model_config
from c3l.backbones.loading import FAMILIES, model_type
from c3l.runtime.errors import UserError
from c3l.runtime.hub import weights_folder


def _shape(config: PreTrainedConfig, *names: str) -> dict[str, Any]:
    """The values of a configuration's main sizes, and of `names`."""
    sizes = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    return {name: getattr(config, name) for name in (*sizes, *names)}


# openai/clip-vit-large-patch14-336, of LLaVA
CLIP_L_336 = {
    "model_type": "clip_vision_model",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
    "projection_dim": 768,
}
# LAVIS's encoder and BLIP-2's queries: of both MiniGPT-4 and InstructBLIP
EVA_VIT_G = _shape(Blip2VisionConfig(), "image_size", "patch_size", "layer_norm_eps")
Q_FORMER = _shape(Blip2QFormerConfig(), "cross_attention_frequency", "layer_norm_eps")
"""BERT base's, with cross-attention in every second layer."""
QUERIES = 32
LLAMA = {
    "7b": {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32},
    "13b": {
        "hidden_size": 5120,
        "intermediate_size": 13824,
        "num_hidden_layers": 40,
        "num_attention_heads": 40,
    },
}


def llama(size: str, vocabulary: int = 32000) -> dict[str, Any]:
    """Llama 1 and 2, and Vicuna."""
    return {"model_type": "llama", "vocab_size": vocabulary, **LLAMA[size]}


def _llava(size: str) -> dict[str, Any]:
    return {"model_type": "llava", "vision_config": CLIP_L_336, "text_config": llama(size, 32064)}


def _instructblip(size: str) -> dict[str, Any]:
    return {
        "model_type": "instructblip",
        "vision_config": EVA_VIT_G,
        # the queries read the question, in BERT's words and one for where it starts
        "qformer_config": {**Q_FORMER, "vocab_size": 30523},
        "text_config": llama(size, 32001),
    }


IDEFICS_80B = {
    "model_type": "idefics",
    "additional_vocab_size": 2,
    "hidden_size": 8192,
    "intermediate_size": 22016,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "cross_layer_interval": 4,
    "qk_layer_norms": True,
    "use_resampler": True,
    "vision_config": {"embed_dim": 1280},
    "perceiver_config": {"use_resampler": True, "qk_layer_norms_perceiver": True},
}

# By the last part of a folder's name or of a Hub id, as in the shipped profiles. Folders made by
# `python -m c3l convert` have a few words more.
PUBLISHED: dict[str, dict[str, Any]] = {
    "llava-1.5-7b-hf": _llava("7b"),
    "llava-1.5-13b-hf": _llava("13b"),
    "llava-stage1-7b": _llava("7b"),
    "llava-stage1-13b": _llava("13b"),
    "minigpt4-llama2": {
        "model_type": "minigpt4",
        "vision_config": EVA_VIT_G,
        "text_config": llama("7b"),
        "vision_norm_eps": 1e-5,
    },
    "minigpt4-vicuna": {
        "model_type": "blip-2",
        "vision_config": EVA_VIT_G,
        "qformer_config": Q_FORMER,
        "text_config": llama("7b"),
    },
    "instructblip-vicuna-7b": _instructblip("7b"),
    "instructblip-vicuna-13b": _instructblip("13b"),
    "idefics-80b-instruct": IDEFICS_80B,
}


def configuration(path_or_id: str | Path) -> tuple[type[Backbone], PreTrainedConfig]:
    """A backbone's family and configuration: its folder's, or if that is missing the published one,
    in half precision. Nothing is fetched.

    Raises UserError for a folder without a backbone, and for an unknown name.
    """
    try:
        folder = weights_folder(path_or_id, fetch=False)
    except UserError:
        config = PUBLISHED.get(str(path_or_id).partition("@")[0].rpartition("/")[2])
        if config is None:
            raise
        family = FAMILIES[config["model_type"]]
        return family, AutoConfig.for_model(**config, dtype="float16")
    family = FAMILIES[model_type(folder)]
    return family, model_config(family.model_class, folder)
