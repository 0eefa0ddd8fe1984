"""Every family conforms; a backbone that is broken in one way is caught by the check's name."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, normalizers
from transformers import Cache

import c3l
from c3l.backbones import encoding, prompts
from c3l.backbones.prompts import ChatFormat
from c3l.checks.conformance import CHECKS, Failure, NotApplicable, asserts, examine
from c3l.runtime.errors import UserError
from tests.c3l import families
from tests.c3l.training import PROJECTOR, VISION, moved, weights
from tests.tiny import CHAT_TEMPLATE

ROUND_TRIP, BOUNDARY, PACKED, CACHE, BATCH, GRADIENTS, FROZEN, SAVED = CHECKS
VISION_PART, PROJECTOR_PART = VISION.rstrip("."), PROJECTOR.rstrip(".")


def test_a_family_conforms(family):
    backbone = c3l.load_backbone(family, device="cpu")
    found = {outcome.name: outcome for outcome in examine(backbone)}
    alone = type(backbone).__name__ in ("InstructBlip", "Idefics")
    assert {n: o.message for n, o in found.items() if o.result == "failed"} == {}
    assert [n for n, o in found.items() if o.result == "skipped"] == [PACKED] * alone
    assert all(bool(o.message) == (o.result == "skipped") for o in found.values())


@pytest.mark.parametrize("tuning", ["projector", "lora", "qlora", "full"])
def test_llava_conforms_however_it_is_tuned(backbone, tuning):
    before = weights(backbone)
    CHECKS[GRADIENTS](backbone, tuning)
    assert not moved(before, weights(backbone)) or tuning == "qlora"  # keeps its rounded weights
    if tuning == "full":
        with pytest.raises(NotApplicable, match="trains the vision encoder too"):
            CHECKS[FROZEN](backbone, tuning)
    else:
        CHECKS[FROZEN](backbone, tuning)
        # What was watched has trained.
        assert any(name.startswith(PROJECTOR) for name in moved(before, weights(backbone)))
    CHECKS[SAVED](backbone, tuning)


@pytest.mark.parametrize("tuning", ["lora", "qlora"])
def test_adapters_go_beside_a_projector_of_several_layers(tmp_path, tuning):
    backbone = c3l.load_backbone(families.save("idefics", tmp_path), device="cpu")
    for name in (GRADIENTS, FROZEN, SAVED):
        CHECKS[name](backbone, tuning)


def test_half_precision_conforms(tiny_llava):
    backbone = c3l.load_backbone(tiny_llava, device="cpu", dtype="bfloat16")
    for name in (ROUND_TRIP, PACKED, GRADIENTS, SAVED):
        CHECKS[name](backbone, "projector")
    backbone = c3l.load_backbone(tiny_llava, device="cpu", dtype="float16")
    with pytest.raises(NotApplicable, match="float16 cannot train on a CPU"):
        CHECKS[FROZEN](backbone, "projector")


def test_each_check_says_what_it_asserts_in_one_sentence():
    for name in CHECKS:
        assert re.fullmatch(r"[A-Z][^.\n]*\.", asserts(name))


def _patch(monkeypatch, module, change):
    """Have `change(forward, *args, **kwargs)` answer for the module."""
    forward = module.forward
    monkeypatch.setattr(module, "forward", lambda *a, **k: change(forward, *a, **k))


def an_accent_is_lost(backbone, patch):
    prompt = type(backbone).prompt

    def other(self, question, image, answer=None):
        return prompt(self, question.replace("ù", "u"), image, answer)

    patch.setattr(type(backbone), "prompt", other)


def letters_are_lost_to_the_tokenizer(backbone, patch):
    core = backbone.tokenizer.backend_tokenizer
    core.normalizer = normalizers.Sequence([normalizers.Replace("猫", ""), core.normalizer])


def the_end_is_not_taught(backbone, patch):
    encode = type(backbone).encode

    def without_end(*args, **kwargs):
        batch = encode(*args, **kwargs)
        if "labels" in batch:
            batch["labels"] = batch["labels"].masked_fill(~batch["answer_mask"], -100)
        return batch

    patch.setattr(type(backbone), "encode", without_end)


def a_text_is_an_image(backbone, patch):
    patch.setattr(backbone._format, "plain", str.strip)


def _merging(core):
    """The byte tokenizer with a word that takes the space before it, in places of unused bytes."""
    content = json.loads(core.to_str())
    vocab = content["model"]["vocab"]
    for byte, token in (("<0xC0>", "▁"), ("<0xFE>", "R"), ("<0xFF>", "▁R")):
        vocab[token] = vocab.pop(byte)
    content["model"]["merges"] = [["▁", "R"]]
    return Tokenizer.from_str(json.dumps(content))


def _ask(backbone, template):
    backbone.processor.chat_template = backbone.tokenizer.chat_template = template
    backbone._format = ChatFormat(backbone.processor)


def a_prompt_ends_in_a_space(backbone, _):
    """No fault: where a tokenizer would merge it with the answer, it is kept from it."""
    backbone.tokenizer._tokenizer = _merging(backbone.tokenizer.backend_tokenizer)
    _ask(backbone, CHAT_TEMPLATE.replace("ASSISTANT:\n", "ASSISTANT: "))


def chats_are_tokenised_whole(backbone, patch):
    a_prompt_ends_in_a_space(backbone, patch)
    read = prompts.chat_tokens
    for module in (prompts, encoding):
        patch.setattr(module, "chat_tokens", lambda *args: read(*args[:3]))


def a_template_asks_otherwise_than_it_teaches(backbone, _):
    _ask(backbone, CHAT_TEMPLATE.replace("prompt %}{{ 'ASSISTANT:\n'", "prompt %}{{ 'ASSISTANT: '"))


def the_prompts_end_is_taught(backbone, patch):
    encode = type(backbone).encode

    def with_prompt(*args, **kwargs):
        batch = encode(*args, **kwargs)
        if "labels" in batch:
            taught = batch["labels"] != -100
            taught = taught | taught.roll(-1, dims=1)
            batch["labels"] = batch["input_ids"].masked_fill(~taught, -100)
        return batch

    patch.setattr(type(backbone), "encode", with_prompt)


def positions_are_ignored(backbone, patch):
    def ignorant(forward, *args, position_ids=None, **kwargs):
        return forward(*args, **kwargs)

    _patch(patch, backbone.model_part(backbone.decoder), ignorant)


def masks_of_rows_are_ignored(backbone, patch):
    def ignorant(forward, *args, attention_mask=None, **kwargs):
        mask = None if attention_mask is not None and attention_mask.ndim == 4 else attention_mask
        return forward(*args, attention_mask=mask, **kwargs)

    _patch(patch, backbone.model_part(backbone.decoder), ignorant)


def _begun(given) -> Cache | None:
    """The cache among a forward's arguments if something is in it; what it is called changes."""
    caches = [value for value in given.values() if isinstance(value, Cache)]
    return next((cache for cache in caches if cache.get_seq_length()), None)


