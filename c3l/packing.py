"""Many texts behind one prompt: rows that begin alike become one row, a tree of tokens."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise, takewhile
from operator import eq

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

PIXELS, STATES = "pixel_values", "vision_states"
"""A batch's pictures, as a processor prepares them or as a frozen encoder has read them."""


def pack(
    batch: Mapping[str, Tensor], group_sizes: Sequence[int]
) -> tuple[dict[str, Tensor], Tensor]:
    """The batch with each run of rows packed into one row, and the index of its tokens there.

    `batch` comes from `Backbone.encode`, right-padded, [b, t]. Its rows come in runs of
    `group_sizes`, which sum to b; rows of a run show the same image. A prefix that rows of a run
    share is stored once: a packed row is a tree, in which a token sees itself and what precedes it
    in its own row, and has its position there. So every token's state is the one it has in `batch`.
    Rows that share nothing, or runs of one row, are correct too, only not cheaper.

    Returns, for g runs and T the longest packed row, the model's inputs: input_ids and position_ids
    [g, T], attention_mask [g, 1, T, T] (true: is seen; as for SDPA, transformers' default) and
    pixel_values or vision_states [g, ...]; and `flat_index` [b, t], the index of each token of
    `batch` in the packed rows laid end to end, [g·T] (any index for padding).

    Raises RuntimeError if the group_sizes do not sum to b.
    """
    device, ids = batch["input_ids"].device, batch["input_ids"].cpu()
    ends = batch["attention_mask"].sum(1).tolist()
    runs = torch.arange(len(ids)).split(list(group_sizes))
    trees = [_tree([ids[row, : ends[row]] for row in run]) for run in runs]
    longest = max(len(seen) for _, seen in trees)
    flat_index = torch.zeros_like(ids)
    positions = torch.zeros(len(runs), longest, dtype=torch.long)
    # Padding has the last token of a text, never an image token, and sees itself: no row of
    # attention may be empty.
    packed = torch.full_like(positions, int(ids[0, ends[0] - 1]))
    mask = torch.eye(longest, dtype=torch.bool).repeat(len(runs), 1, 1)
    for number, (run, (indices, seen)) in enumerate(zip(runs, trees, strict=True)):
        mask[number, : len(seen), : len(seen)] = seen
        for row, index in zip(run, indices, strict=True):
            flat_index[row, : len(index)] = index + number * longest
            packed[number, index] = ids[row, : len(index)]
            positions[number, index] = torch.arange(len(index))
    inputs = {"input_ids": packed, "position_ids": positions, "attention_mask": mask[:, None]}
    inputs = {name: tensor.to(device) for name, tensor in inputs.items()}
    for name in (PIXELS, STATES):
        if name in batch:
            inputs[name] = batch[name][[int(run[0]) for run in runs]]
    return inputs, flat_index.to(device)


def _tree(rows: list[Tensor]) -> tuple[list[Tensor], Tensor]:
    """The index of each row's tokens in the tree of all rows, and its attention mask [T, T]."""
    texts = [row.tolist() for row in rows]
    order = sorted(range(len(rows)), key=texts.__getitem__)
    # In this order a row has its longest shared prefix with the previous one.
    shared = [0] + [sum(takewhile(bool, map(eq, texts[a], texts[b]))) for a, b in pairwise(order)]
    size = sum(map(len, rows)) - sum(shared)
    seen = torch.zeros(size, size, dtype=torch.bool)
    indices: list[Tensor] = [torch.empty(0, dtype=torch.long)] * len(rows)
    previous, start = torch.empty(0, dtype=torch.long), 0
    for i, prefix in zip(order, shared, strict=True):
        end = start + len(rows[i]) - prefix
        if prefix:
            seen[start:end] = seen[previous[prefix - 1]]
        seen[start:end, start:end] = torch.ones(end - start, end - start, dtype=torch.bool).tril()
        previous = torch.cat([previous[:prefix], torch.arange(start, end)])
        indices[i], start = previous, end
    return indices, seen


