"""Packed rows give the logits that single rows give, whatever the rows have in common."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils.rnn import pad_sequence

from c3l import load_backbone
from c3l.packing import pack
from c3l.relevance import answer_logits

PATCHES = 9


@pytest.fixture(scope="module")
def backbone(tiny_llava):
    return load_backbone(tiny_llava, device="cpu")


# Few words, so that rows begin alike by chance for any number of tokens, answers included.
words = st.lists(st.integers(5, 6), min_size=1, max_size=12)
rows = st.tuples(words, words)
runs = st.lists(st.lists(rows, min_size=1, max_size=5), min_size=1, max_size=3)


def batch_of(backbone, runs, image: bool) -> dict[str, torch.Tensor]:
    """What `Backbone.encode` gives, of tokens instead of texts; a run's rows share an image."""
    tokenizer = backbone.tokenizer
    placeholder = tokenizer.convert_tokens_to_ids("<image>")
    before = [placeholder] * PATCHES if image else []
    ids, labels, own = [], [], []
    for prompt, answer in (row for run in runs for row in run):
        taught = [*answer, tokenizer.eos_token_id]
        silent = [-100] * (len(before) + len(prompt))
        ids.append(torch.tensor([*before, *prompt, *taught]))
        labels.append(torch.tensor([*silent, *taught]))
        own.append(torch.tensor([False] * len(silent) + [True] * len(answer) + [False]))
    batch = {
        "input_ids": pad_sequence(ids, batch_first=True, padding_value=tokenizer.pad_token_id),
        "attention_mask": pad_sequence([torch.ones_like(row) for row in ids], batch_first=True),
        "labels": pad_sequence(labels, batch_first=True, padding_value=-100),
        "answer_mask": pad_sequence(own, batch_first=True),
    }
    if image:
        noise = torch.Generator().manual_seed(len(ids))
        pixels = torch.randn(len(runs), 3, 24, 24, generator=noise)
        batch["pixel_values"] = pixels.repeat_interleave(torch.tensor([len(r) for r in runs]), 0)
    return batch


@settings(max_examples=40, deadline=None)
@given(runs, st.booleans(), st.booleans())
def test_packed_is_one_by_one(backbone, runs, image, with_end):
    def mask(batch):
        return batch["labels"] != -100 if with_end else batch["answer_mask"]

    batch = batch_of(backbone, runs, image)
    packed = pack(batch, [len(run) for run in runs])
    with torch.inference_mode():
        logits, tokens = answer_logits(backbone.model, packed, mask(packed))
        single = []
        for run in runs:
            for row in run:
                one = batch_of(backbone, [[row]], image)
                if image:
                    one["pixel_values"] = batch["pixel_values"][len(single), None]
                single.append(answer_logits(backbone.model, one, mask(one)))
    assert torch.equal(tokens, torch.cat([own for _, own in single]))
    torch.testing.assert_close(logits, torch.cat([own for own, _ in single]), atol=1e-5, rtol=0)


@settings(deadline=None)
@given(words, st.lists(words, min_size=1, max_size=5), st.booleans())
def test_a_prompt_is_kept_once(backbone, prompt, answers, image):
    packed = pack(
        batch_of(backbone, [[(prompt, answer) for answer in answers]], image), [len(answers)]
    )
    before = len(prompt) - 1 + PATCHES * image
    # Each answer brings its tokens, its end, and the prompt's last token, which predicts it.
    assert packed["input_ids"].shape == (1, before + sum(len(answer) + 2 for answer in answers))
    assert packed["attention_mask"][0, 0, -1].sum() == before + len(answers[-1]) + 2
    if image:
        assert len(packed["pixel_values"]) == 1


def test_sizes_must_cover_the_batch(backbone):
    with pytest.raises(RuntimeError, match="split"):
        pack(batch_of(backbone, [[([5], [6])] * 3], image=False), [1, 1])
