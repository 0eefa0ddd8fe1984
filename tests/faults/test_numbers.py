"""Numbers that are none: the work stops and names the samples, or the row says why it is empty."""

import json
import math

import pytest
import torch
from PIL import Image

from benchmarks.evaluate import evaluate
from c3l.artifacts.store import Job, Stage, Store
from c3l.backbones import load_backbone
from c3l.generation import captions, write_pairs
from c3l.instructions import CLASSES
from c3l.relevance import score
from c3l.rivals.ifd import answer_logprob_without_prompt
from c3l.runtime.errors import NotFiniteError, UserError
from c3l.samples import ImageFolder, Sample, read_samples, write_samples
from c3l.scores import Score, unscored, write_scores
from c3l.selection import groups
from c3l.stages import common, selecting, writing
from c3l.training import train_generator, tune
from repro.analysis.table import _short
from tests.benchmarks import data
from tests.benchmarks.data import TableBackbone
from tests.c3l.training import READINGS, SETTINGS

AREA = "numbers"
SAMPLES = [
    Sample(f"s{i}", f"image-{i % 2}.png", f"What is {i}?", "A cup.", CLASSES[i % 3])
    for i in range(4)
]


@pytest.fixture
def backbone(tiny_llava):
    return load_backbone(tiny_llava, device="cpu")


@pytest.fixture(scope="module")
def images(tiny_images):
    return ImageFolder(tiny_images)


def spoil(backbone, value: float, when=lambda: True):
    """Every prediction of the model gets `value` among its logits."""
    head = backbone.model.get_output_embeddings()

    def hook(module, inputs, logits):
        if when():
            logits = logits.clone()
            logits[..., 7] = value
        return logits

    return head.register_forward_hook(hook)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_none_stops_with_step_and_samples(
    backbone, images, tmp_path, record_fault, value
):
    spoil(backbone, value)
    said = r"the loss is nan in step 1 .*s[0-3], s[0-3]"
    with record_fault(AREA, "a loss of NaN or infinity"), pytest.raises(UserError, match=said):
        tune(backbone, SAMPLES, images, SETTINGS, READINGS, 0, tmp_path)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_gradient_that_is_none_stops_before_the_weights_move(
    backbone, images, tmp_path, record_fault, value, accumulation
):
    """The loss is a number, its gradient is not; no later step's loss would tell."""
    settings = SETTINGS.model_copy(update={"accumulation": accumulation})
    before = {name: p.clone() for name, p in backbone.model.named_parameters()}
    parameter = backbone.model_part(backbone.projector).linear_1.bias
    parameter.register_hook(lambda gradient: torch.full_like(gradient, value))
    said = r"gradient's norm is (nan|inf) in step 1, .*s[0-3], s"
    with record_fault(AREA, "a gradient of NaN or infinity"), pytest.raises(UserError, match=said):
        tune(backbone, SAMPLES, images, settings, READINGS, 0, tmp_path)
    after = dict(backbone.model.named_parameters())
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not list(tmp_path.glob("checkpoint-*"))


def test_weights_that_are_none_after_the_last_step(backbone, images, tmp_path, record_fault):
    settings = SETTINGS.model_copy(update={"learning_rate": 1e37, "weight_decay": 1e3})
    said = "after step 1 weights are no finite numbers in float"
    fault = "weights too large after the last step"
    with record_fault(AREA, fault), pytest.raises(UserError, match=said):
        tune(backbone, SAMPLES, images, settings, READINGS, 0, tmp_path)


