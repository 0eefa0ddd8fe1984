"""Many answers behind one prompt: rows that begin alike become one row with a shared beginning."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


def pack(batch: Mapping[str, Tensor], sizes: Sequence[int]) -> dict[str, Tensor]:
    """The batch with each run of rows packed into one row; the answers' logits stay as they were.

    `batch` is what `Backbone.encode` gives with answers: right-padded, [b, t]. Its rows come in
    runs of `sizes`, which sum to b; rows of a run show the same image. The tokens with which the
    rows of a run begin alike are kept once, and behind them lie the rest of each row, in order.
    Positions start again after the shared tokens, and the rest of a row sees those and itself
    alone. Rows that share nothing, or runs of one row, are right too, only not cheaper.

    Returns, for g runs and T the longest packed row: input_ids, position_ids, labels and
    answer_mask [g, T], attention_mask [g, 1, T, T] (true: is seen; as SDPA, transformers'
    default, takes it) and pixel_values [g, ...]. Answers come in the order of the batch, and each
    of their tokens is predicted by the column before it, as in `batch`: whatever reads logits
    there, such as `c3l.relevance.answer_logits`, reads them here without a change.

    Raises RuntimeError if the sizes do not sum to b.
    """
    ids, device = batch["input_ids"].cpu(), batch["input_ids"].device
    taught, ends = batch["labels"].cpu() != -100, batch["attention_mask"].sum(1).tolist()
    width = ids.shape[1]
    cells = torch.arange(ids.numel()).view_as(ids)
    rows = torch.arange(len(ids)).split(list(sizes))
    places, segments = [], []
    for run in rows:
        shared = _shared(ids[run], taught[run])
        parts = [cells[run[0], :shared]] + [cells[row, shared : ends[row]] for row in run]
        lengths = torch.tensor([len(part) for part in parts])
        places.append(torch.cat(parts))
        segments.append(torch.arange(len(parts)).repeat_interleave(lengths))
    # Padding repeats the batch's last cell: the end of a text or padding, never an image's place.
    place = pad_sequence(places, batch_first=True, padding_value=ids.numel() - 1).to(device)
    segment = pad_sequence(segments, batch_first=True, padding_value=-1).to(device)
    seen = (segment[:, None, :] == 0) | (segment[:, None, :] == segment[:, :, None])
    packed = {
        "input_ids": batch["input_ids"].flatten()[place],
        "position_ids": place % width,
        "attention_mask": seen.tril()[:, None],
        "labels": batch["labels"].flatten()[place].masked_fill(segment < 0, -100),
        "answer_mask": batch["answer_mask"].flatten()[place] & (segment >= 0),
    }
    if "pixel_values" in batch:
        packed["pixel_values"] = batch["pixel_values"][[int(run[0]) for run in rows]]
    return packed


def _shared(ids: Tensor, taught: Tensor) -> int:
    """How many tokens all rows begin with, short of the one that predicts a first answer token:
    each row keeps its own of those, or the column before an answer could be another answer's end.
    """
    alike = (ids == ids[:1]).all(0)[:-1] & ~taught.any(0)[1:]
    return int(alike.long().cumprod(0).sum())
