"""A backbone as a model of lmms-eval: one object for every task, batched, no error swallowed."""

import hashlib
import math
import os
import re
import sys
from functools import lru_cache
from inspect import signature
from itertools import groupby

import torch
from lmms_eval.api.instance import GenerationResult, Instance
from lmms_eval.api.model import lmms
from PIL import Image
from torch.nn.functional import cross_entropy

from c3l.backbones import Backbone, load_backbone
from c3l.relevance import answer_states
from c3l.runtime.errors import NotFiniteError, UserError, short_repr
from c3l.runtime.progress import track

# Characters a spreadsheet cannot hold: one of them makes lmms-eval's MMBench task fail at its very
# end, when it writes its submission file, and lose all results.
UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


# What Pillow raises for a damaged picture, or one that would fill the memory.
PICTURE_ERRORS = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


class Requests:
    """Access to lmms-eval's requests for any model.

    Attributes:
        images: document id -> digest of the pixels the model was shown, for clustering by image.
        default_new_tokens: length of an answer where the task sets none (SEED).
        max_new_tokens: upper limit on what a task asks for; None leaves the task's own.
    """

    images: dict[int, str]
    default_new_tokens: int
    max_new_tokens: int | None

    def generation(self, settings: dict) -> dict:
        """A task's generation settings in the backbone's words."""
        length = settings.get("max_new_tokens") or self.default_new_tokens
        sample = settings.get("do_sample", False)
        until = settings.get("until") or ()
        return {
            "max_new_tokens": min(length, self.max_new_tokens or length),
            "temperature": settings.get("temperature", 1.0) if sample else 0.0,
            "top_p": settings.get("top_p", 1.0) if sample else 1.0,
            "stop": (until,) if isinstance(until, str) else tuple(until),
        }

    def looker(self):
        """A function from a request's tail (to_visual, doc_id, task, split) to its image."""

        @lru_cache(maxsize=self.batch_size)
        def look(to_visual, doc_id: int, task: str, split: str) -> Image.Image | None:
            try:
                visuals = to_visual and to_visual(self.task_dict[task][split][doc_id])
            except PICTURE_ERRORS as error:
                raise UserError(
                    f"The image of question {doc_id} of {task} cannot be read "
                    f"({short_repr(str(error))}); get the data again, or remove the question."
                ) from error
            if not visuals:
                return None
            if len(visuals) > 1:
                raise UserError(
                    f"Question {doc_id} of {task} has {len(visuals)} images; one is supported."
                )
            image = visuals[0]
            pixels = f"{image.mode}{image.size}".encode() + image.tobytes()
            self.images[doc_id] = hashlib.sha256(pixels).hexdigest()
            return image

        return look


