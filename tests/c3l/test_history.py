"""A later turn is scored behind the turns before it, packed or one by one."""

from dataclasses import replace

import numpy as np
import pytest

from c3l import relevance
from c3l.backbones import load_backbone
from c3l.readings import Readings
from c3l.samples import ImageFolder, Sample
from c3l.scores import ARRAYS

TURNS = (("What is it?", "A cup."), ("Is it red?", "Yes, it is."), ("Why?", "So."))


def conversation(name, image, turns=TURNS):
    return [Sample(f"{name}-{k}", image, *turn, history=turns[:k]) for k, turn in enumerate(turns)]


@pytest.fixture(scope="module")
def backbone(tiny_llava):
    return load_backbone(tiny_llava, device="cpu")


@pytest.fixture(scope="module")
def images(tiny_images):
    return ImageFolder(tiny_images)


def test_the_image_stands_in_the_first_turn(backbone):
    said = backbone.prompt("Why?</s>", True, "So.", TURNS[:2])
    assert said == (
        "USER: <image>\nWhat is it?\nASSISTANT:\nA cup.</s>USER: Is it red?\nASSISTANT:\n"
        "Yes, it is.</s>USER: Why?< /s>\nASSISTANT:\nSo.</s>"
    )
    assert backbone.prompt("Why?", False, None, TURNS[:1]).count("USER") == 2
    assert backbone.prompt("Why?", False, "So.", ()) == backbone.prompt("Why?", False, "So.")


def test_packed_is_one_by_one(backbone, images):
    samples = [
        *conversation("a", "image-0.png"),
        *conversation("b", "image-0.png", (TURNS[0], TURNS[2], TURNS[2])),
        *conversation("c", "image-1.png"),
    ]
    packed = relevance.score(backbone, samples, images, batch_size=8)
    single = [relevance.score(backbone, [sample], images, batch_size=1)[0] for sample in samples]
    for one, other in zip(packed, single, strict=True):
        assert one.i2c == pytest.approx(other.i2c, abs=1e-6)
        for name in ARRAYS:
            np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=1e-5)


def test_alone_is_without_a_history(backbone, images):
    samples = conversation("a", "image-0.png")
    bare = [replace(sample, history=()) for sample in samples]
    behind, without = (relevance.score(backbone, some, images) for some in (samples, bare))
    alone = relevance.score(backbone, samples, images, Readings(turns="alone"))
    assert [score.i2c for score in alone] == [score.i2c for score in without]
    assert behind[0].i2c == pytest.approx(without[0].i2c, abs=1e-6)
    assert all(abs(behind[k].i2c - without[k].i2c) > 1e-6 for k in (1, 2))


def test_every_family_reads_what_was_said_before(family):
    backbone = load_backbone(family, device="cpu")
    whole = backbone.prompt("Why?", True, "So.", TURNS[:2])
    texts = [text for turn in TURNS for text in turn]
    places = [whole.index(text) for text in texts]
    assert places == sorted(places)
    alone = backbone.prompt("Why?", True, "So.")
    assert whole.count(backbone._format.image_token) == alone.count(backbone._format.image_token)
    assert whole.endswith(alone[alone.index("Why?") :])
    # Each answer ends as the last one does, once.
    end = alone[alone.index("So.") + len("So.") :].strip()
    for question, answer in TURNS[:2]:
        behind = whole[whole.index(answer, whole.index(question)) + len(answer) :].lstrip()
        assert behind.startswith(backbone._format.stop[0] if backbone._format.stop else end)
        assert not behind.startswith(2 * end)


def test_a_conversation_longer_than_the_context_says_so(backbone, images):
    long = (("What?", "word " * 400), ("Why?", "So."))
    scores = relevance.score(backbone, conversation("a", "image-0.png", long), images)
    assert [score.unscored for score in scores] == ["longer_than_context"] * 2
