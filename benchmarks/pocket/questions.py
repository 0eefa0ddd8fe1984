"""The four benchmarks of the pocket world, as rows in the columns that lmms-eval reads."""

import random

from benchmarks.pocket.conversations import LETTERS, choose, options, pair
from benchmarks.pocket.drawing import draw
from benchmarks.pocket.language import caption, fill
from benchmarks.pocket.queries import BY_NAME
from benchmarks.pocket.scenes import KINDS, SETTINGS, USUAL_COLOUR, Scene

# SEED's nine image dimensions in the order of its question_type_id, the question type that asks
# for each here, and how many are asked. Attributes weigh threefold: there the prior misleads.
SEED_QUESTIONS = (
    ("setting", 100),
    ("identity", 120),
    ("colour", 360),
    ("place", 120),
    ("count kind", 120),
    ("relation", 120),
    ("tied", 80),
    ("count colour", 120),
    ("sign", 60),
)
# MMBench's names: category and L2-category for a question type.
MMB_CATEGORIES = {
    "setting": ("image_scene", "coarse_perception"),
    "identity": ("object_localization", "finegrained_perception (instance-level)"),
    "colour": ("attribute_recognition", "finegrained_perception (instance-level)"),
    "place": ("object_localization", "finegrained_perception (instance-level)"),
    "relation": ("spatial_relationship", "finegrained_perception (cross-instance)"),
    "count kind": ("attribute_comparison", "finegrained_perception (cross-instance)"),
    "tied": ("physical_relation", "relation_reasoning"),
    "sign": ("ocr", "finegrained_perception (instance-level)"),
}
POPE_IMAGES = 40
POPE_PER_SIDE = 3
MMB_QUESTIONS = 96
WILD_IMAGES = 20
WILD_CLASSES = {
    "conv": "conversation",
    "detail": "detailed description",
    "complex": "complex reasoning",
}
Row = dict[str, object]


def choice_question(
    rng: random.Random, name: str, scene: Scene
) -> tuple[str, list[str], str] | None:
    """Question, four options and the right letter; None where the scene gives no such question."""
    query = BY_NAME[name]
    slots = choose(rng, query, scene)
    if slots is None:
        return None
    texts = options(rng, query, slots, scene)
    if not texts:
        return None
    right = query.short.format(**slots)
    if name == "colour":
        _tempt(rng, texts, right, USUAL_COLOUR[slots["kind"]])
    return fill(rng.choice(query.questions), slots), texts, LETTERS[texts.index(right)]


def _tempt(rng: random.Random, texts: list[str], right: str, usual: str) -> None:
    """Make sure that the usual colour is among the options: what the prior would answer."""
    if usual not in texts:
        texts[rng.choice([k for k, text in enumerate(texts) if text != right])] = usual


def seed_rows(seed: int, scenes: list[Scene]) -> list[Row]:
    """SEED: image questions only, one of a dimension per scene at most."""
    rng = random.Random(f"seed/{seed}")
    rows: list[Row] = []
    for dimension, (name, count) in enumerate(SEED_QUESTIONS, start=1):
        asked = 0
        for index in rng.sample(range(len(scenes)), len(scenes)):
            question = choice_question(rng, name, scenes[index])
            if question is None or asked == count:
                continue
            asked += 1
            text, texts, letter = question
            rows.append(
                {
                    "answer": letter,
                    **{f"choice_{c}": t for c, t in zip("abcd", texts, strict=True)},
                    "data_id": f"scene-{index:04d}",
                    "data_type": "image",
                    "question": text,
                    "question_id": f"{dimension}-{index:04d}",
                    "question_type_id": dimension,
                    "image": [draw(scenes[index])],
                    "segment": None,
                }
            )
    return rows


def pope_rows(seed: int, scenes: list[Scene]) -> list[Row]:
    """POPE: three kinds that are there and, for each way of drawing negatives, three that are not.

    Popular negatives are the kinds most frequent in all scenes; adversarial ones the kinds that
    the scene's setting favours (Li et al. 2023d, section 4.1).
    """
    rng = random.Random(f"pope/{seed}")
    everywhere = {kind: sum(kind in scene.kinds() for scene in scenes) for kind in KINDS}
    rows: list[Row] = []
    chosen = [k for k, s in enumerate(scenes) if len(s.kinds()) >= POPE_PER_SIDE][:POPE_IMAGES]
    for category in ("random", "popular", "adversarial"):
        for index in chosen:
            scene = scenes[index]
            present = rng.sample(sorted(scene.kinds()), POPE_PER_SIDE)
            absent = [kind for kind in KINDS if kind not in scene.kinds()]
            rng.shuffle(absent)
            if category != "random":
                absent.sort(key=everywhere.get, reverse=True)
            if category == "adversarial":
                absent.sort(key=lambda kind: kind in SETTINGS[scene.setting], reverse=True)
            asked = [(kind, "yes") for kind in present]
            asked += [(kind, "no") for kind in absent[:POPE_PER_SIDE]]
            for kind, answer in asked:
                rows.append(
                    {
                        "id": str(len(rows)),
                        "question_id": str(len(rows)),
                        "question": f"Is there a {kind} in the image?",
                        "answer": answer,
                        "image_source": f"scene-{index:04d}",
                        "image": draw(scene),
                        "category": category,
                    }
                )
    return rows


def mmb_rows(seed: int, scenes: list[Scene]) -> list[Row]:
    """MMB dev: each question four times, its options rotated (CircularEval)."""
    rng = random.Random(f"mmb/{seed}")
    names = list(MMB_CATEGORIES)
    questions = []
    for index, scene in enumerate(scenes):
        question = choice_question(rng, names[len(questions) % len(names)], scene)
        if question and len(questions) < MMB_QUESTIONS:
            questions.append((index, names[len(questions) % len(names)], question))
    rows: list[Row] = []
    for turn in range(4):
        for number, (index, name, (text, texts, letter)) in enumerate(questions):
            turned = texts[turn:] + texts[:turn]
            category, ability = MMB_CATEGORIES[name]
            rows.append(
                {
                    "index": number + turn * 1_000_000,
                    "question": text,
                    "hint": "nan",
                    "answer": LETTERS[turned.index(texts[LETTERS.index(letter)])],
                    **dict(zip(LETTERS, turned, strict=True)),
                    "category": category,
                    "image": draw(scenes[index]),
                    "source": "pocket",
                    "L2-category": ability,
                    "comment": "nan",
                    "split": "dev",
                }
            )
    return rows


def wild_rows(seed: int, scenes: list[Scene]) -> list[Row]:
    """LLaVA-Bench (In-the-Wild): a conversation, a detailed and a complex question an image.

    The judge's context is the scene's complete caption; the reference answer is true.
    """
    rng = random.Random(f"wild/{seed}")
    rows: list[Row] = []
    for index, scene in enumerate(scenes[:WILD_IMAGES]):
        for category, instruction in WILD_CLASSES.items():
            question, answer = pair(rng, scene, instruction)
            rows.append(
                {
                    "question_id": len(rows),
                    "question": question,
                    "image": draw(scene),
                    "caption": caption(scene),
                    "gpt_answer": answer,
                    "category": category,
                    "image_id": f"{index:03d}",
                }
            )
    return rows
