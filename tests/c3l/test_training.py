"""Training: what moves, what stays, two halves are a whole, what cannot be trained."""

import pytest
import torch

from c3l.backbones import load_backbone
from c3l.runtime.errors import UserError
from c3l.samples import Sample
from c3l.training import train_generator, tune
from tests.c3l.training import PROJECTOR, READINGS, SETTINGS, VISION, largest_gap, moved, weights


@pytest.fixture
def fixed_anchor(monkeypatch):
    """A generator that always writes the same: then only the losses depend on the batch."""

    def write(backbone):
        monkeypatch.setattr(
            backbone, "generate", lambda questions, images, **_: ["Question: a?"] * len(questions)
        )

    return write


def test_tuning_moves_language_and_projector_and_not_the_vision_encoder(
    backbone, samples, images, tmp_path, capfd
):
    before = weights(backbone)
    metrics = tune(backbone, samples, images, SETTINGS, READINGS, 0, tmp_path)
    names = moved(before, weights(backbone))
    assert names == {name for name in before if not name.startswith(VISION)}
    assert metrics["steps"] == len(metrics["history"]) == 3
    assert metrics["loss"] == metrics["l_r"]
    assert not backbone.model.training
    assert capfd.readouterr().out == ""


def test_tuning_learns(backbone, samples, images, tmp_path):
    settings = SETTINGS.model_copy(update={"epochs": 15, "learning_rate": 5e-3, "save_steps": 100})
    history = tune(backbone, samples, images, settings, READINGS, 0, tmp_path)["history"]
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]


def test_labels_are_the_answer_and_its_end(backbone, samples, images, tmp_path):
    """The first step's loss by hand: cross entropy over answers and ends of sequence."""
    settings = SETTINGS.model_copy(update={"batch_size": len(samples)})
    total = count = 0
    for sample in samples:
        batch = backbone.encode([sample.question], [images[sample.image]], [sample.answer])
        batch.pop("answer_mask")
        labels = batch.pop("labels")[0, 1:]
        with torch.no_grad():
            logp = backbone.model(**batch).logits[0, :-1].log_softmax(-1)
        answer = labels != -100
        assert labels[answer][-1] == backbone.tokenizer.eos_token_id
        total -= logp[answer, labels[answer]].sum().item()
        count += int(answer.sum())
    metrics = tune(backbone, samples, images, settings, READINGS, 0, tmp_path)
    assert metrics["history"][0]["l_r"] == pytest.approx(total / count, abs=1e-4)


@pytest.mark.parametrize("tuning", ["projector", "full"])
def test_other_tunings(backbone, samples, images, tmp_path, tuning):
    before = weights(backbone)
    readings = READINGS.model_copy(update={"tuning": tuning})
    tune(backbone, samples, images, SETTINGS, readings, 0, tmp_path)
    names = moved(before, weights(backbone))
    projector = {name for name in before if name.startswith(PROJECTOR)}
    assert names == projector if tuning == "projector" else names > projector
    assert (tuning == "full") == any(name.startswith(VISION) for name in names)


def test_adapters_train_and_merge(backbone, tiny_llava, samples, images, tmp_path):
    before = weights(backbone)
    readings = READINGS.model_copy(update={"tuning": "lora"})
    tune(backbone, samples, images, SETTINGS, readings, 0, tmp_path / "run")
    backbone.save(tmp_path / "saved")
    names = moved(before, weights(load_backbone(tmp_path / "saved", device="cpu")))
    assert any(name.startswith(PROJECTOR) for name in names)
    assert any("q_proj" in name for name in names)
    assert not any(name.startswith(VISION) or "embed_tokens" in name for name in names)


