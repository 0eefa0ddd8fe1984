"""JSON and YAML from outside, read strictly: plain data, or a ValueError whose text says why not.

The libraries themselves take the last of two equal keys, read NaN, and raise whatever comes up on
the way: RecursionError for deep nesting, KeyError for `!!bool x`, ValueError for 5,000 digits.
"""

import json
import math
from typing import Any

import yaml

from c3l.runtime.errors import short_repr

DEPTH = 100
"""Most levels of lists and objects: every writer and copier in the standard library bears them."""

NODES = 10_000
"""Most values of a YAML text with its aliases written out: ten lines can stand for a billion."""


def from_json(text: str) -> Any:
    """The JSON value of a text. What JSON can spell and no file can hold is for `check_plain`."""
    try:
        return json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_float,
            parse_constant=_no_constant,
        )
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error})") from error
    except RecursionError as error:
        raise ValueError(f"not JSON of at most {DEPTH} levels") from error


def from_yaml(text: str) -> Any:
    """The YAML value of a text; anchors and merges may be used, tags of Python not."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
    # What PyYAML's own constructors let through: a 13th month, `!!int x`, `!!bool x`.
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"it holds a value that cannot be read ({error})") from error


def check_plain(value: Any, depth: int = DEPTH) -> None:
    """Raise ValueError unless the value can be written as JSON in UTF-8 and read back the same."""
    match value:
        case None | bool() | int():
            pass
        case str():
            # JSON can spell half a surrogate pair, which no file and no tokenizer can hold.
            try:
                value.encode()
            except UnicodeEncodeError:
                raise ValueError("not valid Unicode") from None
        case float():
            if not math.isfinite(value):
                raise ValueError(f"{value} is no finite number")
        case dict() | list():
            if not depth:
                raise ValueError(f"nested more than {DEPTH} levels deep")
            for part in value:
                check_plain(part, depth - 1)
            for part in value.values() if isinstance(value, dict) else ():
                check_plain(part, depth - 1)
        case _:
            raise ValueError(f"{short_repr(value)} is no JSON value")


def check_depth(value: Any, depth: int = DEPTH + 10) -> None:
    """Raise ValueError for a value that no encoder can be asked to write; texts may hold anything.

    A file is a little deeper than what it says of a sample, for which DEPTH is the bound.
    """
    if isinstance(value, dict | list):
        if not depth:
            raise ValueError(f"nested more than {DEPTH} levels deep")
        for part in value.values() if isinstance(value, dict) else value:
            check_depth(part, depth - 1)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {short_repr(twice)} stands twice in one object")
    return made


def _integer(digits: str) -> int:
    if len(digits) > 4000:  # Python refuses more than 4,300, in other words
        raise ValueError(f"a number of {len(digits)} digits is too long")
    return int(digits)


def _float(digits: str) -> float:
    if math.isinf(value := float(digits)):
        raise ValueError(f"{short_repr(digits)} is no finite number")
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no finite number")


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, for texts that mean harm or were written in haste."""

    def __init__(self, stream: str):
        super().__init__(stream)
        self._sizes: dict[int, int] = {}  # of each whole node, aliases in it written out
        self._depth = 0

    def compose_node(self, parent, index):
        alias = self.check_event(yaml.AliasEvent)
        mark = self.peek_event().start_mark
        if self._depth == DEPTH:
            raise yaml.MarkedYAMLError(
                problem=f"nested more than {DEPTH} levels deep", problem_mark=mark
            )
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        if alias:
            if id(node) not in self._sizes:
                raise yaml.MarkedYAMLError(problem="an anchor holds itself", problem_mark=mark)
            return node
        parts = node.value if isinstance(node, yaml.CollectionNode) else ()
        if isinstance(node, yaml.MappingNode):
            parts = [part for pair in parts for part in pair]
        self._sizes[id(node)] = 1 + sum(self._sizes[id(part)] for part in parts)
        if self._sizes[id(node)] > NODES:
            raise yaml.MarkedYAMLError(
                problem=f"more than {NODES:,} values, aliases written out", problem_mark=mark
            )
        return node

    def compose_scalar_node(self, anchor):
        node = super().compose_scalar_node(anchor)
        # Escapes can spell what the text itself may not hold; no path or name has a use for it.
        if any(letter < " " and letter not in "\t\r\n" for letter in node.value):
            problem = "a control character"
        elif any("\ud800" <= letter <= "\udfff" for letter in node.value):
            problem = "half a surrogate pair"
        else:
            return node
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)

    def compose_mapping_node(self, anchor):
        node = super().compose_mapping_node(anchor)
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if (key.tag, key.value) in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {short_repr(key.value)} stands twice",
                    problem_mark=key.start_mark,
                )
            seen.add((key.tag, key.value))
        return node
