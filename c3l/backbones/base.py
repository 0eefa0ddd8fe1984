"""What every backbone can do, and what a family must answer for it.

A family is "image → embeddings" plus a language model: it names the transformers class and where
in it the vision encoder, the projector and the language model are. Its processor carries the
prompt format as a chat template, in which the image token marks the place of the image. The rest
is written once, here, on the language model's input embeddings.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal
from zlib import crc32

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from c3l.backbones.prompts import ChatFormat, answer_masks, answer_pieces
from c3l.backbones.tokens import tokenise
from c3l.backbones.tuning import merge_adapters, prepare
from c3l.packing import ATTENTION, only_at, pack, padded
from c3l.readings import Embedding, Tuning
from c3l.runtime.errors import NotFiniteError, UserError
from c3l.runtime.progress import track


@dataclass(frozen=True)
class Generated:
    """A written text, and whether the model ended it itself rather than being cut off."""

    text: str
    finished: bool


class _Finite(LogitsProcessor):
    """Stops where a prediction is no number: greedy decoding takes NaN for the best token."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        wrong = ~scores.amax(-1).isfinite()
        if wrong.any():
            raise NotFiniteError(wrong.nonzero()[:, 0].tolist())
        return scores


@contextmanager
def _random_state_kept(device: torch.device) -> Iterator[None]:
    """Within, random numbers may be drawn; afterwards the caller's are as if none had been."""
    apple = torch.mps.get_rng_state() if device.type == "mps" else None
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield
    if apple is not None:
        torch.mps.set_rng_state(apple)


