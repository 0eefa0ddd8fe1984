"""Training: what moves, what stays, two halves are a whole, a killed run ends as one left alone."""

import contextlib
import shutil

import pytest
import torch

from c3l.backbones import load_backbone
from c3l.contrastive import Projection, contrastive_loss
from c3l.errors import UserError
from c3l.instructions import CLASSES, format_pair
from c3l.losses import Losses
from c3l.readings import Readings
from c3l.samples import ImageFolder, Sample
from c3l.selection import Group, groups
from c3l.trainer import LossTrainer, last_checkpoint
from c3l.training import TrainingSettings, train_generator, tune

SETTINGS = TrainingSettings(
    learning_rate=1e-3,
    batch_size=4,
    anchor_tokens=6,
    save_steps=2,
)
# The first step of a warm-up moves nothing.
READINGS = Readings(tuning="language+projector", warmup_ratio=0)
VISION, PROJECTOR = "model.vision_tower.", "model.multi_modal_projector."


@pytest.fixture
def backbone(tiny_llava):
    return load_backbone(tiny_llava, device="cpu")


@pytest.fixture(scope="module")
def images(tiny_images):
    return ImageFolder(tiny_images)


@pytest.fixture(scope="module")
def samples():
    return [
        Sample(
            f"s{i}", f"image-{i % 4}.png", f"What is {i}?", "A cup. " * (i % 3 + 1), CLASSES[i % 3]
        )
        for i in range(12)
    ]


@pytest.fixture(scope="module")
def image_groups(samples):
    return groups(samples, list(range(len(samples))))


@pytest.fixture
def fixed_anchor(monkeypatch):
    """A generator that always writes the same: then only the losses depend on the batch."""

    def write(backbone):
        monkeypatch.setattr(
            backbone, "generate", lambda questions, images, **_: ["Question: a?"] * len(questions)
        )

    return write


def weights(backbone):
    return {name: value.clone() for name, value in backbone.model.state_dict().items()}


def moved(before, after):
    return {name for name, value in after.items() if not torch.equal(value, before[name])}


def largest_gap(one, other):
    return max((one[name] - other[name]).abs().max().item() for name in one)


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


@pytest.mark.parametrize(
    ("image", "still"),
    [(False, (VISION, PROJECTOR, "lm_head.")), (True, (VISION, "lm_head."))],
)
def test_contrast_alone_moves_what_embeds_the_text(
    backbone, image_groups, images, tmp_path, image, still
):
    """Without L_r no token is predicted, and without the image in h the projector is not used."""
    before = weights(backbone)
    readings = READINGS.model_copy(update={"contrastive_image": image})
    metrics = train_generator(backbone, [], image_groups, images, SETTINGS, readings, 0, tmp_path)
    names = moved(before, weights(backbone))
    # The last layer's norm included: e is what the language model's head would read.
    assert names == {name for name in before if not name.startswith(still)}
    assert metrics["steps"] == 1 and "l_r" not in metrics
    assert metrics["loss"] == pytest.approx(metrics["l_c"])


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


def test_the_prompt_as_anchor_carries_gradient_and_samples_nothing(
    backbone, image_groups, images, tmp_path, monkeypatch
):
    """y is the instruction behind its image: so the projector moves, though h sees no image."""
    before = weights(backbone)
    monkeypatch.setattr(backbone, "generate", None)
    readings = READINGS.model_copy(update={"anchor": "prompt"})
    train_generator(backbone, [], image_groups, images, SETTINGS, readings, 0, tmp_path)
    assert any(name.startswith(PROJECTOR) for name in moved(before, weights(backbone)))


def test_input_embeddings_reach_the_embeddings_alone(backbone, image_groups, images, tmp_path):
    before = weights(backbone)
    readings = READINGS.model_copy(update={"embedding": "input"})
    train_generator(backbone, [], image_groups, images, SETTINGS, readings, 0, tmp_path)
    assert moved(before, weights(backbone)) == {"model.language_model.embed_tokens.weight"}


