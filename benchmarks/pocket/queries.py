"""What can be asked and said about a scene: one table serves writing, answering and checking.

A `Query` is a question type. Its `solutions` are all assignments of its slots that are true of a
scene, so a question and its answer are written by filling templates with one solution, and a
text is checked by matching it against the same templates and looking its slots up among the
solutions. Queries about kinds as such (`general`) are true in every scene: they need no image.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.pocket.scenes import (
    COLOURS,
    KINDS,
    PLACES,
    SETTINGS,
    SIGNS,
    SIZES,
    USE,
    USUAL_COLOUR,
    Scene,
    Thing,
)


def plural(kind: str) -> str:
    """`boxes` for box, `balls` for ball."""
    return kind + ("es" if kind == "box" else "s")


NUMBERS = ("zero", "one", "two", "three", "four")
RELATIONS = ("to the left of", "to the right of", "above", "below")
SLOTS = {
    "kind": KINDS,
    "other": KINDS,
    "colour": COLOURS,
    "shade": COLOURS,
    "size": SIZES,
    "place": PLACES,
    "setting": tuple(SETTINGS),
    "sign": SIGNS,
    "use": tuple(USE.values()),
    "number": NUMBERS,
    "relation": RELATIONS,
    "verdict": ("yes", "no"),
    "article": ("a", "no"),
    "negation": ("not ", ""),
    "kinds": tuple(plural(kind) for kind in KINDS),
    "be": ("is", "are"),
    "things": ("things", "thing"),
}
Slots = dict[str, str]


@dataclass(frozen=True)
class Query:
    """A question type.

    `questions` and `answers` are templates over the slots of `solutions`; `short` is the answer
    in a word or phrase and `value` the slot that multiple choice varies.
    """

    name: str
    questions: tuple[str, ...]
    answers: tuple[str, ...]
    solutions: Callable[[Scene], list[Slots]]
    short: str = ""
    value: str = ""
    general: bool = False


def _things(scene: Scene) -> list[Slots]:
    return [
        {"kind": t.kind, "colour": t.colour, "size": t.size, "place": PLACES[t.place]}
        for t in scene.things
    ]


def _pairs(scene: Scene) -> Iterator[tuple[Thing, Thing]]:
    return ((a, b) for a in scene.things for b in scene.things if a != b and a.kind != b.kind)


def _relation(a: Thing, b: Thing) -> str | None:
    """Where a is, seen from b, when they share a row or a column; else None."""
    if a.row == b.row:
        return RELATIONS[0] if a.column < b.column else RELATIONS[1]
    if a.column == b.column:
        return RELATIONS[2] if a.row < b.row else RELATIONS[3]
    return None


def _relations(scene: Scene) -> list[Slots]:
    found = ((a.kind, b.kind, _relation(a, b)) for a, b in _pairs(scene))
    return [{"kind": a, "other": b, "relation": r} for a, b, r in found if r]


def _tied(scene: Scene) -> list[Slots]:
    if not scene.rope:
        return []
    a, b = (scene.things[i].kind for i in scene.rope)
    return [{"kind": a, "other": b}, {"kind": b, "other": a}]


def _amount(count: int) -> Slots:
    one = count == 1
    return {
        "number": NUMBERS[count],
        "be": "is" if one else "are",
        "things": "thing" if one else "things",
    }


def _counts(scene: Scene) -> list[Slots]:
    kinds = [t.kind for t in scene.things]
    return [{"kind": k, **_amount(kinds.count(k)), "kinds": plural(k)} for k in KINDS]


def _colour_counts(scene: Scene) -> list[Slots]:
    colours = [t.colour for t in scene.things]
    return [{"colour": c, **_amount(colours.count(c))} for c in COLOURS]


def _present(scene: Scene) -> list[Slots]:
    present = scene.kinds()
    yes, no = {"verdict": "yes", "article": "a"}, {"verdict": "no", "article": "no"}
    return [{"kind": kind, **(yes if kind in present else no)} for kind in KINDS]


def _coloured(scene: Scene) -> list[Slots]:
    yes, no = {"verdict": "yes", "negation": ""}, {"verdict": "no", "negation": "not "}
    return [
        {"kind": kind, "colour": colour, **(yes if found else no)}
        for kind in sorted(scene.kinds())
        for colour in COLOURS
        for found in [any((t.kind, t.colour) == (kind, colour) for t in scene.things)]
    ]


def _larger(scene: Scene) -> list[Slots]:
    return [
        {"kind": a.kind, "other": b.kind}
        for a, b in _pairs(scene)
        if (a.size, b.size) == ("large", "small")
    ]


def _compared(scene: Scene) -> list[Slots]:
    return [
        {"kind": a.kind, "other": b.kind, "colour": a.colour, "shade": b.colour}
        for a, b in _pairs(scene)
    ]


QUERIES = (
    Query(
        "colour",
        (
            "What colour is the {kind}?",
            "What is the colour of the {kind}?",
            "Which colour does the {kind} have?",
        ),
        ("The {kind} is {colour}.", "It is {colour}.", "The colour of the {kind} is {colour}."),
        _things,
        short="{colour}",
        value="colour",
    ),
    Query(
        "size",
        ("How large is the {kind}?", "What size is the {kind}?"),
        ("The {kind} looks {size}.", "It looks {size}.", "It is a {size} {kind}."),
        _things,
        short="{size}",
    ),
    Query(
        "place",
        ("Where does the {kind} stand?", "In which part of the image is the {kind}?"),
        ("The {kind} stands {place}.", "It stands {place}."),
        _things,
        short="{place}",
        value="place",
    ),
    Query(
        "identity",
        ("What stands {place}?", "Which thing can be seen {place}?"),
        ("A {kind} stands {place}.", "It is a {kind}.", "There is a {colour} {kind}."),
        _things,
        short="{kind}",
        value="kind",
    ),
    Query(
        "count",
        ("How many things are in the image?", "How many things are there?"),
        ("There {be} {number} {things}.", "I can see {number} {things}."),
        lambda scene: [_amount(len(scene.things))],
        short="{number}",
        value="number",
    ),
    Query(
        "count kind",
        ("How many {kinds} are in the image?", "How many {kinds} are there?"),
        ("The number of {kinds} is {number}.", "I count {number}."),
        _counts,
        short="{number}",
        value="number",
    ),
    Query(
        "count colour",
        ("How many things are {colour}?", "How many {colour} things are there?"),
        ("There {be} {number} {colour} {things}.", "I count {number}."),
        _colour_counts,
        short="{number}",
        value="number",
    ),
    Query(
        "setting",
        ("Where does the scene take place?", "What is the setting of the image?"),
        ("It takes place {setting}.", "The scene is {setting}."),
        lambda scene: [{"setting": scene.setting}],
        short="{setting}",
        value="setting",
    ),
    Query(
        "sign",
        ("What does the sign say?", "What is written on the sign?", "Which word can be read?"),
        ("The sign says {sign}.", "It says {sign}."),
        lambda scene: [{"sign": scene.sign}] if scene.sign else [],
        short="{sign}",
        value="sign",
    ),
    Query(
        "tied",
        ("What is the {kind} tied to?", "Which thing is the {kind} tied to?"),
        ("The {kind} is tied to the {other}.", "It is tied to the {other}."),
        _tied,
        short="{other}",
        value="other",
    ),
    Query(
        "relation",
        (
            "Where is the {kind} relative to the {other}?",
            "How is the {kind} placed with respect to the {other}?",
        ),
        ("The {kind} is {relation} the {other}.", "It is {relation} the {other}."),
        _relations,
        short="{relation} it",
        value="relation",
    ),
    Query(
        "present",
        ("Is there a {kind} in the image?", "Can a {kind} be seen?"),
        ("{verdict}, there is {article} {kind}.", "{verdict}, I can see {article} {kind}."),
        _present,
        short="{verdict}",
    ),
    Query(
        "coloured",
        ("Is the {kind} {colour}?", "Does the {kind} look {colour}?"),
        ("{verdict}, the {kind} is {negation}{colour}.", "{verdict}, it is {negation}{colour}."),
        _coloured,
        short="{verdict}",
    ),
    Query(
        "look",
        ("What does the {kind} look like?", "Describe the {kind} in detail."),
        (
            "The {kind} is {size} and {colour} and stands {place}.",
            "It is {size} and {colour} and stands {place}.",
        ),
        _things,
    ),
    Query(
        "describe",
        ("Describe the image in detail.", "What can be seen in the image?"),
        (),  # a caption: STATEMENTS, one after the other
        _things,
    ),
    Query(
        "recognise",
        ("How would you recognise the {kind}?", "What makes the {kind} stand out?"),
        (
            "The {kind} has a {colour} colour and a {size} size.",
            "By its {colour} colour and its {size} size.",
        ),
        _things,
    ),
    Query(
        "larger",
        ("Which is larger, the {kind} or the {other}?",),
        ("The {kind} is larger than the {other}.",),
        _larger,
        short="{kind}",
    ),
    Query(
        "moved",
        ("What would happen if the {kind} moved?", "What would a push of the {kind} do?"),
        ("The {other} would move along, because they are tied together.",),
        _tied,
    ),
    Query(
        "useful here",
        ("What in the image could serve for {use}, and where is it?",),
        ("The {kind} {place} could serve for {use}.",),
        lambda scene: [{**thing, "use": USE[thing["kind"]]} for thing in _things(scene)],
    ),
    Query(
        "compare",
        ("How do the colours of the {kind} and the {other} differ?",),
        ("The {kind} is {colour} and the {other} is {shade}.",),
        _compared,
    ),
    Query(
        "use",
        ("What is a {kind} used for?", "What would people do with a {kind}?"),
        ("A {kind} is used for {use}.", "It is used for {use}."),
        lambda scene: [{"kind": k, "use": u} for k, u in USE.items()],
        short="{use}",
        general=True,
    ),
    Query(
        "usual colour",
        ("What colour does a {kind} usually have?", "Which colour is usual for a {kind}?"),
        ("A {kind} is usually {colour}.", "It is usually {colour}."),
        lambda scene: [{"kind": k, "colour": c} for k, c in USUAL_COLOUR.items()],
        short="{colour}",
        general=True,
    ),
    Query(
        "wanted",
        ("Why would somebody want a {kind}?", "Why is a {kind} useful?"),
        ("Because a {kind} serves for {use}.", "Because {use} needs a {kind}."),
        lambda scene: [{"kind": k, "use": u} for k, u in USE.items()],
        general=True,
    ),
)
BY_NAME = {query.name: query for query in QUERIES}

# What captions are made of; the first template is the usual one.
OPENING = Query(
    "opening",
    (),
    ("There {be} {number} {things} {setting}.", "The image shows {number} {things} {setting}."),
    lambda scene: [{**_amount(len(scene.things)), "setting": scene.setting}],
)
THING = Query(
    "thing",
    (),
    ("A {size} {colour} {kind} stands {place}.", "The {size} {colour} {kind} is {place}."),
    _things,
)
TIED = Query("rope", (), ("The {kind} is tied to the {other}.",), _tied)
SIGN = Query("word", (), ("A sign says {sign}.",), BY_NAME["sign"].solutions)
STATEMENTS = (OPENING, THING, TIED, SIGN)