def the_cache_is_misaligned(backbone, patch):
    def late(forward, *args, position_ids=None, **kwargs):
        if _begun(kwargs):
            position_ids = position_ids + 1
        return forward(*args, position_ids=position_ids, **kwargs)

    _patch(patch, backbone.model_part(backbone.decoder), late)


def the_cache_is_forgotten(backbone, patch):
    def forgetful(forward, *args, **kwargs):
        if cache := _begun(kwargs):
            cache.layers[0].values.zero_()
        return forward(*args, **kwargs)

    _patch(patch, backbone.model_part(backbone.decoder), forgetful)


def _less_the_mean(states):
    return states - 0.1 * states.mean(0, keepdim=True) if len(states) > 1 else states


def pictures_leak_into_each_other(backbone, patch):
    _patch(patch, backbone.model_part(PROJECTOR_PART), lambda f, *a: _less_the_mean(f(*a)))


def rows_leak_into_each_other(backbone, patch):
    def leaky(forward, *args, **kwargs):
        out = forward(*args, **kwargs)
        out.last_hidden_state = _less_the_mean(out.last_hidden_state)
        return out

    _patch(patch, backbone.model_part(backbone.decoder), leaky)


def the_projector_gets_no_gradient(backbone, patch):
    _patch(patch, backbone.model_part(PROJECTOR_PART), lambda f, *a: f(*a).detach())


def _also(backbone, patch, part, trains):
    trainable = backbone.trainable

    def other(tuning):
        trainable(tuning)
        backbone.model_part(part).requires_grad_(trains)

    patch.setattr(backbone, "trainable", other)


