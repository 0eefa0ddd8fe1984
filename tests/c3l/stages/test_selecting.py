"""The stages of table 5's rivals, on pools that tests write, and the generator behind them."""

import json
from collections import Counter

import numpy as np
import pytest

from c3l.artifacts.store import Job, Source, Stage, Store
from c3l.backbones.base import Generated
from c3l.instructions import CLASSES, pair_prompt
from c3l.readings import Readings
from c3l.samples import Sample, read_samples, write_samples
from c3l.scores import Score, write_scores
from c3l.settings import GenerationSettings, TrainingSettings
from c3l.stages import common, scoring, selecting, training, writing

QUESTIONS = ["What colour is the cup?", "Why?", "Where does the small cup stand?"]
POOL = [
    Sample(f"{image}-{k}", f"image-{image}.png", question, f"Answer {k}.", CLASSES[k])
    for image in range(3)
    for k, question in enumerate(QUESTIONS)
] + [Sample("3-0", "image-3.png", "Why?", "So.", CLASSES[0])]


def write_pool(job: Job) -> dict:
    write_samples(job.out / "samples.jsonl", [Sample(**fields) for fields in job.config["pool"]])
    return {}


def some_scores(job: Job) -> dict:
    """Likelihoods that fall with the sample's place; the last one has no score."""
    made = [
        Score(s.id, 0.0, np.array([-0.1 * k], np.float32), *np.zeros((2, 1), np.float32))
        for k, s in enumerate(POOL[:-1])
    ]
    write_scores(job.out / "scores.parquet", [*made, Score(POOL[-1].id, unscored="image_missing")])
    return {}


def pool_stage(samples=POOL):
    return Stage("pool", 1, write_pool, {"pool": [vars(sample) for sample in samples]})


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def selected(store, by, samples=POOL, seed=0, share=0.1, readings=None, **known):
    readings = readings or Readings()
    stage = selecting.rival_selection(by, pool_stage(samples), readings, share, seed, **known)
    chosen = json.loads((store.make(stage) / "selection.json").read_text())
    return stage, chosen, store.manifest(stage)["facts"]


def test_self_instruct_has_survivors_and_rejects(store):
    _, chosen, facts = selected(store, "self_instruct")
    positive = {f"{image}-{k}" for image in range(3) for k in (0, 2)}  # "Why?" is too short
    assert {i for group in chosen["groups"] for i in group["positives"]} == positive
    assert {i for group in chosen["groups"] for i in group["negatives"]} == {
        sample.id for sample in POOL
    } - positive
    assert len(chosen["targets"]) == 1 and set(chosen["targets"]) <= positive
    assert (facts["positives"], facts["without_positive"], facts["without_negative"]) == (6, 1, 0)


@pytest.mark.parametrize(
    ("change", "positives"),
    [
        ({"self_instruct_unit": "sample"}, 2),  # two questions are long enough
        ({"self_instruct_instances": 2}, 4),
        ({"self_instruct_contradiction": "instruction"}, 3),
        ({"self_instruct_blacklist": True}, 6),
    ],
    ids=str,
)
def test_self_instruct_reads_its_own_readings(store, change, positives):
    # One image contradicts itself in a question that the others are asked too.
    pool = [*POOL, Sample("0-9", "image-0.png", QUESTIONS[0], "Another.", CLASSES[0])]
    if change.keys() & {"self_instruct_unit", "self_instruct_instances", "self_instruct_blacklist"}:
        pool = POOL
    _, _, facts = selected(store, "self_instruct", pool, readings=Readings(**change))
    assert facts["positives"] == positives


def test_no_positive_at_all_is_said(store):
    _, _, facts = selected(store, "self_instruct", POOL[1:2])
    assert facts["unscored"] == "self_instruct found no positive among 1 samples"


def test_difficulty_ranks_what_has_a_score(store, tiny_llava):
    pool, backbone = pool_stage(), common.backbone_source(tiny_llava)
    alone = scoring.answer_logprobs(backbone, pool, 4)
    known = {"scores": Stage("scored", 1, some_scores), "alone": alone}
    _, chosen, _ = selected(store, "ifd", share=0.3, **known)
    found = json.loads((store.path(alone) / scoring.ALONE).read_text())
    assert found.keys() == {sample.answer for sample in POOL}
    ifd = {s.id: np.exp(found[s.answer] + 0.1 * k) for k, s in enumerate(POOL[:-1])}
    assert max(ifd.values()) < 1
    assert chosen["scores"] == {i: pytest.approx(value, rel=1e-4) for i, value in ifd.items()}
    assert chosen["targets"] == sorted(ifd, key=ifd.get, reverse=True)[:3]


