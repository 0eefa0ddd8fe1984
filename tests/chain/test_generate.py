"""The data that `generate` writes, scored with a picture missing, and trained on."""

import json

import pytest

from c3l.backbones import load_backbone
from c3l.cli.score import to_file
from c3l.cli.train import train
from c3l.generate import generate
from c3l.samples import read_data
from c3l.settings import MethodSettings
from tests.c3l.pocket import BACKBONE, CHANGES, pictures

SETTINGS = MethodSettings().changed(
    [*CHANGES, "training.anchor_tokens=6", "share=0.5", "tuning=language+projector"]
)


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """What `generate` wrote about three pictures, one of which is gone now; their folder."""
    folder = tmp_path_factory.mktemp("generated")
    images = pictures(folder / "images", 3)
    generate(BACKBONE, images, folder / "out", n=9, settings=SETTINGS, train=False)
    samples = read_data(folder / "out" / "data.jsonl").samples
    (images / samples[0].image).unlink()
    return folder / "out", images, samples[0].image


@pytest.mark.parametrize("kind", ["json", "jsonl", "parquet"])
def test_generate_then_score_then_a_generator(generated, tiny_llava, tmp_path, kind):
    out, images, gone = generated
    data = read_data(out / f"data.{kind}")
    assert not data.left_out and len(data.samples) > 3
    scored = tmp_path / f"scored.{'json' if kind == 'json' else 'jsonl'}"
    model = load_backbone(tiny_llava, device="cpu")
    without = to_file(model, data, data.pictures(images), SETTINGS.readings, scored, batch_size=8)
    missing = [sample.id for sample in data.samples if sample.image == gone]
    assert without == {"image_missing": len(missing)}
    back = read_data(scored).samples
    assert [(s.id, s.question, s.answer) for s in back] == [
        (s.id, s.question, s.answer) for s in data.samples
    ]
    place = tmp_path / "trained"
    made = train(tiny_llava, scored, images, place, generator=True, settings=SETTINGS)
    assert made["left_out"] == {"image_missing": len(missing)}
    listed = [json.loads(line) for line in (place / "left_out.jsonl").read_text().splitlines()]
    assert [item["what"] for item in listed] == missing
