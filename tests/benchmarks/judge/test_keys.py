"""Keys and addresses of servers: what is refused, and that a key is told in no spelling."""

import base64
import html
import json
from http.server import BaseHTTPRequestHandler
from urllib.parse import quote

import pandas as pd
import pytest

from benchmarks import served_model
from benchmarks.api.address import parse_base_url, parse_model_name
from benchmarks.api.keys import NO_KEY, mask_key, missing_key_hint, read_key
from benchmarks.evaluate import REPLIES, evaluate
from benchmarks.judge import judging
from benchmarks.judge.judge import Judge, check_judge, serve_http
from benchmarks.served import Served
from benchmarks.served import check_server as probe_served
from c3l.runtime.errors import UserError
from repro import profile
from tests.benchmarks import data
from tests.benchmarks.data import TableBackbone
from tests.benchmarks.judge.test_client import answering, for_ever, whole
from tests.benchmarks.judge.test_judge import completion

KEYS = ["sk-proj/Ab+c=&d_'\"1", "s3cret", "a\\b<c>d%e", "0123456789abcdef"]


def spellings(key: str) -> list[str]:
    around = [key, f":{key}", f"me:{key}", f"{key}:", f"Bearer {key}", f"{key}\n"]
    return [
        *(key, key.upper(), repr(key), json.dumps(key), quote(key), quote(key, safe="")),
        *(quote(key, safe="").lower(), html.escape(key), json.dumps({"a": f"Bearer {key}"})),
        *(base64.b64encode(text.encode()).decode() for text in around),
        *(base64.urlsafe_b64encode(text.encode()).decode().rstrip("=") for text in around),
        key.encode().hex(),
    ]


@pytest.mark.parametrize("key", KEYS)
def test_a_key_is_told_in_no_spelling(key):
    inner = base64.b64encode(key.encode()).decode()[2:-4]
    for text in spellings(key)[: None if len(key) > 7 else 9]:
        said = mask_key(f"<p>no, {text}!</p>", key)
        assert "***" in said and said.startswith("<p>no, ") and said.endswith("!</p>")
        assert key not in said and (len(key) < 8 or inner not in said)
    assert mask_key("8 4\nFine.", key) == "8 4\nFine."


def test_what_is_no_secret_is_left():
    for short in ("1", "x", NO_KEY):
        assert mask_key("11 no-key x", short) == "11 no-key x"


@pytest.mark.parametrize(
    "key", ["naïve", "two\nlines", "two words", "s3cret\x01", "tab\tbed", "\x7f1"]
)
def test_a_key_that_no_header_can_hold_is_refused_for_judge_and_model(monkeypatch, key):
    monkeypatch.setenv("A_KEY", key)
    for one in (Judge("m", "http://h/v1", "A_KEY"), Served(**SERVED)):
        ask = check_judge if isinstance(one, Judge) else probe_served
        for use in (lambda one=one: one.key, lambda one=one, ask=ask: ask(one, 1)):
            with pytest.raises(UserError, match=r"^the key in A_KEY holds characters") as error:
                use()
            assert key not in str(error.value)


SERVED = {"model": "m", "url": "http://h/v1", "key_variable": "A_KEY"}


def test_a_key_that_is_not_there_is_said_to_be(monkeypatch):
    for value in ("", " \n"):
        monkeypatch.setenv("A_KEY", value)
        assert (read_key("A_KEY"), missing_key_hint("A_KEY")) == (NO_KEY, " (A_KEY is not set)")
    monkeypatch.delenv("A_KEY")
    assert (read_key("A_KEY"), missing_key_hint("A_KEY")) == (NO_KEY, " (A_KEY is not set)")
    monkeypatch.setenv("A_KEY", " s3cret\r\n")
    assert (read_key("A_KEY"), missing_key_hint("A_KEY"), missing_key_hint(None)) == (
        "s3cret",
        "",
        "",
    )


@pytest.mark.parametrize(
    "url",
    [
        *("", "host/v1", "gpt-4", "ftp://host/v1", "file:///etc/passwd", "https:///v1", "http://"),
        *("https://me:s3cret@host/v1", "https://s3cret@host", "https://host/v1?key=s3cret"),
        *("https://host/v1#s3cret", "https://host/v1?", "http://host:port/v1", "http://[host/v1"),
        *("http://host:0/v1", "http://host:99999/v1", "http://host/v1 ", "http://ho\x1bst/v1"),
        *(
            "https://host\\@s3cret/v1",
            "https://host/v1/chat/completions",
            "HTTP://h/Chat/Completions/",
        ),
    ],
)
def test_an_address_that_is_none_is_refused_for_judge_and_model(url):
    with pytest.raises(ValueError, match=r"^(it is no|leave out /chat/completions)"):
        parse_base_url(url, "address")
    if url:  # none is the pocket judge
        with pytest.raises(UserError, match=r"^The judge cannot be asked: ") as error:
            Judge("m", url)
        assert "s3cret" not in str(error.value)
    text = json.dumps(url)
    for change in (f"scoring.judge={text}", f"served={{A: {{model: m, url: {text}}}}}"):
        with pytest.raises(UserError, match=r": (it is no|leave out)") as error:
            profile.load("pocket", [change])
        assert "s3cret" not in str(error.value) and "\n" not in str(error.value)


