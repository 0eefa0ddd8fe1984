"""Training on L_c: what it reaches, which groups count, whose anchor it is."""

import pytest
import torch

from c3l.contrastive import Projection, contrastive_loss
from c3l.instructions import format_pair
from c3l.losses import Losses
from c3l.runtime.errors import UserError
from c3l.selection import Group, groups
from c3l.trainer import LossTrainer
from c3l.training import TrainingSettings, train_generator
from tests.c3l.training import PROJECTOR, READINGS, SETTINGS, VISION, moved, weights


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
        calls.append((settings["keys"], weights(backbone)))
        return generate(questions, images, **settings)

    monkeypatch.setattr(backbone, "generate", spy)
    settings = SETTINGS.model_copy(update={"epochs": 2})
    train_generator(backbone, [], image_groups, images, settings, READINGS, 0, tmp_path)
    (keys, first), (other_keys, second) = calls
    assert not {*keys} & {*other_keys}
    assert moved(first, second)


def test_anchors_of_several_steps_are_sampled_at_once(
    backbone, samples, image_groups, images, tmp_path, monkeypatch
):
    """12 targets in steps of 2, anchors for 4 steps at a time: two batches, of 8 and of 4."""
    steps, calls = [], []
    generate = backbone.generate

    def spy(questions, images, **settings):
        calls.append((len(steps), len(questions), weights(backbone)))
        return generate(questions, images, **settings)

    def counted(self, *args, **kwargs):
        steps.append(weights(backbone))
        return step(self, *args, **kwargs)

    step = LossTrainer.training_step
    monkeypatch.setattr(LossTrainer, "training_step", counted)
    monkeypatch.setattr(backbone, "generate", spy)
    settings = SETTINGS.model_copy(update={"batch_size": 2, "anchor_steps": 4, "save_steps": 4})
    train_generator(backbone, samples, image_groups, images, settings, READINGS, 0, tmp_path)
    assert [(place, count) for place, count, _ in calls] == [(1, 8), (5, 4)]
    for place, _, then in calls:
        assert not moved(then, steps[place - 1])


def test_checkpoints_lie_between_samplings():
    with pytest.raises(ValueError, match="anchor_steps must divide save_steps"):
        TrainingSettings(anchor_steps=3, save_steps=100)
    assert "anchor_steps" not in SETTINGS.model_dump()
