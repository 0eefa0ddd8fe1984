"""Published tensors in a transformers class: renames, and checks that none is lost or invented."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from c3l.convert.language import IMAGE_TOKEN, add_rows, vocabulary_size
from c3l.convert.sources import Source
from c3l.runtime.errors import UserError

Rules = Sequence[tuple[str, str]]
"""Patterns of whole names and what they become, as in `re.sub`; the first that fits counts."""


@dataclass
class Assembled:
    """A model's tensors by its own names, and the fate of the published ones."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    origin: dict[str, tuple[str, str]] = field(default_factory=dict)
    """For each tensor the file's name and the name in it."""
    unused: dict[str, list[str]] = field(default_factory=dict)
    """By file: the names that no rule fits, or that the model has no place for."""
    constant: list[str] = field(default_factory=list)
    """Tensors that no file holds, because the original leaves them as they begin."""


def assemble(
    parts: Sequence[tuple[Source, Rules]],
    shapes: Mapping[str, torch.Size],
    constants: Mapping[str, Tensor] | None = None,
) -> Assembled:
    """Return the tensors for `shapes`, the model's own, from files with the rules for each.

    Of two files that hold the same tensor the later counts, as when they are loaded one after the
    other; `constants` fill what is in none. Raises UserError, naming the tensor, for one that is
    missing, that has another shape, or that two names of one file become.
    """
    assembled = Assembled()
    for source, rules in parts:
        unused = assembled.unused.setdefault(source.name, list(source.other_keys))
        names: dict[str, str] = {}
        for name, tensor in source.tensors.items():
            target = rename(name, rules)
            if target is None:
                unused.append(name)
                continue
            if target in names:
                raise UserError(
                    f"{source.name} holds {names[target]} and {name}, which are the same tensor; "
                    "get the published file"
                )
            names[target] = name
            if target in assembled.tensors:
                file, earlier = assembled.origin[target]
                assembled.unused[file].append(earlier)
            assembled.tensors[target], assembled.origin[target] = tensor, (source.name, name)
    _join_biases(assembled, shapes)
    for target in [target for target in assembled.tensors if target not in shapes]:
        file, name = assembled.origin.pop(target)
        assembled.unused[file].append(name)
        del assembled.tensors[target]
    for target, tensor in (constants or {}).items():
        if target not in assembled.tensors:
            assembled.tensors[target] = tensor
            assembled.constant.append(target)
    _check(assembled, shapes, ", ".join(source.name for source, _ in parts))
    assembled.tensors = {target: assembled.tensors[target] for target in shapes}
    return assembled


def rename(name: str, rules: Rules) -> str | None:
    """Rename by the first rule that matches the full name; None without one."""
    for pattern, replacement in rules:
        if match := re.fullmatch(pattern, name):
            return match.expand(replacement)
    return None


def _join_biases(assembled: Assembled, shapes: Mapping[str, torch.Size]) -> None:
    """EVA's attention has biases for queries and values, transformers one for all three."""
    for target in [target for target in shapes if target.endswith(".qkv.bias")]:
        pair = [f"{target.removesuffix('qkv.bias')}{part}_bias" for part in "qv"]
        q, v = (assembled.tensors.pop(name, None) for name in pair)
        origins = [origin for name in pair if (origin := assembled.origin.pop(name, None))]
        if not origins:
            continue  # `_check` names it
        file, name = origins[0]
        stem, kind = name[: -len("q_bias")], name[-len("q_bias")]
        if q is None or v is None or q.shape != v.shape:
            other = f"{stem}{'v' if kind == 'q' else 'q'}_bias"
            raise UserError(
                f"{file} holds {name} but no {other} of the same shape; get the published file"
            )
        assembled.tensors[target] = torch.cat([q, torch.zeros_like(q), v])
        assembled.origin[target] = (file, f"{stem}{{q,v}}_bias")


def _check(assembled: Assembled, shapes: Mapping[str, torch.Size], files: str) -> None:
    if missing := [target for target in shapes if target not in assembled.tensors]:
        rest = f" and {len(missing) - 1} others" if len(missing) > 1 else ""
        raise UserError(
            f"nothing in {files} becomes the model's {missing[0]}{rest}; get the published files"
        )
    for target, shape in shapes.items():
        actual = assembled.tensors[target].shape
        if actual != shape:
            file, name = assembled.origin.get(target, (files, target))
            raise UserError(
                f"{name} in {file} has the shape {list(actual)} where the model's {target} has "
                f"{list(shape)}; get the published file for this model"
            )


@dataclass(frozen=True)
class Converted:
    """The contents of a converted folder."""

    model_class: type[PreTrainedModel]
    config: PreTrainedConfig
    processor: object
    assembled: Assembled
    sources: list[Source]


def build_converted(
    model_class: type[PreTrainedModel],
    config: PreTrainedConfig,
    processor,
    parts: Sequence[tuple[Source, Rules]],
    constants: Mapping[str, Tensor] | None = None,
) -> Converted:
    """Assemble a model from the files, with rows for the tokens that the processor has added.

    Raises UserError as `assemble` does.
    """
    text, tokenizer = config.get_text_config(), processor.tokenizer
    text.pad_token_id = None  # it may be one of the new rows
    assembled = assemble(parts, model_shapes(model_class, config), constants)
    text.vocab_size = vocabulary_size(text.vocab_size, tokenizer)
    for name, tensor in assembled.tensors.items():
        if name.endswith(("embed_tokens.weight", "lm_head.weight")):
            assembled.tensors[name] = add_rows(tensor, text.vocab_size)
    text.pad_token_id = tokenizer.pad_token_id
    config.image_token_id = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
    config.architectures = [model_class.__name__]
    return Converted(model_class, config, processor, assembled, [source for source, _ in parts])


def model_shapes(
    model_class: type[PreTrainedModel], config: PreTrainedConfig
) -> dict[str, torch.Size]:
    """Return the names and shapes of a model's tensors; the model itself takes no memory."""
    with torch.device("meta"):
        model = model_class(config)
    return {name: tensor.shape for name, tensor in model.state_dict().items()}
