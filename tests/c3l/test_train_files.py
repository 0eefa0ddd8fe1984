"""Training from files: a folder that loads, gone on with after a kill, not done twice."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from c3l.backbones import load_backbone
from c3l.errors import UserError
from c3l.files import digest_file
from c3l.samples import write_samples
from c3l.scored import with_scores, write_scored
from c3l.scores import Score, write_scores
from c3l.settings import MethodSettings
from c3l.train import MANIFEST, train
from c3l.trainer import LossTrainer
from tests.c3l.test_resume import killed_after
from tests.c3l.training import moved, weights

SETTINGS = MethodSettings().changed(
    [
        "tuning=language+projector",
        "warmup_ratio=0",
        "training.learning_rate=1e-3",
        "training.batch_size=4",
        "training.save_steps=1",
        "training.anchor_tokens=6",
        "share=0.5",
    ]
)


@pytest.fixture
def data(samples, tmp_path):
    """A file of scored samples."""
    path = tmp_path / "data" / "data.jsonl"
    path.parent.mkdir()
    scores = [Score(sample.id) for sample in samples]
    write_scored(path, with_scores(samples, scores, [float(k) for k in range(len(samples))]))
    return path


@pytest.fixture
def trained(tiny_llava, tiny_images, data, tmp_path):
    def run(name="out", settings=SETTINGS, **options):
        return train(
            tiny_llava, data, tiny_images, tmp_path / name, settings=settings, **options
        ), tmp_path / name

    return run


@pytest.mark.parametrize("generator", [False, True])
def test_a_trained_backbone_is_a_folder_that_loads(trained, tiny_llava, generator, monkeypatch):
    manifest, out = trained(generator=generator)
    assert moved(weights(load_backbone(tiny_llava)), weights(load_backbone(out)))
    metrics = manifest["metrics"]
    # Half of twelve samples are targets; tuning takes them all.
    assert metrics["steps"] == (2 if generator else 3)
    assert ("l_c" in metrics) == generator
    assert len(json.loads((out / "history.json").read_text())) == metrics["steps"]
    assert manifest["task"]["trained"] == ("generator" if generator else "vlit")
    assert sorted(path.name for path in out.parent.iterdir()) == ["data", "out"]
    monkeypatch.setattr(LossTrainer, "compute_loss", None)  # it is not done again
    assert trained(generator=generator)[0] == manifest
    with pytest.raises(UserError, match="holds another training"):
        trained(generator=generator, seed=1)


def test_a_killed_training_ends_as_one_left_alone(trained, monkeypatch):
    _, alone = trained("alone", generator=True)
    with killed_after(1, monkeypatch):
        trained("killed", generator=True)
    assert not (alone.parent / "killed").exists()
    _, killed = trained("killed", generator=True)
    digests = [{p.name: digest_file(p) for p in out.iterdir()} for out in (alone, killed)]
    assert digests[0] == digests[1]


def test_scores_of_a_file_choose_as_those_in_the_data_do(trained, samples, data, tmp_path):
    def score(k, sample):
        one = np.float32([np.log(0.9)])
        return Score(sample.id, 0.0, one, one - k, one)

    write_scores(tmp_path / "s.parquet", [score(k, s) for k, s in enumerate(samples)])
    _, out = trained("a", generator=True)
    _, other = trained("b", generator=True, scores=tmp_path / "s.parquet")
    assert not moved(weights(load_backbone(out)), weights(load_backbone(other)))
    write_samples(data, [samples[0], replace(samples[1], id="new")])
    with pytest.raises(UserError, match=r"no score of 1 samples .* new among them"):
        trained("c", generator=True, scores=tmp_path / "s.parquet")


def test_a_generator_needs_scores_and_a_place_of_its_own(trained, data, samples, tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    with pytest.raises(UserError, match="holds something else"):
        trained("taken")
    write_samples(data, samples)
    with pytest.raises(UserError, match="add them by `python -m c3l score"):
        trained(generator=True)
    shutil.rmtree(tmp_path / "taken")
    assert not (tmp_path / "out" / MANIFEST).exists()
