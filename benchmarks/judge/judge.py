"""The judge of LLaVA-Bench (in the wild): any OpenAI-compatible address, or the pocket judge.

The pocket judge is a server on the loopback interface that grades by `benchmarks.pocket.grading`.
It has no state: each prompt's context holds the scene's complete caption. Nothing here imports
lmms-eval; `benchmarks.judge.judging` does.
"""

import contextlib
import json
import re
import socketserver
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler

from benchmarks.api.address import ADDRESS_HINT, parse_base_url, parse_model_name
from benchmarks.api.keys import read_key
from benchmarks.pocket import grading
from c3l.runtime.errors import UserError

POCKET_MODEL = f"pocket-judge-{grading.RULE}"

TOKENS = 1024
"""Limit on a reply, lmms-eval's own."""
THINKING_TOKENS = 8192
"""Limit on a reply that begins with the judge's thinking."""
THINKING_TIME_FACTOR = 5
PROBE_TOKENS = 64
REASONING_MODELS = ("gpt-5", "o1", "o3", "o4")
"""Prefixes of names, from lmms-eval's list, whose servers call `max_tokens` otherwise."""

PROBE = """\
[Context]
There is one thing in a field. A small red ball stands north.

[Question]
What colour is the ball?

[Assistant 1]
It is red.

[End of Assistant 1]

[Assistant 2]
It is blue.

[End of Assistant 2]

[System]
Rate both answers on a scale of 1 to 10. Write one line with the two scores alone, separated by a \
space.
"""


@dataclass(frozen=True)
class Judge:
    """A judge's address and model; nothing here is secret."""

    model: str = POCKET_MODEL
    url: str | None = None
    """The address to which "/chat/completions" is added; None: the pocket judge."""
    key_variable: str | None = None
    """The environment variable that holds the key, if the address asks for one."""
    strip_thinking: bool = False
    """Read a reply after its <think> block, and allow time and tokens for one."""

    def __post_init__(self) -> None:
        """Raise UserError for an invalid address or name: both stand in a cell."""
        try:
            parse_model_name(self.model)
            if self.url:
                object.__setattr__(
                    self, "url", parse_base_url(self.url, f"address of a judge: {ADDRESS_HINT}")
                )
        except ValueError as error:
            raise UserError(f"The judge cannot be asked: {error}.") from error

    @property
    def name(self) -> str:
        """The judge's name in a cell."""
        name = f"{self.model} at {self.url}" if self.url else self.model
        return f"{name}, <think> stripped" if self.strip_thinking else name

    @property
    def tokens(self) -> int:
        """Limit on a reply."""
        return THINKING_TOKENS if self.strip_thinking else TOKENS

    def timeout(self, seconds: float) -> float:
        """Scale a reply's time limit for a judge that thinks first."""
        return seconds * THINKING_TIME_FACTOR if self.strip_thinking else seconds

    def configuration(self) -> dict:
        """The fields that decide the grades, for a stage's key; unchanged by an unused option."""
        values = asdict(self)
        if not self.strip_thinking:
            del values["strip_thinking"]
        return values

    @property
    def key(self) -> str:
        """The key, from the environment."""
        return read_key(self.key_variable)

    def running(self) -> contextlib.AbstractContextManager[str]:
        """Return a context of the judge's address. The pocket judge runs in threads of this
        process, which end with the context."""
        return contextlib.nullcontext(self.url) if self.url else serve_http(_PocketHandler)


