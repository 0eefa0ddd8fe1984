"""A judge that fails: asked again within a budget, then unscored; what it said is kept.

What else a failing judge leaves: tests/benchmarks/judge/test_judge.py.
"""

import json
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler
from itertools import count

import pytest

from benchmarks.evaluate import REPLIES, evaluate
from benchmarks.judge import judging
from benchmarks.judge.judge import Judge, parse_grades, serve_http
from benchmarks.judge.judging import Replies, retry_after
from c3l.artifacts.store import Source, Store
from c3l.runtime.errors import UserError
from repro.profile import load
from repro.run import runner
from repro.stages import evaluation
from tests.benchmarks import data
from tests.benchmarks.data import TableBackbone
from tests.benchmarks.judge.test_judge import completion

AREA = "judge"
QUESTIONS = 3
GOOD = (200, completion("8 4\nFine."), {})
OUT_OF_ORDER = (500, '{"error": {"message": "out of order"}}', {})
BACKBONE = TableBackbone({}, "Hm.")


@pytest.fixture(scope="module")
def wild(tmp_path_factory):
    return data.llava_w(tmp_path_factory.mktemp("wild"))


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """What the client waits, in seconds, instead of waiting."""
    waited = []
    monkeypatch.setattr(time, "sleep", waited.append)
    return waited


def scripted(script):
    """A judge that replies as `script(number of the request)` says: status, body, headers; None
    for no reply at all, a number for that many bytes of one."""

    class Handler(BaseHTTPRequestHandler):
        asked = 0

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            said = script(type(self).asked)
            type(self).asked += 1
            if said is None:
                return
            status, content, headers = GOOD if isinstance(said, int) else said
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content.encode())))
            self.end_headers()
            self.wfile.write(content.encode()[: said if isinstance(said, int) else None])

        def log_message(self, *args):
            pass

    return Handler


def once(said):
    """Good replies, but for the second question's first."""
    return scripted(lambda number: said if number == 2 else GOOD)


REFUSALS = [
    "I'm sorry, but I cannot rate these answers on a scale of 1 to 10.",
    "As of 2023, 2 answers like these cannot be compared.",
    "",
    "8",
    "8/10 7/10",
    "11 4",
    "-1 -1",
    "8 -4",
    "1e1 3",
    "Assistant 1: 8",
]

