"""Chats and synthetic pictures to try a backbone with, and its logits, computed in several ways."""

import random
from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from c3l.backbones import Backbone
from c3l.relevance import answer_states

Chat = tuple[str, str]
"""A question and its answer."""

Images = Sequence[Image.Image] | None

CHATS: tuple[Chat, ...] = (
    ("What colour is the ball?", "Red."),
    ("What colour is the ball?", "Red and round, as far as I can see."),
    ("?", "."),
    ("Où est le café ? 猫はどこ? Где кошка? 🐈", "À côté du thé — 窓のそばに。🪟"),
    (
        "Name them: " + ", ".join(f"thing {k} of twelve" for k in range(1, 13)) + ".",
        "There are " + " and ".join(("a cup", "two trees", "a dog's bowl")) + "; no more.",
    ),
)
QUESTIONS = tuple(question for question, _ in CHATS[2:])
"""Questions to write about: a sign, letters of several scripts, and a long one."""
DICTATION = "A red ball lies in the snow, and behind it a house."
"""The text that models are forced to write: left free, many would repeat one token."""
STEPS = 6


def pictures() -> list[Image.Image]:
    """Draw two pictures of different shapes, the same every time."""
    rng, images = random.Random(0), []

    def colour() -> tuple[int, ...]:
        return tuple(rng.randrange(256) for _ in range(3))

    for width, height in ((64, 64), (80, 48)):
        picture = Image.new("RGB", (width, height), colour())
        for _ in range(6):
            x, y = rng.randrange(width), rng.randrange(height)
            ImageDraw.Draw(picture).ellipse((x - 9, y - 9, x + 9, y + 9), colour())
        images.append(picture)
    return images


def encode(backbone: Backbone, chats: Sequence[Chat], images: Images) -> dict[str, Tensor]:
    """Encode the chats, each behind its image if there are any."""
    questions, answers = zip(*chats, strict=True)
    return backbone.encode(questions, images, answers)


def answer_logits(
    backbone: Backbone, chats: Sequence[Chat], images: Images, *, packed: bool = False
) -> Tensor:
    """Return the logits [n, vocabulary] of the n tokens of all answers and their ends, in order."""
    batch = encode(backbone, chats, images)
    sizes = [len(chats)] if packed else None
    states, _ = answer_states(backbone, batch, batch["labels"] != -100, sizes)
    return backbone.head(states).float()


def _dictation(backbone: Backbone) -> list[int]:
    return backbone.tokenizer(DICTATION, add_special_tokens=False)["input_ids"][:STEPS]


class _Dictate(LogitsProcessor):
    """Keep the logits of each step, and force the next of the tokens."""

    def __init__(self, tokens: list[int]):
        self.tokens, self.logits = tokens, []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        token = self.tokens[len(self.logits)]
        self.logits.append(scores.float())
        forced = torch.full_like(scores, -torch.inf)
        forced[:, token] = 0
        return forced


def written_logits(backbone: Backbone, questions: Sequence[str], images: Images) -> Tensor:
    """Return the logits [b, steps, vocabulary] of each step of writing the dictation."""
    dictate = _Dictate(_dictation(backbone))
    backbone._continued(
        backbone.encode(questions, images, side="left"),
        max_new_tokens=len(dictate.tokens),
        logits_processor=LogitsProcessorList([dictate]),
    )
    return torch.stack(dictate.logits, dim=1)


def full_logits(
    backbone: Backbone, question: str, images: Images, written: Sequence[int] | None = None
) -> Tensor:
    """Return the logits [written + 1, vocabulary] after a question and after each token written.

    They are of one forward of the full text; by default of the dictation, as `written_logits`.
    """
    if written is None:
        written = _dictation(backbone)[:-1]
    batch = backbone.encode([question], images)
    ids = torch.cat([batch["input_ids"], batch["input_ids"].new_tensor([written])], dim=1)
    batch |= {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    positions = torch.zeros_like(ids, dtype=torch.bool)
    positions[:, -len(written) - 1 :] = True
    return backbone.head(backbone.hidden_states(batch, positions)).float()


def greedy(backbone: Backbone, question: str, images: Images) -> str:
    """Write at most `STEPS` tokens, as `Backbone.generate`, by one full forward for each."""
    written: list[int] = []
    for _ in range(STEPS):
        written.append(int(full_logits(backbone, question, images, written)[-1].argmax()))
    return backbone._read(written, stop=()).text


def decode(backbone: Backbone, tokens: Tensor, *, specials: bool = False) -> str:
    """Decode the tokens, without special ones or with `specials`."""
    return backbone.tokenizer.decode(
        tokens, skip_special_tokens=not specials, clean_up_tokenization_spaces=False
    )
