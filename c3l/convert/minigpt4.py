"""MiniGPT-4's published files to the family "minigpt4" (Llama-2) or "blip-2" (Vicuna)."""

from pathlib import Path

import torch
from transformers import Blip2Config, Blip2ForConditionalGeneration

from c3l.backbones.minigpt4 import JOINED, MiniGPT4Config, MiniGPT4ForConditionalGeneration
from c3l.backbones.published import EVA_VIT_G, Q_FORMER, QUERIES
from c3l.convert import processors, rules
from c3l.convert.keys import Converted, build_converted
from c3l.convert.language import READ, llama_config, llama_tokenizer
from c3l.convert.sources import read_file, read_folder

NORM_EPS = 1e-5
"""Of the layer norm behind the encoder (`ln_vision`): torch's own, unlike that of its blocks."""


def convert_llama2(
    vision: Path, projection: Path, language: Path, eva: dict | None = None
) -> Converted:
    """EVA ViT's file, MiniGPT-4's checkpoint and the folder of Llama-2-7b-chat.

    `eva` replaces the encoder's published settings. Raises UserError for files that are missing,
    damaged or not those of this model.
    """
    eva = eva or EVA_VIT_G
    text = llama_config(language)
    tokenizer = llama_tokenizer(language, processors.MINIGPT4_LLAMA2)
    config = MiniGPT4Config(
        vision_config=eva,
        text_config=text,
        vision_norm_eps=NORM_EPS,
        image_seq_length=(eva["image_size"] // eva["patch_size"]) ** 2 // JOINED,
    )
    tower, to = "model.vision_tower", "model.multi_modal_projector.linear"
    parts = [
        (read_file(vision), rules.eva_vit(tower)),
        (read_file(projection), [*rules.minigpt4_projection(to), *rules.eva_vit(tower)]),
        (read_folder(language, *READ), rules.llama("model.language_model", "lm_head")),
    ]
    # The original makes `ln_vision` and loads nothing into it.
    norm = {
        f"{tower}.post_layernorm.weight": torch.ones(eva["hidden_size"]),
        f"{tower}.post_layernorm.bias": torch.zeros(eva["hidden_size"]),
    }
    processor = processors.minigpt4_processor(tokenizer, eva["image_size"], eva["patch_size"])
    return build_converted(MiniGPT4ForConditionalGeneration, config, processor, parts, norm)


def convert_vicuna(
    vision: Path,
    queries: Path,
    projection: Path,
    language: Path,
    eva: dict | None = None,
    q_former: dict | None = None,
    count: int = QUERIES,
) -> Converted:
    """EVA ViT's file, BLIP-2's, MiniGPT-4's checkpoint and the folder of Vicuna.

    `eva`, `q_former` and `count` replace the published settings. Raises UserError for files that
    are missing, damaged or not those of this model.
    """
    eva, q_former = eva or EVA_VIT_G, q_former or Q_FORMER
    text = llama_config(language)
    tokenizer = llama_tokenizer(language, processors.MINIGPT4_VICUNA)
    config = Blip2Config(
        vision_config={**eva, "post_layernorm_eps": NORM_EPS},
        qformer_config=q_former,
        text_config=text,
        num_query_tokens=count,
    )
    encoder = [*rules.eva_vit("vision_model"), *rules.q_former()]
    llama = rules.llama("language_model.model", "language_model.lm_head")
    parts = [
        (read_file(vision), encoder),
        (read_file(queries), encoder),
        (read_file(projection), [*rules.minigpt4_projection("language_projection"), *encoder]),
        (read_folder(language, *READ), llama),
    ]
    processor = processors.blip2_processor(tokenizer, eva["image_size"], count)
    return build_converted(Blip2ForConditionalGeneration, config, processor, parts)