def test_a_random_order_and_labels_are_the_seeds_and_difficulty_is_nobodys(store):
    known = {"scores": Stage("scored", 1, some_scores), "alone": pool_stage()}
    for by, count in (("random", 2), ("self_instruct", 2), ("vigc", 2), ("ifd", 1)):
        stages = [
            selecting.rival_selection(by, pool_stage(), Readings(), 0.1, seed, **known)
            for seed in (0, 1)
        ]
        assert len({stage.key for stage in stages}) == count


@pytest.mark.parametrize("by", ["self_instruct", "random"])
def test_a_generator_learns_from_any_selection(store, tiny_llava, tiny_images, by):
    selection, chosen, _ = selected(store, by)
    stage = training.generator(
        common.backbone_source(tiny_llava),
        pool_stage(),
        selection,
        Source.from_path(tiny_images),
        TrainingSettings(batch_size=2, epochs=2, anchor_tokens=4),
        Readings(tuning="language+projector"),
        0,
        crm=True,
        clm=True,
    )
    store.make(stage)
    facts = store.manifest(stage)["facts"]
    assert facts["steps"] == len(chosen["targets"])
    assert facts["skipped_groups"] == 1  # the image with one sample
    assert facts["l_c"] != 0


ANEW = {"What colour is the cup?": "Red. Very red.", "Where does it stand now?": "North."}


class Vicuna:
    """A backbone that writes two pairs for each class and image, and answers questions anew."""

    pairs = (
        ("What colour is the cup?", "Blue."),
        ("Where does it stand now?", "North."),
        ("Why?", "So."),  # too short a question
    )

    def generate_with_status(self, questions, images, *, answer_prefix=None, **settings):
        if answer_prefix is None:
            text = "\n".join(f"Question: {q}\nAnswer: {a}" for q, a in self.pairs)
            return [Generated(f"{text}\nQuestion: Who", finished=False)] * len(questions)
        return [
            Generated(ANEW[question].removeprefix(said).strip(), True)
            for question, said in zip(questions, answer_prefix, strict=True)
        ]


def test_vigc_reads_its_own_readings(store, tiny_images, monkeypatch):
    asked = []

    class Published(Vicuna):
        def generate_with_status(self, questions, images, *, answer_prefix=None, **settings):
            if answer_prefix is None:
                return super().generate_with_status(questions, images, **settings)
            asked.extend(zip(questions, answer_prefix, strict=True))
            return [Generated("Red, and no full stop", True)] * len(questions)

    monkeypatch.setattr(writing, "load_model", lambda job, name: Published())
    settings = GenerationSettings(caption_tokens=8, pair_tokens=8, pairs_per_class=3, batch_size=2)
    images = Source.from_path(tiny_images)
    readings = Readings(vigc_asks="instruction_and_question", vigc_sentence="full_stop")
    stage = writing.vigc(images, images, 1, settings, readings, 0)
    store.make(stage)
    assert store.manifest(stage)["facts"]["corrections"] == {"no_correction": 2}
    assert asked == [
        (pair_prompt(CLASSES[0], 1), f"Question: {question}\nAnswer: ")
        for question, _ in Vicuna.pairs[:2]
    ]


def test_vigcs_pool_is_both_kinds_and_everything_is_counted(store, tiny_images, monkeypatch):
    monkeypatch.setattr(writing, "load_model", lambda job, name: Vicuna())
    settings = GenerationSettings(caption_tokens=8, pair_tokens=8, pairs_per_class=3, batch_size=2)
    images = Source.from_path(tiny_images)
    stage = writing.vigc(images, images, 2, settings, Readings(), 0)
    pool = read_samples(store.make(stage) / "samples.jsonl")
    facts = store.manifest(stage)["facts"]
    # The two classes after the first ask the same questions: duplicates.
    assert Counter((s.image, s.answer, s.meta["vigc"]) for s in pool) == {
        (f"image-{k}.png", answer, kind): 1
        for k in range(2)
        for answer, kind in (("Blue.", "direct"), ("Red. Very red.", "iterative"))
    }
    assert facts["dropped"] == {"truncated": 6}
    assert facts["filtered"] == {"question_too_short": 6, "duplicate": 8}
    assert facts["corrections"] == {"same_answer": 4}
    assert (facts["samples"], facts["corrected"]) == (4, 2)
    _, chosen, _ = selected(store, "vigc", pool)
    assert [(len(g["positives"]), len(g["negatives"])) for g in chosen["groups"]] == [(1, 1)] * 2