def a_layer_is_frozen(backbone, patch):
    _also(backbone, patch, "model.language_model.layers.1.mlp", False)


def vision_trains(backbone, patch):
    _also(backbone, patch, VISION_PART, True)


def vision_changes_as_it_looks(backbone, patch):
    def changing(forward, *args, **kwargs):
        with torch.no_grad():
            backbone.model_part(VISION_PART).embeddings.class_embedding.mul_(0.99)
        return forward(*args, **kwargs)

    _patch(patch, backbone.model_part(VISION_PART), changing)


def vision_changes_as_text_is_read(backbone, patch):
    language = backbone.model_part("model.language_model")

    def changing(forward, *args, **kwargs):
        if language.training:
            with torch.no_grad():
                backbone.model_part(VISION_PART).embeddings.class_embedding.mul_(0.99)
        return forward(*args, **kwargs)

    _patch(patch, language, changing)


def _save_otherwise(backbone, patch, change):
    save = backbone.save

    def other(folder):
        save(folder)
        path = f"{folder}/model.safetensors"
        tensors = load_file(path)
        change(tensors, next(name for name in tensors if "projector" in name))
        save_file(tensors, path, {"format": "pt"})

    patch.setattr(backbone, "save", other)


def a_tensor_is_not_saved(backbone, patch):
    _save_otherwise(backbone, patch, lambda tensors, name: tensors.pop(name))


def a_tensor_is_saved_otherwise(backbone, patch):
    _save_otherwise(backbone, patch, lambda tensors, name: tensors[name].add_(1e-6))


def an_epsilon_is_not_saved(backbone, patch):
    backbone.model_part("model.language_model.norm").variance_epsilon = 0.5


BROKEN = {
    ROUND_TRIP: [
        an_accent_is_lost,
        letters_are_lost_to_the_tokenizer,
        the_end_is_not_taught,
        a_text_is_an_image,
    ],
    BOUNDARY: [
        chats_are_tokenised_whole,
        a_template_asks_otherwise_than_it_teaches,
        the_prompts_end_is_taught,
    ],
    PACKED: [positions_are_ignored, masks_of_rows_are_ignored],
    CACHE: [the_cache_is_misaligned, the_cache_is_forgotten],
    BATCH: [pictures_leak_into_each_other, rows_leak_into_each_other],
    GRADIENTS: [the_projector_gets_no_gradient, a_layer_is_frozen, vision_trains],
    FROZEN: [vision_changes_as_text_is_read, vision_changes_as_it_looks],
    SAVED: [a_tensor_is_saved_otherwise, a_tensor_is_not_saved, an_epsilon_is_not_saved],
}


@pytest.mark.parametrize(
    ("name", "damage"),
    [(name, damage) for name, some in BROKEN.items() for damage in some[1:]],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_another_break_of_the_kind_is_caught(backbone, monkeypatch, name, damage):
    damage(backbone, monkeypatch)
    with pytest.raises((Failure, UserError)) as caught:
        CHECKS[name](backbone, "language+projector")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", CHECKS)
def test_a_backbone_that_is_broken_in_one_way_fails_one_check(backbone, monkeypatch, name):
    BROKEN[name][0](backbone, monkeypatch)
    assert [o.name for o in examine(backbone) if o.result == "failed"] == [name]


def test_a_space_before_an_answer_stays_the_prompts(backbone, monkeypatch):
    a_prompt_ends_in_a_space(backbone, monkeypatch)
    core = backbone.tokenizer.backend_tokenizer
    assert core.encode(": Red", add_special_tokens=False).tokens[-3] == "▁R"
    for name in (ROUND_TRIP, BOUNDARY):
        CHECKS[name](backbone, "language+projector")
    ids = backbone.encode(["?"], None, ["Red."])["input_ids"][0]
    assert backbone.tokenizer.convert_ids_to_tokens(ids.tolist())[-7:-4] == ["<0x3A>", "▁", "R"]
    assert backbone.answer_pieces("?", "Red.") == ["R", "e", "d", "."]


def test_what_a_check_raises_is_its_failure_in_one_line(backbone, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("the first line\nthe second")

    monkeypatch.setattr(backbone, "_continued", broken)
    failed = {o.name: o.message for o in examine(backbone) if o.result == "failed"}
    assert failed == dict.fromkeys((CACHE, BATCH), "RuntimeError: the first line")