@pytest.mark.parametrize("image", [False, True])
def test_a_packed_contrast_is_that_of_each_text_alone(backbone, image_groups, images, image):
    """Eq. 2 and 3 of every group, written out text by text."""
    readings = READINGS.model_copy(update={"contrastive_image": image})
    torch.manual_seed(0)
    losses = Losses(backbone, Projection(32), readings)
    drawn = [(f"Question: {g.image}?", g, images[g.image]) for g in image_groups]
    expected = 0
    for anchor, group, picture in drawn:
        texts = [anchor, *(format_pair(s.question, s.answer) for s in members(group))]
        h = []
        for text in texts:
            batch = backbone.encode_texts([text], [picture] if image else None)
            h.append(losses.projection(*backbone.text_states(batch)))
        anchor_h, positive, *negatives = h
        expected += contrastive_loss(anchor_h, positive, torch.stack(negatives, dim=1))
    _, packed = losses(None, drawn)
    torch.testing.assert_close(packed, expected[0], atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize(
    "change", [{}, {"contrastive_form": "infonce"}, {"anchor": "prompt"}], ids=str
)
def test_several_positives_are_averaged_over(backbone, samples, images, change):
    """A group of three positives weighs as much as one of one: the mean of three groups' losses,
    and of their gradients."""
    readings = READINGS.model_copy(update=change)
    three = samples[1], samples[4], samples[7]  # of one class: the prompt is the same anchor to all
    many = Group("image-1.png", three, (samples[3], samples[5], samples[6]))
    single = Group("image-0.png", (samples[0],), (samples[8],))
    alone = [Group(many.image, (positive,), many.negatives) for positive in three]
    torch.manual_seed(0)
    losses = Losses(backbone, Projection(32), readings)

    def contrast(*some):
        """L_c of the groups, and its gradient in ξ."""
        losses.zero_grad()
        text = None if readings.anchor == "prompt" else "Question: a?"
        _, total = losses(None, [(text, group, images[group.image]) for group in some])
        total.backward()
        return total.detach(), losses.projection.map.weight.grad.clone()

    together, gradient = contrast(many, single)
    parts = [contrast(group) for group in alone]
    rest, rest_gradient = contrast(single)
    expected = sum(loss for loss, _ in parts) / 3 + rest
    torch.testing.assert_close(together, expected, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(
        gradient, sum(grad for _, grad in parts) / 3 + rest_gradient, atol=1e-4, rtol=1e-4
    )


def members(group):
    return (*group.positives, *group.negatives)


def test_groups_without_a_positive_are_skipped_and_counted(backbone, samples, images, tmp_path):
    both = Group("image-0.png", (samples[0], samples[4]), (samples[8],))
    none = Group("image-1.png", (), (samples[1], samples[5]))
    metrics = train_generator(
        backbone, [], [none, both, none], images, SETTINGS, READINGS, 0, tmp_path
    )
    assert metrics["skipped_groups"] == 2
    assert metrics["steps"] == 1


def test_groups_without_negatives_are_skipped_and_counted(backbone, samples, images, tmp_path):
    alone = groups(samples[:4], [0.0] * 4)
    metrics = train_generator(backbone, samples[:4], alone, images, SETTINGS, READINGS, 0, tmp_path)
    assert metrics["skipped_groups"] == 4 and "l_c" not in metrics
    with pytest.raises(UserError, match="nothing to train"):
        train_generator(backbone, [], alone, images, SETTINGS, READINGS, 0, tmp_path)


def test_empty_anchors_are_counted_and_move_nothing(
    backbone, image_groups, images, tmp_path, monkeypatch
):
    before = weights(backbone)
    monkeypatch.setattr(backbone, "generate", lambda questions, images, **_: [" "] * len(questions))
    metrics = train_generator(backbone, [], image_groups, images, SETTINGS, READINGS, 0, tmp_path)
    assert metrics["empty_anchors"] == len(image_groups)
    assert not moved(before, weights(backbone))


def test_the_anchor_is_sampled_by_the_model_as_it_now_is(
    backbone, image_groups, images, tmp_path, monkeypatch
):
    calls, generate = [], backbone.generate

    def spy(questions, images, **settings):
        assert not backbone.model.training
        calls.append((settings["seed"], weights(backbone)))
        return generate(questions, images, **settings)

    monkeypatch.setattr(backbone, "generate", spy)
    settings = SETTINGS.model_copy(update={"epochs": 2})
    train_generator(backbone, [], image_groups, images, settings, READINGS, 0, tmp_path)
    (seed, first), (other_seed, second) = calls
    assert seed != other_seed
    assert moved(first, second)


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


@contextlib.contextmanager
def killed_after(steps, monkeypatch):
    """A run that dies in the step after the given one, as it starts."""

    class Killed(Exception):
        pass

    step = LossTrainer.compute_loss

    def dying(self, *args, **kwargs):
        if self.state.global_step == steps:
            raise Killed
        return step(self, *args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(LossTrainer, "compute_loss", dying)
        yield


@pytest.mark.parametrize("tuning", ["language+projector", "lora", "qlora"])
def test_a_killed_run_ends_as_one_left_alone(
    tiny_llava, samples, image_groups, images, tmp_path, monkeypatch, tuning
):
    """With sampled anchors, between checkpoints, and with a half-written checkpoint in the way."""
    settings = SETTINGS.model_copy(update={"epochs": 2})
    readings = READINGS.model_copy(update={"tuning": tuning})

    def train(folder):
        backbone = load_backbone(tiny_llava, device="cpu")
        metrics = train_generator(
            backbone, samples, image_groups, images, settings, readings, 7, folder
        )
        return backbone, metrics

    alone, metrics = train(tmp_path / "alone")
    with killed_after(5, monkeypatch):
        train(tmp_path / "killed")
    assert last_checkpoint(tmp_path / "killed").endswith("checkpoint-4")
    broken = tmp_path / "killed" / "checkpoint-6"
    shutil.copytree(tmp_path / "killed" / "checkpoint-4", broken)
    (broken / "trainer_state.json").write_text('{"global_step": 6, "log_')
    resumed, resumed_metrics = train(tmp_path / "killed")
    assert not moved(weights(alone), weights(resumed))
    first, second = (
        (tmp_path / name / "projection.safetensors").read_bytes() for name in ("alone", "killed")
    )
    assert first == second
    assert resumed_metrics["steps"] == metrics["steps"] == 6
    assert resumed_metrics["loss"] == metrics["loss"]


def test_a_finished_run_is_not_done_again(tiny_llava, samples, images, tmp_path, monkeypatch):
    def train():
        backbone = load_backbone(tiny_llava, device="cpu")
        return (
            weights(backbone)
            if tune(backbone, samples, images, SETTINGS, READINGS, 0, tmp_path)
            else None
        )

    first = train()
    monkeypatch.setattr(LossTrainer, "compute_loss", None)
    assert not moved(first, train())


def test_the_seed_decides(tiny_llava, samples, images, tmp_path):
    ended = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        backbone = load_backbone(tiny_llava, device="cpu")
        tune(backbone, samples, images, SETTINGS, READINGS, seed, tmp_path / name)
        ended.append(weights(backbone))
    assert not moved(ended[0], ended[1])
    assert moved(ended[0], ended[2])


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
    half = load_backbone(tiny_llava, device="cpu", dtype="bfloat16")
    with pytest.raises(UserError, match="half precision"):
        tune(half, samples, images, SETTINGS, READINGS, 0, tmp_path)


def test_a_checkpoint_of_another_training_is_refused(tiny_llava, samples, images, tmp_path):
    tune(load_backbone(tiny_llava, device="cpu"), samples, images, SETTINGS, READINGS, 0, tmp_path)
    other = READINGS.model_copy(update={"tuning": "projector"})
    with pytest.raises(UserError, match="of other weights"):
        tune(load_backbone(tiny_llava, device="cpu"), samples, images, SETTINGS, other, 0, tmp_path)
