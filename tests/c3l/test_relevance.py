"""I²C: forms by hand, and scoring a model batch by batch as one by one."""

import numpy as np
import pytest
import torch

from c3l.backbones import load_backbone
from c3l.errors import UserError
from c3l.readings import Readings
from c3l.relevance import i2c, score
from c3l.samples import ImageFolder, Sample

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


def test_equal_pairs_are_read_once_without_an_image(backbone, samples, images, monkeypatch):
    read, encode = [], type(backbone).encode

    def counting(self, questions, images=None, answers=None, **settings):
        read.extend((images is not None, question) for question in questions)
        return encode(self, questions, images, answers, **settings)

    monkeypatch.setattr(type(backbone), "encode", counting)
    score(backbone, samples, images, batch_size=2)
    assert sum(seen for seen, _ in read) == len(samples)
    assert sum(not seen for seen, _ in read) == len(TEXTS)


def test_end_of_sequence_is_scored_on_demand(backbone, samples, images):
    without = score(backbone, samples[:3], images)
    with_end = score(backbone, samples[:3], images, Readings(score_eos=True))
    for a, b in zip(without, with_end, strict=True):
        np.testing.assert_allclose(a.logp_visual, b.logp_visual[:-1], atol=1e-6)
        assert len(b.kl) == len(a.kl) + 1


@pytest.mark.parametrize("form", Readings.model_fields["score_form"].annotation.__args__)
def test_any_form_is_recomputed_from_what_is_kept(backbone, samples, images, form):
    for found in score(backbone, samples[:2], images, Readings(score_form=form)):
        arrays = (found.logp_visual, found.logp_direct, found.kl)
        visual, direct, kl = (torch.from_numpy(a)[None] for a in arrays)
        assert i2c(visual, direct, form=form, kl=kl).item() == pytest.approx(found.i2c, abs=1e-6)


def test_an_empty_answer_is_named(backbone, images):
    with pytest.raises(UserError, match="sample lost"):
        score(backbone, [Sample("lost", "image-0.png", "What?", " ", "conversation")], images)
