"""The judge of LLaVA-Bench (in the wild): any OpenAI-compatible address, or the pocket judge.

The pocket judge is such an address itself, a server on the loopback interface that grades by
`benchmarks.pocket.grading`. It keeps nothing: the scene is read from the context of each prompt,
which holds its complete caption. Nothing here imports lmms-eval; `benchmarks.judge.judging` does.
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
from benchmarks.api.keys import mask_key, read_key
from benchmarks.pocket import grading
from c3l.runtime.errors import UserError

POCKET_MODEL = f"pocket-judge-{grading.RULE}"

TOKENS = 1024
"""The most of a reply, lmms-eval's own limit."""
THINKING_TOKENS = 8192
"""The most of a reply that begins with what the judge thinks."""
THINKING_LONGER = 5
"""Times the seconds that a reply may take, if the judge thinks first."""
PROBE_TOKENS = 64
REASONING_MODELS = ("gpt-5", "o1", "o3", "o4")
"""How names begin, by lmms-eval's list, whose servers know `max_tokens` by another name."""

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
    """Who judges. None of it is secret."""

    model: str = POCKET_MODEL
    url: str | None = None
    """The address to which "/chat/completions" is added; None: the pocket judge."""
    key_variable: str | None = None
    """The environment variable that holds the key, if the address asks for one."""
    strip_thinking: bool = False
    """Take a reply for what follows its <think> block, and leave it the time and tokens for one."""

    def __post_init__(self) -> None:
        """Raise UserError for an address or a name that is none: both stand in a cell."""
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
        """What stands in a cell."""
        name = f"{self.model} at {self.url}" if self.url else self.model
        return f"{name}, <think> stripped" if self.strip_thinking else name

    @property
    def tokens(self) -> int:
        """The most of a reply."""
        return THINKING_TOKENS if self.strip_thinking else TOKENS

    def seconds(self, usual: float) -> float:
        """The longest that a reply may take, where it `usual`ly takes so long."""
        return usual * THINKING_LONGER if self.strip_thinking else usual

    def configuration(self) -> dict:
        """What decides the grades, for a stage's key; what it was before there was an option."""
        values = asdict(self)
        if not self.strip_thinking:
            del values["strip_thinking"]
        return values

    @property
    def key(self) -> str:
        """The key (`read_key`)."""
        return read_key(self.key_variable)

    @contextlib.contextmanager
    def running(self) -> Iterator[str]:
        """Its address, for as long as the context lasts. The pocket judge runs in threads of this
        process, all of which have ended when the context is left."""
        if self.url:
            yield self.url
            return
        with serve_http(_Pocket) as url:
            yield url