@contextlib.contextmanager
def serve_http(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Serve HTTP on a free port of the loopback interface; yield the address, with "/v1"."""
    # Not http.server's class: that one asks the network for the name of 127.0.0.1.
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        finally:
            server.shutdown()
            thread.join()


# Two grades alone on the first line, as LLaVA-Bench asks for. lmms-eval takes the first two numbers
# there are: "I cannot rate on a scale of 1 to 10" would be a 1 and a 10.
_GRADES = re.compile(r"[^\w-]*(\d+(?:\.\d+)?)[^\w-]+(\d+(?:\.\d+)?)[^\w-]*")


def parse_grades(reply: str) -> tuple[float, float] | None:
    """Return the two grades from 0 to 10 that a judge's reply begins with, or None."""
    match = _GRADES.fullmatch(reply.strip().partition("\n")[0])
    if match is None:
        return None
    first, second = map(float, match.groups())
    return (first, second) if max(first, second) <= 10 else None


_TAG = re.compile(r"</?think>", re.IGNORECASE)


def strip_thinking(reply: str) -> str:
    """Return a reply without the <think> blocks that it begins with, nested ones too.

    Some servers leave out the first <think>, which their prompt ends with. A reply with further
    tags is returned whole: one that quotes "</think>" and two numbers has not graded by them.
    """
    if parse_grades(reply):
        return reply
    depth, end = 0, None
    for number, tag in enumerate(_TAG.finditer(reply)):
        closes = tag[0].startswith("</")
        begins = not reply[end or 0 : tag.start()].strip() or (number == 0 and closes)
        if depth == 0 and not begins:
            return reply
        depth += -1 if closes and depth else not closes
        if depth == 0:
            end = tag.end()
    return reply if depth or end is None else reply[end:].strip()


def thinking_hint(reply: str, judge: Judge, separate: bool = False) -> str:
    """Return the remedy for a reply without scores that is all thinking, else "".

    `separate`: the thinking is in a field of its own, reasoning_content.
    """
    if not separate and not _TAG.search(reply):
        return ""
    problem = "is all reasoning_content" if separate else "opens with a <think> block"
    if judge.strip_thinking:
        return f" (it {problem}, which has no clear end within {judge.tokens} tokens)"
    effect = "leaves it the tokens for that" if separate else "strips it"
    return f" (it {problem}; --set scoring.judge_strip_thinking=true {effect})"


def has_separate_reasoning(message: object) -> bool:
    """Tell if a message has no content but a field of reasoning, as vLLM and others send it."""
    fields = ("reasoning_content", "reasoning")
    return not message.content and any(getattr(message, field, None) for field in fields)


def check_judge(judge: Judge, timeout: float = 30.0, retries: int = 0) -> str | None:
    """Have one answer judged like LLaVA-Bench's; return the reason if that gave no two scores.

    No reason holds the key. A busy server is asked again, `retries` times.
    """
    from benchmarks.api.client import NoCompletionError, complete, make_client

    reasoning = judge.model.startswith(REASONING_MODELS)
    tokens = judge.tokens if judge.strip_thinking or reasoning else PROBE_TOKENS
    limit = {"max_completion_tokens" if reasoning else "max_tokens": tokens}
    messages = [{"role": "user", "content": PROBE}]
    seconds, proxies = judge.timeout(timeout), judge.url is not None
    try:
        with (
            judge.running() as url,
            make_client(url, judge.key, seconds, retries, proxies=proxies) as client,
        ):
            completion = complete(client, judge.key, model=judge.model, messages=messages, **limit)
    except NoCompletionError as error:
        return str(error)
    message = completion.choices[0].message
    reply = message.content or ""
    if parse_grades(strip_thinking(reply) if judge.strip_thinking else reply):
        return None
    hint = thinking_hint(reply, judge, has_separate_reasoning(message))
    return f"its reply does not begin with two scores{hint}: {reply[:100]!r}"


def pocket_reply(prompt: str) -> str:
    """Return the pocket judge's reply to a prompt of lmms-eval's: two grades, then their reasons.

    Raises ValueError for any other prompt, and for a context that is no complete caption.
    """
    context, question, answers = _parse_prompt(prompt)
    scene = grading.read_caption(context)
    grades = [grading.grade(question, answer, scene) for answer in answers]
    lines = [" ".join(f"{grade.value:g}" for grade in grades)]
    lines += [f"Answer {n}: {grade.reason}." for n, grade in enumerate(grades, start=1)]
    return "\n".join(lines)


def _parse_prompt(prompt: str) -> tuple[str, str, tuple[str, str]]:
    """Return context, question and both answers in a prompt of lmms-eval's LLaVA-Bench task.

    An answer may hold anything, so the second one reaches to the last mark. Mark by mark, in linear
    time: a regular expression for the whole takes minutes for a prompt of nothing but marks. Raises
    ValueError for any other prompt.
    """
    _, start, rest = prompt.partition("[Context]\n")
    context, question_mark, rest = rest.partition("\n\n[Question]\n")
    first_mark = re.search(r"\n\n\[(\w+) 1\]\n", rest)
    if start and question_mark and first_mark:
        role, question = first_mark[1], rest[: first_mark.start()]
        first, between, rest = rest[first_mark.end() :].partition(
            f"\n\n[End of {role} 1]\n\n[{role} 2]\n"
        )
        second, end, _ = rest.rpartition(f"\n\n[End of {role} 2]\n\n[System]\n")
        if between and end:
            return context, question, (first, second)
    raise ValueError("the prompt is not that of LLaVA-Bench (in the wild)")


class _PocketHandler(BaseHTTPRequestHandler):
    """A completion for a POST to any path: lmms-eval's tasks add different ones to the address.

    HTTP 1.0, so that a connection, and with it its thread, ends with its reply.
    """

    timeout = 10  # seconds of silence that end a connection
    error_content_type = "application/json"
    error_message_format = '{"error": {"message": "%(message)s", "code": %(code)d}}'

    def do_POST(self) -> None:
        try:
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            prompt = _prompt(json.loads(body))
            reply = pocket_reply(prompt)
        except ValueError as error:  # JSON and Unicode errors too
            self._reply(400, {"error": {"message": str(error), "type": "invalid_request_error"}})
            return
        words = {"prompt_tokens": len(prompt.split()), "completion_tokens": len(reply.split())}
        message = {"role": "assistant", "content": reply}
        self._reply(
            200,
            {
                "id": "chatcmpl-pocket",
                "object": "chat.completion",
                "created": int(time.time()),
                "model": POCKET_MODEL,
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": words | {"total_tokens": sum(words.values())},
            },
        )

    def _reply(self, status: int, content: dict) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args) -> None:
        """Log nothing: standard error is the user's."""


def _prompt(request: object) -> str:
    """Join the messages of a chat completions request. Raises ValueError if it has none."""
    try:
        contents = [message["content"] for message in request["messages"]]
        texts = [
            content if isinstance(content, str) else "".join(part["text"] for part in content)
            for content in contents
        ]
    except (KeyError, TypeError) as error:
        raise ValueError("the request has no messages with a text for content") from error
    return "\n".join(texts)
