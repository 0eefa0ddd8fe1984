"""I²C: forms by hand, and scoring a model batch by batch as one by one."""

import shutil
from typing import get_args

import numpy as np
import pytest
import torch

from c3l.backbones import load_backbone
from c3l.readings import Readings, ScoreForm
from c3l.relevance import answer_states, i2c, in_form, score
from c3l.runtime.errors import UserError
from c3l.samples import ImageFolder, Sample
from c3l.scores import read_scores, unscored, write_scores

TEXTS = [
    ("What is on the table?", "A cup."),
    ("Where?", "Left of the lamp, under the old clock."),
    ("What is a cup used for?", "To drink."),
    ("What colour is the ball in the corner of the room?", "Red"),
]


@pytest.fixture(scope="module")
def backbone(tiny_llava):
    return load_backbone(tiny_llava, device="cpu")


@pytest.fixture(scope="module")
def samples():
    return [
        Sample(f"s{i}", f"image-{i % 6}.png", *TEXTS[i % len(TEXTS)], "conversation")
        for i in range(10)
    ]


@pytest.fixture(scope="module")
def images(tiny_images):
    return ImageFolder(tiny_images)


def log(*values):
    return torch.tensor([values]).log()


@pytest.mark.parametrize(
    ("form", "p", "q", "expected"),
    [
        ("literal_sum", (0.9, 0.9), (0.1, 0.1), 3.955),
        ("literal_mean", (0.9, 0.9), (0.1, 0.1), 1.9775),
        ("renormalised", (0.9, 0.9), (0.1, 0.1), 0.0),
        ("generalised", (0.9, 0.9), (0.1, 0.1), 2.355),
        ("bernoulli", (0.9, 0.9), (0.1, 0.1), 3.5156),
        ("logratio", (0.9, 0.9), (0.1, 0.1), 4.3944),
        ("logratio_mean", (0.9, 0.9), (0.1, 0.1), 2.1972),
    ],
)
def test_forms_by_hand(form, p, q, expected):
    assert i2c(log(*p), log(*q), form=form).item() == pytest.approx(expected, abs=1e-3)


def test_full_vocabulary_forms_add_up_the_given_divergence():
    kl, mask = torch.tensor([[1.0, 3.0, 9.0]]), torch.tensor([[1, 1, 0]])
    given = {"kl": kl, "mask": mask}
    assert i2c(log(0.5, 0.5, 0.5), log(0.5, 0.5, 0.5), form="full_vocab_sum", **given) == 4
    assert i2c(log(0.5, 0.5, 0.5), log(0.5, 0.5, 0.5), form="full_vocab_mean", **given) == 2
    with pytest.raises(ValueError, match="kl"):
        i2c(log(0.5), log(0.5), form="full_vocab_sum")


def test_an_answer_without_a_token_is_an_error():
    with pytest.raises(ValueError, match="without a single token"):
        i2c(log(0.5), log(0.5), torch.tensor([[0]]))
    with pytest.raises(ValueError, match="without a single token"):
        i2c(torch.empty(1, 0), torch.empty(1, 0))


def test_probabilities_that_underflow():
    visual = torch.tensor([[-200.0, -0.1, -torch.inf, -torch.inf]])
    direct = torch.tensor([[-300.0, -200.0, -torch.inf, -1.0]])
    assert i2c(visual, direct).item() == pytest.approx(np.exp(-0.1) * 199.9, rel=1e-6)
    assert i2c(visual[:, :3], direct[:, :3], form="logratio").item() == pytest.approx(299.9)
    assert i2c(visual[:, :1], direct[:, :1], form="renormalised").item() == 0
    # A model that is sure beyond what float32 can tell from 1 does not score infinity.
    assert i2c(torch.tensor([[-0.5]]), torch.zeros(1, 1), form="bernoulli").isfinite()


def test_scores_by_hand(backbone, samples, images):
    """One sample, written out: every logit, then the answer's tokens."""
    sample = samples[1]
    found = score(backbone, [sample], images)[0]
    for pictures, logp in (([images[sample.image]], found.logp_visual), (None, found.logp_direct)):
        batch = backbone.encode([sample.question], pictures, [sample.answer])
        places = batch.pop("answer_mask")[0].nonzero()[:, 0]
        labels = batch.pop("labels")
        tokens = batch["input_ids"][0, places]
        assert backbone.tokenizer.decode(tokens).strip() == sample.answer
        assert len(places) == (labels != -100).sum() - 1  # end of sequence
        with torch.no_grad():
            logits = backbone.model(**batch).logits[0, places - 1]
        expected = logits.log_softmax(-1)[range(len(tokens)), tokens]
        np.testing.assert_allclose(logp, expected.numpy(), atol=1e-5)
        assert logp.dtype == np.float32
    expected = (np.exp(found.logp_visual) * (found.logp_visual - found.logp_direct)).sum()
    assert found.i2c == pytest.approx(expected, abs=1e-6)
    assert (found.kl >= 0).all() and found.kl.any()


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_batches_and_order_do_not_matter(backbone, samples, images, batch_size):
    whole = score(backbone, samples, images, batch_size=5)
    other = score(backbone, samples[::-1], images, batch_size=batch_size)[::-1]
    assert [s.id for s in whole] == [s.id for s in samples]
    for a, b in zip(whole, other, strict=True):
        assert a.id == b.id
        assert a.i2c == pytest.approx(b.i2c, abs=1e-5)
        for name in ("logp_visual", "logp_direct", "kl"):
            np.testing.assert_allclose(getattr(a, name), getattr(b, name), atol=1e-5)


