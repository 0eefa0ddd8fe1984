"""Writing token by token: rows that have ended leave the batch, and each draws for itself.

`decode` is a decoding loop for transformers' `generate`, which prepares a model's inputs for it.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import (
    GenerationConfig,
    LogitsProcessorList,
    PreTrainedModel,
    StoppingCriteriaList,
)
from transformers.cache_utils import DynamicLayer

from c3l.runtime.errors import NotFiniteError

Choice = Callable[[Tensor, Tensor, int], Tensor]
"""Logits [n, V], the n rows' indices in the batch and the number of the step to tokens [n]."""

_CANDIDATES = 64
"""Tokens that are sorted for top-p."""
_ROOM = 64
"""Tokens for which a cache's buffers grow at a time."""


@torch.no_grad()
def decode(
    model: PreTrainedModel,
    input_ids: Tensor,
    *,
    logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList,
    generation_config: GenerationConfig,
    choose: Choice,
    **inputs: Any,
) -> Tensor:
    """The tokens that a model writes behind `input_ids` [b, t], padded at the end [b, new].

    For `generate` as its `custom_generate`, with `choose` bound. A row leaves the batch, and the
    cache, with its last token. Raises NotFiniteError, with the indices of rows in the batch, if a
    logit is no number.
    """
    size, columns = len(input_ids), []
    rows = torch.arange(size, device=input_ids.device)
    cache = inputs["past_key_values"]
    cache.layers = [_Growing() if type(e) is DynamicLayer else e for e in cache.layers]
    while len(rows):
        first = {"next_sequence_length": 1} if columns else {"is_first_iteration": True}
        prepared = model.prepare_inputs_for_generation(input_ids, **first, **inputs)
        outputs = model(**prepared, return_dict=True)
        inputs = model._update_model_kwargs_for_generation(outputs, inputs)
        inputs.pop("inputs_embeds", None)  # read in the first step alone
        # A copy: a view would keep the logits of the whole prompt.
        logits = outputs.logits[:, -1].to(input_ids.device, torch.float32, copy=True)
        del outputs, prepared
        # Greedy decoding would take NaN for the best token.
        if (invalid := ~logits.amax(-1).isfinite()).any():
            raise NotFiniteError(rows[invalid].tolist())
        tokens = choose(logits_processor(input_ids, logits), rows, len(columns))
        column = tokens.new_full((size,), generation_config.pad_token_id)
        columns.append(column.index_copy(0, rows, tokens))
        input_ids = torch.cat([input_ids, tokens[:, None]], dim=1)
        if (ended := stopping_criteria(input_ids, None)).any():
            remaining = _without(ended)
            inputs = _select_rows(inputs, remaining, len(ended))
            rows, input_ids = rows[remaining], input_ids[remaining]
    return torch.stack(columns, dim=1)


def _without(ended: Tensor) -> Tensor:
    """The indices of the rows that have not `ended`; the last of them take the places of others."""
    remaining = (~ended).nonzero()[:, 0]
    order = torch.arange(len(remaining), device=ended.device)
    order[ended[: len(order)]] = remaining[remaining >= len(order)]
    return order


def _select_rows(inputs: Mapping[str, Any], rows: Tensor, size: int) -> dict[str, Any]:
    """The model's inputs for some rows of a batch of `size`; its cache is changed in place."""
    inputs["past_key_values"].batch_select_indices(rows)
    selected = dict(inputs)
    for name, value in inputs.items():
        if name == "position_ids":  # [b, t], or [axes, b, t]
            selected[name] = value[..., rows, :]
        elif isinstance(value, Tensor) and value.shape[:1] == (size,):
            selected[name] = value[rows]
    return selected


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
            buffer[moved] = buffer[indices[moved]]
        self.keys, self.values = (buffer[: len(indices), :, :end] for buffer in self.buffers)


def choose_likeliest(logits: Tensor, rows: Tensor, step: int) -> Tensor:
    """The likeliest token of each row [n]: greedy decoding."""
    return logits.argmax(-1)


class NucleusSampling:
    """Nucleus sampling (Holtzman et al. 2020) from one uniform number a row and token.

    A row's numbers follow from its seed alone, so that neither its batch nor the caller's random
    state has a part in them.
    """

    def __init__(self, seeds: Sequence[int], temperature: float, top_p: float, steps: int):
        """`seeds`, one a row of the batch, for texts of at most `steps` tokens."""
        self.temperature, self.top_p = temperature, top_p
        draws = [np.random.default_rng(seed).random(steps, dtype=np.float32) for seed in seeds]
        self.draws = torch.from_numpy(np.stack(draws))

    def __call__(self, logits: Tensor, rows: Tensor, step: int) -> Tensor:
        self.draws = self.draws.to(logits.device)
        return nucleus_tokens(logits / self.temperature, self.draws[rows, step], self.top_p)


def nucleus_tokens(logits: Tensor, draws: Tensor, top_p: float, candidates: int = 1) -> Tensor:
    """The tokens [n] that uniform `draws` [n] in [0, 1) take from logits [n, V].

    Tokens by falling probability, up to the one with which their mass reaches `top_p`, share the
    interval from 0 to 1 in proportion to their probabilities. Only the likeliest `candidates` are
    sorted; of rows where these have less mass than `top_p`, more, and at last all.
    """
    size = logits.shape[1]
    one = candidates == 1  # much cheaper than sorting
    likeliest, tokens = logits.max(-1, keepdim=True) if one else logits.topk(min(candidates, size))
    mass = (likeliest - logits.logsumexp(-1, keepdim=True)).exp().cumsum(-1)
    # Rounded, all tokens may have a mass below 1.
    last = (mass < top_p).sum(-1, keepdim=True).clamp(max=mass.shape[1] - 1)
    targets = draws[:, None] * mass.gather(1, last)
    places = torch.searchsorted(mass, targets, right=True).minimum(last)
    chosen = tokens.gather(1, places)[:, 0]
    if candidates < size and (short := mass[:, -1] < top_p).any():
        more = _CANDIDATES if candidates < _CANDIDATES else size
        chosen[short] = nucleus_tokens(logits[short], draws[short], top_p, more)
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
