"""Comparison sets: what stands in the pocket world for ComVint, LLaVA-158k and LRV.

They are written from the graphs of scenes of the `comparison` split, in the published layouts, and
are larger than the final data of the pocket profile (1,000), in the paper's order. Their noise is
known: a turn is, by a seeded draw, false of its picture, true of kinds as such (it needs no image),
or true of the picture and in need of it. A false turn is written truly about another picture of the
set, in which everything has its usual colour: what a writer says who has not looked.

How much noise was set before any model was tuned on them. The rates are assumptions about how the
real sets were made, not measurements of them: LLaVA's were written from captions by a text-only
model and not checked (most false ones); ComVint's were checked, but complex questions invite what
is known without looking; LRV asks of things that are there or not, so nearly all need the image.
"""

import json
import random
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.pocket.build import write_images
from benchmarks.pocket.conversations import TYPES_OF_CLASS, Turn, choose
from benchmarks.pocket.language import caption, fill
from benchmarks.pocket.queries import BY_NAME, QUERIES
from benchmarks.pocket.scenes import USUAL_COLOUR, Scene, draw_scenes
from benchmarks.pocket.truth import judge

TALK = tuple(TYPES_OF_CLASS["conversation"][0])
COMPLEX = tuple(TYPES_OF_CLASS["complex reasoning"][0])
GENERAL = tuple(query.name for query in QUERIES if query.general)


@dataclass(frozen=True)
class Kind:
    """A kind of record: its share of the set in parts, how many turns, which types of question."""

    parts: int
    turns: tuple[int, ...]
    types: tuple[str, ...]


@dataclass(frozen=True)
class Style:
    """How a set is written. `wordings`: in how many ways an answer is said, one after the other."""

    images: int
    records: int
    false: float
    no_image: float
    kinds: tuple[Kind, ...]
    wordings: int = 1


STYLES = {
    # Long questions, complex ones alone.
    "comvint": Style(
        images=600,
        records=3_000,
        false=0.10,
        no_image=0.25,
        kinds=(Kind(1, (1,), COMPLEX),),
    ),
    # 58k conversations, 23k descriptions and 77k complex questions, with the longest answers.
    "llava-158k": Style(
        images=1_000,
        records=5_000,
        false=0.20,
        no_image=0.20,
        kinds=(Kind(58, (2, 3, 4), TALK), Kind(23, (1,), ("describe",)), Kind(77, (1,), COMPLEX)),
        wordings=2,
    ),
    # Single questions of many tasks with short answers, many of them about what is not there.
    "lrv": Style(
        images=1_000,
        records=10_000,
        false=0.15,
        no_image=0.05,
        kinds=(Kind(1, (1,), ("present", "present", "place", "relation", "compare", "tied")),),
    ),
}


def build_comparison(folder: Path, seed: int = 0) -> None:
    """Write `<name>/` for each of STYLES: images/*.png, data/<name>.json and graphs.jsonl.

    The same seed gives the same bytes. No scene is in two of the sets.
    """
    folder = Path(folder)
    scenes = draw_scenes(seed, "comparison", sum(style.images for style in STYLES.values()))
    for name, style in STYLES.items():
        some, scenes = scenes[: style.images], scenes[style.images :]
        write_images(folder / name, some, prefix=name)
        records = write_records(random.Random(f"{name}/{seed}"), name, style, some)
        (folder / name / "data").mkdir()
        text = json.dumps(records, ensure_ascii=False, indent=1) + "\n"
        (folder / name / "data" / f"{name}.json").write_text(text, encoding="utf-8")


def write_records(
    rng: random.Random, name: str, style: Style, scenes: list[Scene]
) -> list[dict[str, object]]:
    """The set's records, the same number about each scene."""
    parts = [kind.parts for kind in style.kinds]
    records = []
    for index, scene in enumerate(scenes):
        written: set[Turn] = set()  # a pair is not asked twice about a picture
        for _ in range(style.records // style.images):
            kind = rng.choices(style.kinds, parts)[0]
            turns = [
                write_turn(rng, style, kind, scene, scenes, written)
                for _ in range(rng.choice(kind.turns))
            ]
            records.append(LAYOUTS[name](f"{name}-{index:04d}", turns))
    return records


def write_turn(
    rng: random.Random,
    style: Style,
    kind: Kind,
    scene: Scene,
    others: list[Scene],
    written: set[Turn],
) -> Turn:
    """A pair that is not among those `written`, to which it is added."""
    verdicts = ("false", "no_image", "true_image")
    rates = (style.false, style.no_image, 1 - style.false - style.no_image)
    wanted = rng.choices(verdicts, rates)[0]
    types = GENERAL if wanted == "no_image" else kind.types
    while True:
        seen = _by_habit(rng.choice(others)) if wanted == "false" else scene
        turn = _pair(rng, rng.choice(types), seen, style.wordings)
        if turn and turn not in written and judge(*turn, scene.to_dict()) == wanted:
            written.add(turn)
            return turn


def _by_habit(scene: Scene) -> Scene:
    things = tuple(replace(thing, colour=USUAL_COLOUR[thing.kind]) for thing in scene.things)
    return replace(scene, things=things)


def _pair(rng: random.Random, name: str, scene: Scene, wordings: int) -> Turn | None:
    """A pair of a type that is true of the scene; None where the scene gives no such question."""
    query = BY_NAME[name]
    if name == "describe":
        return rng.choice(query.questions), caption(scene, rng)
    slots = choose(rng, query, scene)
    if slots is None:
        return None
    answers = rng.sample(query.answers, min(wordings, len(query.answers)))
    said = " ".join(fill(answer, slots) for answer in answers)
    return fill(rng.choice(query.questions), slots), said


def _llava(image: str, turns: list[Turn]) -> dict[str, object]:
    messages = []
    for number, (question, answer) in enumerate(turns):
        value = question if number else f"<image>\n{question}"
        messages += [{"from": "human", "value": value}, {"from": "gpt", "value": answer}]
    return {"id": image, "image": f"{image}.png", "conversations": messages}


def _lrv(image: str, turns: list[Turn]) -> dict[str, object]:
    ((question, answer),) = turns
    denied = answer.startswith("No, ")
    task = "negative" if denied else "positive"
    return {"image_id": image, "question": question, "answer": answer, "task": task}


def _comvint(image: str, turns: list[Turn]) -> dict[str, object]:
    ((question, answer),) = turns
    return {"image": f"{image}.png", "question": question, "answer": answer}


LAYOUTS = {"comvint": _comvint, "llava-158k": _llava, "lrv": _lrv}
