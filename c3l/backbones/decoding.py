"""Writing token by token: each row leaves the batch with its last token and draws for itself."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import PreTrainedModel, StoppingCriteriaList
from transformers.cache_utils import DynamicLayer

from c3l.runtime.errors import NotFiniteError

Choice = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Logits [n, V], the n rows' numbers in the call and of tokens written so far to tokens [n]."""

_CANDIDATES = 64
"""Tokens that are sorted for top-p."""
_ROOM = 64
"""Tokens for which a cache's buffers grow at a time."""


@dataclass
class Batch:
    """Rows in writing, whose prompts have been read."""

    model: PreTrainedModel
    inputs: dict[str, Any]
    """Of the next step, as of transformers' `generate`."""
    logits: Tensor
    """Of the next token [n, V], float32."""
    tokens: Tensor
    """The tokens written so far, padded on the left [n, t]."""
    rows: Tensor
    """The rows' numbers in the call [n]."""
    counts: Tensor
    """Tokens written so far [n]."""

    def step(
        self, choose: Choice, ends: StoppingCriteriaList, limit: int
    ) -> Iterator[tuple[int, list[int]]]:
        """Write a token of each row; yield the number and the tokens of rows that have ended."""
        # Greedy decoding would take NaN for the best token.
        if (invalid := ~self.logits.amax(-1).isfinite()).any():
            raise NotFiniteError(self.rows[invalid].tolist())
        tokens = choose(self.logits, self.rows, self.counts)[:, None]
        self.tokens, self.counts = torch.cat([self.tokens, tokens], dim=1), self.counts + 1
        if (ended := ends(self.tokens, None) | (self.counts == limit)).any():
            for i in ended.nonzero()[:, 0].tolist():
                yield int(self.rows[i]), self.tokens[i, -int(self.counts[i]) :].tolist()
            self._select(_without(ended))
        if len(self.rows):
            inputs = self.model.prepare_inputs_for_generation(
                self.tokens, next_sequence_length=1, **self.inputs
            )
            self._read(self.model(**inputs, return_dict=True))

    def _read(self, outputs: Any) -> None:
        self.inputs = self.model._update_model_kwargs_for_generation(outputs, self.inputs)
        # A copy: a view would keep the logits of the whole prompt.
        self.logits = outputs.logits[:, -1].to(torch.float32, copy=True)

    def _select(self, rows: Tensor) -> None:
        size = len(self.rows)
        self.inputs["past_key_values"].batch_select_indices(rows)
        for name, value in self.inputs.items():
            if name == "position_ids":  # [b, t], or [axes, b, t]
                self.inputs[name] = value[..., rows, :]
            elif _has_rows(value, size):
                self.inputs[name] = value[rows]
        self.tokens, self.rows, self.counts = self.tokens[rows], self.rows[rows], self.counts[rows]

    def _mask(self) -> Tensor:
        """The attention mask [n, t] of the next step; `generate` leaves out one without a zero."""
        if (mask := self.inputs["attention_mask"]) is not None:
            return mask
        length = self.inputs["past_key_values"].get_seq_length() + 1
        return self.rows.new_ones(len(self.rows), length)

    @property
    def takes_more(self) -> bool:
        """True if other rows can join; only caches of full attention can be aligned."""
        return all(type(e) is _Growing for e in self.inputs["past_key_values"].layers)

    def join(self, new: "Batch") -> None:
        """Add the rows of another batch; padding on the left makes them equally long."""
        inputs, masks = self.inputs, (self._mask(), new._mask())
        first = int(masks[0].any(0).nonzero()[0])  # columns before it are padding in each row
        length = max(masks[0].shape[1] - first, masks[1].shape[1])
        for name, value in inputs.items():
            other = new.inputs[name]
            if name == "attention_mask":
                inputs[name] = torch.cat([_lengthened(e, length, 1) for e in masks])
            elif name == "position_ids":  # only the last is read
                inputs[name] = torch.cat([value[..., -1:], other[..., -1:]], dim=-2)
            elif _has_rows(value, len(self.rows)):
                inputs[name] = torch.cat([value, other])
        layers = zip(
            inputs["past_key_values"].layers, new.inputs["past_key_values"].layers, strict=True
        )
        for mine, yours in layers:
            mine.join(yours, length - 1)
        self.logits = torch.cat([self.logits, new.logits])
        most = int(self.counts.max())
        self.tokens = torch.cat([_lengthened(e, most, 1) for e in (self.tokens, new.tokens)])
        self.rows = torch.cat([self.rows, new.rows])
        self.counts = torch.cat([self.counts, new.counts])


def read_prompts(
    model: PreTrainedModel,
    input_ids: Tensor,
    *,
    rows: Sequence[int],
    logits_processor: object,
    stopping_criteria: object,
    generation_config: object,
    **inputs: Any,
) -> Batch:
    """Read the prompts of a call's `rows`; a `custom_generate` of transformers' `generate`."""
    cache = inputs["past_key_values"]
    cache.layers = [_Growing() if type(e) is DynamicLayer else e for e in cache.layers]
    prepared = model.prepare_inputs_for_generation(input_ids, is_first_iteration=True, **inputs)
    outputs = model(**prepared, return_dict=True)
    inputs.pop("inputs_embeds", None)
    numbers = torch.tensor(rows, device=input_ids.device)
    batch = Batch(
        model, inputs, outputs.logits, input_ids[:, :0], numbers, torch.zeros_like(numbers)
    )
    batch._read(outputs)
    return batch


