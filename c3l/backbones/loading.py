"""Loading a backbone: its folder, its family, and checks of both."""

import json
import math
import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoProcessor, PreTrainedConfig, PreTrainedModel

from c3l.backbones.agreement import check_agreement
from c3l.backbones.base import Backbone
from c3l.backbones.blip2 import Blip2, InstructBlip
from c3l.backbones.configuration import first_line, model_config, read_config
from c3l.backbones.idefics import Idefics
from c3l.backbones.llava import Llava
from c3l.backbones.minigpt4 import MiniGPT4
from c3l.backbones.prompts import ChatFormat, answer_pieces
from c3l.runtime.errors import UserError, printable, short_repr
from c3l.runtime.hub import indexed_files, weight_files, weight_names, weights_folder
from c3l.runtime.plugins import Registry

INDEX = "model.safetensors.index.json"

# By config.json's model_type.
FAMILIES: Registry[type[Backbone]] = Registry(
    "c3l.backbones",
    {
        "llava": Llava,
        "minigpt4": MiniGPT4,
        "blip-2": Blip2,
        "instructblip": InstructBlip,
        "idefics": Idefics,
    },
)


def load_backbone(
    path_or_id: str | os.PathLike,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    trust_remote_code: bool = False,
) -> Backbone:
    """The backbone saved in a folder, or on the Hub under an id such as llava-hf/llava-1.5-7b-hf.

    `device` defaults to cuda if available, else cpu; an Apple GPU ("mps") is only used by name.
    `dtype` defaults to float32 on every device, so that all give the same numbers; large models
    need "bfloat16", or "auto": the precision they were saved in. Weights are read from safetensors
    only. Raises UserError for a missing, damaged or unknown backbone.
    """
    target = usable_device(device)
    precision = torch.float32 if dtype is None else dtype
    if isinstance(precision, str) and precision != "auto":
        precision = named_dtype(precision)
    folder = weights_folder(path_or_id, check=model_type)
    family = FAMILIES[model_type(folder)]
    indexed_files(folder / INDEX)  # transformers would follow names out of the folder
    config = model_config(family.model_class, folder)
    processor = _processor(folder, trust_remote_code)
    # Before memory is taken for weights that are missing.
    _refuse_smaller(folder, check_agreement(family, config, processor, folder))
    model = _model(family.model_class, config, folder, precision).to(target)
    files = weight_files(folder)
    if trust_remote_code:
        files += sorted(folder.rglob("*.py"))
    return family(model, processor, name=str(path_or_id), files=files)


def load_pieces(path_or_id: str | os.PathLike) -> Callable[[str, str, bool], list[str]]:
    """`Backbone.answer_pieces` of a backbone, without reading its weights.

    Raises UserError for a backbone without a usable processor.
    """
    folder = weights_folder(path_or_id, fetch=False)
    processor = _processor(folder, trust_remote_code=False)
    return partial(answer_pieces, ChatFormat(processor), processor.tokenizer)


def inspect(path_or_id: str | os.PathLike) -> tuple[str, int, int]:
    """A backbone's family, parameters and bytes of weights, without loading or fetching them.

    Raises UserError as `load_backbone` does, and for files that are missing or cut short.
    """
    folder = weights_folder(path_or_id, fetch=False)
    kind = model_type(folder)
    config = model_config(FAMILIES[kind].model_class, folder)
    processor = _processor(folder, trust_remote_code=False)
    expected = check_agreement(FAMILIES[kind], config, processor, folder)
    parameters = _refuse_smaller(folder, expected)
    return kind, parameters, sum(file.stat().st_size for file in _tensor_files(folder))


def _tensor_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder and of its index. Raises UserError for none."""
    files = set(folder.glob("*.safetensors")) | set(indexed_files(folder / INDEX))
    if not files:
        raise _damaged(folder, "there are no safetensors files")
    return sorted(files)


def _damaged(folder: Path, reason: str) -> UserError:
    return UserError(
        f"the weights in {folder} are missing or damaged ({reason}); get the backbone again"
    )


def _refuse_smaller(folder: Path, expected: int) -> int:
    """Return the number of parameters in a folder's files.

    Raises UserError for less than half of `expected`, and for files missing or cut short.
    """
    parameters = 0
    for file in _tensor_files(folder):
        try:
            with safe_open(file, "pt") as tensors:
                names = tensors.keys()
                shapes = [tensors.get_slice(name).get_shape() for name in names]
        except (OSError, SafetensorError) as error:
            reason = f"{file.name} is missing or cut short: {error}"
            raise _damaged(folder, reason) from error
        parameters += sum(map(math.prod, shapes))
    if 2 * parameters < expected:  # loading names the tensors of a smaller gap
        raise UserError(
            f"{folder / 'config.json'} describes a model of {expected:,} parameters, but the "
            f"weights there have {parameters:,}; get the backbone again, both from one model"
        )
    return parameters


def model_type(folder: Path) -> str:
    """A folder's family, one of FAMILIES. Raises UserError for any other."""
    kind = read_config(folder).get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise UserError(
            f"{folder} holds a backbone of the unknown family {short_repr(kind)}; "
            f"use one of: {', '.join(FAMILIES)}"
        )
    return kind


