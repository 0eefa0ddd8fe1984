"""A backbone's prompt format, its tokens, and the position of an answer in them."""

import re
from collections.abc import Sequence
from functools import cache
from itertools import chain
from operator import add
from typing import NamedTuple

import torch
from torch import Tensor

# Stand-ins for question and answer, which no template can contain.
_QUESTION, _ANSWER = "\ue000question\ue000", "\ue001answer\ue001"


class ChatFormat:
    """The chat template of a processor, as text around a question and an answer.

    The template is rendered with stand-ins, which the texts then replace. So no text is ever
    interpreted as template, and the answer's position is known.
    """

    def __init__(self, processor):
        self._processor = processor
        self._parts = cache(self._render_parts)
        self._earlier = cache(self._render_earlier)
        tokenizer = processor.tokenizer
        self.image_token = str(getattr(processor, "image_token", "<image>"))
        self.image_token_id: int = tokenizer.convert_tokens_to_ids(self.image_token)
        self._special = sorted({*tokenizer.all_special_tokens, self.image_token})
        before, between, _ = self._parts(False, False)
        eos = str(tokenizer.eos_token)
        self.end: str = self._parts(False, True)[2].strip() or eos
        """The end of an answer: the template's (`</s>`, `###`), or the end-of-sequence token."""
        after = self.end.replace(eos, "").strip()
        self.stop = [after] if after else []
        """The text a model writes behind its answer in place of the end-of-sequence token."""
        self.opens = bool(tokenizer.bos_token) and before.startswith(tokenizer.bos_token)
        self.apart = between.endswith(" ")
        """An answer behind a space is tokenised as a text of its own, as MiniGPT-4's authors do:
        tokenised with its prompt, its first word would take the space that it is written behind."""

    def render(
        self,
        question: str,
        image: bool,
        answer: str | None = None,
        history: Sequence[tuple[str, str]] = (),
    ) -> str:
        """The chat as of `Backbone.prompt`."""
        before, between, _ = self._parts(image, answer is not None)
        if history:
            *earlier, before = self._earlier(image, len(history))
            texts = map(self.plain, chain.from_iterable(history))
            before = "".join([*map(add, earlier, texts), before])
        text = before + self.plain(question) + between
        return text if answer is None else text + self.plain(answer) + self.end

    def plain(self, text: str) -> str:
        """`text` stripped, with a space inside every special token of the tokenizer."""
        for token in self._special:
            text = text.replace(token, f"{token[0]} {token[1:]}")
        return text.strip()

    def _rendered(self, image: bool, answers: int, asks: bool) -> str:
        """The template around so many questions with answers, and a last question if it `asks`."""
        texts = [("user", _QUESTION), ("assistant", _ANSWER)] * answers
        messages = [
            {"role": role, "content": [{"type": "text", "text": text}]}
            for role, text in texts + [("user", _QUESTION)] * asks
        ]
        if image:
            messages[0]["content"].insert(0, {"type": "image"})
        return self._processor.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=asks
        )

    def _render_parts(self, image: bool, answered: bool) -> tuple[str, str, str]:
        """The text before the question, between it and the answer, and behind the answer."""
        before, between = self._rendered(image, int(answered), not answered).split(_QUESTION)
        between, _, after = between.partition(_ANSWER)
        return before, between, after

    def _render_earlier(self, image: bool, turns: int) -> list[str]:
        """The texts before each question and answer of so many turns, and the next question."""
        parts = re.split(f"{_QUESTION}|{_ANSWER}", self._rendered(image, turns, True))[:-1]
        end = self._parts(False, True)[2].strip()
        for i in range(2, len(parts), 2):  # behind an answer
            if not end:  # the template leaves it to the model: as behind the last answer
                parts[i] = self.end + parts[i].lstrip()
            elif parts[i].startswith(2 * end):  # MiniGPT-4's questions begin with it, too
                parts[i] = parts[i].removeprefix(end)
        return parts


class Tokens(NamedTuple):
    """A text's tokens, and their positions in it."""

    ids: list[int]
    offsets: list[tuple[int, int]]


def chat_tokens(
    tokenizer, chat: ChatFormat, texts: Sequence[str], prompts: Sequence[str] | None = None
) -> list[Tokens]:
    """The tokens of each text; a text that continues its prompt begins with the prompt's tokens.

    So an answer is read behind the same tokens that it is generated behind. A chat is tokenised as
    one text if that preserves the prompt's tokens, else (or if `ChatFormat.apart`) as two.
    """
    # Some templates write the token that opens a sequence, some leave it to the tokenizer.
    rows = _tokens(tokenizer, texts, not chat.opens)
    if prompts is None:
        return rows
    begun = _tokens(tokenizer, prompts, not chat.opens)
    split = [
        i
        for i, (text, prompt) in enumerate(zip(texts, prompts, strict=True))
        if len(text) > len(prompt)
        and text.startswith(prompt)
        and (chat.apart or rows[i].ids[: len(begun[i].ids)] != begun[i].ids)
    ]
    continuations = [texts[i][len(prompts[i]) :] for i in split]
    for i, (ids, offsets) in zip(split, _tokens(tokenizer, continuations, False), strict=True):
        start = len(prompts[i])
        shifted = [(first + start, last + start) for first, last in offsets]
        rows[i] = Tokens(begun[i].ids + ids, begun[i].offsets + shifted)
    return rows


def _tokens(tokenizer, texts: Sequence[str], add_special: bool) -> list[Tokens]:
    if not texts:
        return []
    batch = tokenizer(list(texts), return_offsets_mapping=True, add_special_tokens=add_special)
    return [*map(Tokens, batch["input_ids"], batch["offset_mapping"])]


def answer_masks(offsets: Tensor, lengths: list[int], end_length: int) -> tuple[Tensor, Tensor]:
    """Masks of the answers' tokens, without and with the ends of the answers [b, t].

    `offsets` [b, t, 2] are the tokens' positions in the text as it was tokenised, with repeated
    image placeholders. So answers, `lengths` characters long, are located from the text's end.
    """
    first, last = offsets.unbind(-1)
    end = last.amax(1, keepdim=True) - end_length
    start = end - torch.tensor(lengths, device=offsets.device).unsqueeze(1)
    # A token belongs to an answer it overlaps: many begin with the white space before a word.
    real = last > first
    return real & (last > start) & (first < end), real & (last > start)


def answer_pieces(chat: ChatFormat, tokenizer, question: str, answer: str, end: bool) -> list[str]:
    """`Backbone.answer_pieces` without weights."""
    text, prompt = chat.render(question, False, answer), chat.render(question, False)
    offsets = torch.tensor([chat_tokens(tokenizer, chat, [text], [prompt])[0].offsets])
    length, end_length = len(chat.plain(answer)), len(chat.end)
    answer_mask, taught = answer_masks(offsets, [length], end_length)
    last = offsets[0, (taught if end else answer_mask)[0], 1].tolist()
    start = int(offsets.max()) - end_length - length
    return [text[a:b] for a, b in zip([start, *last], last, strict=False)]
