"""Converted models are the published ones: logits, prompts, tokens and pictures."""

from types import SimpleNamespace

import numpy as np
import pytest
import sentencepiece
import torch
import torch.nn.functional as F
from PIL import Image
from torchvision import transforms
from transformers import CLIPVisionModel

import c3l
from c3l.backbones import base
from c3l.checks.conformance import CHECKS
from c3l.convert import llava, minigpt4, processors
from c3l.convert.writing import save_converted
from tests.c3l import original, published
from tests.tiny import byte_tokenizer

QUESTION = "Describe this image in detail."
V1 = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions. USER: "
)
# Before the image, behind it, before an answer and behind it, as the authors' code writes them.
PROMPTS = {
    "minigpt4-llama2": ("[INST] <Img>", f"</Img> {QUESTION} [/INST] ", "", "</s>"),
    "minigpt4-vicuna": ("###Human: <Img>", f"</Img> {QUESTION} ###Assistant: ", "", "###"),
    "llava": (V1, f"\n{QUESTION} ASSISTANT:", " ", "</s>"),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """All published files in one folder, and their tensors."""
    torch.manual_seed(0)
    at = tmp_path_factory.mktemp("published")
    eva, q_former = published.eva_vit(), published.q_former()
    checkpoints = {"llama2": published.minigpt4(64), "vicuna": published.minigpt4(12)}
    torch.save(eva, at / "eva_vit_g.pth")
    torch.save({"model": q_former}, at / "blip2.pth")
    for name, checkpoint in checkpoints.items():
        torch.save(checkpoint, at / f"{name}.pth")
    projector = published.mm_projector()
    torch.save(projector, at / "mm_projector.bin")
    llama = published.save_llama(at / "language")
    clip = published.save_clip(at / "clip")
    linear = {name: checkpoint["model"] for name, checkpoint in checkpoints.items()}
    return SimpleNamespace(
        at=at, eva=eva, q=q_former, linear=linear, projector=projector, llama=llama, clip=clip
    )


@pytest.fixture(scope="module", params=PROMPTS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def backbone(kind, files, tmp_path_factory):
    """Each converted model, written and read again, in float64."""
    at, out = files.at, tmp_path_factory.mktemp("converted") / kind
    if kind == "llava":
        made = llava.convert_projector(at / "mm_projector.bin", at / "language", at / "clip")
    elif kind == "minigpt4-llama2":
        made = minigpt4.convert_llama2(
            at / "eva_vit_g.pth", at / "llama2.pth", at / "language", eva=published.EVA
        )
    else:
        made = minigpt4.convert_vicuna(
            at / "eva_vit_g.pth",
            at / "blip2.pth",
            at / "vicuna.pth",
            at / "language",
            eva=published.EVA,
            q_former=published.Q_FORMER,
            count=published.QUERIES,
        )
    save_converted(made, out, None)
    return c3l.load_backbone(out, device="cpu", dtype="float64")


@pytest.fixture(scope="module")
def pictures():
    noise = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    wide = Image.fromarray(noise).resize((60, 40), Image.Resampling.BICUBIC)
    return [wide, wide.transpose(Image.Transpose.ROTATE_90)]


def image_features(kind, files, pixels, norm_eps=1e-5, block_eps=1e-6):
    if kind == "llava":
        tower = CLIPVisionModel.from_pretrained(files.at / "clip", dtype=torch.float64)
        states = tower(pixels, output_hidden_states=True).hidden_states[-2][:, 1:]
        at, w = "model.mm_projector", files.projector
        inner = F.gelu(F.linear(states, w[f"{at}.0.weight"], w[f"{at}.0.bias"]))
        return F.linear(inner, w[f"{at}.2.weight"], w[f"{at}.2.bias"])
    states = original.eva_vit(files.eva, pixels, 4, block_eps)
    if kind == "minigpt4-llama2":
        return original.joined(files.linear["llama2"], states, norm_eps)
    return original.queried(files.q, files.linear["vicuna"], states, 2, norm_eps)


def original_logits(kind, files, pixels, **eps):
    """As the original: the texts around the image tokenised each alone, its features between."""
    pieces = sentencepiece.SentencePieceProcessor(
        model_file=str(files.at / "language" / "tokenizer.model")
    )
    before, behind, *_ = PROMPTS[kind]
    ids = [[1, *pieces.encode(before)], pieces.encode(behind)]
    embed = files.llama.get_input_embeddings()
    left, right = (embed(torch.tensor(part))[None].expand(len(pixels), -1, -1) for part in ids)
    features = image_features(kind, files, pixels, **eps)
    return ids, files.llama(inputs_embeds=torch.cat([left, features, right], 1)).logits


@torch.inference_mode()
def test_logits_are_the_originals(kind, backbone, files, pictures):
    batch = backbone.encode([QUESTION] * 2, pictures)
    everywhere = batch["attention_mask"].bool()
    logits = backbone.head(backbone.hidden_states(batch, everywhere)).view(*everywhere.shape, -1)
    ids, expected = original_logits(kind, files, batch["pixel_values"])
    image = backbone.processor.tokenizer.convert_tokens_to_ids("<image>")
    count = everywhere.shape[1] - len(ids[0]) - len(ids[1])
    assert batch["input_ids"][0].tolist() == ids[0] + [image] * count + ids[1]
    assert count == {"llava": 16, "minigpt4-llama2": 4, "minigpt4-vicuna": 5}[kind]
    torch.testing.assert_close(logits[..., : expected.shape[-1]], expected, rtol=0, atol=1e-8)
    assert expected.std() > 0.1
    assert (expected[0] - expected[1]).abs().max() > 1e-2
    # And so would not be, with transformers' epsilons.
    if kind != "llava":
        for wrong in ({"norm_eps": 1e-6}, {"block_eps": 1e-5}):
            _, other = original_logits(kind, files, batch["pixel_values"], **wrong)
            assert (other - expected).abs().max() > 1e-6


def test_prompts_are_the_authors_byte_for_byte(kind, backbone):
    before, behind, space, end = PROMPTS[kind]
    asked = backbone.prompt(QUESTION, image=True)
    assert asked == f"{before}<image>{behind}"
    assert backbone.prompt(QUESTION, True, "A cat.") == f"{asked}{space}A cat.{end}"
    assert "<image>" not in backbone.prompt(QUESTION, image=False)
    assert backbone.prompt(QUESTION, image=False).endswith(behind[behind.index(QUESTION) :])


def test_what_ends_an_answer_ends_it(kind, backbone):
    text = "A cat. ###Human: And?"
    ids = backbone.tokenizer(text, add_special_tokens=False)["input_ids"]
    found = backbone._read(ids, ())
    if kind == "minigpt4-vicuna":
        assert (found.text, found.finished) == ("A cat.", True)
    else:
        assert (found.text, found.finished) == (text, False)


ANSWERS = ("A cat.", "What is on the left", "猫。", "12", "- C#\n- Où?", "#")


def original_chat(kind, pieces, answer):
    """As the authors' code tokenises what stands behind an image, and how much of it is taught.

    MiniGPT-4 tokenises the answer with its end_sym apart from the prompt; LLaVA the chat as a whole
    (https://github.com/Vision-CAIR/MiniGPT-4, models/minigpt_base.py; LLaVA, train/train.py).
    """
    _, behind, space, end = PROMPTS[kind]
    asked, eos = pieces.encode(behind), [2] * (end == "</s>")
    if kind == "llava":
        whole = pieces.encode(behind + space + answer) + eos
        # The authors teach the template's space too where it is a token of its own.
        alone = whole[len(asked)] == pieces.piece_to_id("▁")
        return whole, len(whole) - len(asked) - alone
    taught = pieces.encode(answer + end * (not eos)) + eos
    return asked + taught, len(taught)


@pytest.mark.parametrize("answer", ANSWERS)
def test_answers_are_tokenised_and_taught_as_by_the_authors(
    kind, backbone, files, pictures, answer
):
    pieces = sentencepiece.SentencePieceProcessor(
        model_file=str(files.at / "language" / "tokenizer.model")
    )
    batch = backbone.encode([QUESTION], pictures[:1], [answer])
    ids, labels = batch["input_ids"][0], batch["labels"][0]
    behind = int((ids == backbone.image_token_id).nonzero().max()) + 1
    expected, count = original_chat(kind, pieces, answer)
    assert ids[behind:].tolist() == expected
    assert labels.tolist() == [-100] * (len(ids) - count) + expected[-count:]
    asked = backbone.encode([QUESTION], pictures[:1])["input_ids"][0]
    assert torch.equal(ids[: len(asked)], asked)
    begun = backbone.encode([QUESTION], pictures[:1], answer_prefix=[answer])["input_ids"][0]
    assert torch.equal(begun[: len(asked)], asked)
    said = backbone.answer_pieces(QUESTION, answer, end=True)
    assert ("".join(said), len(said)) == (answer + backbone.answer_end, count)


@pytest.mark.parametrize("name", [*CHECKS][:2])
def test_prompts_and_answers_conform(backbone, name):
    CHECKS[name](backbone, "projector")


def test_writing_stops_where_an_answer_ends(kind, backbone, pictures, monkeypatch):
    """A model that is taught to end with ### writes no end of sequence."""
    text = "A cat. ###Human: What is on the left? ###"
    dictated = backbone.tokenizer(text, add_special_tokens=False)["input_ids"]
    steps = []

    def dictate(logits, rows, step):
        steps.append(dictated[step])
        return torch.tensor(steps[-1:])

    monkeypatch.setattr(base, "choose_likeliest", dictate)
    (written,) = backbone.generate_with_status(
        [QUESTION], pictures[:1], max_new_tokens=len(dictated)
    )
    if kind == "minigpt4-vicuna":
        assert (written.text, written.finished) == ("A cat.", True)
        assert backbone.tokenizer.decode(steps) == "A cat. ###"
    else:
        assert (written.text, written.finished) == (text, False)


def test_any_text_is_tokenised_as_by_sentencepiece(backbone, files):
    pieces = sentencepiece.SentencePieceProcessor(
        model_file=str(files.at / "language" / "tokenizer.model")
    )
    for text in ("What is on the left?", "Où?  Là\n- 12 кот", "###Assistant: ", "a<b>c", "猫。"):
        ids = backbone.tokenizer(text)["input_ids"]
        assert ids == [1, *pieces.encode(text)]
        assert backbone.tokenizer.decode(ids, skip_special_tokens=True) == text
    assert backbone.tokenizer.pad_token == "<pad>"
    rows = backbone.model.get_input_embeddings().weight
    assert len(rows) == 448 and len(backbone.tokenizer) == 402
    old = files.llama.get_input_embeddings().weight
    torch.testing.assert_close(rows[:400], old, rtol=0, atol=0)
    torch.testing.assert_close(rows[400:], old.mean(0).expand(48, -1))


def documented(kind, picture):
    """As the authors' code prepares a picture, with torchvision on PIL images."""
    steps = [transforms.Resize((28, 28), transforms.InterpolationMode.BICUBIC)]
    if kind == "llava":
        steps = [
            transforms.Resize(28, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(28),
        ]
    mean, deviation = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    steps += [transforms.ToTensor(), transforms.Normalize(mean, deviation)]
    return transforms.Compose(steps)(picture)


def levels(pixels, expected):
    """How far apart two pictures are, in levels of 255: at most, and on average."""
    scale = 255 * torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
    apart = (pixels - expected).abs() * scale
    return apart.max().item(), apart.mean().item()


def test_pictures_are_prepared_as_documented(kind, backbone, pictures):
    """But for rounding: transformers resizes tensors, whose bytes are rounded otherwise."""
    for picture in pictures:
        pixels = backbone.encode([QUESTION], [picture])["pixel_values"][0]
        most, mean = levels(pixels, documented(kind, picture))
        assert most < 1.1 and mean < 0.2  # of 255
        square = "minigpt4-llama2" if kind == "llava" else "llava"
        assert levels(pixels, documented(square, picture))[1] > 5


def test_llava_pads_to_a_square_where_its_settings_say_so(pictures):
    images = processors.llava_processor(byte_tokenizer(), 28, 7, pad=True).image_processor
    mean = tuple(int(255 * part) for part in images.image_mean)
    for picture in pictures:
        square = Image.new("RGB", (60, 60), mean)
        square.paste(picture, ((60 - picture.width) // 2, (60 - picture.height) // 2))
        pixels = images(picture, return_tensors="pt")["pixel_values"][0]
        most, average = levels(pixels, documented("llava", square))
        assert most < 2.1 and average < 0.3
        assert levels(pixels, documented("llava", picture))[1] > 5
