"""Values of nested records, changed from the command line: `--set training.learning_rate=1e-4`."""

import copy
import re
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from c3l.runtime import parsing
from c3l.runtime.errors import UserError, printable, short_repr

_SECRET = re.compile(r"key|judge|served|://|\bsk-", re.IGNORECASE)
"""Of a change whose value is not repeated."""

R = TypeVar("R", bound=BaseModel)


def values_of(record: BaseModel) -> dict[str, Any]:
    """The record's values by name, nested; also those that its own dump leaves out."""

    def plain(value: Any) -> Any:
        if isinstance(value, BaseModel):
            return {name: plain(inner) for name, inner in value}
        if isinstance(value, dict):
            return {name: plain(inner) for name, inner in value.items()}
        return value

    return plain(record)


def apply_overrides(values: dict[str, Any], change: str, what: str) -> dict[str, Any]:
    """The nested values with one change, "key.key=value", the value in YAML.

    Raises UserError naming the change, and the valid keys of `what`, where there is no such key.
    """
    key, equals, text = change.partition("=")
    if not equals:
        raise UserError(f"--set {format_value(change)}: write it as key=value.")
    values = copy.deepcopy(values)
    *parents, last = key.strip().split(".")
    place: Any = values
    for depth, part in enumerate([*parents, last]):
        if not isinstance(place, dict) or part not in place:
            where = ".".join(key.split(".")[:depth]) or what
            valid = (
                f"valid keys: {', '.join(place)}" if isinstance(place, dict) else "it is a value"
            )
            raise UserError(
                f"--set {format_value(change)}: {where} has no key {short_repr(part)}; {valid}."
            )
        if depth < len(parents):
            place = place[part]
    try:
        place[last] = parsing.from_yaml(text)
    except ValueError as error:
        raise UserError(f"--set {format_value(change)}: it is not a YAML value.") from error
    return values


def format_value(change: str) -> str:
    """A change for a sentence: without its value where that may be a key or an address with one."""
    if "=" in change and _SECRET.search(change):
        change = f"{change.partition('=')[0]}=…"
    return printable(change)


def validate(record: type[R], values: dict[str, Any], where: str) -> R:
    """The values as a record. Raises UserError naming `where`, the key, and what is wrong."""
    try:
        return record.model_validate(values)
    except ValidationError as error:
        key, reason = first_wrong(error)
        raise UserError(f"{where}: {key}{': ' if key else ''}{reason}.") from error


def first_wrong(error: ValidationError) -> tuple[str, str]:
    """The key and the reason of the first thing that is wrong."""
    first = error.errors()[0]
    reason = first["msg"].removeprefix("Value error, ")
    reason = reason[0].lower() + reason[1:] if first["loc"] else reason
    if first["type"] == "extra_forbidden":
        reason = "there is no such key"
    return printable(".".join(str(part) for part in first["loc"])), reason
