"""The method's assumptions about a backbone, as checks that can be run on any.

A new family, or a new transformers under an old one, may break any of them without an error. Each
check is asked so that what belongs to another does not fail it: packing is read one image at a
time, the cache one text at a time. Logits computed in two ways never agree to the last bit: they
count as the same if they differ by at most `TOLERANCE` times the largest.
"""

import inspect
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from c3l.backbones import Backbone, load_backbone
from c3l.checks.probes import (
    CHATS,
    QUESTIONS,
    STEPS,
    Chat,
    Images,
    answer_logits,
    decode,
    encode,
    full_logits,
    greedy,
    pictures,
    written_logits,
)
from c3l.losses import Losses
from c3l.readings import Readings, Tuning
from c3l.samples import ImageFolder, Sample
from c3l.settings import TrainingSettings
from c3l.training import tune

TOLERANCE = {torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""By the precision of the backbone. Half precisions keep 11 and 8 bits of a number and lose more
with every layer: a small fault shows in float32 alone."""

SETTINGS = TrainingSettings(learning_rate=1e-3, batch_size=2)


class Failure(Exception):
    """A check failed; the message is one line."""


class NotApplicable(Exception):
    """A check does not apply to a backbone; the message is the reason, in one line."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of a check."""

    name: str
    asserts: str
    """The assertion, in one sentence."""
    result: Literal["passed", "failed", "skipped"]
    message: str
    """The reason of a failure or skip, in one line; "" where it passed."""
    seconds: float


def examine(backbone: Backbone, tuning: Tuning = "language+projector") -> Iterator[Outcome]:
    """Yield the outcome of every check; whatever a check raises is its failure.

    The last three train what `tuning` says and leave the backbone trained. They write to the
    temporary folder, which must have room for the weights.
    """
    for name, check in CHECKS.items():
        started, result, message = time.monotonic(), "passed", ""
        try:
            check(backbone, tuning)
        except NotApplicable as reason:
            result, message = "skipped", str(reason)
        except Exception as error:
            result, message = "failed", str(error).strip().partition("\n")[0]
            if not isinstance(error, Failure):
                message = f"{type(error).__name__}: {message}".removesuffix(": ")
        yield Outcome(name, asserts(name), result, message, time.monotonic() - started)


def asserts(name: str) -> str:
    """Return the assertion of the check of that name, in one sentence."""
    return " ".join(inspect.getdoc(CHECKS[name]).split())


def prompt_round_trip(backbone: Backbone, _: Tuning) -> None:
    """A chat holds question and answer whole, its tokens read back as it does, its labels are the
    answer with what ends it and nothing else, and no text passes for an image."""
    tokenizer = backbone.tokenizer
    image_token = tokenizer.convert_ids_to_tokens(backbone.image_token_id)
    specials = sorted({image_token, *tokenizer.all_special_tokens})
    hostile = f"What is {' in '.join(specials)}?", "".join(specials)
    for images in (None, pictures()[:1]):
        for chat in CHATS:
            _round_trip(backbone, chat, images)
        has_image = images is not None
        plain, texts = (backbone.prompt(q, has_image, a) for q, a in (CHATS[0], hostile))
        for token in specials:
            if plain.count(token) != texts.count(token):
                raise Failure(f"{token} in a text is taken for the model's own {_behind(images)}")
        places = encode(backbone, CHATS[:1], images)["input_ids"] == backbone.image_token_id
        if bool(places.any()) != has_image:
            raise Failure(f"an image takes {int(places.sum())} places {_behind(images)}")


def _round_trip(backbone: Backbone, chat: Chat, images: Images) -> None:
    question, answer = chat
    context = f"in the chat of {_short(question)} {_behind(images)}"
    text = backbone.prompt(question, images is not None, answer)
    if answer not in text.partition(question)[2]:
        raise Failure(f"question and answer are not whole {context}: {_short(text)}")
    batch = encode(backbone, [chat], images)
    ids, taught, mask = batch["input_ids"][0], batch["labels"][0] != -100, batch["answer_mask"][0]
    for special in backbone.tokenizer.all_special_tokens:
        text = text.replace(special, "")
    # White space apart: some tokenizers put a space behind the token that opens a sequence.
    read = decode(backbone, ids[ids != backbone.image_token_id])
    if "".join(read.split()) != "".join(text.split()):
        raise Failure(f"the tokens read back otherwise {context}: {_short(read)}")
    if (read := decode(backbone, ids[mask]).strip()) != answer:
        raise Failure(f"the answer's tokens read back otherwise {context}: {_short(read)}")
    # The labels are the row's last tokens, and those behind the answer are what ends it.
    last = torch.arange(len(ids)) >= len(ids) - int(taught.sum())
    end = decode(backbone, ids[taught & ~mask], specials=True)
    if not torch.equal(taught.cpu(), last) or end.split() != backbone.answer_end.split():
        raise Failure(f"labels are not where the answer and its end are {context}")
    if not torch.equal(batch["labels"][0][taught], ids[taught]):
        raise Failure(f"labels are other tokens than the answer's {context}")


def answer_behind_its_prompt(backbone: Backbone, _: Tuning) -> None:
    """An answer is read, and gone on with, behind the very prompt that it is written behind, token
    for token."""
    for images in (None, pictures()[:1]):
        for question, answer in CHATS:
            context = f"in the chat of {_short(question)} {_behind(images)}"
            asked, answered = (backbone.prompt(question, bool(images), a) for a in (None, answer))
            if not answered.startswith(asked):
                raise Failure(f"the model is asked otherwise than it is taught {context}")
            prompt = backbone.encode([question], images)["input_ids"][0]
            answered = encode(backbone, [(question, answer)], images)
            begun = backbone.encode([question], images, answer_prefix=[answer])
            for verb, batch in (("read", answered), ("gone on with", begun)):
                if not torch.equal(batch["input_ids"][0, : len(prompt)], prompt):
                    raise Failure(f"an answer is {verb} behind another prompt {context}")
            if (answered["labels"][0, : len(prompt)] != -100).any():
                raise Failure(f"a token of the prompt is taught {context}")


@torch.inference_mode()
def packed_is_one_by_one(backbone: Backbone, _: Tuning) -> None:
    """The logits of answers packed into one row, behind an image and without one, are those of the
    answers read alone."""
    if backbone.no_prefix_sharing_reason:
        raise NotApplicable(backbone.no_prefix_sharing_reason)
    for picture in (None, *pictures()):
        images = picture and [picture]
        packed = answer_logits(backbone, CHATS, images and images * len(CHATS), packed=True)
        single = [answer_logits(backbone, [chat], images) for chat in CHATS]
        _require_alike(backbone, packed, torch.cat(single), f"packed {_behind(images)}")


@torch.inference_mode()
def cache_is_no_cache(backbone: Backbone, _: Tuning) -> None:
    """While a model writes, each step's logits are those of a forward of the whole text so far, and
    so what it writes is the same."""
    for images in (None, pictures()[:1]):
        for question in QUESTIONS:
            (written,) = written_logits(backbone, [question], images)
            uncached = full_logits(backbone, question, images)
            _require_alike(backbone, written, uncached, f"with a cache {_behind(images)}")
    if backbone.dtype == torch.float32:  # less precise, two words may be as likely
        texts = backbone.generate(QUESTIONS[:1], images, max_new_tokens=STEPS)
        if texts != [greedy(backbone, QUESTIONS[0], images)]:
            raise Failure(f"other words are written with a cache {_behind(images)}")


@torch.inference_mode()
def batch_independence(backbone: Backbone, _: Tuning) -> None:
    """Whatever else is in a batch, a text's logits are those that it has alone, when it is read and
    while it is written, and so what is written is the same."""
    for images in (None, [pictures()[k % 2] for k in range(len(CHATS))]):
        singles = [images and [image] for image in images or CHATS]
        read = answer_logits(backbone, CHATS, images)
        one_by_one = map(answer_logits, repeat(backbone), ([chat] for chat in CHATS), singles)
        place = f"in a batch {_behind(images)}"
        _require_alike(backbone, read, torch.cat([*one_by_one]), f"read {place}")
        batch = images and images[: len(QUESTIONS)]
        written = written_logits(backbone, QUESTIONS, batch)
        one_by_one = map(written_logits, repeat(backbone), ([q] for q in QUESTIONS), singles)
        _require_alike(backbone, written, torch.cat([*one_by_one]), f"written {place}")
    if backbone.dtype == torch.float32:
        texts = backbone.generate(QUESTIONS, batch, max_new_tokens=STEPS)
        for question, image, text in zip(QUESTIONS, singles, texts, strict=False):
            if [text] != backbone.generate([question], image, max_new_tokens=STEPS):
                raise Failure(f"other words are written in a batch {_behind(images)}")


def gradients_reach_what_should_train(backbone: Backbone, tuning: Tuning) -> None:
    """L_r's gradient is finite and not zero on every weight that the tuning trains, and there is
    none on any other."""
    backbone.trainable(tuning)
    model = backbone.model_part("")
    half = backbone.dtype != torch.float32
    try:
        model.train()
        batch = encode(backbone, CHATS, [pictures()[k % 2] for k in range(len(CHATS))])
        with torch.autocast(backbone.device.type, backbone.dtype, enabled=half):
            Losses(backbone, None, Readings(tuning=tuning))(batch, [])[0].backward()
        wrong = [
            f"{name} {problem}"
            for name, parameter in model.named_parameters()
            if (problem := _problem(name, parameter, _trains(backbone, name, tuning), tuning))
        ]
    finally:
        model.eval()
        model.zero_grad()
        backbone.merge_adapters()
    if wrong:
        raise Failure(f"{wrong[0]}{_more(wrong)}")


def _problem(name: str, parameter: Tensor, trains: bool, tuning: Tuning) -> str | None:
    """Describe what is wrong with a weight's gradient, or return None."""
    grad = parameter.grad
    if not trains:
        return "has a gradient and should stay frozen" if parameter.requires_grad else None
    if not parameter.requires_grad:
        return "is frozen and should train"
    if grad is None or not (grad.any() or ".lora_A." in name):  # B begins at zero
        # A whole model has weights that nothing reads, such as CLIP's last layers in LLaVA.
        return None if tuning == "full" else "gets no gradient"
    return None if grad.isfinite().all() else "gets a gradient that is not finite"


def frozen_vision_stays(backbone: Backbone, tuning: Tuning) -> None:
    """Training leaves every weight and buffer outside of projector and language model bit for bit
    as it was."""
    if tuning == "full":
        raise NotApplicable("the tuning full trains the vision encoder too")
    if backbone.dtype == torch.float16 and backbone.device.type == "cpu":
        raise NotApplicable("float16 cannot train on a CPU")
    before = {name: tensor.detach().clone() for name, tensor in _untuned(backbone).items()}
    with tempfile.TemporaryDirectory() as folder:
        for k, picture in enumerate(pictures()):
            picture.save(Path(folder) / f"{k}.png")
        samples = [Sample(str(k), f"{k % 2}.png", *chat) for k, chat in enumerate(CHATS)]
        readings = Readings(tuning=tuning, warmup_ratio=0)  # the first step of a warm-up is zero
        tune(backbone, samples, ImageFolder(folder), SETTINGS, readings, 0, Path(folder) / "run")
    after = _untuned(backbone)
    if moved := [name for name in before if not torch.equal(before[name], after[name])]:
        raise Failure(f"{moved[0]} has changed{_more(moved)}")


def save_and_load(backbone: Backbone, _: Tuning) -> None:
    """A backbone that is saved and loaded has the same weights, buffers and inputs, bit for bit,
    and the same logits."""
    with tempfile.TemporaryDirectory() as folder:
        backbone.save(folder)
        loaded = load_backbone(folder, device=backbone.device, dtype=backbone.dtype)
    before, after = (one.model_part("").state_dict() for one in (backbone, loaded))
    if other := sorted(before.keys() ^ after.keys()):
        raise Failure(f"{other[0]} is there only before or after{_more(other)}")
    if other := [name for name in before if not torch.equal(before[name], after[name])]:
        raise Failure(f"{other[0]} is loaded otherwise than it was saved{_more(other)}")
    images = pictures()[:1]
    for chat in CHATS:
        batches = [encode(one, [chat], images) for one in (backbone, loaded)]
        if not all(torch.equal(tensor, batches[1][name]) for name, tensor in batches[0].items()):
            raise Failure(f"the chat of {_short(chat[0])} is encoded otherwise once loaded")
    with torch.inference_mode():
        logits = [answer_logits(one, CHATS[:1], images) for one in (loaded, backbone)]
    _require_alike(backbone, *logits, "once loaded")


CHECKS: dict[str, Callable[[Backbone, Tuning], None]] = {
    "prompt round trip": prompt_round_trip,
    "answers behind their prompts": answer_behind_its_prompt,
    "packed = one by one": packed_is_one_by_one,
    "cache = no cache": cache_is_no_cache,
    "batch independence": batch_independence,
    "gradients reach what should train and nothing else": gradients_reach_what_should_train,
    "frozen vision stays bit-equal": frozen_vision_stays,
    "save and load": save_and_load,
}
"""By name, in the order in which they are run: those that train come last."""


def _trains(backbone: Backbone, name: str, tuning: Tuning) -> bool:
    if tuning == "full" or name.startswith(f"{backbone.projector}."):
        return True
    if tuning in ("lora", "qlora"):
        return ".lora_" in name
    return tuning != "projector" and name.startswith(_prefixes(*backbone.language))


def _prefixes(*parts: str) -> tuple[str, ...]:
    return tuple(f"{part}." for part in parts)


def _untuned(backbone: Backbone) -> dict[str, Tensor]:
    """The weights and buffers outside of projector and language model."""
    model, tuned = backbone.model_part(""), _prefixes(backbone.projector, *backbone.language)
    tensors = (*model.named_parameters(), *model.named_buffers())
    return {name: tensor for name, tensor in tensors if not name.startswith(tuned)}


def _require_alike(backbone: Backbone, logits: Tensor, expected: Tensor, context: str) -> None:
    gap = ((logits - expected).abs().max() / expected.abs().max()).item()
    most = TOLERANCE[backbone.dtype]
    if not gap <= most:  # nor NaN
        raise Failure(f"logits {context} differ by {gap:.1e} of the largest, more than {most:.0e}")


def _behind(images: Images) -> str:
    return "behind an image" if images else "without an image"


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:30]} … {text[-30:]}")


def _more(names: Sequence[str]) -> str:
    return f", and {len(names) - 1} more" if len(names) > 1 else ""