@contextlib.contextmanager
def serve_http(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Serve HTTP on a free port of the loopback interface; the address, with "/v1"."""
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
    """The two grades from 0 to 10 that a judge's reply begins with, or None."""
    found = _GRADES.fullmatch(reply.strip().partition("\n")[0])
    if found is None:
        return None
    first, second = map(float, found.groups())
    return (first, second) if max(first, second) <= 10 else None


_TAG = re.compile(r"</?think>", re.IGNORECASE)


def strip_thinking(reply: str) -> str:
    """A reply without the <think> blocks that it begins with, be they nested.

    Some servers leave out the first <think>, which their prompt ends with. What has a tag left
    after that is returned whole: who quotes "</think>" and two numbers has not graded by them.
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


def thinking_hint(reply: str, judge: Judge, apart: bool = False) -> str:
    """What to do about a reply without scores that is all thought, "" where it is not; `apart`: the
    thought is in a field of its own, reasoning_content."""
    if not apart and not _TAG.search(reply):
        return ""
    what = "is all reasoning_content" if apart else "opens with a <think> block"
    if judge.strip_thinking:
        return f" (it {what}, which has no clear end within {judge.tokens} tokens)"
    does = "leaves it the tokens for that" if apart else "strips it"
    return f" (it {what}; --set scoring.judge_strip_thinking=true {does})"


def has_separate_reasoning(message: object) -> bool:
    """Whether a message has no content but thought in a field of its own, as vLLM and others send
    it."""
    fields = ("reasoning_content", "reasoning")
    return not message.content and any(getattr(message, field, None) for field in fields)


def check_judge(judge: Judge, timeout: float = 30.0, retries: int = 0) -> str | None:
    """Have one answer judged, as LLaVA-Bench's are; a reason if that gave no two scores, or None.

    No reason holds the key. A server that is busy is asked again, `retries` times.
    """
    from openai import OpenAIError

    from benchmarks.api.client import MALFORMED, NO_COMPLETION, error_reason, make_client

    reasons = judge.model.startswith(REASONING_MODELS)
    tokens = judge.tokens if judge.strip_thinking or reasons else PROBE_TOKENS
    limit = {"max_completion_tokens" if reasons else "max_tokens": tokens}
    messages = [{"role": "user", "content": PROBE}]
    seconds, proxies = judge.seconds(timeout), judge.url is not None
    with judge.running() as url:
        try:
            with make_client(url, judge.key, seconds, retries, proxies=proxies) as client:
                reply = client.chat.completions.create(
                    model=judge.model, messages=messages, **limit
                )
            message = reply.choices[0].message
            said, apart = (
                mask_key(message.content or "", judge.key),
                has_separate_reasoning(message),
            )
        except OpenAIError as error:
            return error_reason(error, judge.key)
        except MALFORMED:
            return NO_COMPLETION
    if parse_grades(strip_thinking(said) if judge.strip_thinking else said):
        return None
    hint = thinking_hint(said, judge, apart)
    return f"its reply does not begin with two scores{hint}: {said[:100]!r}"


def pocket_reply(prompt: str) -> str:
    """The pocket judge's reply to a prompt of lmms-eval's: two grades, then where they come from.

    Raises ValueError for any other prompt, and for a context that is no complete caption.
    """
    context, question, answers = _asked(prompt)
    scene = grading.read_caption(context)
    grades = [grading.grade(question, answer, scene) for answer in answers]
    lines = [" ".join(f"{grade.value:g}" for grade in grades)]
    lines += [f"Answer {n}: {grade.reason}." for n, grade in enumerate(grades, start=1)]
    return "\n".join(lines)


def _asked(prompt: str) -> tuple[str, str, tuple[str, str]]:
    """Context, question and both answers of what lmms-eval's LLaVA-Bench task sends.

    An answer may hold anything, so the second one reaches to the last mark there is. Mark by mark,
    in linear time: a regular expression for the whole takes minutes for a prompt of nothing but
    marks. Raises ValueError for any other prompt.
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


class _Pocket(BaseHTTPRequestHandler):
    """POST to any path (lmms-eval's tasks add different ones to their address): a completion.

    HTTP 1.0, so that a connection, and with it its thread, ends with its reply.
    """

    timeout = 10  # seconds that a connection may stay silent
    error_content_type = "application/json"
    error_message_format = '{"error": {"message": "%(message)s", "code": %(code)d}}'

    def do_POST(self) -> None:
        try:
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            prompt = _prompt(json.loads(body))
            said = pocket_reply(prompt)
        except ValueError as error:  # JSON and Unicode errors too
            self._reply(400, {"error": {"message": str(error), "type": "invalid_request_error"}})
            return
        words = {"prompt_tokens": len(prompt.split()), "completion_tokens": len(said.split())}
        message = {"role": "assistant", "content": said}
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
        """Nothing: standard error is the user's."""


def _prompt(request: object) -> str:
    """The text of a chat completions request, its messages joined. Raises ValueError without."""
    try:
        contents = [message["content"] for message in request["messages"]]
        texts = [
            content if isinstance(content, str) else "".join(part["text"] for part in content)
            for content in contents
        ]
    except (KeyError, TypeError) as error:
        raise ValueError("the request has no messages with a text for content") from error
    return "\n".join(texts)
