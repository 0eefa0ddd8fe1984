"""A backbone's prompt format, and where in its tokens an answer lies."""

import re
from collections.abc import Sequence
from functools import cache
from itertools import chain

import torch
from torch import Tensor

# Two texts that no template can hold, standing for question and answer.
_QUESTION, _ANSWER = "\ue000question\ue000", "\ue001answer\ue001"


class ChatFormat:
    """The chat template of a processor, as text around a question and an answer.

    The template is rendered with stand-ins, which the texts then replace: so no text is ever
    searched for or read as template, and the answer's place is known.
    """

    def __init__(self, processor):
        self._processor = processor
        self._parts = cache(self._render_parts)
        self._earlier = cache(self._render_earlier)
        tokenizer = processor.tokenizer
        self._end = tokenizer.eos_token
        self.image_token = str(getattr(processor, "image_token", "<image>"))
        self.image_token_id: int = tokenizer.convert_tokens_to_ids(self.image_token)
        self._special = sorted({*tokenizer.all_special_tokens, self.image_token})
        before = self._parts(False, False)[0]
        after = self._parts(False, True)[2].replace(str(self._end), "").strip()
        self.stop = [after] if after else []
        """What a model writes behind its answer in place of the end-of-sequence token."""
        self.opens = bool(tokenizer.bos_token) and before.startswith(tokenizer.bos_token)

    def render(
        self,
        question: str,
        image: bool,
        answer: str | None = None,
        history: Sequence[tuple[str, str]] = (),
    ) -> str:
        """The chat up to where the model answers, or up to the end of sequence after `answer`.

        `history` holds question and answer of the turns before; the image stands in the first one.
        """
        before, between, _ = self._parts(image, answer is not None)
        if history:
            *earlier, before = self._earlier(image, len(history))
            said = map(self.plain, chain.from_iterable(history))
            turns = zip(earlier, said, strict=True)
            before = "".join(part + text for part, text in turns) + before
        text = before + self.plain(question) + between
        return text if answer is None else text + self.plain(answer) + self._end

    def plain(self, text: str) -> str:
        """`text` stripped, with a space inside whatever the tokenizer would take as special."""
        for token in self._special:
            text = text.replace(token, f"{token[0]} {token[1:]}")
        return text.strip()

    def _render_parts(self, image: bool, answered: bool) -> tuple[str, str, str]:
        """The text before the question, between it and the answer, and behind the answer."""
        question = {"role": "user", "content": [{"type": "text", "text": _QUESTION}]}
        if image:
            question["content"].insert(0, {"type": "image"})
        answer = {"role": "assistant", "content": [{"type": "text", "text": _ANSWER}]}
        text = self._processor.apply_chat_template(
            [question, answer] if answered else [question],
            tokenize=False,
            add_generation_prompt=not answered,
        )
        before, between = text.split(_QUESTION)
        # What a template writes after an answer, if anything, is its end of turn: render() puts
        # the token there that ends a generation.
        between, _, after = between.partition(_ANSWER)
        return before, between, after

    def _render_earlier(self, image: bool, turns: int) -> list[str]:
        """The texts before each question and each answer of so many turns, and before the question
        that follows them."""
        first = [{"type": "image"}] if image else []
        messages = []
        for _ in range(turns):
            ask = {"role": "user", "content": [*first, {"type": "text", "text": _QUESTION}]}
            answer = {"role": "assistant", "content": [{"type": "text", "text": _ANSWER}]}
            messages, first = [*messages, ask, answer], []
        messages.append({"role": "user", "content": [{"type": "text", "text": _QUESTION}]})
        text = self._processor.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        parts = re.split(f"{_QUESTION}|{_ANSWER}", text)[:-1]
        end = self._parts(False, True)[2].strip()
        for place in range(2, len(parts), 2):  # behind an answer
            if not end:  # the template leaves it to the model: as behind the last answer
                parts[place] = self._end + parts[place].lstrip()
            elif parts[place].startswith(2 * end):  # MiniGPT-4's questions begin with it, too
                parts[place] = parts[place].removeprefix(end)
        return parts


def answer_masks(offsets: Tensor, lengths: list[int], end_length: int) -> tuple[Tensor, Tensor]:
    """Which tokens belong to the answers, without and with the end-of-sequence token [b, t].

    `offsets` [b, t, 2] are the tokens' places in the text as it was tokenised, where image
    placeholders are many: so answers, `lengths` characters long, are found from the text's end.
    """
    first, last = offsets.unbind(-1)
    end = last.amax(1, keepdim=True) - end_length
    start = end - torch.tensor(lengths, device=offsets.device).unsqueeze(1)
    # A token is the answer's if it overlaps it: many begin with the white space before a word.
    real = last > first
    return real & (last > start) & (first < end), real & (last > start)


def answer_pieces(chat: ChatFormat, tokenizer, question: str, answer: str, end: bool) -> list[str]:
    """As `c3l.backbones.Backbone.answer_pieces`; needs no weights."""
    text = chat.render(question, False, answer)
    offsets = tokenizer(
        [text],
        return_tensors="pt",
        return_offsets_mapping=True,
        add_special_tokens=not chat.opens,
    )["offset_mapping"]
    length, end_length = len(chat.plain(answer)), len(tokenizer.eos_token)
    alone, taught = answer_masks(offsets, [length], end_length)
    last = offsets[0, (taught if end else alone)[0], 1].tolist()
    start = int(offsets.max()) - end_length - length
    return [text[a:b] for a, b in zip([start, *last], last, strict=False)]
