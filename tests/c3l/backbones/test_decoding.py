"""Writing token by token: transformers' own texts when greedy, and rows that do not know others."""

import random
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import TopPLogitsWarper

import c3l
from benchmarks.speed import writing
from c3l.backbones.decoding import _without, nucleus_tokens, row_seeds
from c3l.instructions import CLASSES, pair_prompt_from_caption
from tests.c3l import families
from tests.tiny import as_numbers

QUESTIONS = ["Why?", "What colour is the ball?", "Où?", "How many trees can you see here?", "Who?"]
SAMPLING = {"temperature": 1.5, "top_p": 0.9, "seed": 3}
NAMES = ["llava", *families.FAMILIES]


@pytest.fixture(scope="module", params=NAMES)
def backbone(request, tiny_llava, tmp_path_factory):
    if request.param == "llava":
        return c3l.load_backbone(tiny_llava, device="cpu")
    folder = tmp_path_factory.mktemp("families") / request.param
    return c3l.load_backbone(families.save(request.param, folder), device="cpu")


@pytest.fixture(scope="module")
def pictures(tiny_images):
    return [Image.open(tiny_images / f"image-{k}.png") for k in range(len(QUESTIONS))]


@pytest.fixture(params=[False, True], ids=["text", "image"])
def images(request, pictures):
    return pictures if request.param else None


@pytest.fixture
def frequent_ends(backbone, monkeypatch):
    """An eighth of the vocabulary ends a text, so that rows end at different times."""
    ends = [*range(2, backbone.model.config.get_text_config().vocab_size, 8)]
    monkeypatch.setattr(backbone, "_end_ids", ends)
    monkeypatch.setattr(
        backbone.model_part(backbone.speaker).generation_config, "eos_token_id", ends
    )


@pytest.mark.usefixtures("frequent_ends")
def test_greedy_tokens_are_transformers_own(backbone, images):
    """Of the same batch, padded on the left, in which rows end at different times."""
    batch = backbone.encode(QUESTIONS, images, side="left")
    ours = backbone._continued(batch, max_new_tokens=24)
    inputs = backbone._model_inputs(batch)
    theirs = backbone.model_part(backbone.speaker).generate(**inputs, max_new_tokens=24)
    assert torch.equal(ours, theirs[:, inputs.get("input_ids", theirs[:, :0]).shape[1] :])
    lengths = (ours != backbone.tokenizer.pad_token_id).sum(1)
    assert len(set(lengths.tolist())) > 1


@pytest.mark.usefixtures("frequent_ends")
@pytest.mark.parametrize("sampling", [{}, SAMPLING], ids=["greedy", "sampled"])
def test_neither_batch_size_nor_order_changes_a_text(backbone, images, sampling, monkeypatch):
    as_numbers(backbone, monkeypatch)
    settings = {"max_new_tokens": 16, **sampling}
    order = random.Random(0).sample(range(len(QUESTIONS)), len(QUESTIONS))
    texts = backbone.generate_with_status(QUESTIONS, images, **settings)
    for size in (1, 3, 64):
        mixed = backbone.generate_with_status(
            [QUESTIONS[i] for i in order],
            images and [images[i] for i in order],
            batch_size=size,
            **settings,
        )
        assert mixed == [texts[i] for i in order]


def test_the_pocket_backbone_writes_the_same_in_any_batch():
    """Rounding may turn a token another way, though rarely: one text of all may differ."""
    backbone = c3l.load_backbone(writing.FOLDER, device="cpu")
    captions = [f"There is a {colour} ball by the lamp." for colour in ("red", "blue", "white")]
    prompts = [pair_prompt_from_caption(kind, 3, text) for text in captions for kind in CLASSES]
    sampling = {"max_new_tokens": 64, "temperature": 0.7, "top_p": 0.9}
    texts = backbone.generate(prompts, batch_size=64, **sampling)
    assert len(set(texts)) == len(prompts)
    for size in (1, 3):
        mixed = backbone.generate(prompts[::-1], batch_size=size, **sampling)[::-1]
        assert sum(a != b for a, b in zip(texts, mixed, strict=True)) <= 1


def test_equal_questions_have_texts_of_their_own_and_keys_choose_them(tiny_llava, monkeypatch):
    backbone = c3l.load_backbone(tiny_llava, device="cpu")
    as_numbers(backbone, monkeypatch)
    sampling = {"max_new_tokens": 12, **SAMPLING}
    three = backbone.generate(["Why?"] * 3, **sampling)
    assert len(set(three)) == 3
    assert backbone.generate(["Why?"] * 2, batch_size=1, **sampling) == three[:2]
    (named,) = backbone.generate(["Why?"], keys=["b"], **sampling)
    assert backbone.generate(["Why?"] * 2, keys=["a", "b"], **sampling)[1] == named != three[0]


@given(st.integers(0, 2**32), st.lists(st.sampled_from("abc"), max_size=8), st.randoms())
def test_seeds_follow_keys_not_places(seed, keys, rng):
    seeds = row_seeds(seed, keys)
    assert len(set(seeds)) == len(keys)
    mixed = rng.sample(keys, len(keys))
    assert sorted(row_seeds(seed, mixed)) == sorted(seeds)
    for key in set(keys):
        own = [s for s, k in zip(seeds, keys, strict=True) if k == key]
        assert own == row_seeds(seed, [key] * len(own))


@given(st.lists(st.booleans(), min_size=1, max_size=12))
def test_only_the_last_rows_move_into_the_places_of_ended_ones(ended):
    order = _without(torch.tensor(ended)).tolist()
    assert sorted(order) == [i for i, over in enumerate(ended) if not over]
    assert all(i == row for i, row in enumerate(order) if not ended[i])


LOGITS = st.tuples(st.integers(0, 10**6), st.floats(0.1, 6), st.integers(2, 200)).map(
    lambda t: torch.from_numpy(np.random.default_rng(t[0]).normal(0, t[1], (6, t[2]))).float()
)


@settings(max_examples=50)
@given(LOGITS, st.floats(0.05, 1), st.integers(1, 64))
def test_sorting_few_tokens_takes_those_of_sorting_all(logits, top_p, candidates):
    draws = torch.linspace(0, 1 - 1e-6, len(logits))
    few = nucleus_tokens(logits, draws, top_p, candidates)
    assert torch.equal(few, nucleus_tokens(logits, draws, top_p, logits.shape[1]))
    alone = [
        nucleus_tokens(logits[i : i + 1], draws[i : i + 1], top_p, candidates) for i in range(6)
    ]
    assert torch.equal(few, torch.cat(alone))


@settings(max_examples=50)
@given(LOGITS, st.floats(0.05, 1))
def test_the_nucleus_is_transformers_with_its_probabilities(logits, top_p):
    draws = (torch.arange(2000) + 0.5) / 2000
    tokens = nucleus_tokens(logits[:1].expand(2000, -1), draws, top_p)
    warped = TopPLogitsWarper(top_p)(None, logits[:1]).softmax(-1)[0]
    shares = torch.bincount(tokens, minlength=logits.shape[1]) / 2000
    torch.testing.assert_close(shares, warped, atol=1 / 2000 + 1e-5, rtol=0)
    assert Counter(tokens.tolist()).keys() <= set(warped.nonzero()[:, 0].tolist())


def test_the_measurement_of_writing_adds_up():
    report = writing.measure_writing(rounds=1, images=2)
    assert "2 of 2 captions are equal" in report
    assert report.count("\n| ") == 4
