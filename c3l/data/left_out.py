"""Lists of what a command set aside: one JSON line each, beside its result."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from c3l.artifacts.files import json_lines, write_atomically


@dataclass(frozen=True)
class LeftOut:
    """Something that a command read and did not use."""

    name: str
    """A sample's id, or an image's path relative to its folder."""
    place: str
    """In the input, such as "data.json, record 7, turn 2"."""
    reason: str
    """One of the words by which the command counts."""


def format_counts(reasons: Mapping[str, int]) -> str:
    """Return counts by reason as "duplicate 3, empty 1"."""
    return ", ".join(f"{reason} {count:,}" for reason, count in sorted(reasons.items()))


def left_out_path(out: Path) -> Path:
    """Return the list's path: inside `out` where that is a folder, else beside it."""
    return out / "left_out.jsonl" if out.is_dir() else out.with_name(f"{out.name}.left_out.jsonl")


def write_left_out(out: Path, items: Iterable[LeftOut]) -> Path | None:
    """Write the list of a result and return its path, or None where nothing was left out.

    The list of an earlier run never stays. Raises OSError where it cannot be written.
    """
    path = left_out_path(out)
    rows = [{"what": item.name, "where": item.place, "why": item.reason} for item in items]
    if not rows:
        path.unlink(missing_ok=True)
        return None
    write_atomically(path, json_lines(rows))
    return path
