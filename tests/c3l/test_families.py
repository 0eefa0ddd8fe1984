"""Every family does what LLaVA does: reads, scores packed, writes, is tuned and saved."""

import pytest
import torch
from PIL import Image
from transformers import GlmConfig, LlamaConfig, set_seed

import c3l
from benchmarks.pocket.pretrain import families, graft
from c3l.backbones import minigpt4
from c3l.relevance import answer_states, score
from c3l.samples import ImageFolder, Sample
from tests.tiny import byte_tokenizer

SHAPE = families.Shape(side=24, patch=4, width=32, layers=2, queries_layers=1, tokens=9)
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 3,
}
FAMILIES = {
    "minigpt4": (families.minigpt4, LlamaConfig),
    "blip2": (families.blip2, LlamaConfig),
    "visualglm": (families.blip2, GlmConfig),
    "instructblip": (families.instructblip, LlamaConfig),
    "idefics": (families.idefics, LlamaConfig),
}
QUESTIONS = ["What colour is the ball?", "Why?", "How many trees are there in the snow?"]
ANSWERS = ["Red.", "Because it is cold.", "Two."]


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request, tmp_path_factory):
    set_seed(0)
    build, text = FAMILIES[request.param]
    tokenizer = byte_tokenizer()
    extra = {"num_key_value_heads": 2, "head_dim": 8} if text is GlmConfig else {}
    config = text(vocab_size=len(tokenizer), initializer_range=0.2, **TEXT, **extra)
    model, processor = build(config, tokenizer, SHAPE)
    _wake(model)
    path = tmp_path_factory.mktemp(request.param)
    model.save_pretrained(path)
    processor.save_pretrained(path)
    return path


@torch.no_grad()
def _wake(model):
    """What begins at zero, so that an untrained model would not see its picture, at random."""
    for name, parameter in model.named_parameters():
        if "alpha" in name or "query_tokens" in name:
            parameter.normal_()


@pytest.fixture(scope="module")
def backbone(folder):
    return c3l.load_backbone(folder, device="cpu")


@pytest.fixture(scope="module")
def pictures(tiny_images):
    return [Image.open(tiny_images / f"image-{k}.png") for k in range(3)]


def test_states_and_logits_are_the_models_own(backbone, pictures):
    """Through transformers' own forward of the whole model."""
    batch = backbone.encode(QUESTIONS, pictures, ANSWERS)
    everywhere = batch["attention_mask"].bool()
    inputs = {k: v for k, v in batch.items() if k not in ("labels", "answer_mask")}
    if hasattr(backbone, "_looking"):
        inputs = backbone._looking(inputs)
    with torch.inference_mode():
        logits = backbone.head(backbone.states(batch, everywhere))
        torch.testing.assert_close(logits, backbone.model(**inputs).logits[everywhere])


def test_the_picture_is_seen(backbone, pictures):
    with torch.inference_mode():
        found = []
        for picture in pictures[:2]:
            batch = backbone.encode(QUESTIONS[:1], [picture], ANSWERS[:1])
            found.append(answer_states(backbone, batch, batch["answer_mask"])[0])
    assert (found[0] - found[1]).abs().max() > 1e-3