def test_a_batch_of_zeros_trains_to_numbers(backbone, tmp_path, record_fault):
    """Black pictures, and texts that leave ξ nothing but zeros (eq. 2's ReLU)."""
    for name in ("image-0.png", "image-1.png"):
        Image.new("RGB", (24, 24)).save(tmp_path / name)
    chosen = groups(SAMPLES, list(range(4)))
    with torch.no_grad():  # no hidden state, no input embedding: h is zero, and has no direction
        backbone.model.get_input_embeddings().weight.zero_()
    readings = READINGS.model_copy(update={"embedding": "input", "projection": "none"})
    with record_fault(AREA, "a batch of zeros"):
        metrics = train_generator(
            backbone, SAMPLES, chosen, ImageFolder(tmp_path), SETTINGS, readings, 0, tmp_path / "o"
        )
        assert all(math.isfinite(metrics[name]) for name in ("loss", "l_r", "l_c"))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_scores_that_are_none_are_set_aside(backbone, images, record_fault, value):
    with record_fault(AREA, "a score of NaN or infinity"):
        bad = iter([False, True] + [False] * 100)
        handle = spoil(backbone, value, lambda: next(bad))
        found = score(backbone, SAMPLES, images)
        assert len(found) == len(SAMPLES)
        assert set(unscored(found)) == {"not_finite"}
        assert all(math.isnan(s.i2c) and not len(s.kl) for s in found if s.unscored)
        handle.remove()
        assert not unscored(score(backbone, SAMPLES, images))


def test_likelihoods_of_answers_alone_that_are_none_are_left_out(backbone):
    spoil(backbone, math.nan)
    assert answer_logprob_without_prompt(backbone, ["A cup."], batch_size=2) == {}


@pytest.mark.parametrize("temperature", [0.0, 0.7])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nothing_is_written_from_predictions_that_are_none(
    backbone, images, record_fault, value, temperature
):
    spoil(backbone, value)
    names = ["image-0.png", "image-1.png"]
    with record_fault(AREA, "predictions of NaN or infinity while writing"):
        with pytest.raises(NotFiniteError, match=r"image-0\.png, image-1\.png; its weights"):
            captions(backbone, images, names, max_new_tokens=4, temperature=temperature)
        with pytest.raises(NotFiniteError, match=r"image-0\.png"):
            write_pairs(
                backbone, dict.fromkeys(names, "x"), n=1, max_new_tokens=4, temperature=temperature
            )


@pytest.mark.parametrize("task", ["seedbench", "seedbench_ppl"])
def test_a_benchmark_of_predictions_that_are_none_is_unscored(
    backbone, tmp_path, record_fault, task
):
    """Neither the first word of NaN nor its smallest loss is an answer."""
    folder = data.seedbench(tmp_path / "data", n=4)
    spoil(backbone, math.nan)
    with record_fault(AREA, "predictions of NaN in a benchmark"):
        cell = evaluate(backbone, task, folder, tmp_path / "out")
        assert cell["value"] is None
        assert "not finite at c3l_seedbench" in cell["unscored"]


@pytest.mark.parametrize("task", ["seedbench", "pope", "mmbench"])
@pytest.mark.parametrize("said", ["", " \n"])
def test_a_model_that_answers_nothing_is_unscored(tmp_path, record_fault, task, said):
    folder = getattr(data, task)(tmp_path / "data")
    with record_fault(AREA, "a model that answers nothing"):
        cell = evaluate(TableBackbone({}, said), task, folder, tmp_path / "out")
        assert cell["value"] is None
        assert cell["unscored"].startswith("the model answered nothing: all ")
    some = TableBackbone({"number 1?": "A", "the yes": "Yes", "thing 0": "A"}, "")
    cell = evaluate(some, task, folder, tmp_path / "one")
    assert cell["unscored"] is None and cell["unreadable"] > 0  # said beside the number


class Parrot:
    """Writes the same text whatever it is asked."""

    def __init__(self, text: str):
        self.text = text

    def generate(self, questions, images=None, **_):
        return [self.text] * len(questions)

    def generate_with_status(self, questions, images=None, **_):
        from c3l.backbones import Generated

        return [Generated(self.text, True)] * len(questions)


