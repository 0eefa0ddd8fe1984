"""Each command fed the real output of another, with something unscored in it."""

import json
import shutil

import pytest

from c3l.backbones import load_backbone
from c3l.cli.score import to_file
from c3l.cli.train import train
from c3l.samples import Sample, read_data, write_samples
from c3l.settings import MethodSettings

SETTINGS = MethodSettings().changed(
    [
        "tuning=language+projector",
        "training.batch_size=4",
        "training.anchor_tokens=6",
        "share=0.5",
    ]
)


@pytest.fixture(scope="module")
def model(tiny_llava):
    return load_backbone(tiny_llava, device="cpu")


@pytest.fixture(scope="module")
def scored(model, tiny_images, tmp_path_factory):
    """What `score` makes of samples of which two have no score, in each of its formats."""
    folder = tmp_path_factory.mktemp("scored")
    kinds = ("conversation", "detailed description", "complex reasoning")
    samples = [
        Sample(f"s{k}", f"image-{k % 3}.png", f"What is {k}?", "A cup. " * (k % 4), kinds[k % 3])
        for k in range(9)
    ]
    samples.append(Sample("gone", "gone.png", "What is it?", "A cup.", kinds[0]))
    write_samples(folder / "data.jsonl", samples)
    write_samples(folder / "data.json", samples)
    readings = SETTINGS.readings
    for source, out in (("jsonl", "jsonl"), ("json", "json"), ("jsonl", "parquet")):
        data = read_data(folder / f"data.{source}")
        images = data.pictures(tiny_images)
        to_file(model, data, images, readings, folder / f"scored.{out}", batch_size=4)
    return folder


@pytest.mark.parametrize("kind", ["jsonl", "json", "parquet"])
def test_score_then_a_generator(scored, tiny_llava, tiny_images, tmp_path, kind):
    given = {"scores": scored / "scored.parquet"} if kind == "parquet" else {}
    data = scored / ("data.jsonl" if kind == "parquet" else f"scored.{kind}")
    out = tmp_path / "out"
    made = train(tiny_llava, data, tiny_images, out, generator=True, settings=SETTINGS, **given)
    listed = [json.loads(line) for line in (out / "left_out.jsonl").read_text().splitlines()]
    whys = {item["what"]: item["why"] for item in listed}
    assert whys == {name: "empty_answer" for name in ("s0", "s4", "s8")} | {"gone": "image_missing"}
    assert made["left_out"] == {"empty_answer": 3, "image_missing": 1}
    assert made["metrics"]["steps"] == 1  # half of six
    again = train(tiny_llava, data, tiny_images, out, generator=True, settings=SETTINGS, **given)
    assert again == made


def test_a_conversation_of_several_turns_then_a_generator(model, tiny_llava, tiny_images, tmp_path):
    """Each turn of a record has a score of its own, or none."""
    said = ["What is it?", "A cup.", "Where?", "", "Why?", "On a table, for tea."]
    talk = [{"from": ("human", "gpt")[k % 2], "value": text or " "} for k, text in enumerate(said)]
    kind = {"instruction": "conversation", "conversations": talk}
    records = [{"id": f"r{k}", "image": f"image-{k}.png"} | kind for k in range(4)]
    (tmp_path / "data.json").write_text(json.dumps(records))
    data = read_data(tmp_path / "data.json")
    scored = tmp_path / "scored.json"
    to_file(model, data, data.pictures(tiny_images), SETTINGS.readings, scored, batch_size=4)
    given = (tiny_llava, scored, tiny_images, tmp_path / "out")
    made = train(*given, generator=True, settings=SETTINGS)
    assert sum(made["left_out"].values()) == 4
    assert made["metrics"]["steps"] == 1 and made["metrics"]["skipped_groups"] == 0


def test_train_then_score(scored, model, tiny_llava, tiny_images, tmp_path):
    """A tuned folder, with its list of what was left out, is a backbone of another digest."""
    out = tmp_path / "tuned"
    train(tiny_llava, scored / "scored.json", tiny_images, out, settings=SETTINGS)
    assert (out / "left_out.jsonl").exists()
    tuned = load_backbone(out, device="cpu")
    digest = tuned.digest
    (out / "left_out.jsonl").unlink()
    assert digest == load_backbone(out, device="cpu").digest != model.digest
    data = read_data(scored / "scored.json")
    again = tmp_path / "again.json"
    without = to_file(
        tuned, data, data.pictures(tiny_images), SETTINGS.readings, again, batch_size=4
    )
    assert sum(without.values()) + len(data.left_out) == 4
    assert len(json.loads(again.read_text())) == 10
    shutil.rmtree(out)
