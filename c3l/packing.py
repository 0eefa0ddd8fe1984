"""Many texts behind one prompt: rows that begin alike become one row, a tree of tokens."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask


def pack(
    batch: Mapping[str, Tensor], group_sizes: Sequence[int]
) -> tuple[dict[str, Tensor], Tensor]:
    """The batch with each run of rows packed into one row, and where its tokens went.

    `batch` is what `Backbone.encode` gives, right-padded, [b, t]. Its rows come in runs of `group_sizes`,
    which sum to b; rows of a run show the same image. Tokens with which rows of a run begin alike
    are kept once: a packed row is a tree, in which a token sees itself and what stands before it in
    its own row, and has the position that it has there. So every token's state is what it is in
    `batch`. Rows that share nothing, or runs of one row, are right too, only not cheaper.

    Returns, for g runs and T the longest packed row, the model's inputs: input_ids and position_ids
    [g, T], attention_mask [g, 1, T, T] (true: is seen; as SDPA, transformers' default, takes it)
    and pixel_values [g, ...]; and `flat_index` [b, t], the place of each token of `batch` in the packed
    rows laid end to end, [g·T] (padding: any place).

    Raises RuntimeError if the group_sizes do not sum to b.
    """
    device, ids = batch["input_ids"].device, batch["input_ids"].cpu()
    ends = batch["attention_mask"].sum(1).tolist()
    runs = torch.arange(len(ids)).split(list(group_sizes))
    trees = [_tree([ids[row, : ends[row]] for row in run]) for run in runs]
    longest = max(len(seen) for _, seen in trees)
    flat_index = torch.zeros_like(ids)
    positions = torch.zeros(len(runs), longest, dtype=torch.long)
    # Padding has the last token of a text, never an image's place, and sees itself: no row of
    # attention may be empty.
    packed = torch.full_like(positions, int(ids[0, ends[0] - 1]))
    mask = torch.eye(longest, dtype=torch.bool).repeat(len(runs), 1, 1)
    for number, (run, (places, seen)) in enumerate(zip(runs, trees, strict=True)):
        mask[number, : len(seen), : len(seen)] = seen
        for row, place in zip(run, places, strict=True):
            flat_index[row, : len(place)] = place + number * longest
            packed[number, place] = ids[row, : len(place)]
            positions[number, place] = torch.arange(len(place))
    inputs = {"input_ids": packed, "position_ids": positions, "attention_mask": mask[:, None]}
    inputs = {name: tensor.to(device) for name, tensor in inputs.items()}
    if "pixel_values" in batch:
        inputs["pixel_values"] = batch["pixel_values"][[int(run[0]) for run in runs]]
    return inputs, flat_index.to(device)


def _tree(rows: list[Tensor]) -> tuple[list[Tensor], Tensor]:
    """The place of each row's tokens in the tree of them all, and what each place sees [T, T]."""
    order = sorted(range(len(rows)), key=lambda i: rows[i].tolist())
    # In this order a row shares most with the one before it.
    shared = [0] + [_alike(rows[a], rows[b]) for a, b in pairwise(order)]
    size = sum(map(len, rows)) - sum(shared)
    seen = torch.zeros(size, size, dtype=torch.bool)
    places: list[Tensor] = [torch.empty(0, dtype=torch.long)] * len(rows)
    before, start = torch.empty(0, dtype=torch.long), 0
    for i, alike in zip(order, shared, strict=True):
        end = start + len(rows[i]) - alike
        if alike:
            seen[start:end] = seen[before[alike - 1]]
        seen[start:end, start:end] = torch.ones(end - start, end - start, dtype=torch.bool).tril()
        before = torch.cat([before[:alike], torch.arange(start, end)])
        places[i], start = before, end
    return places, seen


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
    """transformers' SDPA, query [b, heads, t, d], for masks that hide what comes after a token.

    SDPA with a mask computes all t² products on the CPU, half of which any such mask hides, a
    packed row's as well; without one it skips some itself. So queries are taken in blocks, each
    with the keys up to its own end. Elsewhere, or without a mask, it is SDPA itself.
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


AttentionInterface.register(ATTENTION, attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)


@contextmanager
def only_at(module: nn.Module, places: Tensor) -> Iterator[None]:
    """Within, the module [b, t, d] → [b, t, d], which treats each place alone, is computed at the
    true `places` [b, t] and gives zero elsewhere."""

    def chosen(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor]:
        return (args[0][places][None],)

    def spread(_: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
        return out.new_zeros(*places.shape, out.shape[-1]).index_put((places,), out[0])

    hooks = module.register_forward_pre_hook(chosen), module.register_forward_hook(spread)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _alike(a: Tensor, b: Tensor) -> int:
    """With how many tokens both begin."""
    length = min(len(a), len(b))
    return int((a[:length] == b[:length]).long().cumprod(0).sum())


def padded(parts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Parts [n_i, ...] as one tensor [b, n, ...], padded at the end, and where they are [b, n]."""
    lengths = torch.tensor([len(part) for part in parts])
    mask = torch.arange(int(lengths.max()))[None] < lengths[:, None]
    return pad_sequence(list(parts), batch_first=True), mask.to(parts[0].device)
