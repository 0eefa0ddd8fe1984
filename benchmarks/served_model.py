"""A served model as lmms-eval sees it: lmms-eval's own client, whose failures are not answers."""

from dataclasses import replace
from types import SimpleNamespace

from lmms_eval.api.instance import Instance
from lmms_eval.models.simple.openai import OpenAICompatible
from openai import OpenAIError
from openai.types.chat import ChatCompletion

from benchmarks.api.client import MALFORMED, NO_COMPLETION, error_reason, make_client
from benchmarks.api.keys import mask_key
from benchmarks.served import Served
from c3l.lmms import UNPRINTABLE, Requests

TIMEOUT = 120.0  # seconds for one whole answer, from the first look at its server's name
RETRIES = 4  # by the client, after half a second to eight, or as long as the server asks for
FAILED = "[LMMS_EVAL_REQUEST_FAILED"


class UnansweredError(Exception):
    """The server gave no answer to a question; the reason, without the key."""


class ServedModel(Requests, OpenAICompatible):
    """Answers lmms-eval's requests by asking the server, `batch_size` questions at a time.

    It has no likelihoods: the protocol has none for a given answer.
    """

    def __init__(
        self,
        served: Served,
        batch_size: int = 8,
        default_new_tokens: int = 16,
        max_new_tokens: int | None = None,
    ):
        """As of `C3LModel`."""
        super().__init__(
            model=served.model,
            base_url=served.url,
            api_key=served.key,
            max_retries=1,  # its own asks again whatever the error, and at once
            num_concurrent=batch_size,
        )
        self._asking = make_client(served.url, served.key, TIMEOUT, RETRIES)
        self._key = served.key
        completions = SimpleNamespace(create=self._ask)
        self.client = SimpleNamespace(chat=SimpleNamespace(completions=completions))
        self.batch_size_per_gpu = batch_size
        self.default_new_tokens, self.max_new_tokens = default_new_tokens, max_new_tokens
        self.images = {}

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Answer each request; texts in the order of the requests, cut at what ends an answer.

        The first is asked alone: an absent server fails once. Raises UnansweredError if any failed:
        a missing answer is not a wrong one.
        """
        look, asked, ends = self.looker(), [], []
        for request in requests:
            context, settings, *tail = request.args
            look(*tail)
            wanted = self.generation(settings)
            ends.append(wanted.pop("stop"))
            asked.append(replace(request, arguments=(context, wanted, *tail)))
        texts = self._texts(asked[:1]) + self._texts(asked[1:])
        return [_cut(text, stop) for text, stop in zip(texts, ends, strict=True)]

    def _texts(self, requests: list[Instance]) -> list[str]:
        texts = [result.text for result in super().generate_until(requests)]
        failed = [text for text in texts if text.startswith(FAILED)]
        if failed:
            reason = failed[0].partition("] ")[2]
            raise UnansweredError(
                f"it failed on {len(failed)} of {len(requests)} questions: {reason}"
            )
        return texts

    def _ask(self, **payload) -> ChatCompletion:
        """The client's reply. Some servers repeat the key, and lmms-eval logs and keeps it.

        Raises RuntimeError without an answer: lmms-eval would take none for an empty one.
        """
        try:
            reply = self._asking.chat.completions.create(**payload)
            message = reply.choices[0].message
            message.content = mask_key(message.content, self._key)
        except OpenAIError as error:
            raise RuntimeError(error_reason(error, self._key)) from None
        except MALFORMED:
            raise RuntimeError(NO_COMPLETION) from None
        return reply


def _cut(text: str, stop: tuple[str, ...]) -> str:
    """The text up to the first of the marks, without what no spreadsheet can hold."""
    cuts = [text.index(mark) for mark in stop if mark in text]
    return UNPRINTABLE.sub("", text[: min(cuts)] if cuts else text).strip()