FAULTS = {
    "refuses once": (200, completion(REFUSALS[0]), {}),
    "replies without JSON once": (200, "<html>", {}),
    "replies with other JSON once": (200, '{"choices": [{"message": {"content": [1]}}]}', {}),
    "is out of order once": OUT_OF_ORDER,
    "is overloaded once": (503, "", {}),
    "says nothing once": None,
    "dies half-way through a reply": 20,
    "limits the rate once": (429, "{}", {"Retry-After": "7"}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_judge_that_fails_once_is_asked_again(wild, tmp_path, waits, record_fault, fault):
    handler = once(FAULTS[fault])
    with record_fault(AREA, fault), serve_http(handler) as url:
        cell = evaluate(BACKBONE, "llava_w", wild, tmp_path, judge=Judge("m", url))
        assert (cell["value"], cell["unscored"], cell["transient"]) == (50, None, False)
        assert handler.asked == 1 + QUESTIONS + 1  # the ping, and one twice
        assert waits == [7.0 if "rate" in fault else judging.BACKOFF]


@pytest.mark.parametrize("reply", REFUSALS)
def test_a_judge_that_goes_on_refusing_is_no_judge(wild, tmp_path, waits, record_fault, reply):
    """No number out of a refusal becomes a grade."""
    handler = scripted(lambda number: GOOD if number == 0 else (200, completion(reply), {}))
    with record_fault(AREA, "refuses, or grades out of range"), serve_http(handler) as url:
        cell = evaluate(BACKBONE, "llava_w", wild, tmp_path, judge=Judge("m", url))
        assert cell["value"] is None and cell["transient"]
        assert "no two scores from 0 to 10" in cell["unscored"]
        # Several questions are asked at a time; the first that fails ends them all.
        assert 1 + judging.TRIES <= handler.asked <= 1 + QUESTIONS * judging.TRIES
        assert set(waits) == {1.0, 2.0, 4.0} and sum(waits) <= judging.PATIENCE


def test_the_budget_for_waiting_is_kept(wild, tmp_path, waits, record_fault):
    limited = (429, "{}", {"Retry-After": "200"})
    with record_fault(AREA, "limits the rate for longer than the budget"):
        with serve_http(scripted(lambda number: limited)) as url:
            cell = evaluate(BACKBONE, "llava_w", wild, tmp_path, judge=Judge("m", url))
        assert cell["value"] is None
        assert "429" in cell["unscored"] and "waited for 200 s" in cell["unscored"]
        assert waits == [200.0] and sum(waits) <= judging.PATIENCE


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_what_asking_again_cannot_mend_is_not_asked_again(wild, tmp_path, waits, status):
    handler = scripted(lambda number: (status, '{"error": {"message": "no"}}', {}))
    with serve_http(handler) as url:
        cell = evaluate(BACKBONE, "llava_w", wild, tmp_path, judge=Judge("m", url))
    assert str(status) in cell["unscored"] and handler.asked == 1 and waits == []


def test_retry_after_is_read_as_number_and_as_date():
    assert [retry_after(value) for value in (None, "", "7", " 2.5 ", "-3", "soon", "nan")] == [
        *(0, 0, 7, 2.5, 0, 0, 0)
    ]
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    assert 85 < retry_after(later) <= 90
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert retry_after("inf") > judging.PATIENCE


def test_grades_are_two_numbers_alone_on_the_first_line():
    for reply in ("8 4", "8, 4.5\nBecause", " **8 4**", "[8; 4]", "10 0", "8\t4 "):
        assert parse_grades(reply) == pytest.approx(
            tuple(
                float(part.strip("*[] "))
                for part in reply.split("\n")[0].replace(",", " ").replace(";", " ").split()
            )
        )
    for reply in REFUSALS:
        assert parse_grades(reply) is None


def test_references_graded_zero_have_no_ratio(wild, tmp_path, record_fault):
    with record_fault(AREA, "grades every reference 0"):
        with serve_http(scripted(lambda number: (200, completion("0 0"), {}))) as url:
            cell = evaluate(BACKBONE, "llava_w", wild, tmp_path, judge=Judge("m", url))
        assert cell["value"] is None and "reference" in cell["unscored"]


def test_replies_already_given_are_kept(wild, tmp_path, record_fault):
    """The first try dies at the last question; the next one asks for that alone."""
    replies, dies = tmp_path / REPLIES, count()
    with record_fault(AREA, "dies half-way through an evaluation"):
        first = scripted(lambda number: GOOD if next(dies) < QUESTIONS else OUT_OF_ORDER)
        with serve_http(first) as url:
            judge = Judge("m", url)
            cell = evaluate(BACKBONE, "llava_w", wild, tmp_path / "a", judge=judge, replies=replies)
        assert cell["value"] is None and "failed on 1 of 3" in cell["unscored"]
        with open(replies, "a") as file:
            file.write('\n{"request": "cut o')  # as a crash would leave it
        second = scripted(lambda number: GOOD)
        with serve_http(second) as url:
            judge = Judge("m", url)
            cell = evaluate(BACKBONE, "llava_w", wild, tmp_path / "b", judge=judge, replies=replies)
        assert (cell["value"], second.asked) == (50, 1)
        with serve_http(second) as url:
            cell = evaluate(BACKBONE, "llava_w", wild, tmp_path / "c", judge=judge, replies=replies)
        assert (cell["value"], second.asked) == (50, 1)
    assert (tmp_path / "c" / REPLIES).read_bytes() == replies.read_bytes()


def test_other_questions_have_other_replies(tmp_path):
    replies = Replies(tmp_path / REPLIES)
    replies.add("a", "8 4")
    assert (replies.get("a"), replies.get("b")) == ("8 4", None)
    assert Replies(tmp_path / REPLIES).get("a") == "8 4"


def test_a_run_after_a_failure_asks_only_what_is_missing(wild, tmp_path, monkeypatch, record_fault):
    """Through the store: the unscored artefact is discarded, what the judge said is found again."""
    monkeypatch.setattr("c3l.stages.models.load_model", lambda *_, **__: BACKBONE)
    healthy = []
    handler = scripted(lambda number: GOOD if healthy or number < 3 else OUT_OF_ORDER)
    with record_fault(AREA, "dies half-way through a run"), serve_http(handler) as url:
        scoring = load("pocket").scoring.model_copy(update={"judge": url, "judge_model": "m"})
        data = Source.from_path(wild)
        stage = evaluation.evaluation(data, "llava_w", data, scoring)
        store = Store(tmp_path / "store")
        store.make(stage)
        facts = store.manifest(stage)["facts"]
        assert facts["transient"] and facts["value"] is None
        failed_after, _ = handler.asked, healthy.append(True)
        store.remove_leftovers()  # what the next run begins with
        runner.discard_transient([stage], store)
        store.make(stage)
        assert store.manifest(stage)["facts"]["value"] == 50
        assert handler.asked - failed_after == 1
    assert not list((tmp_path / "store").glob("*/.partial-*"))


def test_a_key_that_no_header_can_hold(monkeypatch):
    monkeypatch.setenv("A_KEY", "s3cret\x01value")
    with pytest.raises(UserError, match="the key in A_KEY holds") as error:
        Judge("m", "http://127.0.0.1:1/v1", "A_KEY").key  # noqa: B018
    assert "s3cret" not in str(error.value)
    monkeypatch.setenv("A_KEY", "s3cret\n")
    assert Judge("m", "http://127.0.0.1:1/v1", "A_KEY").key == "s3cret"


def test_the_replies_are_json_lines(tmp_path):
    replies = Replies(tmp_path / REPLIES)
    replies.add("a", "8 4\nFine.\u2028")
    replies.add("b", "7 7")
    lines = (tmp_path / REPLIES).read_text().strip().split("\n")
    assert [json.loads(line)["request"] for line in lines] == ["a", "b"]
