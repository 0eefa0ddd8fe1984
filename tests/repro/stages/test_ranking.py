"""Rankings of a small pool with known truth, and controls that show wrong images."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.pocket.scenes import Scene, Thing
from c3l.artifacts.store import Job, Source, Stage, Store
from c3l.readings import Readings
from c3l.relevance import i2c
from c3l.samples import ImageFolder, Sample, read_samples, write_samples
from c3l.scores import Score, write_scores
from c3l.stages import common, scoring
from c3l.stages.scoring import ALONE
from repro.stages.ranking import RANKERS, constant, ranking, run_shuffled, shuffled

SCENE = Scene("at night", (Thing(0, "ball", "blue", "small"),))
ASKED = {
    "What colour is the ball?": {"The ball is blue.": "true_image", "It is red.": "false"},
    "What is a ball used for?": {"It is used for playing.": "no_image"},
    "Why?": {"Because.": "malformed"},
}
PAIRS = [(q, a, verdict) for q, answers in ASKED.items() for a, verdict in answers.items()]
POOL = [
    Sample(f"{image}-{k}", image, question, answer)
    for image in ("a.png", "b.png", "c.png")
    for k, (question, answer, _) in enumerate(PAIRS)
]


def write_pool(job: Job) -> dict:
    write_samples(job.out / "samples.jsonl", [Sample(**fields) for fields in job.config["pool"]])
    return {}


def random_scores(job: Job) -> dict:
    """Random arrays of one to six tokens, the first of them impossible behind its image; after the
    first `scored` samples there is none."""
    rng = np.random.default_rng(0)
    found = []
    for k, sample in enumerate(POOL):
        logs = np.log(rng.random((3, 1 + k % 6))).astype(np.float32)
        logs[0, 0] = -np.inf if k == 0 else logs[0, 0]
        made = Score(sample.id, 0.0, logs[0], logs[1], -logs[2])
        scored = k < job.config["scored"]
        found.append(made if scored else Score(sample.id, unscored="image_missing"))
    write_scores(job.out / "scores.parquet", found)
    return {}


def write_alone(job: Job) -> dict:
    """Each answer of the pool is a little less likely alone than the one before it."""
    alone = {answer: -1 - k / 10 for k, (_, answer, _) in enumerate(PAIRS)}
    (job.out / ALONE).write_text(json.dumps(alone))
    return {}


def pool_stage(samples: list[Sample] = POOL) -> Stage:
    return Stage("pool", 1, write_pool, {"pool": [vars(sample) for sample in samples]})


@pytest.fixture
def rank(tmp_path):
    """A function that ranks the pool and returns the frame and the facts."""
    lines = [json.dumps({"image": name, **SCENE.to_dict()}) for name in ("a.png", "b.png", "c.png")]
    path = tmp_path / "graphs.jsonl"
    path.write_text("\n".join(lines) + "\n")
    graphs, store = Source.from_path(path), Store(tmp_path / "store")

    def run(by: str, scored: int = len(POOL), seed: int | None = None, share: float = 0.25):
        scores = Stage("scored", 1, random_scores, {"scored": scored})
        alone = Stage("alone", 1, write_alone) if by == "ifd" else None
        stage = ranking(
            pool_stage(), scores, graphs, ranker=by, share=share, seed=seed, answer_logprobs=alone
        )
        table = store.make(stage) / "samples.parquet"
        frame = pd.read_parquet(table) if table.is_file() else None
        return frame, store.manifest(stage)["facts"], store.path(scores) / "scores.parquet"

    return run


@pytest.mark.parametrize("by", [by for by in RANKERS if by not in ("random", "self_instruct")])
def test_every_pair_has_its_verdict_and_the_value_it_would_have_alone(rank, by):
    frame, facts, scores = rank(by)
    table = pd.read_parquet(scores).set_index("id").loc[frame["id"]]
    assert list(frame["id"]) == [sample.id for sample in POOL]
    assert list(frame["image_id"]) == [sample.image for sample in POOL]
    assert list(frame["verdict"]) == [verdict for _, _, verdict in PAIRS] * 3
    assert list(frame["tokens"]) == [len(tokens) for tokens in table["kl"]]
    for value, row in zip(frame["value"], table.itertuples(), strict=True):
        arrays = (row.logp_visual, row.logp_direct, row.kl)
        visual, direct, kl = (torch.tensor(x)[None] for x in arrays)
        match by:
            case "likelihood":
                expected = visual.mean().item()
            case "text_likelihood":
                expected = direct.mean().item()
            case "ifd":
                alone = -1 - int(row.Index[-1]) / 10
                ratio = torch.exp(-visual.mean()).item() / np.exp(-alone)
                expected = ratio if ratio < 1 else -np.log(ratio)
            case "length":
                expected = visual.numel()
            case _:
                expected = i2c(visual, direct, form=by, kl=kl).item()
        assert value == pytest.approx(expected, rel=1e-5, abs=1e-6)
    best = frame.nlargest(3, "value")["id"]  # a quarter of twelve
    assert set(frame["id"][frame["chosen"]]) == set(best)
    assert (facts["n"], facts["without_score"]) == (12, 0)
    assert facts["extra"]["verdicts"] == {
        verdict: pytest.approx(25) for verdict in ("true_image", "no_image", "false", "malformed")
    }


def test_the_mean_values_are_of_finite_values(rank):
    frame, facts, _ = rank("likelihood")
    assert frame["value"].iloc[0] == -np.inf
    true = frame[(frame["verdict"] == "true_image") & np.isfinite(frame["value"])]
    assert facts["extra"]["mean_value"]["true_image"] == pytest.approx(true["value"].mean())


def test_samples_without_a_score_are_left_out_and_counted(rank):
    frame, facts, _ = rank("literal_sum", scored=5)
    assert list(frame["id"]) == [sample.id for sample in POOL[:5]]
    assert (facts["n"], facts["without_score"]) == (5, 7)
    assert frame["chosen"].sum() == 2  # a quarter of five, rounded up


def test_a_pool_without_any_score_says_so(rank):
    _, facts, _ = rank("literal_sum", scored=0)
    assert facts["unscored"] == "no sample of the pool has a score"


def test_self_instruct_chooses_its_survivors(rank):
    frame, _, _ = rank("self_instruct")
    # each image has two answers about the ball's colour, and "Why?" is too short
    assert set(frame["verdict"][frame["chosen"]]) == {"no_image"}
    assert list(frame["value"]) == [float(chosen) for chosen in frame["chosen"]]
    assert frame["chosen"].sum() == 3


def test_a_random_order_is_the_seeds(rank):
    (one, *_), (again, *_), (two, *_) = (rank("random", seed=seed) for seed in (1, 1, 2))
    assert list(one["value"]) == list(again["value"])
    assert list(one["value"]) != list(two["value"])


def test_a_random_order_needs_a_seed_and_no_other_order_has_one():
    inputs = pool_stage(), pool_stage(), pool_stage()
    with pytest.raises(ValueError, match="seed"):
        ranking(*inputs, ranker="random", share=0.1)
    keys = {
        ranking(*inputs, ranker="likelihood", share=0.1, seed=seed).key for seed in (None, 1, 2)
    }
    assert len(keys) == 1


def test_an_unknown_order_is_refused():
    with pytest.raises(ValueError, match="vigc"):
        ranking(pool_stage(), pool_stage(), pool_stage(), ranker="vigc", share=0.1)


@given(
    images=st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=20), seed=st.integers(0, 99)
)
def test_shuffled_shows_every_image_with_the_samples_of_one_other(tmp_path_factory, images, seed):
    folder = tmp_path_factory.mktemp("shuffled")
    samples = [Sample(str(k), image, "Why so?", "So.") for k, image in enumerate(images)]
    write_samples(folder / "samples.jsonl", samples)
    facts = run_shuffled(Job(folder, folder, {"samples": folder}, {}, {}, seed))
    if len(set(images)) == 1:
        assert "no second image" in facts["unscored"]
        return
    shown = read_samples(folder / "samples.jsonl")
    pairs = {(sample.image, other.image) for sample, other in zip(samples, shown, strict=True)}
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
    assert all(a != b for a, b in pairs)
    assert {b for _, b in pairs} == set(images)
    assert [(s.id, s.question, s.answer) for s in shown] == [
        (s.id, s.question, s.answer) for s in samples
    ]


def test_controls_are_scored_by_the_pipeline(tmp_path, tiny_llava, tiny_images):
    pairs = [("What colour is it?", "Red."), ("What is it?", "A ball.")]
    samples = [
        Sample(f"{image}-{k}", f"image-{image}.png", question, answer)
        for image in range(3)
        for k, (question, answer) in enumerate(pairs)
    ]
    pool, store = pool_stage(samples), Store(tmp_path / "store")
    backbone, images = (
        common.backbone_source(tiny_llava),
        common.image_source(tiny_images, 3),
    )
    grey = constant(pool)
    folders = {
        "pool": (pool, images),
        "shuffled": (shuffled(pool, 0), images),
        "grey": (grey, grey),
    }
    found = {}
    for name, (shown, folder) in folders.items():
        stage = scoring.scores(backbone, shown, folder, Readings(), 4)
        found[name] = pd.read_parquet(store.make(stage) / "scores.parquet").set_index("id")
    picture = ImageFolder(store.make(grey))["images/grey.png"]
    assert (picture.mode, picture.size, picture.getcolors()) == (
        "RGB",
        (224, 224),
        [(224 * 224, (128, 128, 128))],
    )
    ids = [sample.id for sample in samples]
    for table in found.values():
        assert list(table.index) == ids
        for name in ids:  # without the image, nothing has changed
            np.testing.assert_allclose(
                table["logp_direct"][name], found["pool"]["logp_direct"][name], rtol=1e-5
            )
    for name in ids:
        pair = name[-1]
        same = found["grey"]["logp_visual"][f"0-{pair}"]
        np.testing.assert_allclose(found["grey"]["logp_visual"][name], same, rtol=1e-5)
        other = found["shuffled"]["logp_visual"][name]
        assert np.abs(other - found["pool"]["logp_visual"][name]).max() > 1e-6
