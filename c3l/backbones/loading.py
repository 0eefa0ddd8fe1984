"""Loading a backbone: its folder, its family, and what may be wrong with either."""

import json
import os
import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import AutoProcessor, PreTrainedModel

from c3l.backbones.base import Backbone
from c3l.backbones.blip2 import Blip2, InstructBlip
from c3l.backbones.idefics import Idefics
from c3l.backbones.llava import Llava
from c3l.backbones.minigpt4 import MiniGPT4
from c3l.errors import UserError

# What a backbone is made of; a folder may hold cards, logs and optimizer states besides.
FILES = (
    "*.safetensors",
    "*.safetensors.index.json",
    "config.json",
    "generation_config.json",
    "*processor_config.json",
    "chat_template.*",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "qformer_tokenizer/*",
)

# By config.json's model_type.
FAMILIES: dict[str, type[Backbone]] = {
    "llava": Llava,
    "minigpt4": MiniGPT4,
    "blip-2": Blip2,
    "instructblip": InstructBlip,
    "idefics": Idefics,
}


def load_backbone(
    path_or_id: str | os.PathLike,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    trust_remote_code: bool = False,
) -> Backbone:
    """The backbone saved in a folder, or on the Hub under an id such as llava-hf/llava-1.5-7b-hf.

    `device` defaults to cuda where there is one, else cpu. `dtype` defaults to float32 on every
    device, so that they give the same numbers; large models want "bfloat16". Weights are read
    from safetensors only. Raises UserError for a missing, damaged or unknown backbone.
    """
    folder = _folder(path_or_id)
    model_type = _model_type(folder)
    if model_type not in FAMILIES:
        raise UserError(
            f"{folder} holds a backbone of the unknown family {model_type!r}; "
            f"use one of: {', '.join(FAMILIES)}"
        )
    family = FAMILIES[model_type]
    processor = _processor(folder, trust_remote_code)
    model = _model(family.model_class, folder, _dtype(dtype)).to(_device(device))
    files = sorted({file for pattern in FILES for file in folder.glob(pattern)})
    return family(model, processor, name=str(path_or_id), files=files)


def _folder(path_or_id: str | os.PathLike) -> Path:
    folder = Path(path_or_id)
    if folder.is_dir():
        return folder
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", str(path_or_id)):
        raise UserError(f"there is no backbone at {path_or_id}; give a folder or a Hub id")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(path_or_id), allow_patterns=list(FILES)))
    # Whatever the network, the Hub or its cache raise: the remedy is the same.
    except Exception as error:
        raise UserError(
            f"{path_or_id} is neither a folder nor a backbone that could be fetched from the Hub "
            f"({type(error).__name__}); check the name, or give the folder of a downloaded copy"
        ) from error


def _model_type(folder: Path) -> str | None:
    file = folder / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{folder} has no config.json; give the folder of a backbone") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{file} is damaged ({error}); get the backbone again") from error
    return config.get("model_type") if isinstance(config, dict) else None


def _device(device: str | torch.device | None) -> torch.device:
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=device).device
    # torch raises an AssertionError where it was built without the device's kind.
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {device} cannot be used here; try cpu") from error


def _dtype(dtype: str | torch.dtype | None) -> torch.dtype:
    return named_dtype(dtype) if isinstance(dtype, str) else dtype or torch.float32


def named_dtype(name: str) -> torch.dtype:
    """torch's floating-point dtype of that name. Raises UserError if there is none."""
    named = getattr(torch, name, None)
    if not isinstance(named, torch.dtype) or not named.is_floating_point:
        raise UserError(f"dtype {name} is unknown; use float32, bfloat16 or float16")
    return named


def _model(model_class: type[PreTrainedModel], folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    try:
        model, found = model_class.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, output_loading_info=True
        )
    # A file cut short is a SafetensorError, a tensor of another shape a RuntimeError.
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"the weights in {folder} are missing or damaged ({reason}); get the backbone again"
        ) from error
    # transformers fills what is missing with random numbers and only warns.
    if missing := sorted(found["missing_keys"]):
        raise UserError(
            f"the weights in {folder} lack {len(missing)} tensors, {missing[0]} among them; "
            "get the backbone again"
        )
    return model


def _processor(folder: Path, trust_remote_code: bool):
    remedy = "save the model's processor (tokenizer, image processor, chat template) there"
    try:
        processor = AutoProcessor.from_pretrained(folder, trust_remote_code=trust_remote_code)
    # A damaged tokenizer.json is a plain Exception of the tokenizers library.
    except Exception as error:
        raise UserError(f"{folder} has no usable processor; {remedy}") from error
    if not all(hasattr(processor, part) for part in ("image_processor", "tokenizer")):
        raise UserError(f"{folder} has no whole processor; {remedy}")
    # Some processors' classes have no place for a template; their tokenizers do.
    processor.chat_template = processor.chat_template or processor.tokenizer.chat_template
    if not processor.chat_template:
        raise UserError(f"the processor in {folder} has no chat template; {remedy}")
    if not processor.tokenizer.is_fast or processor.tokenizer.eos_token is None:
        raise UserError(f"{folder} needs a fast tokenizer with an end-of-sequence token; {remedy}")
    if processor.tokenizer.pad_token is None:
        processor.tokenizer.pad_token = processor.tokenizer.eos_token
    return processor
