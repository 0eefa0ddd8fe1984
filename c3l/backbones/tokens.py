"""From texts and pictures to a model's inputs."""

from collections.abc import Callable, Sequence

import torch
from PIL import Image
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from c3l.backbones.prompts import ChatFormat, chat_tokens

# Pictures to their pixel values [n, ...] and how many image tokens each becomes [n].
Preparation = Callable[[list[Image.Image]], tuple[Tensor, Tensor]]


def tokenise(
    tokenizer,
    chat: ChatFormat,
    texts: list[str],
    images: Sequence[Image.Image] | None,
    side: str,
    prepare: Preparation,
    prompts: Sequence[str] | None = None,
) -> dict[str, Tensor]:
    """input_ids and attention_mask [b, t], offset_mapping [b, t, 2] and, with images, pixel_values.

    `prompts` are what the texts begin with where they go on behind one (`chat_tokens`).
    With images, one a text, each text holds the image token once; it becomes as many as `prepare`
    says for the picture. Offsets are places in the text as given. A picture is prepared
    once, however many texts it goes with.
    """
    rows = chat_tokens(tokenizer, chat, texts, prompts)
    ids = [torch.tensor(row.ids, dtype=torch.long) for row in rows]
    offsets = [torch.tensor(row.offsets, dtype=torch.long).view(-1, 2) for row in rows]
    here = [row == chat.image_token_id for row in ids]
    if images is None:
        # transformers would embed a placeholder without pixels silently, as a word.
        assert not any(row.any() for row in here)
        return _padded(ids, offsets, tokenizer.pad_token_id, side)
    distinct = {id(image): image for image in images}
    place = {key: row for row, key in enumerate(distinct)}
    shown = torch.tensor([place[id(image)] for image in images])
    pixels, counts = prepare(list(distinct.values()))
    # Only now are there many: a tokenizer would spend longer on them than on the texts.
    times = [torch.where(row, n, 1) for row, n in zip(here, counts[shown], strict=True)]
    ids, offsets = (
        [row.repeat_interleave(n, dim=0) for row, n in zip(part, times, strict=True)]
        for part in (ids, offsets)
    )
    return _padded(ids, offsets, tokenizer.pad_token_id, side) | {"pixel_values": pixels[shown]}


def _padded(ids: list[Tensor], offsets: list[Tensor], padding: int, side: str) -> dict[str, Tensor]:
    parts = {
        "input_ids": (ids, padding),
        "attention_mask": ([torch.ones_like(row) for row in ids], 0),
        "offset_mapping": (offsets, 0),
    }
    return {
        name: pad_sequence(rows, batch_first=True, padding_value=value, padding_side=side)
        for name, (rows, value) in parts.items()
    }
