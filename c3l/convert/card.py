"""The card of a converted model: what was read, what was not used, what came out."""

import re
from datetime import UTC, datetime

import torch

from c3l.artifacts.files import digest_file
from c3l.artifacts.provenance import commit, versions
from c3l.convert.converted import Converted


def model_card(converted: Converted, dtype: torch.dtype | None) -> str:
    """What was read, what was not used, and what came out, as markdown."""
    made = converted.made
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
    nothing = True
    for file, names in made.unused.items():
        nothing &= not names
        lines += [f"- {file}: `{name}`{_times(n)}" for name, n in _by_layer(names).items()]
    lines += ["Nothing."] if nothing else []
    if made.constant:
        lines += ["", "## In no file", "", "As the original leaves them: ones and zeros.", ""]
        lines += [f"- `{name}`" for name in made.constant]
    parameters = sum(tensor.numel() for tensor in made.tensors.values())
    lines += ["", "## Tensors", "", f"{parameters:,} parameters.", ""]
    lines += ["| tensor | shape | kept as |", "|---|---|---|"]
    shapes = {
        name: f"{list(tensor.shape)} | {str(dtype or tensor.dtype).removeprefix('torch.')}"
        for name, tensor in made.tensors.items()
    }
    rows: dict[tuple[str, str], int] = {}
    for name, shape in shapes.items():
        key = (_without_layers(name), shape)
        rows[key] = rows.get(key, 0) + 1
    lines += [f"| `{name}`{_times(n)} | {shape} |" for (name, shape), n in rows.items()]
    return "\n".join(lines) + "\n"


def _by_layer(names: list[str]) -> dict[str, int]:
    count: dict[str, int] = {}
    for name in names:
        count[_without_layers(name)] = count.get(_without_layers(name), 0) + 1
    return count


def _without_layers(name: str) -> str:
    return re.sub(r"(?<=\.)\d+(?=\.)", "*", name)


def _times(n: int) -> str:
    return f" × {n}" if n > 1 else ""