def usable_device(device: str | torch.device | None) -> torch.device:
    """A device by name; None: cuda if available, else cpu. Raises UserError for an unknown or
    absent one."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    accelerators = [kind for kind, present in available.items() if present]
    if device is None:
        device = "cuda" if "cuda" in accelerators else "cpu"
    try:
        named = torch.device(device)
        if named.type != "cpu" and named.type not in accelerators:
            raise RuntimeError("there is none here")
        return torch.empty(0, device=named).device
    # torch raises an AssertionError if it was built without the device's kind.
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(
            f"device {printable(str(device))} cannot be used here; try "
            f"{' or '.join(['cpu', *accelerators])}"
        ) from error


def usual_dtype(device: str | torch.device | None) -> str:
    """The precision of stages: on CUDA the one that weights were saved in ("auto"); float32 on a
    CPU, which gains nothing by half precision, and on an Apple GPU, where it is untested."""
    return "auto" if usable_device(device).type == "cuda" else "float32"


def named_dtype(name: str) -> torch.dtype:
    """torch's floating-point dtype of that name. Raises UserError for another name."""
    named = getattr(torch, name, None)
    if not isinstance(named, torch.dtype) or not named.is_floating_point:
        raise UserError(f"dtype {name} is unknown; use float32, bfloat16 or float16")
    return named


def _model(
    model_class: type[PreTrainedModel],
    config: PreTrainedConfig,
    folder: Path,
    dtype: torch.dtype | str,
) -> PreTrainedModel:
    try:
        model, info = model_class.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    # A file cut short is a SafetensorError, a tensor of another shape a RuntimeError, a senseless
    # value in config.json any error.
    except Exception as error:
        reason = first_line(error)
        if "ignore_mismatched_sizes" in reason:
            reason = "tensors of other shapes than config.json says"
        raise _damaged(folder, reason) from error
    # transformers fills missing tensors with random numbers and only warns.
    if missing := sorted(info["missing_keys"]):
        raise UserError(
            f"the weights in {folder} lack {len(missing)} tensors, {missing[0]} among them; "
            "get the backbone again"
        )
    return model


def _processor(folder: Path, trust_remote_code: bool):
    remedy = "save the model's processor (tokenizer, image processor, chat template) there"
    _refuse_sound(folder)
    try:
        processor = AutoProcessor.from_pretrained(
            folder, trust_remote_code=trust_remote_code, local_files_only=True
        )
    # A damaged tokenizer.json is a plain Exception of the tokenizers library.
    except Exception as error:
        raise UserError(
            f"{folder} has no usable processor; {remedy} ({first_line(error)})"
        ) from error
    if not all(hasattr(processor, part) for part in ("image_processor", "tokenizer")):
        raise UserError(f"{folder} has no whole processor; {remedy}")
    _check_vocabularies(folder, processor)
    # Some processor classes have no template of their own; their tokenizers do.
    processor.chat_template = processor.chat_template or processor.tokenizer.chat_template
    if not processor.chat_template:
        raise UserError(f"the processor in {folder} has no chat template; {remedy}")
    if not processor.tokenizer.is_fast or processor.tokenizer.eos_token is None:
        raise UserError(f"{folder} needs a fast tokenizer with an end-of-sequence token; {remedy}")
    if processor.tokenizer.pad_token is None:
        processor.tokenizer.pad_token = processor.tokenizer.eos_token
    try:
        ChatFormat(processor)
    # A template is a sandboxed program: it may raise any error.
    except Exception as error:
        raise UserError(f"the chat template in {folder} renders no chat; {remedy}") from error
    return processor


def _refuse_sound(folder: Path) -> None:
    """Raise UserError for a processor that names a model for sound: it would be fetched."""
    has_audio = (folder / "audio_tokenizer_config.json").exists()
    # Loading the processor reports a damaged file.
    with suppress(OSError, ValueError, RecursionError, TypeError):
        values = json.loads((folder / "processor_config.json").read_text(encoding="utf-8"))
        has_audio = has_audio or "audio_tokenizer" in values
    if has_audio:
        raise UserError(
            f"the processor in {folder} has an audio_tokenizer, a model that would be fetched; "
            "remove audio_tokenizer_config.json, and audio_tokenizer from processor_config.json"
        )


def _check_vocabularies(folder: Path, processor) -> None:
    """Raise UserError for a tokenizer that reads a file outside the digest."""
    digested = set(weight_names(folder))
    for part in vars(processor).values():
        for name in getattr(part, "vocab_files_names", {}).values():
            if (folder / name).is_file() and name not in digested:
                raise UserError(
                    f"the tokenizer in {folder} reads {name}, which is no part of a backbone's "
                    "digest; save it as a fast tokenizer, in tokenizer.json, and remove that file"
                )