def test_images_and_equal_pairs_are_read_once(backbone, samples, images, monkeypatch):
    """Each image stands once in a forward, each pair once without its image."""
    read, states = [], type(backbone).hidden_states

    def counting(self, batch, positions, group_sizes=None):
        read.append(("pixel_values" in batch, list(group_sizes)))
        return states(self, batch, positions, group_sizes)

    monkeypatch.setattr(type(backbone), "hidden_states", counting)
    score(backbone, samples, images, batch_size=4)
    seen = [sizes for with_image, sizes in read if with_image]
    assert sorted(size for sizes in seen for size in sizes) == [1, 1, 2, 2, 2, 2]
    assert all(sum(sizes) <= 4 for sizes in seen)
    assert sum(sum(sizes) for with_image, sizes in read if not with_image) == len(TEXTS)


def test_parts_of_the_pool_are_scored_as_the_whole(backbone, samples, images, monkeypatch):
    """Shards, and windows within one."""
    whole = score(backbone, samples, images)
    parts = [made for k in (0, 3, 6, 9) for made in score(backbone, samples[k : k + 3], images)]
    monkeypatch.setattr("c3l.relevance._WINDOW", 4)
    for other in (parts, score(backbone, samples, images, batch_size=2)):
        assert [made.id for made in other] == [made.id for made in whole]
        np.testing.assert_allclose([m.i2c for m in other], [m.i2c for m in whole], atol=1e-5)


@pytest.mark.parametrize("kind", ["blank", "noise", "mean"])
def test_a_picture_of_nothing_in_place_of_none(backbone, samples, images, kind):
    nothing = backbone.no_picture(kind)
    readings = Readings(without_image=kind)
    for found, sample in zip(score(backbone, samples, images, readings), samples, strict=True):
        batch = backbone.encode([sample.question], [nothing], [sample.answer])
        with torch.no_grad():
            states, tokens = answer_states(backbone, batch, batch["answer_mask"])
            logp = backbone.head(states).log_softmax(-1)
        expected = logp.gather(1, tokens[:, None])[:, 0]
        np.testing.assert_allclose(found.logp_direct, expected.numpy(), atol=1e-5)


def test_end_of_sequence_is_scored_on_demand(backbone, samples, images):
    without = score(backbone, samples[:3], images)
    with_end = score(backbone, samples[:3], images, Readings(score_eos=True))
    for a, b in zip(without, with_end, strict=True):
        np.testing.assert_allclose(a.logp_visual, b.logp_visual[:-1], atol=1e-6)
        assert len(b.kl) == len(a.kl) + 1


def test_what_cannot_be_scored_says_why_and_the_rest_is_scored(
    backbone, samples, images, tiny_images, tmp_path
):
    folder = tmp_path / "images"
    shutil.copytree(tiny_images, folder)
    (folder / "cut.png").write_bytes((folder / "image-0.png").read_bytes()[:60])
    bad = [
        Sample("blank", "image-0.png", "What?", " \n"),
        Sample("gone", "nowhere.png", "What?", "A cup."),
        Sample("cut", "cut.png", "What?", "A cup."),
        Sample("out", "../image-0.png", "What?", "A cup."),
        Sample("long", "image-0.png", "What?", "cup " * 400),
        # As a text it fits; behind its image it does not.
        Sample("long-image", "image-0.png", "What?", "c" * 993),
    ]
    mixed = [x for pair in zip(samples, bad, strict=False) for x in pair] + samples[len(bad) :]
    found = {made.id: made for made in score(backbone, mixed, ImageFolder(folder))}
    assert list(found) == [sample.id for sample in mixed]
    assert {name: made.unscored for name, made in found.items() if made.unscored} == {
        "blank": "empty_answer",
        "gone": "image_missing",
        "cut": "image_unreadable",
        "out": "image_outside",
        "long": "longer_than_context",
        "long-image": "longer_than_context",
    }
    assert unscored(list(found.values()))["longer_than_context"] == 2
    assert all(np.isnan(found[sample.id].i2c) for sample in bad)
    for alone in score(backbone, samples, images):
        assert found[alone.id].i2c == pytest.approx(alone.i2c, abs=1e-5)


def test_nothing_to_score(backbone, images):
    assert score(backbone, [], images) == []


def test_scores_are_kept_whole(backbone, samples, images, tmp_path):
    """Written, read, and put into every form without a model."""
    given = [*samples, Sample("blank", "image-0.png", "What?", "")]
    found = score(backbone, given, images)
    write_scores(tmp_path / "scores.parquet", found)
    read = read_scores(tmp_path / "scores.parquet")
    for form in get_args(ScoreForm):
        expected = [s.i2c for s in score(backbone, given, images, Readings(score_form=form))]
        np.testing.assert_allclose(in_form(read, form), expected, atol=1e-6)
    for before, after in zip(found, read, strict=True):
        assert (before.id, before.unscored) == (after.id, after.unscored)
        assert after.kl.dtype == np.float32
        assert np.array_equal(before.logp_visual, after.logp_visual)
    (tmp_path / "other.parquet").write_text("no parquet")
    with pytest.raises(UserError, match="no file of scores"):
        read_scores(tmp_path / "other.parquet")
    with pytest.raises(UserError, match="does not exist"):
        read_scores(tmp_path / "nothing.parquet")


def test_one_token_answers_and_one_sample_an_image(backbone, images):
    """Of bytes: each letter is a token, and "a" is all there is."""
    alone = [Sample(f"s{i}", f"image-{i}.png", "What?", "a") for i in range(3)]
    for made in score(backbone, alone, images):
        assert made.kl.shape == (1,)
        gain = made.logp_visual[0] - made.logp_direct[0]
        assert made.i2c == pytest.approx(np.exp(made.logp_visual[0]) * gain, abs=1e-6)
    assert all(s == 0 for s in in_form(score(backbone, alone, images), "renormalised"))
