"""From texts and pictures to a model's inputs."""

from collections.abc import Callable, Sequence

import torch
from PIL import Image
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from c3l.backbones.prompts import ChatFormat

# Pictures to their pixel values [n, ...] and how many image tokens each becomes [n].
Preparation = Callable[[list[Image.Image]], tuple[Tensor, Tensor]]


def tokenise(
    tokenizer,
    chat: ChatFormat,
    texts: list[str],
    images: Sequence[Image.Image] | None,
    side: str,
    prepare: Preparation,
) -> dict[str, Tensor]:
    """input_ids and attention_mask [b, t], offset_mapping [b, t, 2] and, with images, pixel_values.

    With images, one a text, each text holds the image token once; it becomes as many as `prepare`
    says for the picture. Offsets are places in the text as given. A picture is prepared
    once, however many texts it goes with.
    """
    batch = tokenizer(
        texts,
        return_tensors="pt",
        padding=True,
        padding_side=side,
        return_offsets_mapping=True,
        # Some templates write the token that opens a sequence, some leave it to the tokenizer.
        add_special_tokens=not chat.opens,
    )
    parts = {name: batch[name] for name in ("input_ids", "attention_mask", "offset_mapping")}
    here = parts["input_ids"] == chat.image_token_id
    if images is None:
        # transformers would embed a placeholder without pixels silently, as a word.
        assert not here.any()
        return parts
    distinct = {id(image): image for image in images}
    place = {key: row for row, key in enumerate(distinct)}
    rows = torch.tensor([place[id(image)] for image in images])
    pixels, counts = prepare(list(distinct.values()))
    counts = counts[rows]
    # Only now are there many: a tokenizer would spend longer on them than on the texts.
    times = torch.where(here, counts[:, None], 1)
    empty = {"input_ids": tokenizer.pad_token_id}
    long = {
        name: pad_sequence(
            [row.repeat_interleave(n, dim=0) for row, n in zip(part, times, strict=True)],
            batch_first=True,
            padding_value=empty.get(name, 0),
            padding_side=side,
        )
        for name, part in parts.items()
    }
    return long | {"pixel_values": pixels[rows]}