@pytest.mark.parametrize("with_images", [False, True])
def test_batched_greedy_equals_one_by_one_and_the_models_own(backbone, pictures, with_images):
    images = pictures if with_images else None
    together = backbone.generate(QUESTIONS, images, max_new_tokens=8)
    singly = [
        backbone.generate([q], images and [images[i]], max_new_tokens=8)[0]
        for i, q in enumerate(QUESTIONS)
    ]
    assert together == singly
    # The greedy path by whole forwards, without a cache.
    written = ""
    ids = []
    batch = backbone.encode(QUESTIONS[:1], images and images[:1])
    with torch.inference_mode():
        for _ in range(8):
            last = torch.zeros_like(batch["attention_mask"], dtype=torch.bool)
            last[:, -1] = True
            token = backbone.head(backbone.states(batch, last)).argmax(-1)
            if token.item() == backbone.tokenizer.eos_token_id:
                break
            ids.append(token.item())
            batch["input_ids"] = torch.cat([batch["input_ids"], token[None]], 1)
            batch["attention_mask"] = torch.ones_like(batch["input_ids"])
    written = backbone.tokenizer.decode(
        ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    assert together[0] == written.strip()


def test_scores_packed_are_scores_one_by_one(backbone, tiny_images):
    samples = [
        Sample(f"{i}-{k}", f"image-{i}.png", QUESTIONS[k], ANSWERS[k])
        for i in range(2)
        for k in range(3)
    ]
    images = ImageFolder(tiny_images)
    together = score(backbone, samples, images)
    for sample, found in zip(samples, together, strict=True):
        (alone,) = score(backbone, [sample], images)
        assert found.i2c == pytest.approx(alone.i2c, abs=1e-5)
        assert found.unscored is None


@pytest.mark.parametrize("tuning", ["language+projector", "projector"])
def test_tuning_trains_its_parts_and_saves_them(folder, tmp_path, pictures, tuning):
    backbone = c3l.load_backbone(folder, device="cpu")
    backbone.trainable(tuning)
    trained = {name for name, p in backbone.model.named_parameters() if p.requires_grad}
    assert any(name.startswith(backbone.projector) for name in trained)
    assert not any("vision" in name for name in trained)
    spoken = any(name.startswith(part) for name in trained for part in backbone.language)
    assert spoken == (tuning != "projector")
    batch = backbone.encode(QUESTIONS, pictures, ANSWERS)
    states, tokens = answer_states(backbone, batch, batch["labels"] != -100)
    torch.nn.functional.cross_entropy(backbone.head(states), tokens).backward()
    moved = [p for p in backbone.model.parameters() if p.grad is not None and p.grad.any()]
    assert moved
    with torch.no_grad():
        for parameter in moved:
            parameter += 0.01
    tuned = backbone.generate(QUESTIONS, pictures, max_new_tokens=8)
    backbone.save(tmp_path)
    again = c3l.load_backbone(tmp_path, device="cpu")
    assert again.generate(QUESTIONS, pictures, max_new_tokens=8) == tuned
    assert again.digest != c3l.load_backbone(folder, device="cpu").digest


def test_minigpt4_joins_four_neighbours_and_has_the_published_projector():
    vision = {"hidden_size": 1408, "num_hidden_layers": 1, "intermediate_size": 16}
    text = LlamaConfig(hidden_size=4096, num_hidden_layers=1)
    config = minigpt4.MiniGPT4Config(vision_config=vision, text_config=text)
    assert config.image_seq_length == 64
    with torch.device("meta"):
        joiner = minigpt4.PatchJoiner(config)
    # Linear 5632 → 4096 of the published checkpoint
    assert sum(p.numel() for p in joiner.parameters()) == 23_072_768
    small = minigpt4.PatchJoiner(
        minigpt4.MiniGPT4Config(
            vision_config={**vision, "hidden_size": 2},
            text_config=LlamaConfig(hidden_size=8, num_attention_heads=2),
        )
    )
    with torch.no_grad():
        small.linear.weight.copy_(torch.eye(8))
        small.linear.bias.zero_()
    patches = torch.arange(16.0).view(1, 8, 2)
    assert small(patches).tolist() == [[[*range(8)], [*range(8, 16)]]]


def test_a_language_model_grown_or_as_a_glm_is_the_same_function(tiny_llava):
    llama = graft.language_model(c3l.load_backbone(tiny_llava, device="cpu").model).eval()
    ids = torch.arange(5, 45)[None]
    with torch.no_grad():
        logits = llama(ids).logits
        for layers in (3, 4):
            grown = graft.grown(llama, layers).eval()
            assert len(grown.model.layers) == layers
            torch.testing.assert_close(grown(ids).logits, logits)
        torch.testing.assert_close(graft.as_glm(llama).eval()(ids).logits, logits)
