"""`c3l train` takes a finished training for the one asked for only if nothing differs."""

import shutil
from dataclasses import replace

import pytest
from PIL import Image

from c3l.cli.train import train
from c3l.runtime.errors import UserError
from c3l.samples import Sample, write_samples
from c3l.settings import MethodSettings
from tests.tiny import save_tiny_llava

SETTINGS = MethodSettings().changed(
    ["tuning=language+projector", "training.epochs=1", "training.batch_size=4"]
)
SAMPLES = [
    Sample(f"s{k}", f"image-{k // 2}.png", f"What is {k}?", "A cup.", "conversation", {"i2c": k})
    for k in range(6)
]


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_llava, tiny_images):
    """A folder with backbone, images and data, and a generator and a tuned model made of them."""
    folder = tmp_path_factory.mktemp("trained")
    shutil.copytree(tiny_images, folder / "images")
    shutil.copytree(tiny_llava, folder / "backbone")
    save_tiny_llava(folder / "another", seed=1)
    write_samples(folder / "data.jsonl", SAMPLES)
    for out in ("generator", "tuned"):
        ask(folder, out)
    return folder


def ask(folder, out, *, data="data.jsonl", backbone="backbone", images="images", **options):
    options = {"settings": SETTINGS, "generator": out == "generator"} | options
    return train(folder / backbone, folder / data, folder / images, folder / out, **options)


@pytest.mark.parametrize("out", ["generator", "tuned"])
@pytest.mark.parametrize(
    "what", ["image", "question", "answer", "order", "weights", "seed", "reading", "setting"]
)
def test_what_changes_a_training_makes_another(place, tmp_path, out, what):
    options, samples = {}, list(SAMPLES)
    if what == "image":
        options["images"] = shutil.copytree(place / "images", tmp_path / "images")
        Image.new("RGB", (24, 24), "red").save(tmp_path / "images" / "image-1.png")
    elif what in ("question", "answer"):
        samples[2] = replace(samples[2], **{what: "Another text?"})
    elif what == "order":
        samples.reverse()
    elif what == "weights":
        options["backbone"] = "another"
    elif what == "seed":
        options["seed"] = 1
    elif what == "reading":
        options["settings"] = SETTINGS.changed(["warmup_ratio=0.2"])
    else:
        options["settings"] = SETTINGS.changed(["training.learning_rate=0.1"])
    write_samples(tmp_path / "data.jsonl", samples)
    with pytest.raises(UserError, match="holds another training"):
        ask(place, out, data=tmp_path / "data.jsonl", **options)


@pytest.mark.parametrize("change", ["score", "share"])
def test_what_changes_a_generator_makes_another(place, tmp_path, change):
    samples, options = list(SAMPLES), {}
    if change == "score":
        samples[2] = replace(samples[2], meta={"i2c": 9})
    else:
        options["settings"] = SETTINGS.changed(["share=0.5"])
    write_samples(tmp_path / "data.jsonl", samples)
    with pytest.raises(UserError, match="holds another training"):
        ask(place, "generator", data=tmp_path / "data.jsonl", **options)


@pytest.mark.parametrize("out", ["generator", "tuned"])
def test_what_changes_nothing_is_the_same_training(place, tmp_path, out):
    images = shutil.copytree(place / "images", tmp_path / "moved")
    (images / "unnamed.png").write_bytes(b"no sample names it")
    backbone = shutil.copytree(place / "backbone", tmp_path / "renamed")
    (backbone / "README.md").write_text("A card.")
    assert ask(place, out, images=images, backbone=backbone) == ask(place, out)
