"""The same bytes from the same seed, and the same selections however the work is cut."""

import json
import os

import pytest

from c3l.artifacts import shards
from c3l.artifacts.store import Job, Source, Stage, Store
from c3l.readings import Readings
from c3l.samples import Sample, write_samples
from c3l.stages import common, scoring, selecting
from tests.faults import world
from tests.faults.running import contents, what_lasts
from tests.repro import toy

BATCHES, SHARDS = (1, 3, 16), (512, 5, 1)
WORDS = ("A cup.", "A red ball.", "Yes.", "No, it is a very small house.", "Two.", "On the left.")


def pool(job: Job) -> dict:
    """Four pairs of each class about each image, answers of several lengths."""
    samples = [
        Sample(
            f"{image}-{name}-{k}",
            f"image-{image}.png",
            f"What is {k} in a {name}?",
            WORDS[(image + k) % 6],
            name,
        )
        for image in range(6)
        for name in ("conversation", "detailed description", "complex reasoning")
        for k in range(4)
    ]
    write_samples(job.out / common.SAMPLES, samples)
    return {"samples": len(samples)}


@pytest.fixture(scope="module")
def selected(tiny_llava, tiny_images, tmp_path_factory):
    """A function: what is selected with a batch size and a shard size, by a store of its own."""

    def select(batch: int, shard: int) -> dict:
        readings, samples = Readings(), Stage("pool", 1, pool)
        store = Store(tmp_path_factory.mktemp("store"))
        backbone, images = common.backbone_source(tiny_llava), Source.from_path(tiny_images)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(shards, "SHARD", shard)
            scores = scoring.scores(backbone, samples, images, readings, batch)
            chosen = selecting.selection(samples, scores, readings, 0.3, 0, crm=True)
            path = store.make(chosen)
        return json.loads((path / "selection.json").read_text())

    return select


@pytest.mark.parametrize(
    ("batch", "shard"),
    [(batch, SHARDS[0]) for batch in BATCHES] + [(BATCHES[-1], shard) for shard in SHARDS[1:]],
)
def test_batches_and_shards_select_the_same(selected, record_fault, batch, shard):
    with record_fault("determinism", f"scores in batches of {batch}, shards of {shard}"):
        found, usual = selected(batch, shard), selected(BATCHES[1], SHARDS[0])
        assert len(usual["targets"]) == 22
        assert found["targets"] == usual["targets"]
        assert found["groups"] == usual["groups"]
        assert found["scores"] == pytest.approx(usual["scores"], rel=1e-4, abs=1e-5)


def test_again_from_nothing_the_same_bytes(selected, record_fault):
    with record_fault("determinism", "scores and selection twice from an empty store"):
        assert selected(*(3, 512)) == selected(*(3, 512))


def test_a_whole_run_again_from_nothing(small_profile, undisturbed, tmp_path, record_fault):
    """Every file of every artefact, and the table; by one worker instead of two."""
    runs = tmp_path / "runs"
    with record_fault("determinism", "a whole run twice, by one worker and by two"):
        env = os.environ | {"OMP_NUM_THREADS": "1"}  # one worker would take all processors
        done = toy.repro(*world.options(small_profile, runs, jobs=1), env=env)
        assert done.returncode == 0, done.stderr
        assert contents(runs) == contents(undisturbed)
        assert what_lasts(runs) == what_lasts(undisturbed)