def job(tmp_path, images, **config) -> Job:
    for name in ("out", "partial"):
        (tmp_path / name).mkdir(parents=True)
    readings = {"caption_temperature": 0.0, "pair_temperature": 0.7, "pair_top_p": 0.9}
    config = {
        "images": 4,
        "caption_tokens": 8,
        "pair_tokens": 8,
        "pairs_per_class": 3,
        "batch_size": 4,
        "size": 8,
        "readings": readings | {"pairs_from": "caption", "blacklist": False},
    } | config
    return Job(tmp_path / "out", tmp_path / "partial", {"images": images}, {}, config, 0)


@pytest.mark.parametrize(
    ("text", "samples", "reason"),
    [
        ("Question: What is it here? Answer: A cup.", 4, "repeats itself: one pair, 4 times"),
        ("Question: What is it here? Answer: A cup. " * 50, 4, "one pair, 4 times"),
        ("red " * 50, 0, "wrote no valid pair"),
        ("", 0, "wrote no valid pair"),
    ],
)
def test_a_generator_that_repeats_itself_leaves_the_row_unscored(
    tmp_path, tiny_images, monkeypatch, record_fault, text, samples, reason
):
    monkeypatch.setattr(writing, "load_model", lambda *_, **__: Parrot(text))
    with record_fault(AREA, "a generator that repeats itself, or says nothing"):
        made = job(tmp_path, tiny_images)
        facts = writing.run_final(made)
        kept = read_samples(made.out / common.SAMPLES)
        assert facts["samples"] == len(kept) == samples
        assert reason in facts["unscored"]
        assert facts["written"] == len(kept) + sum(facts["filtered"].values()) + facts["not_drawn"]
        assert facts["empty_captions"] == (0 if text.strip() else 4)


def test_a_row_of_fewer_samples_than_asked_for_says_so(tmp_path, tiny_images, monkeypatch):
    text = "Question: What is it here? Answer: A cup.\nQuestion: Is it red here? Answer: Yes."
    monkeypatch.setattr(writing, "load_model", lambda *_, **__: Parrot(text))
    made = job(tmp_path / "job", tiny_images, size=50)
    store = Store(tmp_path / "store")
    stage = Stage("final", 1, lambda _: writing.run_final(made))
    store.make(stage)
    assert "unscored" not in store.manifest(stage)["facts"]
    (note,) = _short({"a row": {"SEED": [[stage]]}, "another": {}}, store)
    assert note.startswith("a row: 8 of 50 final samples")


def test_captions_of_nothing_are_unscored(tmp_path, tiny_images, monkeypatch, record_fault):
    monkeypatch.setattr(writing, "load_model", lambda *_, **__: Parrot(" "))
    with record_fault(AREA, "a generator that repeats itself, or says nothing"):
        facts = writing.run_captions(job(tmp_path, tiny_images))
        assert facts["empty"] == facts["captions"] == 4
        assert "wrote nothing about any of 4 images" in facts["unscored"]


def test_a_selection_leaves_out_what_has_no_score_and_says_so(
    backbone, tmp_path, images, record_fault
):
    for name in ("samples", "scores", "out", "partial"):
        (tmp_path / name).mkdir()
    found = score(backbone, SAMPLES, images)
    found[1] = Score(found[1].id, unscored="not_finite")
    write_samples(tmp_path / "samples" / common.SAMPLES, SAMPLES)
    write_scores(tmp_path / "scores" / common.SCORES, found)
    inputs = {name: tmp_path / name for name in ("samples", "scores")}
    readings = {"score_form": "literal_sum", "share_within": "pool", "group": "image"}
    config = {"readings": readings, "share": 1.0, "positive": "i2c"}
    with record_fault(AREA, "a score of NaN or infinity"):
        facts = selecting.run_selection(
            Job(tmp_path / "out", tmp_path / "partial", inputs, {}, config, None)
        )
        chosen = json.loads((tmp_path / "out" / "selection.json").read_text())
        assert facts["without_score"] == 1
        assert sorted(chosen["targets"]) == ["s0", "s2", "s3"]