def pair_rows(attention_mask: Tensor) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """Two texts of a batch in each row, the longest with the shortest, so that little is padding.

    `attention_mask` [b, t] is that of a batch padded on the right. Returns, for r rows of length T,
    the index [r, T] of each row's tokens in the batch laid end to end, [b·t]; position_ids [r, T]
    and attention_mask [r, 1, T, T], by which no text sees the other one; and `flat_index` [b, t] as
    in `pack`.
    """
    lengths, (size, width) = attention_mask.sum(1), attention_mask.shape
    order = lengths.argsort(descending=True, stable=True)
    first, second = order[: (size + 1) // 2, None], order.flip(0)[: (size + 1) // 2, None]
    start = lengths[first]
    end = start + lengths[second].masked_fill(first == second, 0)
    steps = torch.arange(int(end.max()), device=order.device)
    is_second, valid = steps >= start, steps < end
    positions = torch.where(is_second, steps - start, steps).masked_fill(~valid, 0)
    index = torch.where(is_second & valid, second, first) * width + positions
    mask = (is_second[:, None] == is_second[..., None]) & valid[:, None]
    # Padding sees itself: no row of attention may be empty.
    mask = mask & (steps <= steps[:, None]) | (steps == steps[:, None])
    flat_index = order.new_zeros(size * width)
    flat_index[index[valid]] = valid.flatten().nonzero()[:, 0]
    inputs = {"position_ids": positions, "attention_mask": mask[:, None]}
    return index, inputs, flat_index.view(size, width)


ATTENTION = "causal_blocks"
"""transformers' name for `attention`."""
_QUERIES = 192


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **settings,
) -> tuple[Tensor, None]:
    """transformers' SDPA, query [b, heads, t, d], for causal masks.

    On the CPU SDPA with a mask computes all t² products, half of which any causal mask hides, a
    packed row's too; without a mask it skips some itself. So queries are taken in blocks, each with
    the keys up to its own end. On other devices, or without a mask, it is SDPA itself.
    """
    length = query.shape[2]
    if attention_mask is None or length != key.shape[2] or query.device.type != "cpu":
        return sdpa_attention_forward(module, query, key, value, attention_mask, **settings)
    blocks = []
    for start in range(0, length, _QUERIES):
        end = min(start + _QUERIES, length)
        part = query[:, :, start:end], key[:, :, :end], value[:, :, :end]
        mask = attention_mask[:, :, start:end, :end]
        blocks.append(sdpa_attention_forward(module, *part, mask, **settings)[0])
    return torch.cat(blocks, dim=1), None


def attention_mask(*sizes: int, dtype: torch.dtype = torch.float32, **settings) -> Tensor | None:
    """transformers' SDPA mask [b, 1, t, keys]; of one query, as numbers to add to its products.

    While a text is written SDPA would make these numbers of true and false in every layer.
    """
    mask = sdpa_mask(*sizes, dtype=dtype, **settings)
    if mask is None or mask.shape[2] > 1 or mask.device.type != "cpu":
        return mask
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, -torch.inf)


AttentionInterface.register(ATTENTION, attention)
AttentionMaskInterface.register(ATTENTION, attention_mask)


@contextmanager
def only_at(module: nn.Module, positions: Tensor) -> Iterator[None]:
    """Compute a position-wise module [b, t, d] → [b, t, d] at the true `positions` [b, t] only.

    Elsewhere it gives zero.
    """

    def gather(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor]:
        return (args[0][positions][None],)

    def scatter(_: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
        return out.new_zeros(*positions.shape, out.shape[-1]).index_put((positions,), out[0])

    with module.register_forward_pre_hook(gather), module.register_forward_hook(scatter):
        yield


def padded(parts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Parts [n_i, ...] as one tensor [b, n, ...], padded at the end, and their mask [b, n]."""
    lengths = torch.tensor([len(part) for part in parts])
    mask = torch.arange(int(lengths.max()))[None] < lengths[:, None]
    return pad_sequence(list(parts), batch_first=True), mask.to(parts[0].device)
