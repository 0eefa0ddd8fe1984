"""A backbone as lmms-eval sees it: one object for every task, batched, no error swallowed."""

import hashlib
import re
from functools import lru_cache
from itertools import groupby

import torch
from lmms_eval.api.instance import GenerationResult, Instance
from lmms_eval.api.model import lmms
from PIL import Image
from torch.nn.functional import cross_entropy

from c3l.backbones import Backbone
from c3l.errors import UserError
from c3l.progress import track
from c3l.relevance import answer_states

# Characters a spreadsheet cannot hold: one of them makes lmms-eval's MMBench task fail at its very
# end, when it writes its submission file, and lose all results.
UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


class C3LModel(lmms):
    """Answers lmms-eval's requests with a backbone; pass the object to `simple_evaluate`.

    Attributes:
        images: document id -> digest of the pixels the model was shown, for clustering by image.
    """

    def __init__(
        self,
        backbone: Backbone,
        batch_size: int = 64,
        default_new_tokens: int = 16,
        max_new_tokens: int | None = None,
    ):
        """
        Args:
            default_new_tokens: length of an answer where the task sets none (SEED).
            max_new_tokens: upper limit on what a task asks for; None leaves the task's own.
        """
        super().__init__()
        self.backbone = backbone
        self.batch_size = batch_size
        self.default_new_tokens = default_new_tokens
        self.max_new_tokens = max_new_tokens
        self.images: dict[int, str] = {}

    def clean(self) -> None:
        """Nothing: lmms-eval would drop the model after a run, but the backbone is the caller's."""

    def __repr__(self) -> str:
        # lmms-eval's response cache keys on this text: it names all that decides an answer.
        return (
            f"C3LModel(weights={self.backbone.digest}, batch_size={self.batch_size}, "
            f"default_new_tokens={self.default_new_tokens}, max_new_tokens={self.max_new_tokens})"
        )

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Answer each request; texts in the order of the requests, unprintable characters removed.

        Greedy unless the task asks to sample. A batch holds questions of similar length under one
        set of generation settings.
        """
        look = self._looker()
        settings = [request.args[1] for request in requests]
        keys = [(repr(sorted(settings[i].items())), len(r.args[0])) for i, r in enumerate(requests)]
        order = sorted(range(len(requests)), key=keys.__getitem__)
        answers = [""] * len(requests)
        chunks = [
            chunk
            for _, group in groupby(order, key=lambda i: keys[i][0])
            for chunk in _chunks(list(group), self.batch_size)
        ]
        for chunk in track(chunks, "questions", [*map(len, chunks)]):
            for batch, images in _with_and_without(chunk, requests, look):
                texts = self.backbone.generate(
                    [requests[i].args[0] for i in batch],
                    images,
                    batch_size=self.batch_size,
                    **self._generation(settings[batch[0]]),
                )
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
        forward holds at most `batch_size` continuations. Raises UserError for an empty one.
        """
        look = self._looker()
        asked = [(request.args[0], *request.args[3:]) for request in requests]
        for request in requests:
            if not request.args[1].strip():
                raise UserError(
                    f"Question {request.args[3]} of {request.args[4]} has an empty option, which "
                    "has no likelihood; remove the question."
                )
        # Continuations of one prompt lie together: the model reads the prompt once for them all.
        first: dict[tuple, int] = {}
        for i, key in enumerate(asked):
            first.setdefault(key, i)
        order = sorted(range(len(requests)), key=lambda i: (len(asked[i][0]), first[asked[i]]))
        results: list[GenerationResult | None] = [None] * len(requests)
        chunks = _chunks(order, self.batch_size)
        for chunk in track(chunks, "answers", [*map(len, chunks)]):
            for batch, images in _with_and_without(chunk, requests, look):
                questions, continuations = zip(*(requests[i].args[:2] for i in batch), strict=True)
                runs = [len(list(run)) for _, run in groupby(batch, key=asked.__getitem__)]
                pairs = self._losses(questions, images, continuations, runs)
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

    def _generation(self, settings: dict) -> dict:
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

    def _looker(self):
        """A function from a request's tail (to_visual, doc_id, task, split) to its image."""

        @lru_cache(maxsize=self.batch_size)
        def look(to_visual, doc_id: int, task: str, split: str) -> Image.Image | None:
            visuals = (to_visual(self.task_dict[task][split][doc_id]) if to_visual else None) or []
            if len(visuals) > 1:
                raise UserError(
                    f"Question {doc_id} of {task} has {len(visuals)} images; one is supported."
                )
            if not visuals:
                return None
            image = visuals[0]
            pixels = f"{image.mode}{image.size}".encode() + image.tobytes()
            self.images[doc_id] = hashlib.sha256(pixels).hexdigest()
            return image

        return look


def _chunks(items: list, size: int) -> list[list]:
    return [items[i : i + size] for i in range(0, len(items), size)]


def _with_and_without(chunk: list[int], requests: list[Instance], look):
    """Split a chunk into (indices, images) and (indices, None): a batch is one or the other."""
    images = {i: look(*requests[i].args[2:]) for i in chunk}
    with_image = [i for i in chunk if images[i] is not None]
    without = [i for i in chunk if images[i] is None]
    if with_image:
        yield with_image, [images[i] for i in with_image]
    if without:
        yield without, None
