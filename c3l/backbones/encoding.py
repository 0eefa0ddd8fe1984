"""From texts and pictures to a model's inputs: what a backbone does without its weights."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from c3l.backbones.prompts import ChatFormat, answer_masks, answer_pieces, chat_tokens
from c3l.packing import PIXELS, STATES
from c3l.runtime.errors import UserError

Picture = Image.Image | Tensor
"""A picture, or its features (`c3l.backbones.features`)."""
Preparation = Callable[[list[Image.Image]], tuple[Tensor, Tensor]]
"""Pictures to their pixel values [n, ...] and the number of image tokens of each [n]."""


class Encoder:
    """The encoding half of a backbone: its processor and prompt format.

    Texts of users and models may hold anything: tokens with a meaning of their own, such as
    "<image>" or "</s>", are broken by a space ("< image>") where they occur in them.
    """

    model: PreTrainedModel
    name: str
    dtype: torch.dtype

    def __init__(self, processor):
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self._format = ChatFormat(processor)

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def image_token_id(self) -> int:
        """The token that stands in each of an image's positions."""
        return self._format.image_token_id

    @property
    def answer_end(self) -> str:
        """The text that ends an answer and is taught with it: `</s>`, or `###`."""
        return self._format.end

    @property
    def context(self) -> int:
        """The maximum number of tokens that the language model reads."""
        return self.model.config.get_text_config().max_position_embeddings

    def prompt(
        self,
        question: str,
        image: bool,
        answer: str | None = None,
        history: Sequence[tuple[str, str]] = (),
    ) -> str:
        """The chat the model reads: up to where it answers, or with the answer and its end.

        `history` holds question and answer of the turns before; the image stands in the first one.
        """
        return self._format.render(question, image, answer, history)

    def encode(
        self,
        questions: Sequence[str],
        images: Sequence[Picture] | None = None,
        answers: Sequence[str] | None = None,
        side: Literal["left", "right"] = "right",
        answer_prefix: Sequence[str] | None = None,
        histories: Sequence[Sequence[tuple[str, str]]] | None = None,
    ) -> dict[str, Tensor]:
        """The model's inputs for a batch, padded on `side`, on the model's device.

        input_ids, attention_mask [b, t]; with `images`, one a question, pixel_values
        [b, 3, h, w], or vision_states [b, p, e] where the images are features, and any other
        inputs of the image features; with `answers`, labels [b, t]
        (−100 outside the answer and its end, the end-of-sequence token or what the prompt format
        writes there) and answer_mask [b, t] (the answer alone). With `answer_prefix` in place of
        answers, each text stops behind that beginning of its answer, for the model to continue.
        Every row begins with the tokens of its question alone. `histories` are the turns before
        each question, as in `prompt`.
        """
        # Only where there is one: a family's own prompt need not know of histories.
        turns = [(history,) if history else () for history in histories or [()] * len(questions)]

        def chats(replies: Sequence[str | None]) -> list[str]:
            rows = zip(questions, replies, turns, strict=True)
            return [self.prompt(q, images is not None, a, *history) for q, a, history in rows]

        texts = prompts = chats([None] * len(questions))
        if answers is not None:
            texts = chats(answers)
        elif answer_prefix is not None:
            replies = [prefix.strip() or None for prefix in answer_prefix]
            texts = [
                text if reply is None else text.removesuffix(self._format.end)
                for text, reply in zip(chats(replies), replies, strict=True)
            ]
        batch = self._tokens(texts, images, side, None if texts is prompts else prompts)
        if answers is not None:
            batch["answer_mask"], taught = self._answer_masks(batch, answers)
            batch["labels"] = batch["input_ids"].masked_fill(~taught, -100)
        return self._placed(batch)

    def encode_texts(
        self, texts: Sequence[str], images: Sequence[Picture] | None = None
    ) -> dict[str, Tensor]:
        """The model's inputs for plain texts, without the chat; an image goes before its text."""
        image = f"{self._format.image_token}\n" if images is not None else ""
        texts = [image + self._format.plain(text) for text in texts]
        return self._placed(self._tokens(texts, images, "right"))

    def lengths(self, questions: Sequence[str], answers: Sequence[str]) -> list[tuple[int, int]]:
        """The number of tokens of each chat about an image, and of its answer.

        The tokens are those of `encode`, without preparing any picture: all pictures become
        equally many.
        """
        texts = [self.prompt(q, True, a) for q, a in zip(questions, answers, strict=True)]
        prompts = [self.prompt(question, True) for question in questions]
        pictures = [Image.new("RGB", (1, 1))] * len(texts)

        def prepare(distinct: list[Image.Image]) -> tuple[Tensor, Tensor]:
            return torch.empty(len(distinct), 0), torch.full((len(distinct),), self._image_tokens)

        batch = self._tokens(texts, pictures, "right", prompts, prepare)
        masks = batch["attention_mask"], self._answer_masks(batch, answers)[0]
        return list(zip(*(mask.sum(1).tolist() for mask in masks), strict=True))

    def answer_pieces(self, question: str, answer: str, end: bool = False) -> list[str]:
        """The text of each token of an answer behind its question; together the answer.

        One piece for each token under `answer_mask` of `encode`, or under its labels if `end`: the
        text from the end of the token before. Of the bytes of one letter the first has the letter.
        """
        return answer_pieces(self._format, self.tokenizer, question, answer, end)

    def no_picture(self, kind: Literal["blank", "noise", "mean"]) -> Image.Image:
        """A picture of nothing: white, seeded noise, or the colour that the processor subtracts.

        Raises UserError for "mean" if it subtracts none.
        """
        side = self.model.config.vision_config.image_size
        if kind == "noise":
            noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
            return Image.fromarray(noise)
        mean = self.processor.image_processor.image_mean
        if kind == "mean" and not mean:
            raise UserError(f"{self.name} subtracts no mean colour from images; use blank or noise")
        colour = [255] * 3 if kind == "blank" else [round(255 * part) for part in mean]
        return Image.new("RGB", (side, side), tuple(colour))

    @cached_property
    def _image_tokens(self) -> int:
        """The number of tokens that any picture becomes."""
        return int(self._pictures([self.no_picture("blank")])[1][0])

    def _pictures(self, pictures: list[Image.Image]) -> tuple[Tensor, Tensor]:
        """The pictures' pixel values [n, ...], and the number of image tokens of each [n]."""
        texts = [self._format.image_token] * len(pictures)
        inputs = self.processor(text=texts, images=pictures, return_tensors="pt")
        counts = (inputs["input_ids"] == self._format.image_token_id).sum(1)
        return inputs["pixel_values"], counts

    def _answer_masks(
        self, batch: dict[str, Tensor], answers: Sequence[str]
    ) -> tuple[Tensor, Tensor]:
        lengths = [len(self._format.plain(answer)) for answer in answers]
        return answer_masks(batch["offset_mapping"], lengths, len(self._format.end))

    def _placed(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The batch on the model's device and in its precision, without offsets."""
        if PIXELS in batch:
            batch[PIXELS] = batch[PIXELS].to(self.dtype)
        return {k: tensor.to(self.device) for k, tensor in batch.items() if k != "offset_mapping"}

    def _tokens(
        self,
        texts: list[str],
        images: Sequence[Picture] | None,
        side: str,
        prompts: Sequence[str] | None = None,
        prepare: Preparation | None = None,
    ) -> dict[str, Tensor]:
        """input_ids, attention_mask [b, t], offset_mapping [b, t, 2]; with images, pixel_values.

        `prompts` are the beginnings of texts that continue a prompt (`chat_tokens`). With images,
        one a text, each text holds the image token once; it is repeated as often as `prepare` (by
        default `_pictures`) counts for the picture. Offsets are positions in the text as given. A
        picture is prepared once, however many texts it goes with.
        """
        rows = chat_tokens(self.tokenizer, self._format, texts, prompts)
        ids = [torch.tensor(row.ids, dtype=torch.long) for row in rows]
        offsets = [torch.tensor(row.offsets, dtype=torch.long).view(-1, 2) for row in rows]
        is_image = [row == self.image_token_id for row in ids]
        if images is None:
            # transformers would embed a placeholder without pixels silently, as a word.
            assert not any(row.any() for row in is_image)
            return _padded(ids, offsets, self.tokenizer.pad_token_id, side)
        distinct = {id(image): image for image in images}
        row_of = {key: row for row, key in enumerate(distinct)}
        picture = torch.tensor([row_of[id(image)] for image in images])
        name = PIXELS
        if all(isinstance(image, Tensor) for image in images):
            name, prepare = STATES, self._stacked
        pixels, counts = (prepare or self._pictures)(list(distinct.values()))
        # Repeated only now: a tokenizer would spend longer on them than on the texts.
        times = [torch.where(row, n, 1) for row, n in zip(is_image, counts[picture], strict=True)]
        ids, offsets = (
            [row.repeat_interleave(n, dim=0) for row, n in zip(part, times, strict=True)]
            for part in (ids, offsets)
        )
        batch = _padded(ids, offsets, self.tokenizer.pad_token_id, side)
        return batch | {name: pixels[picture]}

    def _stacked(self, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        """The features in one tensor [n, p, e], and the number of image tokens of each [n]."""
        return torch.stack(features), torch.full((len(features),), self._image_tokens)


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