class C3LModel(Requests, lmms):
    """Answers lmms-eval's requests with a backbone; pass the object to `simple_evaluate`."""

    def __init__(
        self,
        backbone: Backbone,
        batch_size: int = 64,
        default_new_tokens: int = 16,
        max_new_tokens: int | None = None,
    ):
        """Lengths as of `Requests`."""
        super().__init__()
        self.backbone = backbone
        self.batch_size = batch_size
        self.default_new_tokens = default_new_tokens
        self.max_new_tokens = max_new_tokens
        self.images = {}

    @classmethod
    def from_pretrained(
        cls,
        pretrained: str | os.PathLike,
        *,
        device: str | None = None,
        dtype: str | None = None,
        batch_size: int | str = 1,
        max_new_tokens: int | str | None = None,
    ) -> "C3LModel":
        """The model of a saved backbone, a folder or a Hub id; numbers may be written as text.

        `device` and `dtype` are `c3l.load_backbone`'s, `max_new_tokens` as above. Raises UserError
        for a backbone or a value that cannot be used.
        """
        size = _whole("batch_size", batch_size)
        limit = None if max_new_tokens is None else _whole("max_new_tokens", max_new_tokens)
        backbone = load_backbone(pretrained, device=device, dtype=dtype)
        return cls(backbone, size, max_new_tokens=limit)

    @classmethod
    def create_from_arg_string(
        cls, arg_string: str, additional_config: dict | None = None
    ) -> "C3LModel":
        """Make a model from the text of `--model_args`, and from lmms-eval's other options.

        The text is like pretrained=FOLDER,dtype=bfloat16, with the names of `from_pretrained`. It
        takes precedence over the options --batch_size and --device; a --batch_size of "auto" is
        refused.

        A UserError ends the process with its message and status 2, since lmms-eval prints the
        traceback of any exception and ends with status 0.
        """
        options = {k: v for k, v in (additional_config or {}).items() if v is not None}
        settings = {name: options[name] for name in ("batch_size", "device") if name in options}
        try:
            names = [*signature(cls.from_pretrained).parameters]
            return cls.from_pretrained(**settings | _parsed(arg_string, names))
        except UserError as error:
            print(f"c3l: {error}", file=sys.stderr)
            sys.exit(2)

    def clean(self) -> None:
        """Keep the model, which lmms-eval would drop after a run: the backbone is the caller's."""

    def __repr__(self) -> str:
        # lmms-eval's response cache keys on this text: it names everything that decides an answer.
        return (
            f"C3LModel(weights={self.backbone.digest}, dtype={self.backbone.dtype}, "
            f"batch_size={self.batch_size}, default_new_tokens={self.default_new_tokens}, "
            f"max_new_tokens={self.max_new_tokens})"
        )

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Answer each request; texts in the order of the requests, unprintable characters removed.

        Greedy unless the task asks to sample. A batch holds questions of similar length under one
        set of generation settings.
        """
        look = self.looker()
        settings = [request.args[1] for request in requests]
        keys = [(repr(sorted(settings[i].items())), len(r.args[0])) for i, r in enumerate(requests)]
        order = sorted(range(len(requests)), key=keys.__getitem__)
        answers = [""] * len(requests)
        groups = (list(group) for _, group in groupby(order, key=lambda i: keys[i][0]))
        chunks = [chunk for group in groups for chunk in _chunks(group, self.batch_size)]
        for chunk in track(chunks, "questions", [*map(len, chunks)]):
            for batch, images in _with_and_without(chunk, requests, look):
                try:
                    texts = self.backbone.generate(
                        [requests[i].args[0] for i in batch],
                        images,
                        batch_size=self.batch_size,
                        **self.generation(settings[batch[0]]),
                    )
                except NotFiniteError as error:
                    raise _named(error.rows, batch, requests) from None
                for i, text in zip(batch, texts, strict=True):
                    answers[i] = UNPRINTABLE.sub("", text)
        return answers

    @torch.inference_mode()
    def loglikelihood(self, requests: list[Instance]) -> list[GenerationResult]:
        """The loss of each continuation after its context, and whether greedy decoding writes it.

        Despite the method's name lmms-eval takes the option with the *smallest* number, because the
        models it ships return the mean cross-entropy per token; so does this one (nats, without
        the end-of-sequence token). The pair travels inside a GenerationResult: 0.7.3 turns a bare
        tuple into a string.

        Continuations of the same context and document share one pass over them (c3l.packing); a
        forward holds at most `batch_size` continuations. Raises UserError for an empty one, and
        NotFiniteError for one whose loss is no number.
        """
        look = self.looker()
        prompts = [(request.args[0], *request.args[3:]) for request in requests]
        for request in requests:
            if not request.args[1].strip():
                raise UserError(
                    f"Question {request.args[3]} of {request.args[4]} has an empty option, which "
                    "has no likelihood; remove the question."
                )
        # Continuations of one prompt lie together: the model reads the prompt once for them all.
        first = {key: i for i, key in reversed([*enumerate(prompts)])}
        order = sorted(range(len(requests)), key=lambda i: (len(prompts[i][0]), first[prompts[i]]))
        results: list[GenerationResult | None] = [None] * len(requests)
        chunks = _chunks(order, self.batch_size)
        for chunk in track(chunks, "answers", [*map(len, chunks)]):
            for batch, images in _with_and_without(chunk, requests, look):
                questions, continuations = zip(*(requests[i].args[:2] for i in batch), strict=True)
                runs = [len(list(run)) for _, run in groupby(batch, key=prompts.__getitem__)]
                pairs = self._losses(questions, images, continuations, runs)
                # The smallest number wins, and NaN would be taken for it.
                if wrong := [k for k, (loss, _) in enumerate(pairs) if not math.isfinite(loss)]:
                    raise _named(wrong, batch, requests)
                for i, pair in zip(batch, pairs, strict=True):
                    results[i] = GenerationResult(text=pair)
        return results

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        raise NotImplementedError("none of the paper's benchmarks has more than one round")

    def _losses(self, questions, images, continuations, runs) -> list[tuple[float, bool]]:
        # The chat template puts the separator before an answer; a leading blank would double it.
        answers = [text.strip() for text in continuations]
        batch = self.backbone.encode(list(questions), images, answers=answers)
        lengths = batch["answer_mask"].sum(1).tolist()
        states, targets = answer_states(self.backbone, batch, batch["answer_mask"], runs)
        logits = self.backbone.head(states)
        losses = cross_entropy(logits.float(), targets, reduction="none").split(lengths)
        hits = (logits.argmax(-1) == targets).split(lengths)
        return [(n.mean().item(), bool(h.all())) for n, h in zip(losses, hits, strict=True)]


def _parsed(arg_string: str, names: list[str]) -> dict[str, str]:
    """The values of name=value,name=value as text: lmms-eval's own parser would make a number of a
    folder called 007."""
    values = {}
    for part in filter(None, map(str.strip, arg_string.split(","))):
        name, equals, value = part.partition("=")
        if not equals or not value:
            raise UserError(f"--model_args: {part!r} is no name=value; write pretrained=FOLDER")
        if name not in names:
            raise UserError(f"--model_args: there is no {name!r}; use {', '.join(names)}")
        values[name] = value
    if "pretrained" not in values:
        raise UserError("--model_args names no backbone; write pretrained=FOLDER, or a Hub id")
    return values


def _whole(name: str, value: int | str) -> int:
    if not str(value).isdecimal() or int(value) < 1:
        raise UserError(f"{name}={value}: give a whole number of at least 1")
    return int(value)


def _named(rows: list[int], batch: list[int], requests: list[Instance]) -> NotFiniteError:
    """The error for some of a batch's requests, which are named by their task and document."""
    names = [f"{requests[i].args[4]} {requests[i].args[3]}" for i in batch]
    return NotFiniteError(rows, names)


def _chunks(items: list, size: int) -> list[list]:
    return [items[i : i + size] for i in range(0, len(items), size)]


def _with_and_without(chunk: list[int], requests: list[Instance], look):
    """Split a chunk into (indices, images) and (indices, None): a batch is one or the other."""
    images = {i: look(*requests[i].args[2:]) for i in chunk}
    if with_image := [i for i in chunk if images[i] is not None]:
        yield with_image, [images[i] for i in with_image]
    if without := [i for i in chunk if images[i] is None]:
        yield without, None
