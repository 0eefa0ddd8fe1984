"""Whether a question and its answer are true of a scene, and whether they need the image.

The pocket world knows its graphs, so every generated pair gets one of four verdicts:

- `true_image`: the answer is true of this scene and could not be told without it;
- `no_image`: true of kinds as such ("A cup is used for drinking."), whatever the image shows;
- `false`: the answer, or what the question takes for granted, is not true of the scene;
- `malformed`: not a question of this world, or an answer that does not answer it.
"""

import re

from benchmarks.pocket.language import match
from benchmarks.pocket.queries import QUERIES, STATEMENTS, Query, Slots
from benchmarks.pocket.scenes import Scene

VERDICTS = ("true_image", "no_image", "false", "malformed")


def parse_question(question: str) -> tuple[Query, Slots] | None:
    """The question's type and slots, or None where it is no question of this world."""
    for query in QUERIES:
        slots = match(query.questions, question)
        if slots is not None:
            return query, slots
    return None


def judge(question: str, answer: str, graph: dict) -> str:
    """One of VERDICTS for a pair about the scene with this graph (`Scene.to_dict`)."""
    scene = Scene.from_dict(graph)
    parsed = parse_question(question)
    if parsed is None:
        return "malformed"
    query, asked = parsed
    if query.name == "describe":
        claims = [_statement(sentence) for sentence in split_sentences(answer)]
    else:
        claims = [_answer(query, asked, sentence) for sentence in split_sentences(answer)]
    if not claims or None in claims:
        return "malformed"
    if not all(holds(claimed, slots, scene) for claimed, slots in claims):
        return "false"
    return "no_image" if query.general else "true_image"


def holds(query: Query, slots: Slots, scene: Scene) -> bool:
    """Whether some solution of the query agrees with every slot."""
    return any(
        all(solution.get(name) == value for name, value in slots.items())
        for solution in query.solutions(scene)
    )


def split_sentences(text: str) -> list[str]:
    """The text cut after full stops, empty pieces dropped."""
    return [piece for piece in re.split(r"(?<=\.)\s+", text.strip()) if piece]


def _statement(sentence: str) -> tuple[Query, Slots] | None:
    for query in STATEMENTS:
        slots = match(query.answers, sentence)
        if slots is not None:
            return query, slots
    return None


def _answer(query: Query, asked: Slots, sentence: str) -> tuple[Query, Slots] | None:
    templates = query.answers + ((query.short,) if query.short else ())
    said = match(templates, sentence)
    if said is None:
        return None
    # An answer about another thing than the question's contradicts it: no solution agrees.
    clash = any(asked[name] != said[name] for name in asked.keys() & said.keys())
    return query, {"": "clash"} if clash else {**asked, **said}
