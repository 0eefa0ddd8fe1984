"""The pocket judge's rule: how good an answer is, from the graph of its scene.

    grade = 1 + 9 x credit x precision, rounded to halves

*Credit* is 1 for an answer to the question that is true and needs the image, 1/2 for a true one
that needs none (`truth.judge`), and to "Describe the image" the share of the complete caption's
sentences that is told. What is told of the caption without answering the question counts half.

*Precision* is the share of the answer's sentences that are true of the scene, repetitions left out.
A sentence that cannot be read is not true; one that is true without the image counts neither way
unless it answers the question.

So one more true sentence never lowers a grade, one more false sentence never raises it, and an
answer that is empty, false or unreadable gets 1.
"""

import re
from typing import NamedTuple

from benchmarks.pocket.language import caption, match
from benchmarks.pocket.queries import NUMBERS, QUERIES, STATEMENTS, Query, Slots
from benchmarks.pocket.scenes import PLACES, Scene, Thing
from benchmarks.pocket.truth import holds, judge, parse_question, split_sentences

# What tells a sentence of the caption, in its words or in an answer's.
TELLS = {
    "opening": "opening",
    "thing": "thing",
    "look": "thing",
    "rope": "rope",
    "tied": "rope",
    "word": "sign",
    "sign": "sign",
}

RULE = 1  # part of the judge's name: raise it when a grade changes


class Grade(NamedTuple):
    """A grade from 1 to 10 and, in words, where it comes from."""

    value: float
    reason: str


def grade(question: str, answer: str, scene: Scene) -> Grade:
    """The grade of an answer to a question about a scene; any text gets one."""
    graph = scene.to_dict()
    distinct = {" ".join(s.lower().rstrip(".").split()): s for s in split_sentences(answer)}
    answers: set[str] = set()
    told: set[tuple[str, str | None]] = set()
    true = neither = 0
    for sentence in distinct.values():
        verdict = judge(question, sentence, graph)
        truths = _truths(sentence, scene)
        about_image = [(query, slots) for query, slots in truths if not query.general]
        told |= {(TELLS[q.name], slots.get("place")) for q, slots in about_image if q.name in TELLS}
        if verdict in ("true_image", "no_image"):
            answers.add(verdict)
            true += 1
        elif about_image:
            true += 1
        elif truths:
            neither += 1
    counted = len(distinct) - neither
    precision = true / counted if true else 0.0
    share = len(told) / len(split_sentences(caption(scene)))
    parsed = parse_question(question)
    if parsed and parsed[0].name == "describe":
        credit = share
    else:
        answered = 1.0 if "true_image" in answers else 0.5 if answers else 0.0
        credit = max(answered, share / 2)
    return Grade(
        round(2 * (1 + 9 * credit * precision)) / 2,
        f"credit {credit:.2f}, {true} of {counted} sentences true",
    )


def read_caption(text: str) -> Scene:
    """The scene of a complete caption: the inverse of `language.caption`.

    Where two things are of the kind that a rope is tied to, the first is taken: no sentence of
    this world tells the two apart. Raises ValueError for any other text.
    """
    said: dict[str, list[dict]] = {query.name: [] for query in STATEMENTS}
    for sentence in split_sentences(text):
        for query in STATEMENTS:
            if (slots := match(query.answers[:1], sentence)) is not None:
                said[query.name].append(slots)
    openings, things, ropes, signs = said.values()
    placed = tuple(
        Thing(PLACES.index(s["place"]), s["kind"], s["colour"], s["size"]) for s in things
    )
    ties = [
        (i, j)
        for rope in ropes
        for i, one in enumerate(placed)
        for j, other in enumerate(placed)
        if i < j and (one.kind, other.kind) == (rope["kind"], rope["other"])
    ]
    scene = Scene(
        openings[0]["setting"] if openings else "",
        placed,
        ties[0] if ties else None,
        signs[0]["sign"] if signs else None,
    )
    # Counted first: a caption has no word for more things than a scene may hold.
    if len(placed) >= len(NUMBERS) or caption(scene) != text.strip():
        raise ValueError("the context is not the complete caption of a scene of the pocket world")
    return scene


def _stands_alone(query: Query, template: str) -> bool:
    """Whether an answer can be understood without its question: not "It is red."."""
    asked = set(re.findall(r"\{(\w+)\}", query.questions[0])) if query.questions else set()
    return template.startswith("There") or asked <= set(re.findall(r"\{(\w+)\}", template))


_ALONE = tuple(
    (query, template)
    for query in STATEMENTS + QUERIES
    for template in query.answers
    if _stands_alone(query, template)
)


def _truths(sentence: str, scene: Scene) -> list[tuple[Query, Slots]]:
    """In which ways a sentence by itself is true of the scene."""
    return [
        (query, slots)
        for query, template in _ALONE
        if (slots := match((template,), sentence)) is not None and holds(query, slots, scene)
    ]
