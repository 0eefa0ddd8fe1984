"""The weights of a model that train (reading 21), and their merge afterwards."""

import warnings
from collections.abc import Sequence
from typing import get_args

import torch
from torch import nn

from c3l.backbones.quantisation import quantise, restore
from c3l.readings import Tuning
from c3l.runtime.errors import UserError


def prepare(
    model: nn.Module, tuning: Tuning, *, language: Sequence[str], projector: str
) -> nn.Module:
    """The model, wrapped in adapters if there are any, with gradients on the weights that train.

    "language+projector" and "full" (with the vision encoder) train all weights of these parts;
    "projector" trains only it; "lora" puts adapters of rank 64, α 16 on the language model's
    linears and trains all of the projector; "qlora" does so with these linears in four bits.
    `language` and `projector` are names of the model's parts. Raises UserError for another tuning.

    Trained weights are float32: small steps are lost in half precision.
    """
    if tuning not in get_args(Tuning):
        raise UserError(f"tuning {tuning} is unknown; use {', '.join(get_args(Tuning))}")
    model.requires_grad_(tuning == "full")
    tuned, parts = model, [projector]
    if tuning in ("lora", "qlora"):
        from peft import LoraConfig, get_peft_model

        linears = [
            name
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear) and name.startswith(f"{language[0]}.")
        ]
        if tuning == "qlora":
            quantise(model, linears)
        # The dropout is that of LLaVA's own script.
        config = LoraConfig(r=64, lora_alpha=16, lora_dropout=0.05, target_modules=linears)
        with warnings.catch_warnings():
            # peft uses a deprecated name of transformers, which a user cannot change.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
            # Its layers lie inside the model, whose other parts keep their names; all is frozen.
            tuned = get_peft_model(model, config)
    elif tuning == "language+projector":
        parts += language
    for part in parts:
        model.get_submodule(part).requires_grad_(True)
    _cast_trained(tuned, torch.float32)
    return tuned


def merge_adapters(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The model without adapters, its trained weights in `dtype`.

    Adapters are merged before anything is rounded; four-bit weights are dequantised.
    """
    if hasattr(model, "merge_and_unload"):
        restore(model)  # peft would round again what it merges into four bits
        model = model.merge_and_unload()
    _cast_trained(model, dtype)
    return model


def _cast_trained(model: nn.Module, dtype: torch.dtype) -> None:
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)
