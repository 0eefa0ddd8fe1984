"""Figure 4: which pairs are picked, and what is said of them."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from c3l.artifacts.store import Job, Stage, Store
from c3l.readings import Readings
from c3l.samples import Sample, write_samples
from c3l.scores import read_scores
from c3l.stages import common, scoring
from repro.analysis import gallery
from repro.rows import TRUTH
from repro.stages import evaluation as driver

CLASSES = ("conversation", "complex reasoning")


def frame(places: list[tuple[str, str]]) -> pd.DataFrame:
    """Two pairs at each place (image, class)."""
    rows = [(f"{image}-{name}-{k}", image, name) for image, name in places for k in range(2)]
    return pd.DataFrame(rows, columns=["question_id", "image_id", "category"])


WITHOUT = frame([(f"{k}.png", CLASSES[k % 2]) for k in range(12)])
WITH = frame([(f"{k}.png", name) for k in range(4, 16) for name in CLASSES])


@given(order=st.permutations(range(len(WITHOUT))), seed=st.integers(0, 5))
def test_what_is_picked_does_not_hang_on_the_order_of_the_files(order, seed):
    assert gallery.pick_pairs([WITHOUT.iloc[order], WITH], seed) == gallery.pick_pairs(
        [WITHOUT, WITH], seed
    )


@given(seed=st.integers(0, 1000), count=st.integers(1, 12))
def test_images_are_picked_that_have_pairs_of_a_class_in_both(seed, count):
    picked = gallery.pick_pairs([WITHOUT, WITH], seed, count)
    images = [without["image_id"] for without, _ in picked]
    assert len(set(images)) == len(images) == min(count, 8)  # eight are in both
    for without, made_with in picked:
        assert without["image_id"] == made_with["image_id"]
        assert without["category"] == made_with["category"]
    more = gallery.pick_pairs([WITHOUT, WITH], seed, count + 1)
    assert more[: len(picked)] == picked


def test_every_pair_has_its_chance():
    picked = [gallery.pick_pairs([WITHOUT, WITH], seed) for seed in range(200)]
    seen = [{pairs[k]["question_id"] for some in picked for pairs in some} for k in (0, 1)]
    assert [len(some) for some in seen] == [16, 16]


SAMPLES = [
    Sample(f"{image}-{k}", image, f"What {k}?", answer, "conversation")
    for image in ("image-0.png", "image-1.png")
    for k, answer in enumerate(("A cup.", "Où? É  <image>.", "x"))
]


def write(job: Job) -> dict:
    write_samples(job.out / "samples.jsonl", [Sample(**fields) for fields in job.config["samples"]])
    return {}


def judged(job: Job) -> dict:
    ids = [sample.id for sample in SAMPLES]
    verdicts = pd.DataFrame({"question_id": ids, "verdict": "false"})
    verdicts.to_parquet(job.out / "samples.parquet")
    return {}


def nothing(job: Job) -> dict:
    return {"unscored": "the generator wrote no valid pair"}


@pytest.fixture(params=[{}, {"score_eos": True}], ids=["answer", "with its end"])
def relevance(request, tiny_llava, tiny_images, tmp_path):
    """A function from samples to their relevance stage, made; the store; the reading."""
    store, readings = Store(tmp_path / "store"), Readings(**request.param)
    backbone = common.backbone_source(tiny_llava)
    images = common.image_source(tiny_images, 6)

    def make(samples: list[Sample], run=write) -> Stage:
        written = Stage("written", 1, run, {"samples": [vars(sample) for sample in samples]})
        scores = scoring.scores(backbone, written, images, readings, 4)
        stage = driver.relevance(backbone, written, scores, readings)
        store.make(stage)
        return stage

    return make, store, readings


def test_what_the_tokens_add_is_the_score_and_their_pieces_are_the_answer(relevance):
    make, store, readings = relevance
    broken = replace(SAMPLES[0], id="broken", image="image-9.png")
    stage = make([*SAMPLES, broken])
    found = pd.read_parquet(store.path(stage) / "samples.parquet")
    assert list(found["question_id"]) == [sample.id for sample in SAMPLES]
    facts = store.manifest(stage)["facts"]
    assert facts == {"n": 6, "extra": {"without_score": 1}}
    scores = read_scores(store.path(stage.inputs["scores"]) / "scores.parquet")
    for row, score in zip(found.itertuples(), scores, strict=False):
        assert np.sum(row.contributions) == pytest.approx(score.i2c, rel=1e-5, abs=1e-7)
        assert row.i2c == score.i2c
        assert row.tokens == len(row.pieces) == len(row.contributions)
        answer = row.answer.replace("<image>", "< image>")  # no text may hold a special token
        assert "".join(row.pieces) == answer + ("</s>" if readings.score_eos else "")


def test_the_gallery_says_what_stands_behind_it(relevance, tiny_images):
    make, store, _ = relevance
    truth = Stage("judged", 1, judged)
    store.make(truth)
    cells = {
        "without": {"I²C": [[make(SAMPLES)]], TRUTH: [[truth]]},
        "between": {},
        "with": {"I²C": [[make(SAMPLES[:3])]]},
    }
    record, pictures = gallery.build_gallery("figure4", cells, 0, store)
    assert json.loads(json.dumps(record)) == record
    assert record["unscored"] is None
    assert "(seed 0)" in record["rule"] and "first 4 images" in record["rule"]
    (image,) = record["images"]  # one of the two is in both data sets
    assert (image["file"], image["image"]) == ("figure4/a.png", "image-0.png")
    assert [(p["row"], p["verdict"]) for p in image["pairs"]] == [
        ("without", "false"),
        ("with", None),
    ]
    for pair in image["pairs"]:
        assert sum(pair["contributions"]) == pytest.approx(pair["i2c"], abs=1e-5)
    (tmp := store.root / "a.png").write_bytes(pictures["figure4/a.png"])
    original = np.asarray(Image.open(tiny_images / "image-0.png").convert("RGB"))
    assert np.array_equal(np.asarray(Image.open(tmp)), original)
    assert gallery.build_gallery("figure4", cells, 0, store) == (record, pictures)


def test_without_pairs_the_gallery_says_why(relevance):
    make, store, _ = relevance
    some = {"I²C": [[make(SAMPLES[:3])]]}
    nothing_written = {"I²C": [[make([], nothing)]]}
    record, pictures = gallery.build_gallery("figure4", {"a": some, "b": nothing_written}, 0, store)
    assert (record["images"], pictures) == ([], {})
    assert record["unscored"] == "the generator wrote no valid pair"
    others = {"I²C": [[make(SAMPLES[3:])]]}
    record, _ = gallery.build_gallery("figure4", {"a": some, "b": others}, 0, store)
    assert record["unscored"] == "no image has such pairs in both data sets"
