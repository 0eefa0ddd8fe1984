"""Scoring files: the data come back with their scores; a stopped run goes on where it was."""

import json

import pyarrow
import pyarrow.parquet
import pytest

from c3l import relevance
from c3l.backbones import load_backbone
from c3l.cli import score
from c3l.readings import Readings
from c3l.runtime.errors import UserError
from c3l.samples import ImageFolder, Sample, read_data, read_samples, write_samples
from c3l.scores import read_scores


@pytest.fixture(scope="module")
def backbone(tiny_llava):
    return load_backbone(tiny_llava, device="cpu")


@pytest.fixture
def scored(backbone, tiny_images):
    def run(source, out):
        images, data = ImageFolder(tiny_images), read_data(source)
        return score.to_file(backbone, data, images, Readings(), out, batch_size=4)

    return run


SAMPLES = [
    Sample(f"s{k}", f"image-{k % 3}.png", f"What is {k}?", "A cup." * (k % 2 + 1), meta={"k": k})
    for k in range(9)
]
SAMPLES[4] = Sample("gone", "nowhere.png", "What is it?", "A cup.")


def test_published_records_come_back_with_their_scores(scored, tmp_path):
    turns = [("What is it?", "A cup."), ("Is it red?", " "), ("Why?", "So.")]
    talk = [
        {"from": who, "value": text}
        for pair in turns
        for who, text in zip(("human", "gpt"), pair, strict=True)
    ]
    records = [
        {"id": 7, "image": "image-0.png", "conversations": talk, "source": "coco"},
        {"id": "b", "image": "image-1.png", "conversations": talk[:2]},
        {"image_id": "image-2.png", "question": "Why?", "answer": "So.", "task": "vqa"},
        {"id": "c", "image": "nowhere.png", "conversations": talk[:2]},
    ]
    (tmp_path / "in.json").write_text(json.dumps(records))
    without = scored(tmp_path / "in.json", tmp_path / "out.json")
    assert without == {"empty_answer": 1, "image_missing": 1}
    told = json.loads((tmp_path / "out.json").read_text())
    names = ("i2c", "tokens", "unscored")
    assert [{k: v for k, v in r.items() if k not in names} for r in told] == records
    assert told[0]["unscored"] == [None, "empty_answer", None]
    assert [type(value) for value in told[0]["i2c"]] == [float, type(None), float]
    assert isinstance(told[1]["i2c"], float)
    assert (told[3]["i2c"], told[3]["unscored"]) == (None, "image_missing")
    scored(tmp_path / "in.json", tmp_path / "out.parquet")
    value = read_scores(tmp_path / "out.parquet")[3]
    assert (value.i2c, len(value.kl)) == (told[1]["i2c"], told[1]["tokens"])


@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
def test_samples_come_back_with_their_scores(scored, tmp_path, suffix):
    write_samples(tmp_path / "in.jsonl", SAMPLES)
    scored(tmp_path / "in.jsonl", tmp_path / f"out{suffix}")
    scored(tmp_path / "in.jsonl", tmp_path / "out.parquet")
    found = read_samples(tmp_path / f"out{suffix}")
    values = read_scores(tmp_path / "out.parquet")
    for sample, old, value in zip(found, SAMPLES, values, strict=True):
        said = dict(sample.meta)
        if value.unscored:
            assert said.pop("unscored") == value.unscored
        else:
            assert (said.pop("i2c"), said.pop("tokens")) == (value.i2c, len(value.kl))
        assert said == old.meta
        assert (sample.id, sample.image, sample.answer) == (old.id, old.image, old.answer)
    if suffix == ".jsonl":
        line = json.loads((tmp_path / "out.jsonl").read_text().split("\n")[0])
        assert isinstance(line["i2c"], float)


def test_a_stopped_run_goes_on_and_ends_with_the_same_bytes(scored, tmp_path, monkeypatch):
    write_samples(tmp_path / "in.jsonl", SAMPLES)
    monkeypatch.setattr("c3l.artifacts.shards.SHARD", 4)
    scored(tmp_path / "in.jsonl", tmp_path / "alone.jsonl")
    calls, whole = [], relevance.score

    def dying(backbone, samples, *args, **kwargs):
        calls.append([sample.id for sample in samples])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(backbone, samples, *args, **kwargs)

    monkeypatch.setattr(relevance, "score", dying)
    with pytest.raises(KeyboardInterrupt):
        scored(tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()
    scored(tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    assert len(calls) == 4  # of three shards the first was kept
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "alone.jsonl").read_bytes()
    lists = [f"{name}.left_out.jsonl" for name in ("alone.jsonl", "out.jsonl")]
    there = sorted(path.name for path in tmp_path.iterdir())
    assert there == sorted(["alone.jsonl", "in.jsonl", "out.jsonl", *lists])


@pytest.mark.parametrize("change", ["samples", "image", "reading", "batch"])
def test_a_kept_shard_of_something_else_is_not_taken(
    backbone, tiny_images, tmp_path, monkeypatch, change
):
    folder = tmp_path / "images"
    folder.mkdir()
    for file in tiny_images.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    calls, whole = [], relevance.score
    monkeypatch.setattr(
        relevance,
        "score",
        lambda _, samples, *a, **k: calls.append(1) or whole(_, samples, *a, **k),
    )
    samples, readings, size = SAMPLES[:3], Readings(), 4

    def run():
        images = ImageFolder(folder)
        return score.score_in_shards(backbone, samples, images, readings, size, tmp_path)

    run()
    run()
    assert len(calls) == 1
    match change:
        case "samples":
            samples = SAMPLES[:2]
        case "image":
            (folder / "image-0.png").write_bytes((folder / "image-5.png").read_bytes())
        case "reading":
            readings = Readings(score_eos=True)
        case "batch":
            size = 2
    run()
    assert len(calls) == 2


def test_nothing_to_score_leaves_nothing(scored, tmp_path):
    write_samples(tmp_path / "in.jsonl", [SAMPLES[4]])
    with pytest.raises(UserError, match="image_missing 1"):
        scored(tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


@pytest.mark.parametrize("tokens", [None, [1.0, 2.0], [[1.0]]])
def test_scores_whose_tokens_do_not_match_are_no_file_of_scores(tmp_path, tokens):
    row = {"id": "a", "i2c": 1.0, "logp_visual": tokens, "logp_direct": [1.0], "kl": [1.0]}
    table = pyarrow.Table.from_pylist([row | {"unscored": None}])
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(UserError, match="no file of scores"):
        read_scores(tmp_path / "a.parquet")
