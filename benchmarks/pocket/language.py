"""Texts about a scene: templates filled, captions written, and texts matched to templates."""

import random
import re
from functools import cache

from benchmarks.pocket.queries import OPENING, SIGN, SLOTS, THING, TIED, Slots
from benchmarks.pocket.scenes import Scene


def fill(template: str, slots: Slots) -> str:
    """The template with its slots filled, its first letter raised."""
    text = template.format(**slots)
    return text[0].upper() + text[1:]


def caption(scene: Scene, rng: random.Random | None = None) -> str:
    """A complete caption: number and setting, every thing in reading order, rope, sign.

    With `rng` one caption in five varies its wording; without it the usual wording is taken.
    """
    varied = rng is not None and rng.random() < 0.2
    parts = [(OPENING, OPENING.solutions(scene)[0])]
    parts += [(THING, slots) for slots in THING.solutions(scene)]
    parts += [
        (query, query.solutions(scene)[0]) for query in (TIED, SIGN) if query.solutions(scene)
    ]
    return " ".join(
        fill(rng.choice(query.answers) if varied else query.answers[0], slots)
        for query, slots in parts
    )


@cache
def _pattern(template: str) -> re.Pattern:
    """The template as a regular expression: any case, any white space, full stop optional."""
    pieces = re.split(r"\{(\w+)\}", template)
    expression, seen = "", set()
    for k, piece in enumerate(pieces):
        if k % 2 == 0:
            expression += re.escape(piece).replace(r"\ ", r"\s+")
        elif piece in seen:
            expression += f"(?P={piece})"
        else:
            values = sorted(SLOTS[piece], key=len, reverse=True)
            expression += f"(?P<{piece}>{'|'.join(map(re.escape, values))})"
            seen.add(piece)
    expression = re.sub(r"\\\.$", r"\\s*\\.?", expression)
    return re.compile(expression, re.IGNORECASE)


def match(templates: tuple[str, ...], text: str) -> Slots | None:
    """The slots of the first template that the whole text matches, or None."""
    for template in templates:
        found = _pattern(template).fullmatch(text.strip())
        if found:
            return {name: value.lower() for name, value in found.groupdict().items()}
    return None
