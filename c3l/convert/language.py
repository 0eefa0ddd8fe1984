"""The language model of a published folder: its settings, its tokenizer, a place for the image."""

import dataclasses
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors
from torch import Tensor
from transformers import LlamaConfig, PreTrainedTokenizerFast
from transformers.tokenization_utils_base import generate_merges

from c3l.backbones.configuration import first_line
from c3l.convert.sources import read_config
from c3l.runtime.errors import UserError

IMAGE_TOKEN = "<image>"
READ = ("config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json")
"""Files of a folder that are read besides its weights."""
MULTIPLE = 64
"""Where tokens are added the vocabulary grows to a multiple of it, as in llava-hf's models."""


def llama_config(folder: Path) -> LlamaConfig:
    """Return a folder's Llama configuration.

    A LLaVA checkpoint's settings are a Llama's and a few of its own. Raises UserError for another
    architecture.
    """
    config = read_config(folder)
    if config.get("model_type") not in ("llama", "llava", "llava_llama") or "text_config" in config:
        raise UserError(
            f"{folder} holds a {config.get('model_type')!r} where a Llama is needed; give the "
            "folder of the published language model"
        )
    names = {field.name for field in dataclasses.fields(LlamaConfig)}
    names |= {"rope_theta", "rope_scaling"}  # as it was called until transformers 5
    names -= {"architectures", "transformers_version", "dtype"}
    try:
        return LlamaConfig(**{name: value for name, value in config.items() if name in names})
    except (StrictDataclassError, ValueError, TypeError) as error:
        reason = first_line(error)
        raise UserError(f"{folder / 'config.json'} is damaged ({reason}); get it again") from error


def llama_tokenizer(folder: Path, chat_template: str) -> PreTrainedTokenizerFast:
    """Return a folder's tokenizer with the image token, and with a padding token if it has none.

    From tokenizer.json as it is, else from sentencepiece's tokenizer.model. Raises UserError if
    both are missing or damaged.
    """
    file = folder / "tokenizer.json"
    if not file.is_file():
        file = folder / "tokenizer.model"
    if not file.is_file():
        raise UserError(f"{folder} has neither tokenizer.json nor tokenizer.model; get them too")
    try:
        core = Tokenizer.from_file(str(file)) if file.suffix == ".json" else from_pieces(file)
    # Both libraries raise a plain Exception or RuntimeError.
    except Exception as error:
        raise UserError(f"{file} is damaged ({error}); get it again") from error
    settings = folder / "tokenizer_config.json"
    pad = read_config(folder, settings.name).get("pad_token") if settings.is_file() else None
    pad = pad["content"] if isinstance(pad, dict) else pad
    if pad is None or core.token_to_id(pad) is None:
        pad = "<pad>"
    core.add_special_tokens([AddedToken(IMAGE_TOKEN, normalized=False, special=True)])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token=pad,
        extra_special_tokens={"image_token": IMAGE_TOKEN},
        chat_template=chat_template,
    )


def from_pieces(file: Path) -> Tokenizer:
    """Read a Llama's tokenizer.model, which then encodes as sentencepiece itself does.

    transformers reads it through protobuf, whose versions have to fit sentencepiece's.
    """
    import sentencepiece

    pieces = sentencepiece.SentencePieceProcessor(model_file=str(file))
    vocabulary = {pieces.id_to_piece(i): i for i in range(pieces.get_piece_size())}
    options = {"unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True}
    core = Tokenizer(models.BPE(vocabulary, generate_merges(vocabulary), **options))
    # What stands behind the image begins like a text of its own: the originals tokenise it so.
    core.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    spaces, strip = decoders.Replace("▁", " "), decoders.Strip(" ", 1, 0)
    core.decoder = decoders.Sequence([spaces, decoders.ByteFallback(), decoders.Fuse(), strip])
    special = ["<unk>", "<s>", "</s>"]
    core.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", vocabulary["<s>"])]
    )
    return core


def vocabulary_size(rows: int, tokenizer: PreTrainedTokenizerFast) -> int:
    """Return the number of embedding rows so that every token has one."""
    tokens = len(tokenizer)
    return rows if tokens <= rows else -(-tokens // MULTIPLE) * MULTIPLE


def add_rows(rows: Tensor, size: int) -> Tensor:
    """Extend embeddings [v, d] to `size` rows: the new ones are the mean of the others.

    llava-hf draws them around the mean, with a hundred-thousandth of the variance; without the
    draw a conversion gives the same bytes each time.
    """
    if len(rows) >= size:
        return rows
    mean = rows.double().mean(0).to(rows.dtype)
    return torch.cat([rows, mean.expand(size - len(rows), -1)])