def test_both_losses_and_their_weight(backbone, samples, image_groups, images, tmp_path):
    settings = SETTINGS.model_copy(update={"max_negatives": 1})
    readings = READINGS.model_copy(update={"contrastive_weight": 0.5})
    metrics = train_generator(
        backbone, samples[:6], image_groups, images, settings, readings, 0, tmp_path
    )
    assert metrics["steps"] == 2  # one pass over the targets
    assert metrics["skipped_groups"] == 0
    for record in metrics["history"]:
        assert record["loss"] == pytest.approx(record["l_r"] + 0.5 * record["l_c"], abs=1e-5)
    assert (tmp_path / "projection.safetensors").is_file()


@pytest.mark.parametrize(
    "change",
    [
        {"target": "answer"},
        {"projection": "none"},
        {"contrastive_form": "infonce"},
        {"temperature": 1.0},
        {"embedding": "input"},
        {"anchor": "prompt"},
        {"contrastive_image": True},
        {"schedule": "constant_with_warmup"},
    ],
    ids=str,
)
def test_other_readings_train_otherwise(
    tiny_llava, samples, image_groups, images, tmp_path, change
):
    losses = []
    for name, choice in (("default", {}), ("other", change)):
        backbone = load_backbone(tiny_llava, device="cpu")
        readings = READINGS.model_copy(update=choice)
        given = (backbone, samples, image_groups, images, SETTINGS, readings, 0)
        losses.append(train_generator(*given, tmp_path / name)["loss"])
    assert losses[0] != losses[1]


def test_one_loss_after_the_other(backbone, samples, image_groups, images, tmp_path):
    readings = READINGS.model_copy(update={"joining": "sequential"})
    history = train_generator(
        backbone, samples[:8], image_groups, images, SETTINGS, readings, 0, tmp_path
    )["history"]
    assert [("l_r" in step, "l_c" in step) for step in history] == [(True, False)] * 2 + [
        (False, True)
    ] * 2


def test_a_reading_may_say_how_many_epochs(backbone, samples, images, tmp_path):
    readings = READINGS.model_copy(update={"epochs": 2})
    assert tune(backbone, samples, images, SETTINGS, readings, 0, tmp_path)["steps"] == 6


@pytest.mark.parametrize("targets", [8, 7, 0])
def test_two_half_batches_are_one_whole(
    tiny_llava, samples, image_groups, images, tmp_path, fixed_anchor, targets
):
    ended = []
    for parts in (1, 2):
        backbone = load_backbone(tiny_llava, device="cpu")
        fixed_anchor(backbone)
        settings = SETTINGS.model_copy(update={"accumulation": parts})
        metrics = train_generator(
            backbone,
            samples[:targets],
            image_groups,
            images,
            settings,
            READINGS,
            0,
            tmp_path / str(parts),
        )
        ended.append((metrics["l_c"], weights(backbone)))
    (loss, whole), (other_loss, halves) = ended
    assert loss == pytest.approx(other_loss, abs=1e-4)
    assert largest_gap(whole, halves) < 2e-5


def test_a_loss_that_is_no_number_is_named(backbone, samples, images, tmp_path):
    with torch.no_grad():
        backbone.model.get_output_embeddings().weight.fill_(float("nan"))
    with pytest.raises(UserError, match=r"loss is nan in step 1 .* s\d+, s\d+"):
        tune(backbone, samples, images, SETTINGS, READINGS, 0, tmp_path)


def test_what_cannot_be_trained_is_one_sentence(backbone, tiny_llava, samples, images, tmp_path):
    with pytest.raises(UserError, match="nothing to tune"):
        tune(backbone, [], images, SETTINGS, READINGS, 0, tmp_path)
    foreign = [Sample("x", "image-0.png", "What?", "A cup.")]
    with pytest.raises(UserError, match="sample x has no instruction"):
        train_generator(backbone, foreign, [], images, SETTINGS, READINGS, 0, tmp_path)
    half = load_backbone(tiny_llava, device="cpu", dtype="float16")
    with pytest.raises(UserError, match="float16 cannot train on a CPU"):
        tune(half, samples, images, SETTINGS, READINGS, 0, tmp_path)
