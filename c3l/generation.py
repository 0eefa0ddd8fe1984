"""Initial and final data in two steps (section 3.1): a caption, then pairs written from it.

By default the second step is text only: the language model reads the caption, not the image.
No text is lost silently: every piece becomes a sample or is counted by the reason for dropping it.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from c3l.instructions import CLASSES, caption_prompt, pair_prompt, pair_prompt_from_caption
from c3l.runtime.errors import NotFiniteError
from c3l.runtime.progress import track
from c3l.samples import ImageFolder, Sample

if TYPE_CHECKING:
    from c3l.backbones import Backbone

# In ids; "r" for reasoning, since conversation and complex reasoning begin alike.
_INITIALS = dict(zip(CLASSES, "cdr", strict=True))

# What opens a question or an answer: "Question:", "Q:", "**Answer 2:**", "3. Q:" or "Q1." at the
# start of a line, and within a line the whole words with a capital.
_LABEL = r"(?:[ \t]*\#?\d{1,3}[ \t]*\**[:：.)]|[ \t]*\**[:：])[ \t]*\**"
_MARK = re.compile(
    rf"^[ \t>#*•-]*(?:\(?\d{{1,3}}[.):][ \t*]*)?(?P<start>question|answer|[qa]){_LABEL}"
    rf"|(?<=[ \t])(?P<inside>(?-i:Question|Answer)){_LABEL}",
    re.IGNORECASE | re.MULTILINE,
)
# Questions that are only numbered.
_NUMBER = re.compile(r"^[ \t*]*\(?\d{1,3}[.)][ \t]*\**", re.MULTILINE)


def captions(
    backbone: "Backbone",
    images: ImageFolder,
    names: Sequence[str],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    batch_size: int = 64,
    seed: int = 0,
) -> list[str]:
    """A caption for each named image, in their order; greedy at temperature 0."""
    texts: list[str] = []
    # Batch by batch, so that no more images than one batch's need be in memory.
    for start in track(range(0, len(names), batch_size), "batches"):
        batch = names[start : start + batch_size]
        try:
            texts += backbone.generate(
                [caption_prompt()] * len(batch),
                [images[name] for name in batch],
                max_new_tokens=max_new_tokens,
                temperature=temperature,
                batch_size=batch_size,
                seed=seed,
                keys=batch,
            )
        except NotFiniteError as error:
            raise NotFiniteError(error.rows, batch) from None
    return texts


def write_pairs(
    backbone: "Backbone",
    captions: Mapping[str, str | None],
    *,
    n: int,
    instructions: Sequence[str] = CLASSES,
    images: ImageFolder | None = None,
    temperature: float = 0.7,
    top_p: float = 0.9,
    max_new_tokens: int,
    batch_size: int = 64,
    seed: int = 0,
) -> tuple[list[Sample], dict[str, int]]:
    """Samples from the captions of images, by name, and the dropped pieces by reason.

    Each caption is asked for `n` pairs of each instruction class: from the caption only, or with
    its image before it if `images` are given, or, if the caption is None, from the image only. Ids
    are "<image>-<c, d or r>-<k>", with k counting the samples of an image and class from 0.
    """
    requests = [(name, instruction) for name in captions for instruction in instructions]
    prompts = [
        pair_prompt(instruction, n)
        if (caption := captions[name]) is None
        else pair_prompt_from_caption(instruction, n, caption)
        for name, instruction in requests
    ]
    try:
        written = backbone.generate_with_status(
            prompts,
            None if images is None else [images[name] for name, _ in requests],
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            batch_size=batch_size,
            keys=[f"{name}-{_INITIALS[instruction]}" for name, instruction in requests],
        )
    except NotFiniteError as error:
        raise NotFiniteError(error.rows, [name for name, _ in requests]) from None
    samples: list[Sample] = []
    dropped: Counter[str] = Counter()
    for (name, instruction), answer in zip(requests, written, strict=True):
        pairs, reasons = parse_pairs(answer.text, finished=answer.finished)
        dropped.update(reasons)
        samples += [
            Sample(f"{name}-{_INITIALS[instruction]}-{k}", name, question, reply, instruction)
            for k, (question, reply) in enumerate(pairs)
        ]
    return samples, dict(dropped)


def parse_pairs(
    text: str, *, finished: bool = True
) -> tuple[list[tuple[str, str]], dict[str, int]]:
    """The question-answer pairs in any text, and its dropped pieces by reason.

    White space is collapsed. Pieces are pairs, questions without an answer ("no_answer"), answers
    and stretches of text without a question ("no_question"); a blank text is one piece ("empty").
    The last piece of a text that was cut off, not `finished`, is dropped as "truncated".
    """
    pieces = _pieces(text)
    if not pieces:
        return [], {"empty" if finished else "truncated": 1}
    whole = pieces if finished else pieces[:-1]
    reasons = ["no_answer" if pair[0] else "no_question" for pair in whole if not all(pair)]
    reasons += [] if finished else ["truncated"]
    return [pair for pair in whole if all(pair)], dict(Counter(reasons))


def _pieces(text: str) -> list[tuple[str, str]]:
    """The text cut at its marks, as question and answer, either of them empty where missing."""
    marks = [
        (match.start(), match.end(), (match["start"] or match["inside"]).lower()[0])
        for match in _MARK.finditer(text)
    ]
    if not any(kind == "q" for _, _, kind in marks):
        answers = {start for start, _, _ in marks}
        numbers = [(match.start(), match.end(), "q") for match in _NUMBER.finditer(text)]
        marks = sorted(marks + [number for number in numbers if number[0] not in answers])
    starts = [start for start, _, _ in marks] + [len(text)]
    lead = _clean(text[: starts[0]])
    pieces = [("", lead)] if lead else []
    waits = False  # the last piece, a question, for its answer
    for (_, end, kind), following in zip(marks, starts[1:], strict=True):
        content = _clean(text[end:following])
        if kind == "a" and waits:
            pieces[-1] = (pieces[-1][0], content)
        else:
            pieces.append((content, "") if kind == "q" else ("", content))
        waits = kind == "q"
    return pieces


def _clean(text: str) -> str:
    return " ".join(text.split()).strip("* ")
