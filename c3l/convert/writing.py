"""A converted model's folder: safetensors, settings, processor and card, whole or not at all."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import GenerationConfig

from c3l.artifacts.files import fsync
from c3l.convert.card import model_card
from c3l.convert.converted import Converted
from c3l.runtime.errors import UserError, require_parent, write_error

SHARD = 5 * 10**9
"""Bytes a weight file; about what is held in memory at a time."""


def require_free(out: Path) -> None:
    """Raise UserError unless a new folder can be written at `out`."""
    require_parent(out)
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"{out} exists and is not an empty folder; give another --out")


def save_converted(converted: Converted, out: Path, dtype: torch.dtype | None) -> None:
    """Write the folder; weights in `dtype`, or each tensor in its file's own.

    Raises UserError if `out` is taken or cannot be written; then nothing is left there.
    """
    try:
        with _atomic_folder(out) as work:
            tensors, config = converted.assembled.tensors, converted.config
            config.dtype = dtype or max(tensors.values(), key=Tensor.numel).dtype
            config.save_pretrained(work)
            text = config.get_text_config()
            GenerationConfig(
                bos_token_id=text.bos_token_id, eos_token_id=text.eos_token_id
            ).save_pretrained(work)
            converted.processor.save_pretrained(work)
            _write_weights(tensors, work, dtype)
            (work / "README.md").write_text(model_card(converted, dtype), encoding="utf-8")
    except OSError as error:
        raise write_error(out, error) from error


def _write_weights(tensors: Mapping[str, Tensor], folder: Path, dtype: torch.dtype | None) -> None:
    shards: list[list[str]] = [[]]
    size = 0
    for name, tensor in tensors.items():
        nbytes = tensor.numel() * (dtype or tensor.dtype).itemsize
        if size + nbytes > SHARD and shards[-1]:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += nbytes
    place, total = {}, 0
    for number, names in enumerate(shards, 1):
        file = "model.safetensors"
        if len(shards) > 1:
            file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        part = {name: tensors[name].to(dtype or tensors[name].dtype).contiguous() for name in names}
        save_file(part, folder / file, metadata={"format": "pt"})
        place |= dict.fromkeys(names, file)
        total += sum(tensor.nbytes for tensor in part.values())
    if len(shards) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": place}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1))


@contextmanager
def _atomic_folder(out: Path) -> Iterator[Path]:
    """Yield a folder to fill in place of `out`; its name is fixed, so leftovers are replaced."""
    require_free(out)
    work = out.with_name(f".tmp-{out.name}")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        yield work
        for file in work.rglob("*"):
            fsync(file)
        fsync(work)
        os.replace(work, out)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    fsync(out.parent)
