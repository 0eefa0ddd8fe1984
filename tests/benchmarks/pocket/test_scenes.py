"""The world: the same seed gives the same scenes, and splits never touch."""

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.pocket.drawing import SIDE, draw
from benchmarks.pocket.scenes import (
    BUCKETS,
    COLOURS,
    USUAL_COLOUR,
    Scene,
    draw_scenes,
    is_held_out,
    split_of,
)

splits = st.sampled_from(sorted(BUCKETS))
seeds = st.integers(0, 10_000)


@given(seeds, splits)
def test_same_seed_same_scenes_and_pixels(seed, split):
    first, second = draw_scenes(seed, split, 3), draw_scenes(seed, split, 3)
    assert first == second
    assert [draw(s).tobytes() for s in first] == [draw(s).tobytes() for s in second]
    assert draw(first[0]).size == (SIDE, SIDE)


@given(seeds, splits)
def test_a_scene_belongs_to_the_split_it_was_drawn_for(seed, split):
    assert all(split_of(scene) == split for scene in draw_scenes(seed, split, 5))


@given(seeds, splits)
def test_graph_round_trip(seed, split):
    for scene in draw_scenes(seed, split, 3):
        assert Scene.from_dict(scene.to_dict()) == scene


def test_splits_share_no_scene():
    drawn = {split: {s.digest for s in draw_scenes(0, split, 400)} for split in BUCKETS}
    assert sum(map(len, drawn.values())) == len(set().union(*drawn.values()))


def test_held_out_combinations_are_in_benchmarks_alone():
    def held_out(split):
        scenes = draw_scenes(0, split, 300)
        return [
            any(is_held_out(t.kind, t.colour, t.place) for t in scene.things) for scene in scenes
        ]

    assert all(held_out("benchmark"))
    assert not any(any(held_out(split)) for split in BUCKETS if split != "benchmark")


def test_the_prior_is_strong_in_pretraining_and_absent_in_benchmarks():
    def usual(split):
        things = [thing for scene in draw_scenes(0, split, 1000) for thing in scene.things]
        return sum(t.colour == USUAL_COLOUR[t.kind] for t in things) / len(things)

    assert 0.6 < usual("pretraining") < 0.8
    assert abs(usual("benchmark") - 1 / len(COLOURS)) < 0.08
