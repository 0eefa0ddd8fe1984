"""The pocket judge's rule: order of grades, monotone in what is said, the caption read back."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.pocket.conversations import pair
from benchmarks.pocket.grading import grade, read_caption
from benchmarks.pocket.language import caption, fill
from benchmarks.pocket.queries import QUERIES, STATEMENTS
from benchmarks.pocket.scenes import COLOURS, KINDS, PLACES, SIZES, Scene, Thing, draw_scenes
from benchmarks.pocket.truth import judge
from c3l.instructions import CLASSES

SCENE = Scene(
    "on a beach",
    (Thing(0, "ball", "blue", "large"), Thing(5, "cup", "white", "small")),
    rope=(0, 1),
    sign="open",
)
DESCRIBE = "Describe the image in detail."
SEEDS = st.integers(0, 10_000)


def scene_and_question(seed: int) -> tuple[Scene, str, str, random.Random]:
    rng = random.Random(seed)
    [scene] = draw_scenes(seed, "benchmark", 1)
    question, answer = pair(rng, scene, rng.choice(CLASSES))
    return scene, question, answer, rng


def caption_sentence(rng: random.Random, scene: Scene) -> str:
    """A sentence of some scene's caption, in any wording, that is true of `scene`."""
    query = rng.choice([query for query in STATEMENTS if query.solutions(scene)])
    return fill(rng.choice(query.answers), rng.choice(query.solutions(scene)))


def false_sentence(rng: random.Random, scene: Scene) -> str:
    """A sentence about a thing that is not there, in any wording if its kind is not there."""
    things = {(t.kind, t.colour, t.size, PLACES[t.place]) for t in scene.things}
    everything = {(k, c, s, p) for k in KINDS for c in COLOURS for s in SIZES for p in PLACES}
    thing = rng.choice(sorted(everything - things))
    templates = ["A {size} {colour} {kind} stands {place}."]
    if thing[0] not in scene.kinds():
        templates += ["The {kind} is {colour}.", "The {kind} stands {place}."]
        templates += ["There is a {colour} {kind}.", "Yes, there is a {kind}."]
    slots = dict(zip(("kind", "colour", "size", "place"), thing, strict=True))
    return fill(rng.choice(templates), slots)


def answers(rng: random.Random, scene: Scene, answer: str) -> str:
    """What a model may say: right, wrong, beside the question, a caption, nothing, in pieces."""
    pieces = [answer, caption(scene), "It is red.", "A cup is used for drinking.", "Hm."]
    pieces += [caption_sentence(rng, scene), false_sentence(rng, scene)]
    return " ".join(rng.sample(pieces, rng.randrange(4)))


@given(SEEDS)
def test_one_more_true_sentence_never_lowers_a_grade(seed):
    scene, question, answer, rng = scene_and_question(seed)
    before = answers(rng, scene, answer)
    for true in (caption_sentence(rng, scene), answer):
        for after in (f"{before} {true}", f"{true} {before}"):
            assert grade(question, after, scene).value >= grade(question, before, scene).value


@given(SEEDS)
def test_one_more_false_sentence_never_raises_a_grade(seed):
    scene, question, answer, rng = scene_and_question(seed)
    before = answers(rng, scene, answer)
    false = false_sentence(rng, scene)
    assert judge(DESCRIBE, false, scene.to_dict()) != "true_image"
    for after in (f"{before} {false}", f"{false} {before}"):
        assert grade(question, after, scene).value <= grade(question, before, scene).value


@given(SEEDS)
def test_a_false_sentence_lowers_a_right_answer(seed):
    scene, question, answer, rng = scene_and_question(seed)
    false = false_sentence(rng, scene)
    assert grade(question, f"{answer} {false}", scene).value < grade(question, answer, scene).value


@given(SEEDS)
def test_a_reference_is_perfect_or_needs_no_image(seed):
    scene, question, answer, _ = scene_and_question(seed)
    expected = {"true_image": 10, "no_image": 5.5}[judge(question, answer, scene.to_dict())]
    assert grade(question, answer, scene).value == expected


@given(SEEDS, st.randoms())
def test_the_order_of_sentences_does_not_matter(seed, shuffler):
    scene, question, answer, rng = scene_and_question(seed)
    said = answers(rng, scene, answer).split(". ")
    said = [f"{sentence.rstrip('.')}." for sentence in said]
    turned = shuffler.sample(said, len(said))
    assert grade(question, " ".join(turned), scene) == grade(question, " ".join(said), scene)


@given(st.text(), st.text())
def test_any_text_gets_a_grade(question, answer):
    for asked in (question, "What colour is the ball?", DESCRIBE):
        assert 1 <= grade(asked, answer, SCENE).value <= 10


@pytest.mark.parametrize(
    ("question", "answer", "expected"),
    [
        ("What colour is the ball?", "It is blue.", 10),
        ("What colour is the ball?", "blue", 10),
        ("What colour is the ball?", "It is blue. A sign says open.", 10),
        ("What colour is the ball?", "It is blue. The cup is white.", 10),
        ("What colour is the ball?", "It is red.", 1),  # the prior
        ("What colour is the ball?", "It is blue. It is red.", 5.5),  # what a guess would get
        ("What colour is the ball?", "It is blue. Hm.", 5.5),
        ("What colour is the ball?", "It is blue. It is blue.", 10),
        ("What colour is the ball?", "It is blue. A ball is usually red.", 10),
        ("What colour is the ball?", "A ball is usually red.", 1),
        ("What colour is the ball?", "", 1),
        ("What colour is the ball?", caption(SCENE), 5.5),
        ("What is a cup used for?", "A cup is used for drinking.", 5.5),
        ("What is a cup used for?", "A cup is used for playing.", 1),
        (DESCRIBE, caption(SCENE), 10),
        (DESCRIBE, "A large blue ball stands northwest.", 3),  # one of five
        (DESCRIBE, "The ball is large and blue and stands northwest.", 3),
        (DESCRIBE, "The cup is tied to the ball. The ball is tied to the cup.", 3),  # one fact
        (DESCRIBE, "The ball is blue.", 1),  # true, and no sentence of the caption
        (DESCRIBE, "The sign says open. It says stop.", 2),
    ],
)
def test_known_grades(question, answer, expected):
    assert grade(question, answer, SCENE).value == expected


@given(SEEDS, st.sampled_from(["benchmark", "pretraining"]))
def test_a_scene_is_read_from_its_caption(seed, split):
    """As far as anything can be said of it: the rope may be tied to another thing of the kind."""
    for scene in draw_scenes(seed, split, 3):
        found = read_caption(caption(scene))
        for query in (*QUERIES, *STATEMENTS):
            assert query.solutions(found) == query.solutions(scene)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A photo of a dog.",
        "There are two things in a field. A small red ball stands north.",
        "There is one thing in a field. A small red ball stands north. A ball is tied to the cup.",
        "There is one thing in a field. A small red ball stands north. It is nice.",
    ],
)
def test_another_text_is_no_caption(text):
    with pytest.raises(ValueError, match="not the complete caption"):
        read_caption(text)
