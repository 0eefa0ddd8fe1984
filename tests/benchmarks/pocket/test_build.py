"""The data of the world: byte-identical, and its benchmarks' answers true of the graphs."""

import collections

import pytest
from datasets import Dataset

from benchmarks.pocket import build
from benchmarks.pocket.build import BENCHMARK_SCENES
from benchmarks.pocket.drawing import draw
from benchmarks.pocket.scenes import KINDS, draw_scenes
from benchmarks.pocket.truth import judge


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    build(folder, seed=3)
    return folder


@pytest.fixture(scope="module")
def graphs():
    scenes = draw_scenes(3, "benchmark", BENCHMARK_SCENES)
    return {f"scene-{k:04d}": scene for k, scene in enumerate(scenes)}


def rows(world, task):
    (file,) = (world / "benchmarks" / task).glob("*.parquet")
    return list(Dataset.from_parquet(str(file), cache_dir=str(world / "cache")))


def test_same_bytes_each_time(world, tmp_path):
    build(tmp_path / "again", seed=3)
    for path in (tmp_path / "again").rglob("*.*"):
        if path.is_file():
            assert path.read_bytes() == (world / path.relative_to(tmp_path / "again")).read_bytes()


def test_seed_answers_are_true_and_the_other_options_false(world, graphs):
    found = collections.Counter()
    for row in rows(world, "seedbench"):
        graph = graphs[row["data_id"]].to_dict()
        options = {letter: row[f"choice_{letter.lower()}"] for letter in "ABCD"}
        assert len(set(options.values())) == 4
        for letter, option in options.items():
            verdict = judge(row["question"], option, graph)
            assert verdict == ("true_image" if letter == row["answer"] else "false"), row
        assert row["image"][0].tobytes() == draw(graphs[row["data_id"]]).tobytes()
        found[row["question_type_id"]] += 1
    assert set(found) == set(range(1, 10))


def test_pope_is_balanced_and_true(world, graphs):
    asked = collections.Counter()
    for row in rows(world, "pope"):
        kind = next(kind for kind in KINDS if f" {kind} " in row["question"])
        present = kind in graphs[row["image_source"]].kinds()
        assert row["answer"] == ("yes" if present else "no")
        asked[row["category"], row["answer"]] += 1
    assert len(asked) == 6 and len(set(asked.values())) == 1


def test_mmb_rotations_ask_the_same(world):
    groups = collections.defaultdict(list)
    for row in rows(world, "mmbench"):
        groups[row["index"] % 1_000_000].append(row)
    for group in groups.values():
        assert len(group) == 4
        assert len({row[row["answer"]] for row in group}) == 1
        assert len({row["answer"] for row in group}) == 4


def test_wild_references_are_true(world):
    assert collections.Counter(row["category"] for row in rows(world, "llava_w")) == {
        "conv": 20,
        "detail": 20,
        "complex": 20,
    }