@torch.no_grad()
def write(
    read: Callable[[Sequence[int]], Batch],
    parts: Iterable[Sequence[int]],
    size: int,
    *,
    choose: Choice,
    ends: StoppingCriteriaList,
    limit: int,
) -> Iterator[tuple[int, list[int]]]:
    """Yield each row's number and its tokens, at most `limit`, once it has ended.

    The rows of `parts` are read in turn, as soon as a batch of `size` rows has room for a part.
    Raises NotFiniteError, with the numbers of rows, if a logit is no number.
    """
    batch = None
    for part in parts:
        while batch and len(batch.rows) > (size - len(part) if batch.takes_more else 0):
            yield from batch.step(choose, ends, limit)
        if batch and len(batch.rows):
            batch.join(read(part))
        else:
            batch = read(part)
    while batch and len(batch.rows):
        yield from batch.step(choose, ends, limit)


def _has_rows(value: object, size: int) -> bool:
    return isinstance(value, Tensor) and value.shape[:1] == (size,)


def _lengthened(states: Tensor, length: int, dim: int) -> Tensor:
    """`states` with so many elements along `dim`, the last ones behind zeros."""
    states = states.narrow(dim, max(states.shape[dim] - length, 0), min(states.shape[dim], length))
    sides = [0, 0] * (states.dim() - 1 - dim)
    return pad(states, (*sides, length - states.shape[dim], 0))


def _without(ended: Tensor) -> Tensor:
    """The indices of the rows that have not `ended`; the last of them take the places of others."""
    remaining = (~ended).nonzero()[:, 0]
    order = torch.arange(len(remaining), device=ended.device)
    order[ended[: len(order)]] = remaining[remaining >= len(order)]
    return order


class _Growing(DynamicLayer):
    """A layer's cache in buffers with room, so that a new token does not copy those before it."""

    def update(self, key_states: Tensor, value_states: Tensor, *_, **__) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = key_states[:, :, :0], value_states[:, :, :0]
            self.buffers = [self.keys, self.values]
        rows, _, start, _ = self.keys.shape
        end = start + key_states.shape[2]
        if end > self.buffers[0].shape[2]:
            more = (0, 0, 0, end - start + _ROOM)
            self.buffers = [pad(part, more) for part in (self.keys, self.values)]
        for buffer, states in zip(self.buffers, (key_states, value_states), strict=True):
            buffer[:rows, :, start:end] = states
        self.keys, self.values = (buffer[:rows, :, :end] for buffer in self.buffers)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        end = self.keys.shape[2]
        moved = (indices != torch.arange(len(indices), device=indices.device)).nonzero()[:, 0]
        for buffer in self.buffers:
            buffer[moved, :, :end] = buffer[indices[moved], :, :end]
        self.keys, self.values = (buffer[: len(indices), :, :end] for buffer in self.buffers)

    def join(self, other: DynamicLayer, length: int) -> None:
        """Add the rows of another layer; both come to `length` tokens by the left end."""
        self.keys, self.values = self.buffers = [
            torch.cat([_lengthened(mine, length, 2), _lengthened(yours, length, 2)])
            for mine, yours in ((self.keys, other.keys), (self.values, other.values))
        ]


def choose_likeliest(logits: Tensor, rows: Tensor, counts: Tensor) -> Tensor:
    """The likeliest token of each row [n]: greedy decoding."""
    return logits.argmax(-1)


class NucleusSampling:
    """Nucleus sampling (Holtzman et al. 2020) from one uniform number a row and token.

    A row's numbers follow from its seed alone, so that neither its batch nor the caller's random
    state has a part in them.
    """

    def __init__(self, seeds: Sequence[int], temperature: float, top_p: float, steps: int):
        """`seeds`, one a row of the call, for texts of at most `steps` tokens."""
        self.temperature, self.top_p = temperature, top_p
        draws = [np.random.default_rng(seed).random(steps, dtype=np.float32) for seed in seeds]
        self.draws = torch.from_numpy(np.stack(draws))

    def __call__(self, logits: Tensor, rows: Tensor, counts: Tensor) -> Tensor:
        self.draws = self.draws.to(logits.device)
        return nucleus_tokens(logits / self.temperature, self.draws[rows, counts], self.top_p)


def nucleus_tokens(
    logits: Tensor, draws: Tensor, top_p: float, candidates: int = _CANDIDATES
) -> Tensor:
    """The tokens [n] that uniform `draws` [n] in [0, 1) take from logits [n, V].

    Tokens by falling probability, up to the one with which their mass reaches `top_p`, share the
    interval from 0 to 1 in proportion to their probabilities. Only the likeliest `candidates` are
    sorted, and all tokens of a row whose candidates have less mass than `top_p`.
    """
    size = logits.shape[1]
    likeliest, tokens = logits.topk(min(candidates, size))
    mass = (likeliest - logits.logsumexp(-1, keepdim=True)).exp().cumsum(-1)
    # Rounded, all tokens may have a mass below 1.
    last = (mass < top_p).sum(-1, keepdim=True).clamp(max=mass.shape[1] - 1)
    targets = draws[:, None] * mass.gather(1, last)
    places = torch.searchsorted(mass, targets, right=True).minimum(last)
    chosen = tokens.gather(1, places)[:, 0]
    if candidates < size and (short := mass[:, -1] < top_p).any():
        chosen[short] = nucleus_tokens(logits[short], draws[short], top_p, size)
    return chosen


def row_seeds(seed: int, keys: Sequence[str]) -> list[int]:
    """A seed for each row of a call, by its key and its place among equal keys."""
    seen: Counter[str] = Counter()
    seeds = []
    for key in keys:
        digest = hashlib.sha256(f"{seed}/{seen[key]}/{key}".encode(errors="surrogatepass")).digest()
        seeds.append(int.from_bytes(digest[:16]))
        seen[key] += 1
    return seeds
