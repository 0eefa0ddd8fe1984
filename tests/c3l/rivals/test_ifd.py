"""Instruction-following difficulty: what is conditional on what, and which way it ranks."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from c3l.backbones import load_backbone
from c3l.readings import Readings
from c3l.relevance import score
from c3l.rivals.ifd import answer_logprob_without_prompt, difficulty
from c3l.samples import ImageFolder, Sample
from c3l.scores import Score

ANSWERS = ["A ball.", "It is red, and it rolls.", "Yes."]


def made(*logp):
    return Score("s", 0.0, np.array(logp, np.float32), np.zeros(len(logp), np.float32))


@pytest.fixture(scope="module")
def backbone(tiny_llava):
    return load_backbone(tiny_llava, device="cpu")


def test_an_answer_alone_stands_behind_an_empty_question(backbone):
    found = answer_logprob_without_prompt(backbone, [*ANSWERS, ANSWERS[0], " "], batch_size=2)
    assert found.keys() == set(ANSWERS)
    for answer in ANSWERS:
        batch = backbone.encode([""], answers=[answer])
        with torch.no_grad():
            inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
            logp = backbone.model(**inputs).logits[0, :-1].log_softmax(-1)
        logp = logp.gather(1, batch["input_ids"][0, 1:, None])[:, 0]
        expected = logp[batch["answer_mask"][0, 1:]].mean().item()
        assert found[answer] == pytest.approx(expected, abs=1e-5)


def test_the_condition_is_image_and_question(backbone, tiny_images):
    """By definition: perplexity of the answer behind both, over its perplexity behind neither."""
    sample = Sample("s", "image-0.png", "What can be seen?", ANSWERS[1])
    (scored,) = score(backbone, [sample], ImageFolder(tiny_images), Readings())
    likelihood = answer_logprob_without_prompt(backbone, [sample.answer], batch_size=1)[
        sample.answer
    ]
    ifd = math.exp(-scored.logp_visual.mean()) / math.exp(-likelihood)
    value = difficulty(scored, likelihood)
    assert value == pytest.approx(ifd if ifd < 1 else -math.log(ifd), rel=1e-4)


@given(st.lists(st.floats(-20, 0, width=32), min_size=2, max_size=20))
def test_the_hardest_that_still_helps_comes_first(logps):
    """An answer of -10 nats a token alone; so much behind its instruction."""
    ratio = {logp: math.exp(-10 - logp) for logp in logps}
    order = sorted(set(logps), key=lambda logp: -difficulty(made(logp), -10.0))
    helped = [ratio[logp] for logp in order if ratio[logp] < 1]
    misled = [ratio[logp] for logp in order if ratio[logp] >= 1]
    assert [ratio[logp] for logp in order] == helped + misled
    assert helped == sorted(helped, reverse=True)
    assert misled == sorted(misled)


def test_an_impossible_answer_is_the_last():
    assert difficulty(made(-math.inf), -1.0) == -math.inf
