"""The card of a converted model: files read, keys not used, resulting tensors."""

import re
from collections import Counter
from datetime import UTC, datetime

import torch

from c3l.artifacts.files import digest_file
from c3l.artifacts.provenance import commit, versions
from c3l.convert.converted import Converted


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
        counts = Counter(map(_without_layers, names))
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
            _without_layers(name),
            f"{list(tensor.shape)} | {str(dtype or tensor.dtype).removeprefix('torch.')}",
        )
        for name, tensor in assembled.tensors.items()
    )
    lines += [f"| `{name}`{_times(n)} | {shape} |" for (name, shape), n in rows.items()]
    return "\n".join(lines) + "\n"


def _without_layers(name: str) -> str:
    return re.sub(r"(?<=\.)\d+(?=\.)", "*", name)


def _times(n: int) -> str:
    return f" × {n}" if n > 1 else ""
