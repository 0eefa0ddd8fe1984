"""A model at an address: asked by lmms-eval's client, never scored on what it did not say."""

import base64
import io
import json
from http.server import BaseHTTPRequestHandler
from typing import ClassVar

import pandas as pd
import pytest
from PIL import Image

from benchmarks import served_model
from benchmarks.evaluate import evaluate
from benchmarks.judge.judge import serve_http
from benchmarks.served import Served, check_server
from c3l.runtime.errors import UserError
from tests.benchmarks import data
from tests.benchmarks.data import TableBackbone

ANSWERS = {"the yes": "Yes", "the no": "No"}
KEY = "sk-do-not-tell"


def server(answer, status=lambda asked: 200):
    """A handler class that answers a chat request, and keeps what it was asked in `asked`."""

    class Handler(BaseHTTPRequestHandler):
        asked: ClassVar[list] = []

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.asked.append(body | {"key": self.headers["Authorization"]})
            code = status(len(self.asked))
            message = {"role": "assistant", "content": answer(body["messages"][0]["content"])}
            reply = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
            if code != 200:
                reply = {"error": {"message": f"no, {self.headers['Authorization']}"}}
            text = json.dumps({"id": "1", "object": "chat.completion", "model": "m"} | reply)
            self.send_response(code)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *args):
            pass

    return Handler


def text_of(content) -> str:
    return "".join(part["text"] for part in content if part["type"] == "text")


def right(content) -> str:
    return next((answer for key, answer in ANSWERS.items() if key in text_of(content)), "")


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("A_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(served_model, "RETRIES", 0)


def of(url: str) -> Served:
    return Served(model="visualglm-6b", url=url, key_variable="A_KEY")


def test_it_is_scored_as_a_backbone_of_the_same_answers(tmp_path):
    folder = data.pope(tmp_path / "pope")
    handler = server(lambda content: right(content) + "\n\nmore")  # POPE ends an answer there
    with serve_http(handler) as url:
        cell = evaluate(of(url), "pope", folder, tmp_path / "ours", max_new_tokens=7)
        assert cell["served"] == f"visualglm-6b at {url}"
    same = evaluate(TableBackbone(ANSWERS), "pope", folder, tmp_path / "theirs")
    assert cell["value"] == same["value"] == 100
    ours, theirs = (pd.read_parquet(tmp_path / n / "samples.parquet") for n in ("ours", "theirs"))
    pd.testing.assert_frame_equal(ours, theirs)
    assert len(handler.asked) == len(ours)
    for body in handler.asked:
        assert (body["model"], body["max_tokens"], body["temperature"]) == ("visualglm-6b", 7, 0)
        (shown,) = (part for part in body["messages"][0]["content"] if part["type"] == "image_url")
        picture = base64.b64decode(shown["image_url"]["url"].partition("base64,")[2])
        assert Image.open(io.BytesIO(picture)).size == data.image(0).size
    assert {body["key"] for body in handler.asked} == {f"Bearer {KEY}"}
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and KEY.encode() in p.read_bytes()]


@pytest.mark.parametrize("after", [0, 5])
def test_a_server_that_fails_leaves_the_cell_unscored(tmp_path, after):
    """Were its failures answers, it would have a score."""
    handler = server(right, lambda asked: 200 if asked <= after else 401)
    folder = data.pope(tmp_path / "pope")
    with serve_http(handler) as url:
        cell = evaluate(of(url), "pope", folder, tmp_path / "out", batch_size=2)
    assert cell["value"] is None and cell["transient"]
    assert "visualglm-6b at http" in cell["unscored"] and "401" in cell["unscored"]
    assert KEY not in cell["unscored"]
    assert after or len(handler.asked) == 1  # a dead server is asked once
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and KEY.encode() in p.read_bytes()]


def test_a_short_outage_is_survived(tmp_path, monkeypatch):
    monkeypatch.setattr(served_model, "RETRIES", 2)
    handler = server(right, lambda asked: 503 if asked == 1 else 200)
    folder = data.pope(tmp_path / "pope", pairs=1, categories=("random", "popular", "adversarial"))
    with serve_http(handler) as url:
        assert evaluate(of(url), "pope", folder, tmp_path / "out")["value"] == 100


def test_it_can_be_tried():
    with serve_http(server(lambda content: "Grey.")) as url:
        assert check_server(of(url)) is None
    with serve_http(server(lambda content: None)) as url:
        assert check_server(of(url)) == "its reply is no chat completion with a text"
    with serve_http(server(right, lambda asked: 401)) as url:
        reason = check_server(of(url))
    assert "401" in reason and KEY not in reason
    assert check_server(of(url), timeout=5)  # nobody listens there any more


@pytest.mark.parametrize("key", ["naïve", "two\nlines"])
def test_a_key_that_no_header_can_hold(monkeypatch, key):
    monkeypatch.setenv("A_KEY", key)
    with pytest.raises(UserError, match=r"^the key in A_KEY holds characters") as error:
        _ = Served(model="m", url="http://localhost/v1", key_variable="A_KEY").key
    assert key not in str(error.value)