def test_addresses_as_people_write_them():
    for url, base in {
        "https://host/v1": "https://host/v1",
        "https://host/v1//": "https://host/v1",
        "http://[::1]:8000": "http://[::1]:8000",
        "http://localhost:8000/": "http://localhost:8000",
    }.items():
        assert parse_base_url(url, "address") == base
        assert profile.load("pocket", [f"scoring.judge={url}"]).scoring.judge == base
        assert Served(model="m", url=url).url == base


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "\x1b[31m"])
def test_a_model_without_a_name_is_refused(name):
    with pytest.raises(ValueError, match="no name of a model"):
        parse_model_name(name)
    for change in (
        f"scoring.judge_model={json.dumps(name)}",
        f"served={{A: {{model: {json.dumps(name)}, url: 'http://h/v1'}}}}",
    ):
        with pytest.raises(UserError, match=r"it is no(t a YAML value| name of a model)"):
            profile.load("pocket", [change])


@pytest.mark.parametrize(
    "change",
    ["scoring.judge_key=sk-s3cret", "scoring.judgekey=sk-s3cret", "scoring.judge_key=[s3cret"],
)
def test_what_may_be_a_key_is_not_repeated(change):
    with pytest.raises(UserError, match=r"--set scoring\.judge_?key=…: ") as error:
        profile.load("pocket", [change])
    assert "s3cret" not in str(error.value)


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setenv("A_KEY", KEYS[0])
    monkeypatch.setattr(judging, "TRIES", 1)
    monkeypatch.setattr(judging, "TIMEOUT", 0.4)
    monkeypatch.setattr(served_model, "TIMEOUT", 0.4)
    monkeypatch.setattr(served_model, "RETRIES", 0)


@pytest.fixture(scope="module")
def wild(tmp_path_factory):
    return data.llava_w(tmp_path_factory.mktemp("wild"))


@pytest.fixture(scope="module")
def pope(tmp_path_factory):
    return data.pope(tmp_path_factory.mktemp("pope"), pairs=1)


def cells(url: str, wild, pope, out) -> list[dict]:
    """Of a backbone judged at an address, and of a model served there."""
    judge = Judge("m", url, "A_KEY")
    replies = out / REPLIES
    backbone = TableBackbone({}, "Hm.")
    return [
        evaluate(backbone, "llava_w", wild, out / "j", judge=judge, replies=replies),
        evaluate(Served(**SERVED | {"url": url}), "pope", pope, out / "s"),
    ]


BAD = {
    "trickles": (lambda c: for_ever(c, b"HTTP/1.1 200 OK\r\n\r\n", b" "), "no whole reply within"),
    "is large": (lambda c: c.sendall(whole(b" " * 2**21)), "larger than 1 MiB"),
    "redirects": (
        lambda c: c.sendall(b"HTTP/1.1 307 T\r\nLocation: http://h:1/v2\r\n\r\n"),
        "it redirects (status 307) to http://h:1/v2,",
    ),
    "nests": (lambda c: c.sendall(whole(b"[" * 100_000)), "no chat completion"),
    "says null": (lambda c: c.sendall(whole(completion(None).encode())), "no chat completion"),
}


@pytest.mark.parametrize("way", BAD)
def test_cells_have_the_bounds_of_probes(wild, pope, tmp_path, way):
    answer, words = BAD[way]
    with answering(answer) as url:
        for cell in cells(url, wild, pope, tmp_path):
            assert cell["value"] is None and cell["transient"]
            assert words in cell["unscored"], cell["unscored"]


def test_a_server_that_repeats_the_key_in_all_spellings(wild, pope, tmp_path):
    """And half a character, which no file can hold: the cells are scored, nothing is told."""

    class Echo(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            judged = "Assistant 2" in str(body)
            start = "8 4\n" if judged else "Yes\n\n"
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            text = start + " ".join(spellings(KEYS[0])) + "\ud800"
            self.wfile.write(completion(text).encode())

        def log_message(self, *args):
            pass

    with serve_http(Echo) as url:
        for cell in cells(url, wild, pope, tmp_path):
            assert cell["unscored"] is None or "sampling" in cell["unscored"], cell
    review = pd.read_parquet(tmp_path / "j" / "samples.parquet")["review"][0]
    assert review.startswith("8 4\n") and review.count("***") > 9 and review.endswith("?")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 5
    for path in files:
        content = path.read_text(encoding="utf-8", errors="replace")
        for text in (KEYS[0], quote(KEYS[0], safe=""), base64.b64encode(KEYS[0].encode()).decode()):
            assert text not in content and json.dumps(text)[1:-1] not in content


def test_mmbench_asks_nobody(tmp_path, monkeypatch):
    """lmms-eval's other MMBench tasks ask by requests of their own; no profile can name one."""
    from lmms_eval.tasks.mmbench.mmbench_evals import MMBench_Evaluator

    asked = []
    monkeypatch.setattr(MMBench_Evaluator, "_post_request", lambda *args: asked.append(args))
    folder = data.mmbench(tmp_path / "mmbench")
    cell = evaluate(TableBackbone({}, "I cannot tell."), "mmbench", folder, tmp_path / "out")
    assert cell["value"] == 0 and cell["unreadable"] == 1 and asked == []
