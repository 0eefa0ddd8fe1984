"""lmms-eval's own judging of LLaVA-Bench, with bounded retries and stored replies.

Prompt, parser and aggregation are lmms-eval's. By itself it asks again five times (and its client
three times within each, each up to ten minutes), question after question, scores a judge that
never answers 100, and takes any two numbers for grades. Here the client alone asks again, within
a budget; no question is asked after a failure, and each failure has a reason.
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

TIMEOUT = 60.0  # seconds for one reply, name lookup included
TRIES = 4  # requests for one question
BACKOFF = 1.0  # seconds before the second request; twice as many before each further one
PATIENCE = 300.0  # seconds of one evaluation's waits between requests, all questions together
NOT_ASKED = "not asked after a failure"


class Replies:
    """A judge's replies by the digest of the request, on disk as soon as they arrive.

    One line a reply, which begins with its line feed: a line that a crash cut off spoils no other.
    """

    def __init__(self, path: Path | None):
        self.path = path
        self._replies: dict[str, str] = {}
        self._lock = Lock()  # lmms-eval asks several questions at a time
        content = path.read_bytes() if path and path.exists() else b""
        for line in content.split(b"\n"):
            try:
                record = json.loads(line)
                self._replies[record["request"]] = str(record["reply"])
            except (ValueError, TypeError, KeyError):
                continue

    def get(self, request: str) -> str | None:
        return self._replies.get(request)

    def add(self, request: str, reply: str) -> None:
        with self._lock:
            self._replies[request] = reply
            if self.path is None:
                return
            with open(self.path, "a", encoding="utf-8") as file:
                file.write("\n" + json.dumps({"request": request, "reply": reply}))
                file.flush()
                os.fsync(file.fileno())


class Client(OpenAIProvider):
    """lmms-eval's client for one evaluation, which gives up at the first question that fails.

    Questions that other threads ask meanwhile are not asked again.
    """

    replies: Replies  # see `prepare`
    judge: Judge

    def __init__(self, config: ServerConfig):
        super().__init__(replace(config, max_tokens=self.judge.tokens))
        self.client = make_client(
            self.base_url,
            self.api_key,
            self.judge.timeout(TIMEOUT),
            proxies=self.judge.url is not None,
        )
        self.failed = False
        self._patience, self._lock = PATIENCE, Lock()

    def evaluate(self, request: Request) -> Response:
        payload = {
            "model": request.config.model_name,
            "messages": self.prepare_messages(request),
            **build_sampling_kwargs(request.config),
        }
        key = digest(payload)
        if (reply := self.replies.get(key)) is None:
            reply = self._ask_for_grades(payload)
            self.replies.add(key, reply)
        return Response(self._judgement(reply), request.config.model_name)

    def _judgement(self, reply: str) -> str:
        """The part of a reply that is read."""
        return without_surrogates(strip_thinking(reply) if self.judge.strip_thinking else reply)

    def _ask_for_grades(self, payload: dict) -> str:
        """Return a reply with two grades, asked again where that may help; else RuntimeError."""
        for attempt in range(1, TRIES + 1):
            if self.failed:
                raise RuntimeError(NOT_ASKED)
            wait = BACKOFF * 2 ** (attempt - 1)
            try:
                reply, hint = self._ask(payload)
                if parse_grades(self._judgement(reply)):
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
            if attempt == TRIES:
                break
            if not self._may_wait(wait):
                reason += f" (it would have to be waited for {wait:.0f} s)"
                break
            time.sleep(wait)
        self.failed = True
        raise RuntimeError(reason)

    def _may_wait(self, seconds: float) -> bool:
        """Take the seconds from the budget, if it holds as many."""
        with self._lock:
            affordable = seconds <= self._patience
            self._patience -= seconds if affordable else 0
        return affordable

    def _ask(self, payload: dict) -> tuple[str, str]:
        """Return the reply, and a hint in case it has no scores."""
        message = self.client.chat.completions.create(**payload).choices[0].message
        separate = has_separate_reasoning(message)
        reply = mask_key(("" if separate else message.content).strip(), self.api_key)
        return reply, thinking_hint(reply, self.judge, separate)


def retry_after(value: str | None) -> float:
    """Return the seconds in a Retry-After header, a number or a date; 0 for anything else."""
    try:
        seconds = float(value or 0)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):  # no date, or one without a time zone
            return 0.0
    return max(seconds, 0.0) if seconds == seconds else 0.0


def register_client(replies: Path | None, judge: Judge) -> None:
    """Have this process's next evaluation judged by a new `Client` with these stored replies."""
    # lmms-eval makes the client itself and takes nothing but a class.
    client = type("KeepingClient", (Client,), {"replies": Replies(replies), "judge": judge})
    ProviderFactory.register_provider("c3l", client)


def judge_environment(judge: Judge, url: str) -> dict[str, str]:
    """The variables that lmms-eval reads with the task and with the first question."""
    names = {
        "API_TYPE": "c3l",
        "MODEL_VERSION": judge.model,
        "OPENAI_API_URL": url,
        "OPENAI_API_KEY": judge.key,
    }
    return names if judge.url else names | {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}


def failure_reason(judgement: dict) -> str | None:
    """Explain why lmms-eval's judgement of an answer failed, or return None."""
    if all(0 <= score <= 10 for score in judgement["scores"]):
        return None
    # lmms-eval's word for an exception of the client, which gives no reply without two grades
    return " ".join(judgement["review"].split()).removeprefix("error: ")[:300]


def failure_summary(reasons: list[str], answers: int) -> str | None:
    """Summarise an evaluation's failures, one reason each; None without any."""
    if not reasons:
        return None
    failures = [reason for reason in reasons if reason != NOT_ASKED]
    skipped = len(reasons) - len(failures)
    rest = f" ({skipped} more were not asked)" if skipped else ""
    return f"the judge failed on {len(failures)} of {answers} answers{rest}: {failures[0]}"
