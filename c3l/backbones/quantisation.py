"""Linears in four bits while adapters train beside them (QLoRA, Dettmers et al. 2023).

Their weights are stored as NF4 with double quantisation and dequantised to the model's own
precision for each product. Afterwards they stay the rounded weights that were trained with.
"""

from collections.abc import Iterable

from torch import nn

from c3l.runtime.errors import UserError


def quantise(model: nn.Module, names: Iterable[str]) -> None:
    """Replace the named linears by frozen ones of four bits; their biases stay.

    Raises UserError if bitsandbytes cannot be used.
    """
    try:
        import bitsandbytes as bnb
    except ImportError as error:
        raise UserError(
            f"tuning qlora needs bitsandbytes: pip install 'c3l[quant]', or use lora ({error})"
        ) from error
    names = list(names)
    if any(model.get_submodule(name).weight.device.type == "mps" for name in names[:1]):
        raise UserError("tuning qlora has no kernels for an Apple GPU; use lora")
    for name in names:
        linear = model.get_submodule(name)
        weight = linear.weight.data
        low = bnb.nn.Linear4bit(
            linear.in_features,
            linear.out_features,
            bias=linear.bias is not None,
            compute_dtype=weight.dtype,
            quant_type="nf4",
            device="meta",
        )
        low.weight = bnb.nn.Params4bit(
            weight, requires_grad=False, quant_type="nf4", compress_statistics=True, module=low
        )
        low.bias = linear.bias
        model.set_submodule(name, low.to(weight.device))  # moving it is what quantises


def restore(model: nn.Module) -> None:
    """Replace all linears of four bits by ordinary ones with the same, rounded, weights."""
    # By its weight, since the package may be absent.
    quantised = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and hasattr(module.weight, "quant_state")
    ]
    for name in quantised:
        from bitsandbytes.functional import dequantize_4bit

        low = model.get_submodule(name)
        weight = dequantize_4bit(low.weight.data, low.weight.quant_state)
        linear = nn.Linear(low.in_features, low.out_features, bias=False, device="meta")
        linear.weight, linear.bias = nn.Parameter(weight, requires_grad=False), low.bias
        model.set_submodule(name, linear)
