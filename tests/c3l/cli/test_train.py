"""Training from files: a folder that loads, gone on with after a kill, not done twice."""

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from c3l.artifacts.files import digest_file
from c3l.backbones import load_backbone
from c3l.cli.train import MANIFEST, train
from c3l.data.scored import with_scores, write_scored
from c3l.relevance import score
from c3l.runtime.errors import UserError
from c3l.runtime.locks import locked
from c3l.samples import ImageFolder, write_samples
from c3l.scores import Score, write_scores
from c3l.selection import groups
from c3l.settings import MethodSettings
from c3l.trainer import LossTrainer
from c3l.training import train_generator, tune
from c3l.training_data import match_scores, read_training_data
from tests.c3l.cli.test_resume import killed_after
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


def score_of(sample, value):
    """A score whose ratio of likelihoods is `value`."""
    one = np.float32([np.log(0.9)])
    return Score(sample.id, 0.0, one, one - value, one)


def test_repeated_ids_are_matched_by_place_or_refused(samples):
    same = [replace(sample, id="same") for sample in samples[:3]]
    scores = [score_of(sample, k) for k, sample in enumerate(same)]
    assert match_scores(same, scores, "d.json", Path("s.parquet")) == scores
    with pytest.raises(
        UserError, match=r"the id same stands in d\.json more than once.*score these"
    ):
        match_scores(same, scores[:2], "d.json", Path("s.parquet"))
    own = [replace(same[0], id=f"own {k}") for k in range(3)]
    with pytest.raises(UserError, match=r"the id same stands in s\.parquet more than once"):
        match_scores(own, scores, "d.json", Path("s.parquet"))
    with pytest.raises(UserError, match=r"the id same stands in d\.json more than once"):
        match_scores(same, [score_of(s, 0) for s in own], "d.json", Path("s.parquet"))
    # Each with an id of its own: by id, whatever the order.
    scores = [score_of(sample, k) for k, sample in enumerate(own)]
    turned = match_scores(own[::-1], scores, "d.json", Path("s.parquet"))
    assert [score.id for score in turned] == ["own 2", "own 1", "own 0"]


def test_repeated_ids_choose_by_their_own_scores(tiny_llava, tiny_images, samples, tmp_path):
    """The last score of an id is not that of all: what is chosen is what is best."""
    same = [replace(sample, id="same") for sample in samples]
    write_samples(tmp_path / "d.jsonl", same)
    write_scores(tmp_path / "s.parquet", [score_of(s, k % 5) for k, s in enumerate(same)])
    readings = SETTINGS.readings
    training_data = read_training_data(
        tmp_path / "d.jsonl", tiny_images, scores=tmp_path / "s.parquet", readings=readings
    )
    order = sorted(range(len(same)), key=lambda k: training_data.values[k])
    assert [k % 5 for k in order] == sorted(k % 5 for k in range(len(same)))


@pytest.fixture
def bad(samples, tiny_images, tmp_path):
    """Data and images of which something is wrong in every way, and the reason of each sample."""
    images = shutil.copytree(tiny_images, tmp_path / "images")
    (images / "cut.png").write_bytes((images / "image-0.png").read_bytes()[:60])
    (images / "clip.png").write_bytes(b"\0\0\0\x18ftypisom" + bytes(20))
    reasons = {
        "empty": (replace(samples[0], answer=" \n"), "empty_answer"),
        "long": (replace(samples[0], answer="cup " * 3000), "longer_than_context"),
        # Of 1,024 tokens the image has nine: they count.
        "just": (replace(samples[0], answer="c" * 990), "longer_than_context"),
        "gone": (replace(samples[0], image="nowhere.png"), "image_missing"),
        "cut": (replace(samples[0], image="cut.png"), "image_unreadable"),
        "clip": (replace(samples[0], image="clip.png"), "video"),
        "outside": (replace(samples[0], image="../x.png"), "image_outside"),
    }
    some = [replace(sample, id=name) for name, (sample, _) in reasons.items()]
    return [*samples[:6], *some, *samples[6:]], images, {k: why for k, (_, why) in reasons.items()}


def test_what_score_refuses_is_not_trained_on(tiny_llava, bad, samples, tmp_path, monkeypatch):
    """By one check, before the first step: named, counted, and the training is that of the rest."""
    every, images, reasons = bad
    write_samples(tmp_path / "bad.jsonl", every)
    write_samples(tmp_path / "good.jsonl", samples)
    scored = score(load_backbone(tiny_llava), every, ImageFolder(images))
    assert {s.id: s.unscored for s in scored if s.unscored} == reasons

    def run(name, **options):
        data, out = tmp_path / f"{name}.jsonl", tmp_path / f"out-{name}"
        return train(tiny_llava, data, images, out, settings=SETTINGS, **options), out

    with pytest.raises(UserError, match=r"5 samples .* empty among them \(bad.jsonl, line 7: em"):
        run("bad", strict=True)
    assert not (tmp_path / "out-bad").exists()
    made, out = run("bad")
    assert made["left_out"] == dict(Counter(reasons.values()))
    listed = [json.loads(line) for line in (out / "left_out.jsonl").read_text().splitlines()]
    assert {item["what"]: item["why"] for item in listed} == reasons
    assert listed[1]["where"] == "bad.jsonl, line 8"
    other, good = run("good")
    assert not moved(weights(load_backbone(out)), weights(load_backbone(good)))
    assert other["left_out"] == {} and not (good / "left_out.jsonl").exists()
    assert run("bad")[0] == made  # is not done again
    # An image that is there by now is another training.
    shutil.copyfile(images / "image-0.png", images / "nowhere.png")
    with pytest.raises(UserError, match="holds another training"):
        run("bad")
    # Where nothing is left there is no training, and no weights are needed to say so.
    monkeypatch.setattr("c3l.backbones.load_backbone", None)
    write_samples(tmp_path / "none.jsonl", [s for s in every if s.id in ("empty", "cut", "clip")])
    with pytest.raises(
        UserError, match=r"no sample in .* trained on \(empty_answer 1, image_unrea"
    ):
        run("none")


def test_a_stage_leaves_out_the_same(backbone, bad, tmp_path):
    every, images, reasons = bad
    how = (ImageFolder(images), SETTINGS.training, SETTINGS.readings, 0)
    metrics = tune(backbone, every, *how, tmp_path / "tuned")
    assert metrics["left_out"] == dict(Counter(reasons.values())) and metrics["steps"] == 3
    together = groups(every, [float(k) for k in range(len(every))])
    metrics = train_generator(backbone, every, together, *how, tmp_path / "generator")
    assert metrics["left_out"] == dict(Counter(reasons.values())) and metrics["steps"] == 3
    with pytest.raises(UserError, match=r"no sample that can be trained on \(left out: empty_"):
        tune(backbone, [s for s in every if s.id == "empty"], *how, tmp_path / "none")


def test_one_training_at_a_time(trained, tmp_path, monkeypatch):
    """The second one is told so before it loads anything; a killed one is in nobody's way."""
    lock = tmp_path / ".out.lock"
    lock.touch()  # of a run that was killed
    monkeypatch.setattr("c3l.backbones.load_backbone", None)
    with locked(lock), pytest.raises(UserError, match=r"another run is at work on .*out; wait"):
        trained()
    monkeypatch.undo()
    trained()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "out"]


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
