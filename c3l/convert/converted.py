"""A converted model in memory: published tensors in a transformers class, with its processor."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from c3l.convert.keys import Assembled, Rules, assemble
from c3l.convert.language import IMAGE_TOKEN, add_rows, vocabulary_size
from c3l.convert.sources import Source


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
