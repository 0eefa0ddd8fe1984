"""Weights in shards on several processes (FSDP): written, read and gathered."""

import torch
from accelerate.utils import FullyShardedDataParallelPlugin
from torch import Tensor, nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from c3l.runtime import distributed
from c3l.runtime.errors import UserError


def prepare_sharding(
    plugin: FullyShardedDataParallelPlugin, losses: nn.Module, precision: str
) -> None:
    """Set the precision that sharded weights compute in ("no": their own, "bf16"), beforehand.

    ξ computes in float32, as without shards (`c3l.losses`), and so are gradients added up. Raises
    UserError for what FSDP cannot share out.
    """
    if plugin.fsdp_version != 2:
        raise UserError("FSDP needs fsdp_version: 2; take the configuration c3l/launch/fsdp.yaml")
    if any(not weight.is_floating_point() for weight in losses.parameters()):
        raise UserError("four-bit weights (qlora) cannot be sharded; use c3l/launch/ddp.yaml")
    if precision == "fp16":
        raise UserError("float16 cannot train in shards; load the backbone in bfloat16")
    if precision == "bf16":
        plugin.mixed_precision_policy = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16, reduce_dtype=torch.float32
        )
    if losses.projection is not None:
        fully_shard(losses.projection)


def trainable_parameters(module: nn.Module) -> dict[str, Tensor]:
    """Return the trainable parameters by name (one name for a shared one)."""
    return {n: p for n, p in module.named_parameters() if p.requires_grad}


def full_tensor(weight: Tensor) -> Tensor:
    """Return the full tensor of a weight; if it is in shards, all processes have to call this."""
    return weight.full_tensor() if isinstance(weight, DTensor) else weight


@torch.no_grad()
def copy_into(weight: Tensor, value: Tensor) -> None:
    """Write a value into a weight, in each process its shard."""
    if isinstance(weight, DTensor):
        value = distribute_tensor(
            value.to(weight.device, weight.dtype), weight.device_mesh, weight.placements
        )
    weight.copy_(value)


@torch.no_grad()
def gather(module: nn.Module) -> bool:
    """Give the first process the whole of all weights that are in shards; the others keep shards.

    It has them in the machine's memory, one after the other, so that no device has to hold the
    model, which cannot run any more. Returns whether this process has the whole.
    """
    put: dict[Tensor, nn.Parameter] = {}
    for part in module.modules():
        for name, weight in part._parameters.items():
            if not isinstance(weight, DTensor):
                continue
            if weight not in put:  # a shared one stays shared
                full, put[weight] = weight.full_tensor(), weight
                if distributed.is_main_process():
                    put[weight] = nn.Parameter(full.cpu(), requires_grad=weight.requires_grad)
            part._parameters[name] = put[weight]
    return distributed.is_main_process() or not put