class Backbone:
    """A large vision-language model with its processor and prompt format.

    Texts of users and models may hold anything: tokens with a meaning of their own, such as
    "<image>" or "</s>", are broken by a space ("< image>") where they occur in them.
    """

    model_class: ClassVar[type[PreTrainedModel]]
    projector: ClassVar[str]
    language: ClassVar[tuple[str, ...]]
    """What is trained besides the projector: the language model, its head where that is apart."""
    decoder: ClassVar[str]
    """The language model without its head: embeddings in, last hidden states out."""
    speaker: ClassVar[str]
    """What generates: the whole model ("") or the language model with its head."""
    image_inputs: ClassVar[tuple[str, ...]] = ("pixel_values",)
    """What the image features are made of: the picture, and whatever else of a batch."""
    features_from: ClassVar[str] = "vision_config"
    """What of a configuration decides how many image features there are."""

    def __init__(self, model: PreTrainedModel, processor, *, name: str, files: Sequence[Path]):
        """`files` are those the model and its processor were read from."""
        self.model = model.eval()
        self.dtype: torch.dtype = model.dtype
        """The precision it was loaded in, whatever training makes of some weights meanwhile."""
        self.model.set_attn_implementation({"text_config": ATTENTION})
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.name = name
        self._files = files
        self._format = ChatFormat(processor)
        # Published checkpoints carry sampling defaults; here every setting comes from the caller.
        ends = model.generation_config.eos_token_id or []
        ends = ends if isinstance(ends, list) else [ends]
        self._end_ids = sorted({*ends, self.tokenizer.eos_token_id})
        for part in {self.model_part(""), self.model_part(self.speaker)}:
            part.generation_config = GenerationConfig(
                bos_token_id=self.tokenizer.bos_token_id,
                eos_token_id=self._end_ids,
                pad_token_id=self.tokenizer.pad_token_id,
            )

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def image_token_id(self) -> int:
        """The token that stands in each of an image's places."""
        return self._format.image_token_id

    @property
    def answer_end(self) -> str:
        """The text that ends an answer and is taught with it: `</s>`, or `###`."""
        return self._format.end

    @property
    def no_prefix_sharing_reason(self) -> str:
        """Why rows that show the same image cannot share it; "" where they can."""
        return "its image features depend on the text behind them" if self.image_inputs[1:] else ""

    @cached_property
    def digest(self) -> str:
        """sha256 of the files the backbone was read from: weights, configuration, processor.

        Equal contents have equal digests, wherever the folder lies and whatever it is called.
        """
        digest = hashlib.sha256()
        for file in self._files:
            with open(file, "rb") as content:
                part = hashlib.file_digest(content, "sha256")
            digest.update(f"{file.name} {part.hexdigest()}\n".encode())
        return digest.hexdigest()

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
        images: Sequence[Image.Image] | None = None,
        answers: Sequence[str] | None = None,
        side: Literal["left", "right"] = "right",
        answer_prefix: Sequence[str] | None = None,
        histories: Sequence[Sequence[tuple[str, str]]] | None = None,
    ) -> dict[str, Tensor]:
        """The model's inputs for a batch, padded on `side`, on the model's device.

        input_ids, attention_mask [b, t]; with `images`, one a question, pixel_values
        [b, 3, h, w], and whatever else image features are made of; with `answers`, labels
        [b, t] (−100 outside the answer and what ends it, the end-of-sequence token or what the
        prompt format writes there) and answer_mask [b, t] (the answer alone). With `answer_prefix` in place
        of answers, each text stops behind what has been said, for the model to go on. Each row of
        any of them begins with the tokens that the question alone has. `histories` are the turns
        before each question, as in `prompt`.
        """
        with_answer = answers if answers is not None else [None] * len(questions)
        if answer_prefix is not None:
            with_answer = [said.strip() or None for said in answer_prefix]
        # Only where there is one: a family's own prompt need not know of histories.
        before = [(history,) if history else () for history in histories or [()] * len(questions)]
        texts = [
            self.prompt(question, images is not None, answer, *history)
            for question, answer, history in zip(questions, with_answer, before, strict=True)
        ]
        if answer_prefix is not None:
            texts = [
                text if said is None else text.removesuffix(self._format.end)
                for text, said in zip(texts, with_answer, strict=True)
            ]
        prompts = None
        if answers is not None or answer_prefix is not None:
            prompts = [
                self.prompt(question, images is not None, None, *history)
                for question, history in zip(questions, before, strict=True)
            ]
        batch = self._tokens(texts, images, side, prompts)
        offsets = batch.pop("offset_mapping")
        if answers is not None:
            lengths = [len(self._format.plain(answer)) for answer in answers]
            batch["answer_mask"], taught = answer_masks(offsets, lengths, len(self._format.end))
            batch["labels"] = batch["input_ids"].masked_fill(~taught, -100)
        return {name: tensor.to(self.device) for name, tensor in batch.items()}

    def lengths(self, questions: Sequence[str], answers: Sequence[str]) -> list[tuple[int, int]]:
        """The tokens of each chat about an image, and how many of them are its answer's.

        They are those that `encode` makes, without preparing a picture: each becomes as many.
        """
        texts = [self.prompt(q, True, a) for q, a in zip(questions, answers, strict=True)]
        prompts = [self.prompt(question, True) for question in questions]
        pictures = [Image.new("RGB", (1, 1))] * len(texts)

        def prepare(some: list[Image.Image]) -> tuple[Tensor, Tensor]:
            return torch.empty(len(some), 0), torch.full((len(some),), self._image_tokens)

        batch = tokenise(self.tokenizer, self._format, texts, pictures, "right", prepare, prompts)
        sizes = [len(self._format.plain(answer)) for answer in answers]
        answer, _ = answer_masks(batch["offset_mapping"], sizes, len(self._format.end))
        both = batch["attention_mask"].sum(1), answer.sum(1)
        return list(zip(*(counts.tolist() for counts in both), strict=True))

    @cached_property
    def _image_tokens(self) -> int:
        """How many tokens a picture becomes, whatever it shows."""
        return int(self._pictures([self.no_picture("blank")])[1][0])

    def encode_texts(
        self, texts: Sequence[str], images: Sequence[Image.Image] | None = None
    ) -> dict[str, Tensor]:
        """The model's inputs for plain texts, without the chat; an image goes before its text."""
        before = f"{self._format.image_token}\n" if images is not None else ""
        batch = self._tokens([before + self._format.plain(text) for text in texts], images, "right")
        del batch["offset_mapping"]
        return {name: tensor.to(self.device) for name, tensor in batch.items()}

    def answer_pieces(self, question: str, answer: str, end: bool = False) -> list[str]:
        """What each token of an answer behind its question stands for; together the answer.

        One piece for each token under `answer_mask` of `encode`, or under its labels if `end`: the
        text from where the token before ends. Of the bytes of one letter the first has the letter.
        """
        return answer_pieces(self._format, self.tokenizer, question, answer, end)

    def hidden_states(
        self,
        batch: Mapping[str, Tensor],
        positions: Tensor,
        group_sizes: Sequence[int] | None = None,
    ) -> Tensor:
        """The language model's last hidden states [n, d] at the n true places of `positions` [b, t].

        `batch` is what `encode` or `encode_texts` gives, padded on the right; states come row after
        row. With `group_sizes`, runs of so many rows that show the same image share what they begin
        with (`c3l.packing.pack`). Gradients flow if they are enabled.
        """
        inputs, flat_index = dict(batch), None
        # An image whose features depend on the text behind it cannot be shared.
        if group_sizes is not None and not any(name in batch for name in self.image_inputs[1:]):
            # What stands behind the last place asked for is not read.
            inputs["attention_mask"] = positions.long().flip(1).cummax(1).values.flip(1)
            inputs, flat_index = pack(inputs, group_sizes)
        decoder, read = self.model_part(self.decoder), positions
        if flat_index is not None:
            read = torch.zeros_like(inputs["input_ids"], dtype=torch.bool)
            read.view(-1)[flat_index[positions]] = True
        # Of the last layer only what is read is needed, and its MLP is most of it: in a model of
        # four layers that is a tenth of all. A layer that is computed once more for the gradient
        # is so after this.
        last = decoder.layers[-1]
        again = getattr(last, "gradient_checkpointing", False) and last.training
        with nullcontext() if again else only_at(last.mlp, read):
            states = decoder(
                inputs_embeds=self._embedded(inputs),
                attention_mask=inputs["attention_mask"],
                position_ids=inputs.get("position_ids"),
                use_cache=False,
            ).last_hidden_state
        return (
            states[positions] if flat_index is None else states.flatten(0, 1)[flat_index[positions]]
        )

    def image_features(self, batch: Mapping[str, Tensor]) -> Tensor:
        """What the language model reads in the image tokens' places [b, n, d]."""
        shown = {name: batch[name] for name in self.image_inputs}
        features = self._whole.get_image_features(**shown).pooler_output
        return torch.stack(list(features))

    def _embedded(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The language model's input embeddings [b, t, d], the image's among them."""
        embeddings = self._whole.get_input_embeddings()(batch["input_ids"])
        if "pixel_values" not in batch:
            return embeddings
        features = self.image_features(batch).to(embeddings.dtype)
        here = batch["input_ids"] == self._format.image_token_id
        # masked_scatter would leave what is too much, and fill what is missing with another's.
        assert (here.sum(1) == features.shape[1]).all()
        return embeddings.masked_scatter(here[..., None], features)

    def text_states(
        self,
        batch: Mapping[str, Tensor],
        embedding: Embedding = "last_hidden",
        group_sizes: Sequence[int] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """What each text's tokens are embedded as [b, t, d], and their mask [b, t].

        Last hidden states, as `hidden_states` gives them, or input embeddings; an image's tokens are not
        among them.
        """
        ids = batch["input_ids"]
        text = batch["attention_mask"].bool() & (ids != self._format.image_token_id)
        if embedding == "input":
            states = self._whole.get_input_embeddings()(ids[text])
        else:
            states = self.hidden_states(batch, text, group_sizes)
        return padded(states.split(text.sum(1).tolist()))

    def head(self, states: Tensor) -> Tensor:
        """The logits [n, vocabulary] of the tokens that follow hidden states [n, d]."""
        return self._whole.get_output_embeddings()(states)

    def no_picture(self, kind: Literal["blank", "noise", "mean"]) -> Image.Image:
        """A picture of nothing: white, seeded noise, or the colour that the processor subtracts.

        Raises UserError for "mean" where it subtracts none.
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

    def model_part(self, name: str) -> nn.Module:
        """A submodule by its name in the family's class; "" is the whole."""
        return self._whole.get_submodule(name)

    @property
    def _whole(self) -> PreTrainedModel:
        """The model itself; adapters, where there are any, lie inside its layers."""
        if isinstance(self.model, self.model_class):
            return self.model
        return self.model.get_base_model()

    @property
    def context(self) -> int:
        """The most tokens that the language model reads."""
        return self.model.config.get_text_config().max_position_embeddings

    def _tokens(
        self,
        texts: list[str],
        images: Sequence[Image.Image] | None,
        side: str,
        prompts: list[str] | None = None,
    ) -> dict[str, Tensor]:
        batch = tokenise(self.tokenizer, self._format, texts, images, side, self._pictures, prompts)
        if "pixel_values" in batch:
            batch["pixel_values"] = batch["pixel_values"].to(self.dtype)
        return batch

    def count_features(self, pixels: Tensor) -> int:
        """How many features the model makes of a picture's pixel values [1, 3, h, w]."""
        return self.image_features({"pixel_values": pixels}).shape[1]

    def processor_settings(self, features: int) -> dict[str, object]:
        """The processor's settings with which a picture becomes so many image tokens."""
        return {}

    def _pictures(self, pictures: list[Image.Image]) -> tuple[Tensor, Tensor]:
        """The pictures' pixel values [n, ...], and how many image tokens each becomes [n]."""
        texts = [self._format.image_token] * len(pictures)
        shown = self.processor(text=texts, images=pictures, return_tensors="pt")
        here = shown["input_ids"] == self._format.image_token_id
        return shown["pixel_values"], here.sum(1)

    def generate(
        self,
        questions: Sequence[str],
        images: Sequence[Image.Image] | None = None,
        **settings,
    ) -> list[str]:
        """The model's answers, in the order of the questions; settings as in `generate_with_status`."""
        return [answer.text for answer in self.generate_with_status(questions, images, **settings)]

    # Not inference_mode: weights that are gathered from shards meanwhile are trained afterwards.
    @torch.no_grad()
    def generate_with_status(
        self,
        questions: Sequence[str],
        images: Sequence[Image.Image] | None = None,
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        batch_size: int = 32,
        stop: Sequence[str] = (),
        answer_prefix: Sequence[str] | None = None,
    ) -> list[Generated]:
        """Answers with whether each was finished, in the order of the questions.

        Greedy at temperature 0, else nucleus sampling, the same for the same seed, questions and
        batch size; the caller's random state is left as it was. A text ends before the first
        string of `stop`, or before what the prompt format ends an answer with (###), and is
        stripped of outer white space. With `answer_prefix`, one text a question,
        the answers go on from there, and only what is new is given back.

        Raises NotFiniteError, with the questions' places, where a prediction is no number.
        """
        self.model.eval()
        sampling = {"do_sample": False}
        if temperature > 0:
            sampling = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0}
        if self._format.stop:  # a model that is taught to end so writes no end of sequence
            sampling |= {"stop_strings": self._format.stop, "tokenizer": self.tokenizer}
        written: list[Generated] = [Generated("", False)] * len(questions)
        # Together what is of like length, so that little is padding; the longest first, so that
        # memory runs out at the start if it does.
        order = sorted(range(len(questions)), key=lambda i: -len(questions[i]))
        for start in track(range(0, len(order), batch_size), "batches"):
            rows = order[start : start + batch_size]
            batch = self.encode(
                [questions[i] for i in rows],
                None if images is None else [images[i] for i in rows],
                side="left",
                answer_prefix=None if answer_prefix is None else [answer_prefix[i] for i in rows],
            )
            with _random_state_kept(self.device):
                # Not seed + number: then neighbouring seeds would share their batches' noise.
                torch.manual_seed(crc32(f"{seed}/{start}".encode()))
                try:
                    tokens = self._continued(
                        batch,
                        max_new_tokens=max_new_tokens,
                        num_beams=1,
                        repetition_penalty=1.0,
                        logits_processor=LogitsProcessorList([_Finite()]),
                        **sampling,
                    )
                except NotFiniteError as error:
                    raise NotFiniteError([rows[k] for k in error.rows]) from None
            for i, row in zip(rows, tokens.tolist(), strict=True):
                written[i] = self._read(row, stop)
        return written

    def _continued(self, batch: Mapping[str, Tensor], **settings) -> Tensor:
        """The tokens that the model writes behind a batch padded on the left [b, new]."""
        return self.model_part(self.speaker).generate(
            inputs_embeds=self._embedded(batch), attention_mask=batch["attention_mask"], **settings
        )

    def _read(self, tokens: list[int], stop: Sequence[str]) -> Generated:
        ends = [place for place, token in enumerate(tokens) if token in self._end_ids]
        text = self.tokenizer.decode(
            tokens[: ends[0]] if ends else tokens,
            skip_special_tokens=True,
            clean_up_tokenization_spaces=False,
        ).lstrip()
        cuts = [text.index(mark) for mark in (*stop, *self._format.stop) if mark in text]
        text = text[: min(cuts)] if cuts else text
        return Generated(text.rstrip(), finished=bool(ends or cuts))

    def trainable(self, tuning: Tuning) -> None:
        """Choose what is trained, as `c3l.backbones.tuning.prepare` says; all else stays frozen.

        What trains is float32 until `merge_adapters`. Raises UserError for a tuning that there is not.
        """
        self.merge_adapters()
        self.model = prepare(self.model, tuning, language=self.language, projector=self.projector)

    def merge_adapters(self) -> None:
        """Merge what was trained into the model, in the backbone's own precision."""
        self.model = merge_adapters(self.model, self.dtype)

    def save(self, path: str | os.PathLike) -> None:
        """Write safetensors weights and the processor; adapters are merged into the weights."""
        self.merge_adapters()
        self.model.save_pretrained(path)
        for tokenizer in vars(self.processor).values():
            if isinstance(tokenizer, PreTrainedTokenizerFast):
                # How its last batch was padded is no part of it: equal backbones have equal bytes.
                tokenizer.backend_tokenizer.no_padding()
                tokenizer.backend_tokenizer.no_truncation()
        self.processor.save_pretrained(path)
