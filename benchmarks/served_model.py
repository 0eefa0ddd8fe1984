"""A served model for lmms-eval: its own client, but with failures that are not answers."""

from dataclasses import replace
from types import SimpleNamespace

from lmms_eval.api.instance import Instance
from lmms_eval.models.simple.openai import OpenAICompatible
from openai.types.chat import ChatCompletion

from benchmarks.api.client import NO_COMPLETION, NoCompletionError, complete, make_client
from benchmarks.served import Served
from c3l.lmms import UNPRINTABLE, Requests

TIMEOUT = 120.0  # seconds for one answer, name lookup included
RETRIES = 4  # by the client, after half a second to eight, or as long as the server asks for
FAILED = "[LMMS_EVAL_REQUEST_FAILED"


class UnansweredError(Exception):
    """A question without an answer from the server; the reason is without the key."""


class ServedModel(Requests, OpenAICompatible):
    """A model that asks the server, `batch_size` questions at a time.

    It has no likelihoods: the protocol has none for a given answer.
    """

    def __init__(
        self,
        served: Served,
        batch_size: int = 8,
        default_new_tokens: int = 16,
        max_new_tokens: int | None = None,
    ):
        """Take the arguments of `C3LModel`."""
        super().__init__(
            model=served.model,
            base_url=served.url,
            api_key=served.key,
            max_retries=1,  # its own retries come at once, whatever the error
            num_concurrent=batch_size,
        )
        self._client = make_client(served.url, served.key, TIMEOUT, RETRIES)
        self._key = served.key
        completions = SimpleNamespace(create=self._ask)
        self.client = SimpleNamespace(chat=SimpleNamespace(completions=completions))
        self.batch_size_per_gpu = batch_size
        self.default_new_tokens, self.max_new_tokens = default_new_tokens, max_new_tokens
        self.images = {}

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Return the answers in the order of the requests, cut at the first end mark.

        The first is asked alone: an absent server fails once. Raises UnansweredError if any failed:
        a missing answer is not a wrong one.
        """
        look, prepared, marks = self.looker(), [], []
        for request in requests:
            context, settings, *tail = request.args
            look(*tail)
            options = self.generation(settings)
            marks.append(options.pop("stop"))
            prepared.append(replace(request, arguments=(context, options, *tail)))
        texts = self._texts(prepared[:1]) + self._texts(prepared[1:])
        return [_cut(text, stop) for text, stop in zip(texts, marks, strict=True)]

    def _texts(self, requests: list[Instance]) -> list[str]:
        texts = [result.text for result in super().generate_until(requests)]
        failed = [text for text in texts if text.startswith(FAILED)]
        if failed:
            reason = failed[0].partition("] ")[2]
            count = f"{len(failed)} of {len(requests)}"
            raise UnansweredError(f"it failed on {count} questions: {reason}")
        return texts

    def _ask(self, **payload) -> ChatCompletion:
        """Return the client's reply without the key, which lmms-eval would log and keep.

        Raises NoCompletionError without an answer: lmms-eval would take none for an empty one.
        """
        reply = complete(self._client, self._key, **payload)
        if not isinstance(reply.choices[0].message.content, str):
            raise NoCompletionError(NO_COMPLETION)
        return reply


def _cut(text: str, stop: tuple[str, ...]) -> str:
    """Cut the text at the first of the marks, and leave out unprintable characters."""
    cuts = [text.index(mark) for mark in stop if mark in text]
    return UNPRINTABLE.sub("", text[: min(cuts)] if cuts else text).strip()
