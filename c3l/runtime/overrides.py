"""Values of nested records, changed from the command line: `--set training.learning_rate=1e-4`."""

import re
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from c3l.runtime import parsing
from c3l.runtime.errors import UserError, printable, short_repr

_SECRET = re.compile(r"key|judge|served|://|\bsk-", re.IGNORECASE)
"""Changes whose value is not repeated."""

R = TypeVar("R", bound=BaseModel)


def values_of(record: BaseModel) -> dict[str, Any]:
    """Return the record's values by name, nested; also those that its own dump leaves out."""

    def plain(value: Any) -> Any:
        if isinstance(value, BaseModel):
            return {name: plain(inner) for name, inner in value}
        if isinstance(value, dict):
            return {name: plain(inner) for name, inner in value.items()}
        return value

    return plain(record)


def apply_overrides(record: R, changes: Iterable[str], subject: str) -> R:
    """Return the record with changes "key.key=value", the values in YAML.

    A field of the record's `readings` needs no "readings." before it. Raises UserError naming the
    change, and the valid keys of `subject` where there is no such key.
    """
    for change in changes:
        values = values_of(record)
        _override(values, change, subject)
        record = validate(type(record), values, f"--set {format_change(change)}")
    return record


def _override(values: dict[str, Any], change: str, subject: str) -> None:
    key, equals, text = change.partition("=")
    if not equals:
        raise UserError(f"--set {format_change(change)}: write it as key=value.")
    *parents, last = key.strip().split(".")
    if not parents and last not in values and last in values.get("readings", ()):
        parents = ["readings"]
    level: Any = values
    for depth, part in enumerate([*parents, last]):
        if not isinstance(level, dict) or part not in level:
            fault = f"{'.'.join(parents[:depth]) or subject} has no key {short_repr(part)}"
            keys = ", ".join(_valid_keys(level)) if isinstance(level, dict) else None
            valid = "it is a value" if keys is None else f"valid keys: {keys}"
            raise UserError(f"--set {format_change(change)}: {fault}; {valid}.")
        if depth < len(parents):
            level = level[part]
    try:
        level[last] = parsing.from_yaml(text)
    except ValueError as error:
        raise UserError(f"--set {format_change(change)}: it is not a YAML value.") from error


def _valid_keys(values: dict[str, Any]) -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from value if name == "readings" else (f"{name}.{inner}" for inner in value)
        else:
            yield name


def format_change(change: str) -> str:
    """Return a change for a sentence, without a value that may be a key or an address with one."""
    if "=" in change and _SECRET.search(change):
        change = f"{change.partition('=')[0]}=…"
    return printable(change)


def validate(record: type[R], values: dict[str, Any], source: str) -> R:
    """Return the values as a record. Raises UserError naming `source`, the key and the fault."""
    try:
        return record.model_validate(values)
    except ValidationError as error:
        key, reason = first_wrong(error)
        raise UserError(f"{source}: {key}{': ' if key else ''}{reason}.") from error


def first_wrong(error: ValidationError) -> tuple[str, str]:
    """Return the key and the reason of the first thing that is wrong."""
    first = error.errors()[0]
    reason = first["msg"].removeprefix("Value error, ")
    reason = reason[0].lower() + reason[1:] if first["loc"] else reason
    if first["type"] == "extra_forbidden":
        reason = "there is no such key"
    return printable(".".join(str(part) for part in first["loc"])), reason
