"""Packed rows give the states that single rows give, whatever the rows have in common."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils.rnn import pad_sequence
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from c3l import load_backbone
from c3l.packing import attention, only_at, pack, pair_rows
from c3l.relevance import answer_states

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


@settings(max_examples=40)
@given(runs, st.booleans(), st.booleans())
def test_packed_is_one_by_one(backbone, runs, image, with_end):
    """Logits of answers, with and without an image, whatever the rows of a run share."""

    def answers(batch, sizes=None):
        mask = batch["labels"] != -100 if with_end else batch["answer_mask"]
        states, tokens = answer_states(backbone, batch, mask, sizes)
        return backbone.head(states), tokens

    batch = batch_of(backbone, runs, image)
    with torch.inference_mode():
        logits, tokens = answers(batch, [len(run) for run in runs])
        single = []
        for row in (row for run in runs for row in run):
            one = batch_of(backbone, [[row]], image)
            if image:
                one["pixel_values"] = batch["pixel_values"][len(single), None]
            single.append(answers(one))
    assert torch.equal(tokens, torch.cat([own for _, own in single]))
    torch.testing.assert_close(logits, torch.cat([own for own, _ in single]), atol=1e-5, rtol=0)


@settings(max_examples=20)
@given(runs)
def test_gradients_of_packed_rows_are_those_of_single_ones(backbone, runs):
    batch = batch_of(backbone, runs, image=False)
    everywhere = batch["attention_mask"].bool()
    weight = backbone.model.get_input_embeddings().weight
    slopes = []
    for sizes in (None, [len(run) for run in runs]):
        states = backbone.hidden_states(batch, everywhere, sizes)
        # Not their squares: the last layer norm holds their sum, and what is left is rounding.
        probe = torch.linspace(-1, 1, states.shape[1])
        slopes.append(torch.autograd.grad((states * probe).sum(), weight)[0])
    torch.testing.assert_close(*slopes, atol=1e-6 * slopes[0].abs().max().item(), rtol=1e-4)


@settings(max_examples=20)
@given(st.lists(rows, min_size=1, max_size=7), st.booleans())
def test_the_loss_in_rows_of_two_is_the_padded_one(backbone, rows, image):
    """Summed over a batch's answers, with the gradient of each text's tokens."""
    batch = batch_of(backbone, [[row] for row in rows], image)
    weight = backbone.model.get_input_embeddings().weight
    results = []
    for in_pairs in (False, True):
        states, tokens = answer_states(backbone, batch, batch["labels"] != -100, in_pairs=in_pairs)
        loss = F.cross_entropy(backbone.head(states), tokens, reduction="sum")
        results.append((loss, torch.autograd.grad(loss, weight)[0]))
    (padded, slope), (paired, other) = results
    torch.testing.assert_close(paired, padded, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(other, slope, atol=1e-5 * slope.abs().max().item(), rtol=1e-4)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=9))
def test_rows_of_two_hold_each_token_once(lengths):
    """In its text's order, and no text sees the other one of its row."""
    longest = max(lengths)
    mask = torch.arange(longest)[None] < torch.tensor(lengths)[:, None]
    index, inputs, flat_index = pair_rows(mask.long())
    assert len(index) == (len(lengths) + 1) // 2
    places = flat_index[mask]
    assert len(set(places.tolist())) == sum(lengths)
    assert torch.equal(index.flatten()[places], mask.flatten().nonzero()[:, 0])
    steps = torch.arange(longest).expand_as(mask)
    assert torch.equal(inputs["position_ids"].flatten()[places], steps[mask])
    for row, place in enumerate(places.tolist()):
        text, step = mask.nonzero()[row].tolist()
        seen = inputs["attention_mask"][place // index.shape[1], 0, place % index.shape[1]]
        assert (seen.nonzero()[:, 0] + place // index.shape[1] * index.shape[1]).tolist() == (
            flat_index[text, : step + 1].tolist()
        )


@pytest.mark.parametrize(("lengths", "size"), [((20, 1, 20, 1), 2), ((9, 9, 9), 3)])
def test_rows_of_two_only_where_they_save_padding(backbone, lengths, size):
    batch = batch_of(backbone, [[([5] * n, [6])] for n in lengths], image=True)
    layer = backbone.model_part(backbone.decoder).layers[0]
    computed = []
    with layer.register_forward_hook(lambda _, args, out: computed.append(len(args[0]))):
        answer_states(backbone, batch, batch["answer_mask"], in_pairs=True)
    assert computed == [size]


@settings(max_examples=20)
@given(st.integers(1, 4), st.integers(1, 6), st.data())
def test_only_the_places_asked_for_are_computed(rows, length, data):
    """Their outputs are the module's own, with its gradients; the others are zero."""
    marks = st.lists(st.booleans(), min_size=rows * length, max_size=rows * length)
    places = torch.tensor(data.draw(marks)).view(rows, length)
    module = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Linear(5, 3)).double()
    computed = []
    module[0].register_forward_hook(lambda _, args, out: computed.append(args[0].numel() // 3))
    x = torch.randn(rows, length, 3, dtype=torch.float64, requires_grad=True)
    with only_at(module, places):
        out = module(x)
    whole = module(x)
    assert computed == [places.sum(), places.numel()]
    torch.testing.assert_close(out, whole * places[..., None])
    slopes = [torch.autograd.grad(y[places].square().sum(), x)[0] for y in (out, whole)]
    torch.testing.assert_close(*slopes)


@settings(max_examples=50)
@given(runs)
def test_a_packed_row_is_the_tree_of_its_rows(backbone, runs):
    """Each beginning is there once, and sees itself and what it begins with."""
    batch = batch_of(backbone, runs, image=False)
    inputs, cells = pack(batch, [len(run) for run in runs])
    width = inputs["input_ids"].shape[1]
    lengths = batch["attention_mask"].sum(1).tolist()
    texts = [ids[:n].tolist() for ids, n in zip(batch["input_ids"], lengths, strict=True)]
    row = 0
    for number, run in enumerate(runs):
        beginnings = set()
        for text in texts[row : row + len(run)]:
            beginnings |= {tuple(text[: k + 1]) for k in range(len(text))}
        places = set()
        for _ in run:
            text, place = texts[row], cells[row, : lengths[row]] - number * width
            places |= set(place.tolist())
            assert inputs["input_ids"][number, place].tolist() == text
            assert inputs["position_ids"][number, place].tolist() == list(range(len(text)))
            for k in range(len(text)):
                seen = inputs["attention_mask"][number, 0, place[k]].nonzero()[:, 0]
                assert seen.tolist() == sorted(place[: k + 1].tolist())
            row += 1
        assert places == set(range(len(beginnings)))


@settings(max_examples=20)
@given(st.integers(1, 500), st.integers(0, 2**32 - 1))
def test_attention_in_blocks_is_whole_attention(length, seed):
    """For any mask under which a token sees itself and none after it; and its gradients."""
    draw = torch.Generator().manual_seed(seed)
    mask = torch.rand(2, 1, length, length, generator=draw) < 0.5
    mask = mask.tril() | torch.eye(length, dtype=torch.bool)
    inputs = [
        torch.randn(2, 3, length, 8, generator=draw, dtype=torch.float64, requires_grad=True)
        for _ in range(3)
    ]
    found = []
    for way in (attention, sdpa_attention_forward):
        states, _ = way(torch.nn.Identity(), *inputs, mask)
        found.append((states, *torch.autograd.grad(states.square().sum(), inputs)))
    for own, whole in zip(*found, strict=True):
        torch.testing.assert_close(own, whole)


def test_an_image_is_kept_once(backbone):
    run = [([5, 6], [5]), ([5, 6], [6, 6])]
    inputs, _ = pack(batch_of(backbone, [run], image=True), [2])
    # The image, the prompt, and each answer with its end.
    assert inputs["input_ids"].shape == (1, PATCHES + 2 + 2 + 3)
    assert len(inputs["pixel_values"]) == 1


def test_sizes_must_cover_the_batch(backbone):
    with pytest.raises(RuntimeError, match="split"):
        pack(batch_of(backbone, [[([5], [6])] * 3], image=False), [1, 1])
