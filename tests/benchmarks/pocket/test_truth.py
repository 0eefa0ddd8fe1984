"""Every sentence the world writes about a scene is checked against its graph."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.pocket.conversations import pair, pairs
from benchmarks.pocket.language import caption, fill
from benchmarks.pocket.queries import BY_NAME, QUERIES
from benchmarks.pocket.scenes import COLOURS, Scene, Thing, draw_scenes
from benchmarks.pocket.truth import VERDICTS, judge
from c3l.instructions import CLASSES

SCENE = Scene(
    "on a beach",
    (Thing(0, "ball", "blue", "large"), Thing(5, "cup", "white", "small")),
    rope=(0, 1),
    sign="open",
)
GRAPH = SCENE.to_dict()


@given(st.integers(0, 10_000))
def test_whatever_a_template_says_of_a_solution_is_true(seed):
    for scene in draw_scenes(seed, "pretraining", 3):
        for query in QUERIES:
            expected = "no_image" if query.general else "true_image"
            for slots in query.solutions(scene):
                for question in query.questions:
                    for answer in query.answers + ((query.short,) if query.short else ()):
                        said = fill(question, slots), fill(answer, slots)
                        assert judge(*said, scene.to_dict()) == expected, said


@given(st.integers(0, 10_000), st.sampled_from(CLASSES))
def test_written_pairs_are_true(seed, instruction):
    rng = random.Random(seed)
    for scene in draw_scenes(seed, "initial", 3):
        for question, answer in pairs(rng, scene, instruction, 3):
            assert judge(question, answer, scene.to_dict()) in ("true_image", "no_image")


@given(st.integers(0, 10_000))
def test_captions_are_true_of_their_scene_and_false_of_one_with_another_colour(seed):
    rng = random.Random(seed)
    scene = draw_scenes(seed, "final", 1)[0]
    said = caption(scene, rng)
    assert judge("Describe the image in detail.", said, scene.to_dict()) == "true_image"
    first, *rest = scene.things
    for colour in set(COLOURS) - {first.colour}:
        other = Scene(
            scene.setting,
            (Thing(first.place, first.kind, colour, first.size), *rest),
            scene.rope,
            scene.sign,
        )
        assert judge("Describe the image in detail.", said, other.to_dict()) == "false"


@pytest.mark.parametrize(
    ("question", "answer", "verdict"),
    [
        ("What colour is the ball?", "The ball is blue.", "true_image"),
        ("what COLOUR is  the ball?", "blue", "true_image"),
        ("What colour is the ball?", "The ball is red.", "false"),  # the prior
        ("What colour is the ball?", "The cup is white.", "false"),  # another thing
        ("What colour is the tree?", "The tree is green.", "false"),  # not there
        ("What colour is the ball?", "It is large.", "malformed"),
        ("What colour is the ball?", "The ball is blue. The ball is red.", "false"),
        ("What colour does a ball usually have?", "It is usually red.", "no_image"),
        ("What colour does a ball usually have?", "It is usually blue.", "false"),
        ("Is there a cup in the image?", "Yes, there is a cup.", "true_image"),
        ("Is there a tree in the image?", "No, there is no tree.", "true_image"),
        ("Is there a tree in the image?", "Yes, there is a tree.", "false"),
        ("Is there a tree in the image?", "Yes, there is no tree.", "false"),
        ("How many things are in the image?", "There are two things.", "true_image"),
        ("Where does the cup stand?", "It stands southeast.", "true_image"),
        ("What is the ball tied to?", "The ball is tied to the cup.", "true_image"),
        ("What can be seen in the image?", "A large blue ball stands northwest.", "true_image"),
        ("What can be seen in the image?", "A large blue ball.", "malformed"),
        ("Who am I?", "The ball is blue.", "malformed"),
        ("", "", "malformed"),
    ],
)
def test_known_verdicts(question, answer, verdict):
    assert judge(question, answer, GRAPH) == verdict


@given(st.text(), st.text())
def test_any_text_gets_a_verdict(question, answer):
    assert judge(question, answer, GRAPH) in VERDICTS
    assert judge("What colour is the ball?", answer, GRAPH) in VERDICTS


def test_every_query_of_an_instruction_class_exists():
    rng = random.Random(0)
    for instruction in CLASSES:
        asked = {pair(rng, scene, instruction)[0] for scene in draw_scenes(3, "initial", 50)}
        assert len(asked) > 2
    assert len(BY_NAME) == len(QUERIES)
