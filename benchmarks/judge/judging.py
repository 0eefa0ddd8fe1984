"""lmms-eval's own judging of LLaVA-Bench, with patience that ends and replies that are kept.

Prompt, parser and aggregation are lmms-eval's. By itself it asks again five times (and its client
three times within each, each up to ten minutes), question after question, scores a judge that
never answers 100, and takes any two numbers for grades. Here the client alone asks again, within
a budget; nothing is asked after a question that failed, and each failure has a reason.
"""

import json
import os
import time
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from threading import Lock

from lmms_eval.llm_judge import ProviderFactory, Request, Response, ServerConfig
from lmms_eval.llm_judge.providers.openai import OpenAIProvider, build_sampling_kwargs
from openai import APIStatusError, OpenAIError

from benchmarks.api.client import (
    MALFORMED,
    NO_COMPLETION,
    RefusedError,
    error_reason,
    make_client,
    without_surrogates,
)
from benchmarks.api.keys import mask_key
from benchmarks.judge.judge import (
    Judge,
    has_separate_reasoning,
    parse_grades,
    strip_thinking,
    thinking_hint,
)
from c3l.artifacts.files import digest

TIMEOUT = 60.0  # seconds for one whole reply, from the first look at its server's name
TRIES = 4  # requests for one question
BACKOFF = 1.0  # seconds before the second request; twice as many before each further one
PATIENCE = 300.0  # seconds that one evaluation waits between requests, all questions together
NOT_ASKED = "not asked after a failure"


class Replies:
    """What a judge has said, by the digest of what it was asked; on the disk as soon as said.

    A line a reply, each begun with its line feed: what a crash cut off spoils no other.
    """

    def __init__(self, path: Path | None):
        self.path = path
        self._said: dict[str, str] = {}
        self._lock = Lock()  # lmms-eval asks several questions at a time
        content = path.read_bytes() if path and path.exists() else b""
        for line in content.split(b"\n"):
            try:
                record = json.loads(line)
                self._said[record["request"]] = str(record["reply"])
            except (ValueError, TypeError, KeyError):
                continue

    def get(self, request: str) -> str | None:
        return self._said.get(request)

    def keep(self, request: str, reply: str) -> None:
        with self._lock:
            self._said[request] = reply
            if self.path is None:
                return
            with open(self.path, "a", encoding="utf-8") as file:
                file.write("\n" + json.dumps({"request": request, "reply": reply}))
                file.flush()
                os.fsync(file.fileno())


class Client(OpenAIProvider):
    """lmms-eval's client, for one evaluation: it gives up at the first question that fails.

    Questions that are asked meanwhile, in other threads, are not asked again.
    """

    replies: Replies  # see `prepare`
    judge: Judge

    def __init__(self, config: ServerConfig):
        super().__init__(replace(config, max_tokens=self.judge.tokens))
        self.client = make_client(
            self.base_url,
            self.api_key,
            self.judge.seconds(TIMEOUT),
            proxies=self.judge.url is not None,
        )
        self.failed = False
        self._patience, self._lock = PATIENCE, Lock()

    def evaluate(self, request: Request) -> Response:
        asked = {
            "model": request.config.model_name,
            "messages": self.prepare_messages(request),
            **build_sampling_kwargs(request.config),
        }
        key = digest(asked)
        if (reply := self.replies.get(key)) is None:
            reply = self._judged(asked)
            self.replies.keep(key, reply)
        return Response(self._spoken(reply), request.config.model_name)

    def _spoken(self, reply: str) -> str:
        """What of a reply is read."""
        spoken = strip_thinking(reply) if self.judge.strip_thinking else reply
        return without_surrogates(spoken)

    def _judged(self, asked: dict) -> str:
        """A reply with two grades, asked for again where that may help; RuntimeError without."""
        for tried in range(1, TRIES + 1):
            if self.failed:
                raise RuntimeError(NOT_ASKED)
            wait = BACKOFF * 2 ** (tried - 1)
            try:
                reply, hint = self._ask(asked)
                if parse_grades(self._spoken(reply)):
                    return reply
                reason = f"its reply has no two scores from 0 to 10{hint}: {reply[:100]!r}"
            except APIStatusError as error:
                reason = error_reason(error, self.api_key)
                if error.status_code not in (408, 409, 425, 429) and error.status_code < 500:
                    break
                wait = max(wait, retry_after(error.response.headers.get("Retry-After")))
            except OpenAIError as error:
                reason = error_reason(error, self.api_key)
                if isinstance(error, RefusedError):
                    break
            except MALFORMED:
                reason = NO_COMPLETION
            if tried == TRIES:
                break
            if not self._may_wait(wait):
                reason += f" (it would have to be waited for {wait:.0f} s)"
                break
            time.sleep(wait)
        self.failed = True
        raise RuntimeError(reason)

    def _may_wait(self, seconds: float) -> bool:
        """Whether the budget holds so many seconds more; they are taken from it."""
        with self._lock:
            enough = seconds <= self._patience
            self._patience -= seconds if enough else 0
        return enough

    def _ask(self, asked: dict) -> tuple[str, str]:
        """The reply, and a hint about it if it has no scores."""
        message = self.client.chat.completions.create(**asked).choices[0].message
        apart = has_separate_reasoning(message)
        reply = mask_key(("" if apart else message.content).strip(), self.api_key)
        return reply, thinking_hint(reply, self.judge, apart)


def retry_after(value: str | None) -> float:
    """Seconds that a Retry-After header asks for, as a number or a date; 0 for anything else."""
    try:
        seconds = float(value or 0)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):  # no date, or one without a time zone
            return 0.0
    return max(seconds, 0.0) if seconds == seconds else 0.0


def register_client(replies: Path | None, judge: Judge) -> None:
    """Have the next evaluation of this process judged by a new `Client`, which knows `replies`."""
    # lmms-eval makes the client itself and takes nothing but a class.
    client = type("KeepingClient", (Client,), {"replies": Replies(replies), "judge": judge})
    ProviderFactory.register_provider("c3l", client)


def judge_environment(judge: Judge, url: str) -> dict[str, str]:
    """What lmms-eval reads from the environment, with the task and with the first question."""
    names = {
        "API_TYPE": "c3l",
        "MODEL_VERSION": judge.model,
        "OPENAI_API_URL": url,
        "OPENAI_API_KEY": judge.key,
    }
    return names if judge.url else names | {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}


def failure_reason(judgement: dict) -> str | None:
    """Why lmms-eval's judgement of an answer is none, or None."""
    if all(0 <= score <= 10 for score in judgement["scores"]):
        return None
    # lmms-eval's word for an exception of the client, which gives no reply without two grades
    return " ".join(judgement["review"].split()).removeprefix("error: ")[:300]


def failure_summary(reasons: list[str], answers: int) -> str | None:
    """A sentence about an evaluation's failures, one reason each, or None without any."""
    if not reasons:
        return None
    told = [reason for reason in reasons if reason != NOT_ASKED]
    skipped = len(reasons) - len(told)
    rest = f" ({skipped} more were not asked)" if skipped else ""
    return f"the judge failed on {len(told)} of {answers} answers{rest}: {told[0]}"
