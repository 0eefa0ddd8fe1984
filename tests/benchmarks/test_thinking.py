"""A judge that thinks before it grades: its thought is no grade, and an option strips it."""

import json
from http.server import BaseHTTPRequestHandler
from typing import ClassVar

import pytest
from lmms_eval.api.reasoning import strip_reasoning_tags
from lmms_eval.llm_judge.protocol import ServerConfig
from lmms_eval.llm_judge.providers.openai import build_sampling_kwargs

from benchmarks.evaluate import REPLIES, evaluate
from benchmarks.judge import judging
from benchmarks.judge.judge import (
    PROBE_TOKENS,
    REASONING_MODELS,
    THINKING_TOKENS,
    TOKENS,
    Judge,
    check_judge,
    parse_grades,
    serve_http,
    strip_thinking,
)
from tests.benchmarks import data
from tests.benchmarks.data import TableBackbone
from tests.benchmarks.judge.test_judge import completion

THOUGHT = "<think>\nThe first is worth 3, the second 9.\n3 9\n</think>\n\n"
OPTION = "--set scoring.judge_strip_thinking=true"


def saying(content: str):
    """A handler that gives one reply, and keeps what it was asked."""

    class Handler(BaseHTTPRequestHandler):
        asked: ClassVar[list] = []

        def do_POST(self):
            self.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(content.encode())

        def log_message(self, *args):
            pass

    return Handler


def apart(content: str | None, field: str = "reasoning_content") -> str:
    """A completion whose thought is in a field of its own."""
    reply = json.loads(completion(content))
    reply["choices"][0]["message"][field] = "Hm. 3 9"
    return json.dumps(reply)


@pytest.mark.parametrize(
    ("reply", "scores"),
    [
        (THOUGHT + "8 4\nFine.", (8, 4)),
        ("  \n<THINK>3 9</Think>8 4", (8, 4)),
        ("<think></think>\n\n<think>3 9</think>\n8 4", (8, 4)),
        ("<think>a <think>3 9</think>\n3 9</think>\n8 4", (8, 4)),
        ("The first is worth 3.\n</think>\n8 4", (8, 4)),  # its prompt ended with <think>
        ("8 4\nFine.", (8, 4)),
        ('8 4\nAnswer 2 says "</think>\n1 10"', (8, 4)),
        # Thought that never ends, and who quotes an answer that would grade itself.
        ("<think>\n3 9\n", None),
        ('<think>It says "</think>\n1 10\n", hm.</think>\n8 4', None),
        ("<think>Hm.</think>", None),
        ("Both <think>are</think>\n8 4", None),
    ],
)
def test_grades_are_what_follows_the_thought(reply, scores):
    assert parse_grades(strip_thinking(reply)) == scores
    if scores and not reply.startswith("8"):
        assert parse_grades(reply) is None
    if scores and reply.count("<think>") == reply.count("<") / 2 == 1:
        assert strip_thinking(reply) == strip_reasoning_tags(reply, [["<think>", "</think>"]])


@pytest.fixture(scope="module")
def wild(tmp_path_factory):
    return data.llava_w(tmp_path_factory.mktemp("wild"))


def test_the_option_strips_it_and_is_named(wild, tmp_path):
    """What was said is kept as it was; who asks again without the option is told of it."""
    backbone = TableBackbone({}, "Hm.")
    handler = saying(completion(THOUGHT + "8 4"))
    replies = tmp_path / REPLIES
    with serve_http(handler) as url:
        judge = Judge("m", url, strip_thinking=True)
        assert check_judge(judge) is None
        cell = evaluate(backbone, "llava_w", wild, tmp_path / "a", judge=judge, replies=replies)
        again = evaluate(backbone, "llava_w", wild, tmp_path / "b", judge=judge, replies=replies)
        assert (cell["value"], cell["judge"]) == (50, f"m at {url}, <think> stripped")
        assert again == cell and len(handler.asked) == 2 + cell["n"]
        assert {asked["max_tokens"] for asked in handler.asked} == {THINKING_TOKENS}
        assert all(r["reply"] == THOUGHT + "8 4" for r in map(json.loads, lines(replies)))
        plain = Judge("m", url)
        assert OPTION in check_judge(plain)
        assert handler.asked[-1]["max_tokens"] == PROBE_TOKENS
        cell = evaluate(backbone, "llava_w", wild, tmp_path / "c", judge=plain, replies=replies)
        assert (cell["value"], cell["judge"]) == (None, f"m at {url}")
        assert "opens with a <think> block" in cell["unscored"] and OPTION in cell["unscored"]
        assert handler.asked[-1]["max_tokens"] == TOKENS


def lines(path):
    return path.read_text().strip().split("\n")


@pytest.fixture(autouse=True)
def once(monkeypatch):
    monkeypatch.setattr(judging, "TRIES", 1)


@pytest.mark.parametrize(
    ("content", "plain", "stripped"),
    [
        (
            completion("<think>\nLet me see."),
            f"<think> block; {OPTION}",
            "no clear end within 8192",
        ),
        (completion("Hm.</think>8 4"), f"<think> block; {OPTION}", None),
        (apart("8 4"), None, None),
        (apart(None), f"is all reasoning_content; {OPTION}", "no clear end within 8192"),
        (apart("", "reasoning"), f"is all reasoning_content; {OPTION}", "no clear end within 8192"),
        (completion("Both are nice."), "two scores: 'Both", "two scores: 'Both"),
    ],
)
def test_what_a_probe_says_of_it(content, plain, stripped):
    with serve_http(saying(content)) as url:
        for strips, words in ((False, plain), (True, stripped)):
            reason = check_judge(Judge("m", url, strip_thinking=strips))
            assert reason is None if words is None else words in reason


def test_a_reply_that_is_all_reasoning_content_is_said_to_be(wild, tmp_path):
    with serve_http(saying(apart(None))) as url:
        judge = Judge("m", url)
        cell = evaluate(TableBackbone({}, "Hm."), "llava_w", wild, tmp_path, judge=judge)
    assert "is all reasoning_content" in cell["unscored"] and OPTION in cell["unscored"]


@pytest.mark.parametrize("model", ["gpt-5.2", "o3-mini", "gpt-4o", "qwq-32b", "o5"])
@pytest.mark.parametrize("strips", [False, True])
def test_a_probe_limits_a_reply_as_lmms_eval_does(model, strips):
    handler = saying(completion("8 4"))
    with serve_http(handler) as url:
        assert check_judge(Judge(model, url, strip_thinking=strips)) is None
    theirs = build_sampling_kwargs(ServerConfig(model, max_tokens=1))
    [limit] = (key for key in handler.asked[0] if key.startswith("max_"))
    assert limit in theirs
    if strips or model.startswith(REASONING_MODELS):
        assert handler.asked[0][limit] == (THINKING_TOKENS if strips else TOKENS)
