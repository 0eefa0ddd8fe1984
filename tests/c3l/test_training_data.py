"""What the check before a training counts is what a model reads, in every family."""

from PIL import Image

from c3l.backbones import load_backbone
from c3l.samples import Sample
from c3l.training_data import too_long, unusable

QUESTIONS = ["What is it?", "", "Is </s> a token? " * 5, "Was für ein Bild ist <image> das?"]
ANSWERS = ["A cup.", "Ein Löwe: 🦁", "</s>", "x" * 70]


def assert_lengths_are_those_of_encode(backbone):
    pictures = [Image.new("RGB", (40 + 9 * k, 30)) for k in range(len(QUESTIONS))]
    batch = backbone.encode(QUESTIONS, pictures, ANSWERS)
    read = batch["attention_mask"].sum(1).tolist(), batch["answer_mask"].sum(1).tolist()
    assert backbone.lengths(QUESTIONS, ANSWERS) == list(zip(*read, strict=True))


def test_lengths_are_those_of_encode(backbone):
    assert_lengths_are_those_of_encode(backbone)


def test_lengths_of_other_families_are_too(family):
    assert_lengths_are_those_of_encode(load_backbone(family, device="cpu"))


def test_the_last_token_that_fits(backbone, images):
    """A byte is a token here: the image's tokens and the end of the sequence count."""
    ((least, _),) = backbone.lengths(["?"], ["x"])
    room = backbone.context - least
    some = [Sample("", "image-0.png", "?", "x" * (1 + room + k)) for k in (0, 1)]
    assert unusable(backbone, some, images) == {1: "longer_than_context"}
    # As a lesson in writing a sample is longer.
    assert too_long(backbone, some, pairs=True) == dict.fromkeys((0, 1), "longer_than_context")
