"""A converted model's folder, complete or absent: safetensors, settings, processor and card."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file
from torch import Tensor
from transformers import GenerationConfig

from c3l.artifacts.files import atomic_folder, digest_file
from c3l.artifacts.provenance import commit, versions
from c3l.convert.keys import Converted
from c3l.runtime.errors import UserError, require_parent, write_error

SHARD = 5 * 10**9
"""Bytes of a weight file, as read; about what is held in memory at a time."""
LAYER = re.compile(r"(?<=\.)\d+(?=\.)")


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
        require_free(out)
        with atomic_folder(out) as work:
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
    split = split_torch_state_dict_into_shards({**tensors}, max_shard_size=SHARD)
    for file, names in split.filename_to_tensors.items():
        part = {name: tensors[name].to(dtype or tensors[name].dtype).contiguous() for name in names}
        save_file(part, folder / file, metadata={"format": "pt"})
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1))


def model_card(converted: Converted, dtype: torch.dtype | None) -> str:
    """Return the card as markdown: files read, keys not used, resulting tensors."""
    assembled = converted.assembled
    date = f"{datetime.now(UTC):%Y-%m-%d}"
    lines = [f"# {converted.model_class.__name__}", ""]
    lines += [f"Converted from the files below on {date} by C³L at commit {commit()}, with", ""]
    lines += [f"- {name} {version}" for name, version in versions().items()]
    lines += ["", "## Read", "", "| file | sha256 |", "|---|---|"]
    for source in converted.sources:
        for file in source.files:
            name = file.name if file.name == source.name else f"{source.name}/{file.name}"
            lines.append(f"| {name} | {digest_file(file)} |")
    lines += ["", "## Not used", ""]
    for file, names in assembled.unused.items():
        counts = Counter(LAYER.sub("*", name) for name in names)
        lines += [f"- {file}: `{name}`{_times(n)}" for name, n in counts.items()]
    lines += [] if any(assembled.unused.values()) else ["Nothing."]
    if assembled.constant:
        lines += ["", "## In no file", "", "As the original leaves them: ones and zeros.", ""]
        lines += [f"- `{name}`" for name in assembled.constant]
    parameters = sum(tensor.numel() for tensor in assembled.tensors.values())
    lines += ["", "## Tensors", "", f"{parameters:,} parameters.", ""]
    lines += ["| tensor | shape | kept as |", "|---|---|---|"]
    rows = Counter(
        (
            LAYER.sub("*", name),
            f"{list(tensor.shape)} | {str(dtype or tensor.dtype).removeprefix('torch.')}",
        )
        for name, tensor in assembled.tensors.items()
    )
    lines += [f"| `{name}`{_times(n)} | {shape} |" for (name, shape), n in rows.items()]
    return "\n".join(lines) + "\n"


def _times(n: int) -> str:
    return f" × {n}" if n > 1 else ""
