"""JSON and YAML from outside, read strictly: plain data, or a ValueError whose text says why not.

The libraries themselves take the last of two equal keys, read NaN, and raise whatever comes up on
the way: RecursionError for deep nesting, KeyError for `!!bool x`, ValueError for 5,000 digits.
"""

import json
import math
from collections.abc import Iterator
from typing import Any

import yaml

from c3l.runtime.errors import printable, short_repr

DEPTH = 100
"""Most levels of lists and objects: every writer and copier in the standard library bears them."""

ALIASES = 20
"""Most aliases of a YAML text: so many repeat a part 1,500 times at most."""


def from_json(text: str) -> Any:
    """Return the value of a JSON text. `check_plain` refuses what no file can hold."""
    try:
        return json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_float,
            parse_constant=_float,
        )
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error})") from error
    except RecursionError as error:
        raise ValueError(f"not JSON of at most {DEPTH} levels") from error


def from_yaml(text: str) -> Any:
    """Return the value of a YAML text; anchors and merges may be used, tags of Python not."""
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
    except RecursionError as error:
        raise ValueError(f"nested more than {DEPTH} levels deep") from error
    # What PyYAML's own constructors let through: a 13th month, `!!int x`, `!!bool x`.
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"it holds a value that cannot be read ({error})") from error
    for scalar in _scalars(value):
        # Escapes can spell what the text itself may not hold; no path or name has a use for it.
        if isinstance(scalar, str):
            _check_text(scalar)
            if any(letter < " " and letter not in "\t\r\n" for letter in scalar):
                raise ValueError("it holds a control character")
    return value


def check_plain(value: Any) -> None:
    """Raise ValueError unless the value can be written as JSON in UTF-8 and read back the same."""
    for scalar in _scalars(value):
        if isinstance(scalar, str):
            _check_text(scalar)
        elif isinstance(scalar, float) and not math.isfinite(scalar):
            raise ValueError(f"{scalar} is no finite number")
        elif scalar is not None and not isinstance(scalar, int | float):
            raise ValueError(f"{short_repr(scalar)} is no JSON value")


def check_depth(value: Any) -> None:
    """Raise ValueError for a value too deep for encoders: a file may be deeper than a sample."""
    for _ in _scalars(value, DEPTH + 10):
        pass


def _scalars(value: Any, depth: int = DEPTH) -> Iterator[Any]:
    """Yield all keys and all values that are no lists or objects. ValueError for deeper nesting."""
    stack = [(value, depth)]
    while stack:
        value, depth = stack.pop()
        if not isinstance(value, dict | list):
            yield value
            continue
        if not depth:
            raise ValueError(f"nested more than {DEPTH} levels deep")
        parts = [*value, *value.values()] if isinstance(value, dict) else value
        stack += [(part, depth - 1) for part in parts]


def _check_text(text: str) -> None:
    """Raise ValueError for half a surrogate pair, which no file and no tokenizer can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("not valid Unicode") from None


def _twice(keys: list[Any]) -> Any:
    return next(key for key in keys if keys.count(key) > 1)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        twice = short_repr(_twice([key for key, _ in pairs]))
        raise ValueError(f"the key {twice} stands twice in one object")
    return value


def _integer(digits: str) -> int:
    if len(digits) > 4000:  # Python refuses more than 4,300, in other words
        raise ValueError(f"a number of {len(digits)} digits is too long")
    return int(digits)


def _float(digits: str) -> float:
    if not math.isfinite(value := float(digits)):
        raise ValueError(f"{printable(digits)} is no finite number")
    return value


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, with a limit on aliases and without repeated keys."""

    aliases = 0

    def compose_node(self, parent, index):
        self.aliases += self.check_event(yaml.AliasEvent)
        if self.aliases > ALIASES:
            raise yaml.MarkedYAMLError(
                problem=f"more than {ALIASES} aliases", problem_mark=self.peek_event().start_mark
            )
        return super().compose_node(parent, index)

    def compose_mapping_node(self, anchor):
        node = super().compose_mapping_node(anchor)
        keys = [(key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if len(set(keys)) < len(keys):
            problem = f"the key {short_repr(_twice(keys)[1])} stands twice"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        return node
