"""Each shipped backbone through the stages that the tables run it through."""

import json

import pytest

from benchmarks.pocket.drawing import draw
from benchmarks.pocket.scenes import draw_scenes
from c3l.artifacts.store import Job, Source, Stage, Store
from c3l.samples import Sample, write_samples
from c3l.stages import common, training, writing
from c3l.stages.common import SAMPLES
from repro import profile as profiles
from repro.rows import TABLES, Row

POCKET = profiles.load("pocket")
ROWS = [row for table in TABLES.values() for row in table.rows if isinstance(row, Row)]
TRAINED = {label for row in ROWS if row.tuned for label in (row.backbone, row.writer) if label}


def four_samples(job: Job) -> dict:
    texts = ("What is it?", "A red ball.", "conversation")
    samples = [Sample(f"s{k}", f"{k % 2}.png", *texts) for k in range(4)]
    write_samples(job.out / SAMPLES, samples)
    return {}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for number, scene in enumerate(draw_scenes(0, "initial", 2)):
        draw(scene).save(folder / f"{number}.png")
    return Source.from_path(folder)


@pytest.mark.parametrize("label", sorted(POCKET.backbones))
def test_it_writes_and_where_a_row_tunes_it_it_learns(label, images, tmp_path):
    store = Store(tmp_path)
    weights = common.backbone_source(POCKET.backbones[label].weights)
    settings = POCKET.generation.model_copy(update={"caption_tokens": 4})
    written = writing.captions(weights, images, 2, settings, POCKET.readings, seed=0)
    assert all(json.loads((store.make(written) / "captions.json").read_text()).values())
    if label in TRAINED:
        samples = Stage("four", 1, four_samples)
        settings = POCKET.training.vlit.model_copy(update={"batch_size": 4, "epochs": 1})
        store.make(training.vlit(weights, samples, images, settings, POCKET.readings, seed=0))
