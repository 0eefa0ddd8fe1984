"""The comparison sets: their noise, their splits, their lengths, and that they are read back."""

import collections
import itertools
import json
import math
import random
from dataclasses import replace

import pytest

from benchmarks.pocket import comparison
from benchmarks.pocket.comparison import STYLES, build_comparison, write_records
from benchmarks.pocket.scenes import Scene, draw_scenes, split_of
from benchmarks.pocket.truth import judge
from c3l.samples import ImageFolder, read_records

SMALL = {
    name: replace(style, images=120, records=120 * style.records // style.images)
    for name, style in STYLES.items()
}
PAPER = {"comvint": (23.3, 18.9), "llava-158k": (11.0, 66.7), "lrv": (12.1, 15.2)}


def build(folder, monkeypatch):
    monkeypatch.setattr(comparison, "STYLES", SMALL)
    build_comparison(folder, seed=3)


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("comparison")
    with pytest.MonkeyPatch.context() as patch:
        build(folder, patch)
    return folder


def graphs(folder, name):
    lines = (folder / name / "graphs.jsonl").read_text().splitlines()
    return {graph.pop("image"): graph for graph in map(json.loads, lines)}


def turns(folder, name):
    """All turns of a set, as the reader of published files gives them."""
    return [
        turn for record in read_records(folder / name / "data" / f"{name}.json") for turn in record
    ]


def image(turn):
    return turn.image.removesuffix(".png") + ".png"


def test_same_bytes_each_time(sets, tmp_path, monkeypatch):
    build(tmp_path / "again", monkeypatch)
    files = [path for path in (tmp_path / "again").rglob("*.*") if path.is_file()]
    assert len(files) == 3 * (120 + 2)
    for path in files:
        assert path.read_bytes() == (sets / path.relative_to(tmp_path / "again")).read_bytes()


@pytest.mark.parametrize("name", STYLES)
def test_the_noise_is_what_is_written_down(sets, name):
    style, scenes = STYLES[name], graphs(sets, name)
    some = turns(sets, name)
    found = collections.Counter(
        judge(turn.question, turn.answer, scenes[image(turn)]) for turn in some
    )
    assert found["malformed"] == 0
    for verdict, rate in (("false", style.false), ("no_image", style.no_image)):
        error = math.sqrt(rate * (1 - rate) / len(some))
        assert abs(found[verdict] / len(some) - rate) < 4 * error


@pytest.mark.parametrize("name", STYLES)
def test_as_many_records_as_written_down_and_an_image_for_each(sets, name):
    records = read_records(sets / name / "data" / f"{name}.json")
    assert len(records) == SMALL[name].records
    assert {image(record[0]) for record in records} == set(graphs(sets, name))
    assert ImageFolder(sets / name / "images").names() == sorted(graphs(sets, name))


@pytest.mark.parametrize("name", STYLES)
def test_no_pair_is_asked_twice_about_an_image(sets, name):
    pairs = [(turn.image, turn.question, turn.answer) for turn in turns(sets, name)]
    assert len(set(pairs)) == len(pairs)


def test_conversations_have_several_turns_and_all_else_one(sets):
    lengths = {
        name: {len(r) for r in read_records(sets / name / "data" / f"{name}.json")}
        for name in STYLES
    }
    assert lengths == {"comvint": {1}, "llava-158k": {1, 2, 3, 4}, "lrv": {1}}


def test_splits_never_touch(sets):
    scenes = {name: list(map(Scene.from_dict, graphs(sets, name).values())) for name in STYLES}
    assert all(split_of(scene) == "comparison" for some in scenes.values() for scene in some)
    for one, other in itertools.combinations(STYLES, 2):
        assert not set(scenes[one]) & set(scenes[other])


def test_the_sets_are_larger_than_ours_and_in_the_papers_order():
    sizes = [1000, *(STYLES[name].records for name in PAPER)]
    assert sizes == sorted(sizes)


@pytest.mark.parametrize("side", [0, 1], ids=["question", "answer"])
def test_lengths_are_in_the_papers_order(sets, side):
    means = {}
    for name in STYLES:
        texts = [(turn.question, turn.answer)[side] for turn in turns(sets, name)]
        means[name] = sum(len(text.split()) for text in texts) / len(texts)
    assert sorted(means, key=means.get) == sorted(PAPER, key=lambda name: PAPER[name][side])


@pytest.mark.parametrize("name", STYLES)
def test_even_a_scene_of_two_like_things_gives_all_its_records(name):
    """Few questions can be asked about it: writing must come to an end all the same."""
    scene = next(
        scene
        for scene in draw_scenes(0, "comparison", 300)
        if len(scene.things) == 2 and len(scene.kinds()) == 1 and not scene.rope and not scene.sign
    )
    each = STYLES[name].records // STYLES[name].images
    some = [scene] * 5
    style = replace(STYLES[name], images=5, records=5 * each, false=0, no_image=0)
    assert len(write_records(random.Random(0), name, style, some)) == 5 * each
