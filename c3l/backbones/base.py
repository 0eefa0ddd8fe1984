"""The interface of every backbone, and the few names a family gives for it.

A family names its transformers class and, in it, the vision encoder, the projector and the language
model. The rest is written once, here and in `encoding`, on the language model's input embeddings.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from transformers import (
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    StoppingCriteriaList,
    StopStringCriteria,
)

from c3l.artifacts.files import digest_file
from c3l.backbones.decoding import (
    Choice,
    NucleusSampling,
    choose_likeliest,
    decode,
    row_seeds,
)
from c3l.backbones.encoding import Encoder, Picture
from c3l.backbones.tuning import merge_adapters, prepare
from c3l.packing import ATTENTION, PIXELS, STATES, only_at, pack, padded, pair_rows
from c3l.readings import Embedding, Tuning
from c3l.runtime.errors import NotFiniteError
from c3l.runtime.progress import track

_WORTH_PAIRING = 0.95
"""The share of a batch's positions, padding among them, that rows of two texts may take at most."""


@dataclass(frozen=True)
class Generated:
    """A generated text; `finished` if the model ended it, rather than the limit on its length."""

    text: str
    finished: bool


class Backbone(Encoder):
    """A large vision-language model with its processor and prompt format."""

    model_class: ClassVar[type[PreTrainedModel]]
    projector: ClassVar[str]
    language: ClassVar[tuple[str, ...]]
    """The parts trained besides the projector: the language model, and its head if separate."""
    decoder: ClassVar[str]
    """The language model without its head: embeddings in, last hidden states out."""
    speaker: ClassVar[str]
    """The part that generates: the whole model ("") or the language model with its head."""
    image_inputs: ClassVar[tuple[str, ...]] = (PIXELS,)
    """The inputs of the image features: the picture, and anything else in a batch."""
    frozen_features: ClassVar[bool] = False
    """Whether training may keep `vision_states` (`c3l.backbones.features`). A family that does not
    say so runs its vision encoder in every step."""
    features_from: ClassVar[str] = "vision_config"
    """The part of a configuration that decides the number of image features, for messages."""

    def __init__(self, model: PreTrainedModel, processor, *, name: str, files: Sequence[Path]):
        """`files` are those the model and its processor were read from."""
        super().__init__(processor)
        self.model = model.eval()
        self.dtype: torch.dtype = model.dtype
        """The precision it was loaded in, even while some weights train in another."""
        self.model.set_attn_implementation({"text_config": ATTENTION})
        self.name = name
        self._files = files
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
    def no_prefix_sharing_reason(self) -> str:
        """The reason why rows about the same image cannot share it, or ""."""
        return "its image features depend on the text behind them" if self.image_inputs[1:] else ""

    @cached_property
    def digest(self) -> str:
        """sha256 of the files the backbone was read from: weights, configuration, processor.

        Equal contents have equal digests, whatever the folder is called.
        """
        digest = hashlib.sha256()
        for file in self._files:
            digest.update(f"{file.name} {digest_file(file)}\n".encode())
        return digest.hexdigest()

    def hidden_states(
        self,
        batch: Mapping[str, Tensor],
        positions: Tensor,
        group_sizes: Sequence[int] | None = None,
        in_pairs: bool = False,
    ) -> Tensor:
        """The language model's last hidden states [n, d] at the n true `positions` [b, t].

        `batch` comes from `encode` or `encode_texts`, padded on the right; states come row after
        row. With `group_sizes`, each run of so many rows about the same image shares its common
        prefixes (`c3l.packing.pack`). With `in_pairs`, two rows become one where that saves
        padding (`c3l.packing.pair_rows`). Gradients flow if they are enabled.
        """
        inputs, read, flat_index = dict(batch), positions, None
        # An image whose features depend on the text behind it cannot be shared.
        if group_sizes is not None and not any(name in batch for name in self.image_inputs[1:]):
            # Tokens behind the last of a row's positions are not read.
            inputs["attention_mask"] = positions.long().flip(1).cummax(1).values.flip(1)
            inputs, flat_index = pack(inputs, group_sizes)
        embeddings = self._embedded(inputs)
        if in_pairs:
            index, masks, pair_index = pair_rows(inputs["attention_mask"])
            if index.numel() < _WORTH_PAIRING * positions.numel():
                embeddings, flat_index = embeddings.flatten(0, 1)[index], pair_index
                inputs |= masks
        if flat_index is not None:
            read = torch.zeros(embeddings.shape[:2], dtype=torch.bool, device=positions.device)
            read.view(-1)[flat_index[positions]] = True
        # The last layer is needed only where it is read, and its MLP is most of it: in a model of
        # four layers that saves a tenth of all. Under gradient checkpointing a layer runs again
        # after this function has returned, when the hooks are gone.
        decoder = self.model_part(self.decoder)
        last = decoder.layers[-1]
        recomputed = getattr(last, "gradient_checkpointing", False) and last.training
        with nullcontext() if recomputed else only_at(last.mlp, read):
            states = decoder(
                inputs_embeds=embeddings,
                attention_mask=inputs["attention_mask"],
                position_ids=inputs.get("position_ids"),
                use_cache=False,
            ).last_hidden_state
        return states[read] if flat_index is None else states.flatten(0, 1)[flat_index[positions]]

    def autocast(self) -> torch.autocast:
        """The context in which a backbone in half precision trains; in float32 it does nothing."""
        half = self.dtype in (torch.bfloat16, torch.float16)
        return torch.autocast(self.device.type, self.dtype if half else None, enabled=half)

    def vision_states(self, pixels: Tensor) -> Tensor:
        """The vision encoder's output [b, p, e] for pixel values [b, 3, h, w].

        It is the last that no trained weight changes: what enters the projector.
        """
        states: list[Tensor] = []
        projector = self.model_part(self.projector)
        with projector.register_forward_pre_hook(lambda _, inputs: states.append(inputs[0])):
            self.image_features({PIXELS: pixels})
        return states[0]

    def image_features(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The embeddings in the positions of the image tokens [b, n, d]."""
        if STATES in batch:
            return self.model_part(self.projector)(batch[STATES])
        inputs = {name: batch[name] for name in self.image_inputs}
        return torch.stack([*self._whole.get_image_features(**inputs).pooler_output])

    def _embedded(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The language model's input embeddings [b, t, d], the image's among them."""
        embeddings = self._whole.get_input_embeddings()(batch["input_ids"])
        if PIXELS not in batch and STATES not in batch:
            return embeddings
        features = self.image_features(batch).to(embeddings.dtype)
        is_image = batch["input_ids"] == self._format.image_token_id
        # masked_scatter would ignore surplus features, and fill a gap with another row's.
        assert (is_image.sum(1) == features.shape[1]).all()
        return embeddings.masked_scatter(is_image[..., None], features)

    def text_states(
        self,
        batch: Mapping[str, Tensor],
        embedding: Embedding = "last_hidden",
        group_sizes: Sequence[int] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The embeddings of each text's tokens [b, t, d], and their mask [b, t].

        Last hidden states, as from `hidden_states`, or input embeddings. Image tokens are left out.
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

    def model_part(self, name: str) -> nn.Module:
        """A submodule by its name in the family's class; "" is the whole."""
        return self._whole.get_submodule(name)

    @property
    def _whole(self) -> PreTrainedModel:
        """The model itself; adapters, where there are any, lie inside its layers."""
        if isinstance(self.model, self.model_class):
            return self.model
        return self.model.get_base_model()

    def count_features(self, pixels: Tensor) -> int:
        """The number of features the model makes of a picture's pixel values [1, 3, h, w]."""
        return self.image_features({PIXELS: pixels}).shape[1]

    def processor_settings(self, features: int) -> dict[str, object]:
        """The processor's settings that give a picture so many image tokens."""
        return {}

    def generate(
        self, questions: Sequence[str], images: Sequence[Picture] | None = None, **settings
    ) -> list[str]:
        """The texts of `generate_with_status`, which takes the same settings."""
        return [answer.text for answer in self.generate_with_status(questions, images, **settings)]

    # Not inference_mode: weights that are gathered from shards meanwhile are trained afterwards.
    @torch.no_grad()
    def generate_with_status(
        self,
        questions: Sequence[str],
        images: Sequence[Picture] | None = None,
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        batch_size: int = 32,
        stop: Sequence[str] = (),
        answer_prefix: Sequence[str] | None = None,
        keys: Sequence[str] | None = None,
    ) -> list[Generated]:
        """The model's answers, in the order of the questions.

        Greedy at temperature 0, else nucleus sampling, without a change to the caller's random
        state. A row draws from a generator of its own, seeded by `seed`, its key of `keys` and its
        place among equal keys: neither other rows nor the batch size have a part in its text. By
        default a row's key is its question and answer prefix. A text ends before the first
        string of `stop`, or before the prompt format's own end of an answer (###), and is stripped
        of outer white space. With `answer_prefix`, one text a question, each answer continues that
        text, and only its new part is returned.

        Raises NotFiniteError, with the indices of the questions, if a prediction is no number.
        """
        self.model.eval()
        prefixes = answer_prefix or [""] * len(questions)
        if keys is None:
            keys = [f"{q}\0{prefix}" for q, prefix in zip(questions, prefixes, strict=True)]
        seeds = row_seeds(seed, keys)
        written: list[Generated] = [Generated("", False)] * len(questions)
        # Questions of similar length together, for little padding; the longest first, so that
        # memory runs out at the start if at all.
        order = sorted(range(len(questions)), key=lambda i: -len(questions[i]))
        for start in track(range(0, len(order), batch_size), "batches"):
            rows = order[start : start + batch_size]
            batch = self.encode(
                [questions[i] for i in rows],
                None if images is None else [images[i] for i in rows],
                side="left",
                answer_prefix=None if answer_prefix is None else [answer_prefix[i] for i in rows],
            )
            choose: Choice = choose_likeliest
            if temperature > 0:
                own = [seeds[i] for i in rows]
                choose = NucleusSampling(own, temperature, top_p, max_new_tokens)
            try:
                tokens = self._continued(batch, choose, max_new_tokens=max_new_tokens)
            except NotFiniteError as error:
                raise NotFiniteError([rows[k] for k in error.rows]) from None
            for i, row in zip(rows, tokens.tolist(), strict=True):
                written[i] = self._read(row, stop)
        return written

    def _continued(
        self, batch: Mapping[str, Tensor], choose: Choice = choose_likeliest, **settings
    ) -> Tensor:
        """The tokens that the model writes behind a batch padded on the left [b, new]."""
        criteria = StoppingCriteriaList()
        if self._format.stop:  # a model that is taught to end so writes no end of sequence
            criteria.append(StopStringCriteria(self.tokenizer, self._format.stop))
        return self.model_part(self.speaker).generate(
            **self._model_inputs(batch),
            custom_generate=partial(decode, choose=choose),
            stopping_criteria=criteria,
            do_sample=False,
            num_beams=1,
            repetition_penalty=1.0,
            **settings,
        )

    def _model_inputs(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The inputs that the model writes behind."""
        return {
            "inputs_embeds": self._embedded(batch),
            "attention_mask": batch["attention_mask"],
        }

    def _read(self, tokens: list[int], stop: Sequence[str]) -> Generated:
        ends = [i for i, token in enumerate(tokens) if token in self._end_ids]
        text = self.tokenizer.decode(
            tokens[: ends[0]] if ends else tokens,
            skip_special_tokens=True,
            clean_up_tokenization_spaces=False,
        ).lstrip()
        cuts = [text.index(mark) for mark in (*stop, *self._format.stop) if mark in text]
        text = text[: min(cuts)] if cuts else text
        return Generated(text.rstrip(), finished=bool(ends or cuts))

    def trainable(self, tuning: Tuning) -> None:
        """Choose the weights that train (`c3l.backbones.tuning.prepare`); others stay frozen.

        They are float32 until `merge_adapters`. Raises UserError for an unknown tuning.
        """
        self.merge_adapters()
        self.model = prepare(self.model, tuning, language=self.language, projector=self.projector)

    def merge_adapters(self) -> None:
        """Merge the trained weights into the model, in the backbone's own precision."""
        self.model = merge_adapters(self.model, self.dtype)

    def save(self, path: str | os.PathLike) -> None:
        """Write safetensors weights and the processor; adapters are merged into the weights."""
        self.merge_adapters()
        self.model.save_pretrained(path)
        for tokenizer in vars(self.processor).values():
            if isinstance(tokenizer, PreTrainedTokenizerFast):
                # The padding of its last batch is no part of it: equal backbones have equal bytes.
                tokenizer.backend_tokenizer.no_padding()
                tokenizer.backend_tokenizer.no_truncation()
        self.processor.save_pretrained(path)
