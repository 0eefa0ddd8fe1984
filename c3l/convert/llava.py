"""LLaVA's own checkpoints to the family "llava"."""

from pathlib import Path

from transformers import CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration

from c3l.convert import processors, rules
from c3l.convert.keys import Converted, Rules, build_converted
from c3l.convert.language import READ, llama_config, llama_tokenizer
from c3l.convert.sources import Source, read_config, read_file, read_folder
from c3l.runtime.errors import UserError

LANGUAGE = rules.llama("model.language_model", "lm_head")
NEEDED = {
    "mm_projector_type": "mlp2x_gelu",
    "mm_vision_select_feature": "patch",
    "mm_use_im_start_end": False,
}
"""The settings of LLaVA 1.5."""


def convert_checkpoint(checkpoint: Path, vision: Path) -> Converted:
    """A folder with LLaVA's whole model, and the folder of its CLIP.

    The checkpoint's own tower counts if it has one. Raises UserError for folders that are
    incomplete, damaged or not those of this model.
    """
    settings = read_config(checkpoint)
    source = read_folder(checkpoint, *READ)
    tower = rules.clip(rules.LLAVA_TOWER)
    parts = [(source, [*LANGUAGE, *rules.llava_projection(), *tower])]
    return _fitted(parts, settings, language=checkpoint, vision=vision)


def convert_projector(projection: Path, language: Path, vision: Path) -> Converted:
    """A projector alone (mm_projector.bin), the folder of its Vicuna and that of its CLIP.

    The settings are those of config.json beside the projector, if there is one. Raises UserError
    as `convert_checkpoint` does.
    """
    folder = projection.parent
    settings = read_config(folder) if (folder / "config.json").is_file() else {}
    parts = [
        (read_file(projection), rules.llava_projection()),
        (read_folder(language, *READ), LANGUAGE),
    ]
    return _fitted(parts, settings, language=language, vision=vision)


def _fitted(
    parts: list[tuple[Source, Rules]], settings: dict, language: Path, vision: Path
) -> Converted:
    parts = [(read_folder(vision, "config.json"), rules.clip()), *parts]
    for name, needed in NEEDED.items():
        if settings.get(name, needed) != needed:
            raise UserError(
                f"the checkpoint's config.json says {name}: {settings[name]!r}, which the family "
                f"llava here does not have; give one of LLaVA 1.5, where it is {needed!r}"
            )
    kind = read_config(vision).get("model_type")
    if kind not in ("clip", "clip_vision_model"):
        raise UserError(
            f"{vision} holds a {kind!r} where CLIP is needed; give the folder of the checkpoint's "
            "CLIP"
        )
    tower, text = CLIPVisionConfig.from_pretrained(vision), llama_config(language)
    tokenizer = llama_tokenizer(language, processors.LLAVA_V1)
    config = LlavaConfig(
        vision_config=tower,
        text_config=text,
        vision_feature_layer=settings.get("mm_vision_select_layer", -2),
        image_seq_length=(tower.image_size // tower.patch_size) ** 2,
    )
    pad = settings.get("image_aspect_ratio") == "pad"
    processor = processors.llava_processor(tokenizer, tower.image_size, tower.patch_size, pad)
    return build_converted(LlavaForConditionalGeneration, config, processor, parts)
