"""Damaged files: found when they are read, named, set aside, made again, never used."""

import logging
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from c3l.artifacts.files import SEAL, read_checked, verify_digests
from c3l.artifacts.graph import not_in_store
from c3l.artifacts.store import Store
from c3l.runtime.errors import UserError
from c3l.stages import common
from repro import profile as profiles
from repro import recipe
from repro.run.run import Run
from tests.faults import world
from tests.faults.running import contents, made, manifests, what_lasts
from tests.repro import toy

BACKBONES = sorted({b.weights for b in profiles.load("pocket").backbones.values()})
WAYS = {
    "flip": "a bit flipped",
    "truncate": "cut short",
    "empty": "emptied",
    "remove": "removed",
}


def damage(path: Path, way: str, place: float = 0.5, bit: int = 0) -> None:
    """Harm a file at a place between its beginning (0) and its end (1)."""
    content = path.read_bytes()
    position = int(place * len(content))
    match way:
        case "flip":
            flipped = bytes([content[position] ^ 1 << bit]) if content else b"\0"
            path.write_bytes(content[:position] + flipped + content[position + 1 :])
        case "truncate":
            path.write_bytes(content[:position])
        case "empty":
            path.write_bytes(b"")
        case "remove":
            path.unlink()


@pytest.fixture(scope="module")
def copy(undisturbed, tmp_path_factory):
    """A copy of the undisturbed run that may be harmed."""
    runs = tmp_path_factory.mktemp("damage") / "runs"
    shutil.copytree(undisturbed, runs)
    return runs


@pytest.fixture(scope="module")
def targets(small_profile, copy):
    """What the run is after: the stages that the table is read from."""
    run = Run.prepare(["table4"], profiles.load(str(small_profile)), [0], Store(copy / "store"))
    return [stage for cells in run.tables.values() for stage in recipe.stages(cells)]


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_damage_to_any_file_at_any_place_is_found_named_and_made_again(
    data, copy, undisturbed, targets, caplog, record_fault
):
    manifest = data.draw(st.sampled_from(sorted(manifests(copy))))
    names = ["manifest.json", *sorted(read_checked(manifest)["files"])]
    name, way = data.draw(st.sampled_from(names)), data.draw(st.sampled_from(list(WAYS)))
    place, bit = data.draw(st.floats(0, 1, exclude_max=True)), data.draw(st.integers(0, 7))
    file, key = manifest.parent / name, manifest.parent.name
    before = file.read_bytes(), read_checked(manifest)
    with record_fault("damage", f"a file of an artefact, {WAYS[way]}"):
        caplog.clear()
        damage(file, way, place, bit)
        same = file.exists() and (file.read_bytes(), read_checked(manifest)) == before
        blank = name == "manifest.json" and read_checked(manifest) == before[1]  # white space
        with caplog.at_level(logging.WARNING):
            todo = not_in_store(targets, Store(copy / "store"))
        aside = copy / "store" / "damaged" / manifest.parent.parent.name / key
        assert (key in todo) == aside.exists() == (not same and not blank)
        if key in todo:
            assert not manifest.parent.exists()
            assert f"{manifest.parent} is damaged: {name}" in caplog.text
            assert list(todo) == [key]  # what was made from it is whole
            shutil.rmtree(aside)
            shutil.copytree(undisturbed / manifest.parent.relative_to(copy), manifest.parent)
        else:
            file.write_bytes(before[0])


def test_a_damaged_run_is_mended_by_the_next_one(
    small_profile, undisturbed, tmp_path, record_fault
):
    """In each of the ways, through the command line."""
    runs = tmp_path / "runs"
    shutil.copytree(undisturbed, runs)
    store = runs / "store"
    harmed = {
        next(store.glob("captions/*/captions.json")): "flip",
        next(store.glob("filtered/*/samples.jsonl")): "truncate",
        next(store.glob("selection/*/manifest.json")): "empty",
        next(store.glob("evaluation/*/samples.parquet")): "flip",
        next(store.glob("final/*/samples.jsonl")): "remove",
    }
    with record_fault("damage", f"{len(harmed)} files at once, through the command line"):
        for path, way in harmed.items():
            damage(path, way)
        whole = {
            path: seen
            for path, seen in made(runs).items()
            if path.parent not in {file.parent for file in harmed}
        }
        done = toy.repro(*world.options(small_profile, runs, jobs=1))
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        for path in harmed:
            assert f"{path.parent} is damaged: {path.name}" in done.stderr
            assert (store / "damaged" / path.parent.relative_to(store)).is_dir()
        assert whole.items() <= made(runs).items()
        assert contents(runs) == contents(undisturbed)
        assert what_lasts(runs) == what_lasts(undisturbed)


@pytest.mark.parametrize("folder", BACKBONES, ids=lambda folder: Path(folder).name)
def test_a_shipped_backbone_is_as_it_was_sealed(folder):
    assert (Path(folder) / SEAL).is_file()
    assert verify_digests(Path(folder)) is None


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_damaged_shipped_backbone_is_not_used(tmp_path, record_fault, name, way):
    folder = tmp_path / "backbone"
    shutil.copytree(BACKBONES[-1], folder)
    with record_fault("damage", f"a file of a shipped backbone, {WAYS[way]}"):
        damage(folder / name, way)
        with pytest.raises(UserError, match=f"is damaged: {name}|no backbone in"):
            common.backbone_source(folder)
