"""Conversations about scenes: what the pocket backbones are pre-trained on.

A turn is a pair (user's text, assistant's text). The same turns stand behind a caption (the
language model's text stage) or behind an image (the LLaVA stages), so what is learnt in text
carries over. Formats are those of the tools that will ask: lmms-eval's SEED and MMB prompts for
letters, its short-answer suffix for POPE, C3L's own prompts for captions and pairs.
"""

import random

from benchmarks.pocket.language import caption, fill
from benchmarks.pocket.queries import BY_NAME, QUERIES, SLOTS, Query, Slots
from benchmarks.pocket.scenes import KINDS, USE, USUAL_COLOUR, Scene
from c3l.instructions import (
    CLASSES,
    caption_prompt,
    format_pair,
    pair_prompt,
    pair_prompt_from_caption,
)

Turn = tuple[str, str]

LETTERS = "ABCD"
LETTER_SUFFIX = "Answer with the option's letter from the given choices directly."
SHORT_SUFFIX = "Answer the question using a single word or phrase."

# Which question types a pair of each instruction class asks, and how often one that needs no
# image slips in: the writer's language prior.
TYPES_OF_CLASS: dict[str, tuple[list[str], list[str]]] = {
    "conversation": (
        ["colour", "place", "identity", "count", "size", "setting", "sign", "tied", "present"],
        ["use", "usual colour"],
    ),
    "detailed description": (["describe", "look", "look"], []),
    "complex reasoning": (
        ["recognise", "larger", "moved", "useful here", "compare", "relation", "count colour"],
        ["wanted", "use", "usual colour"],
    ),
}
GENERAL_SHARE = 0.25

# How often a question type is asked in training conversations, where not once.
FREQUENCY = {"present": 3, "coloured": 2, "colour": 2, "place": 2, "identity": 2}
ASKED = [query for query in QUERIES if query.answers for _ in range(FREQUENCY.get(query.name, 1))]


def choose(rng: random.Random, query: Query, scene: Scene) -> Slots | None:
    """One of the query's solutions, yes and no equally often; None where it has none.

    Questions about "the ball" are passed over where the scene holds two balls.
    """
    solutions = query.solutions(scene)
    asked = [slot for slot in ("kind", "other") if f"the {{{slot}}}" in query.questions[0]]
    kinds = [thing.kind for thing in scene.things]
    solutions = [s for s in solutions if all(kinds.count(s[slot]) < 2 for slot in asked)]
    if solutions and "verdict" in solutions[0]:
        verdict = rng.choice(("yes", "no"))
        solutions = [s for s in solutions if s["verdict"] == verdict]
    if query.name in ("count kind", "count colour"):
        # Mostly what is there; "zero" would else be the answer nearly always.
        found = [s for s in solutions if s["number"] != "zero"]
        solutions = found if found and rng.random() < 0.75 else solutions
    return rng.choice(solutions) if solutions else None


def short_answer(query: Query, slots: Slots) -> str:
    """The answer in a word or phrase: Yes and No with a capital, anything else without."""
    text = query.short.format(**slots)
    return text.capitalize() if query.short == "{verdict}" else text


def options(rng: random.Random, query: Query, slots: Slots, scene: Scene) -> list[str]:
    """Four different options in random order, one of them right; [] where it cannot be done."""
    right = slots[query.value]
    asked = {k: v for k, v in slots.items() if "{" + k + "}" in query.questions[0]}
    also_right = {s[query.value] for s in query.solutions(scene) if asked.items() <= s.items()}
    wrong = [v for v in SLOTS[query.value] if v not in also_right and v not in asked.values()]
    if len(wrong) < 3:
        return []
    values = [right, *rng.sample(wrong, 3)]
    rng.shuffle(values)
    return [query.short.format(**{**slots, query.value: value}) for value in values]


def letter_turn(rng: random.Random, query: Query, slots: Slots, scene: Scene) -> Turn | None:
    """A multiple-choice turn in SEED's or MMB's format, answered by the letter."""
    texts = options(rng, query, slots, scene)
    if not texts:
        return None
    question = fill(rng.choice(query.questions), slots)
    lines = "\n".join(f"{letter}. {text}" for letter, text in zip(LETTERS, texts, strict=True))
    letter = LETTERS[texts.index(query.short.format(**slots))]
    if rng.random() < 0.8:
        return f"{question}\n{lines}\n{LETTER_SUFFIX}", letter
    return f"{question} There are several options:\n{lines}\n\n{LETTER_SUFFIX}", letter


def short_turn(rng: random.Random, scene: Scene, name: str) -> Turn | None:
    """A question of one type to be answered in a word or phrase; None where there is none."""
    query = BY_NAME[name]
    slots = choose(rng, query, scene)
    if slots is None:
        return None
    question = fill(rng.choice(query.questions), slots)
    return f"{question}\n{SHORT_SUFFIX}", short_answer(query, slots)


def open_turn(rng: random.Random, query: Query, slots: Slots) -> Turn:
    """A turn answered in a sentence or, on demand, in a word or phrase."""
    question = fill(rng.choice(query.questions), slots)
    if query.short and rng.random() < 0.6:
        if rng.random() < 0.2:
            return f"{question} Answer :", query.short.format(**slots)
        return f"{question}\n{SHORT_SUFFIX}", short_answer(query, slots)
    return question, fill(rng.choice(query.answers), slots)


def question_turns(
    rng: random.Random, scene: Scene, count: int, letters: float, names: list[str] | None = None
) -> list[Turn]:
    """`count` turns about a scene, a share `letters` of them multiple choice."""
    queries = [BY_NAME[n] for n in names] if names else ASKED
    choice_queries = [query for query in queries if query.value]
    turns: list[Turn] = []
    while len(turns) < count:
        by_letter = rng.random() < letters
        query = rng.choice(choice_queries if by_letter else queries)
        slots = choose(rng, query, scene)
        if slots is not None:
            turn = letter_turn(rng, query, slots, scene) if by_letter else None
            turns.append(turn or open_turn(rng, query, slots))
    return turns


def pair(rng: random.Random, scene: Scene, instruction: str) -> Turn:
    """A question of an instruction class and its answer in sentences."""
    about_scene, general = TYPES_OF_CLASS[instruction]
    while True:
        names = general if general and rng.random() < GENERAL_SHARE else about_scene
        query = BY_NAME[rng.choice(names)]
        if query.name == "describe":
            return rng.choice(query.questions), caption(scene)
        slots = choose(rng, query, scene)
        if slots is not None:
            return fill(rng.choice(query.questions), slots), fill(rng.choice(query.answers), slots)


def pairs(rng: random.Random, scene: Scene, instruction: str, count: int) -> list[Turn]:
    """Up to `count` pairs with different questions."""
    found: dict[str, str] = {}
    for _ in range(4 * count):
        if len(found) == count:
            break
        question, answer = pair(rng, scene, instruction)
        found.setdefault(question, answer)
    return list(found.items())


def writing_turn(rng: random.Random, scene: Scene, from_caption: bool) -> Turn:
    """C3L's second step: pairs of one instruction class, written from the caption or the image."""
    instruction = rng.choice(CLASSES)
    written = pairs(rng, scene, instruction, rng.choice((1, 3, 3, 3, 5)))
    if from_caption:
        user = pair_prompt_from_caption(instruction, len(written), caption(scene, rng))
    else:
        user = pair_prompt(instruction, len(written))
    return user, "\n".join(format_pair(q, a) for q, a in written)


def caption_turn(rng: random.Random, scene: Scene) -> Turn:
    """C3L's first step."""
    return caption_prompt(), caption(scene, rng)


def lore(rng: random.Random, sentences: int = 6) -> str:
    """Plain text that repeats usual colours and uses: the language prior, without any scene."""
    said = []
    for _ in range(sentences):
        kind = rng.choice(KINDS)
        name = rng.choice(("use", "usual colour", "wanted"))
        slots = {"kind": kind, "use": USE[kind], "colour": USUAL_COLOUR[kind]}
        said.append(fill(BY_NAME[name].answers[0], slots))
    return " ".join(said)


FACTS_PROMPT = "State some facts."
FACTS = ("colour", "size", "place", "identity", "look", "tied", "relation", "count kind", "present")


def facts_turn(rng: random.Random, scene: Scene, count: int = 8) -> Turn:
    """Facts in random order, each a sentence that names what it is about: the densest lesson in
    looking things up, in a text or in an image, eight in sixty tokens."""
    said: list[str] = []
    for _ in range(count):
        query = BY_NAME[rng.choice(FACTS)]
        slots = choose(rng, query, scene)
        if slots is not None:
            templates = [t for t in query.answers if not t.startswith(("It ", "I ", "There"))]
            said.append(fill(rng.choice(templates), slots))
    return FACTS_PROMPT, " ".join(said) or caption(scene)


def repeat_turn(rng: random.Random, scene: Scene) -> Turn:
    """Copying, pure: what looking facts up in a text is built from."""
    said = caption(scene, rng)
    return f"Caption: {said}\nRepeat the caption.", said
