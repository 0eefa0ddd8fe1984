"""What any address may do to who asks it: nothing takes longer, or more memory, than was said."""

import contextlib
import gzip
import json
import socket
import socketserver
import threading
import time
import tracemalloc
import zlib
from urllib.parse import quote, urlsplit

import openai
import pytest

from benchmarks import served
from benchmarks.api import client
from benchmarks.judge import judge
from benchmarks.judge.judge import Judge
from benchmarks.served import Served
from tests.benchmarks.judge.test_judge import completion

SECONDS = 0.3
KEY = "sk-s3cret/valüe+1".replace("ü", "u")
GOOD = completion("8 4").encode()
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@contextlib.contextmanager
def answering(answer):
    """The address of a server that reads a request and then does as `answer(connection)` says."""

    class Handler(socketserver.BaseRequestHandler):
        asked = 0

        def handle(self):
            type(self).asked += 1
            with contextlib.suppress(OSError):
                head = b""
                while b"\r\n\r\n" not in head:
                    head += self.request.recv(1)
                length = int(head.lower().partition(b"content-length:")[2].split()[0])
                while length > 0:
                    length -= len(self.request.recv(length))
                answer(self.request)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        finally:
            server.shutdown()


def whole(content: bytes, *headers: bytes) -> bytes:
    lines = [*headers, b"Content-Length: %d" % len(content)]
    return HEAD + b"\r\n".join(lines) + b"\r\n\r\n" + content


def for_ever(connection, start: bytes, again: bytes, pause: float = 0.02):
    connection.sendall(start)
    while True:
        connection.sendall(again)
        time.sleep(pause)


SLOW = {
    "silent": lambda c: time.sleep(60),
    "a byte of the status line at a time": lambda c: for_ever(c, b"HTTP/1.1 200 ", b"O"),
    "headers without end": lambda c: for_ever(c, HEAD, b"X-More: 1\r\n"),
    "interim replies without end": lambda c: for_ever(c, b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "a byte of the body at a time": lambda c: for_ever(
        c, HEAD + b"Content-Length: 9999\r\n\r\n", b" "
    ),
    "a body without a length": lambda c: for_ever(c, HEAD + b"\r\n", b" "),
    "chunks without end": lambda c: for_ever(
        c, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"
    ),
    "less than its length, and open": lambda c: (
        c.sendall(HEAD + b"Content-Length: 9999\r\n\r\n" + GOOD),
        time.sleep(60),
    ),
}


@pytest.fixture(autouse=True)
def nothing_is_left(monkeypatch):
    """No thread of the client runs on, and all of it was soon."""
    monkeypatch.setenv("A_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    threads, started = set(threading.enumerate()), time.monotonic()
    yield
    assert time.monotonic() - started < 30  # none of these servers ever ends
    left = [t for t in threading.enumerate() if t not in threads and "ask" in t.name]
    assert not left


def reasons(url: str, seconds: float = SECONDS) -> list[str | None]:
    """What the probes of a judge and of a served model say."""
    return [
        judge.check_judge(Judge("m", url, "A_KEY"), seconds),
        served.check_server(Served(model="m", url=url, key_variable="A_KEY"), seconds),
    ]


@pytest.mark.parametrize("way", SLOW)
def test_a_reply_is_whole_in_time_or_none(way):
    with answering(SLOW[way]) as url:
        for reason in reasons(url):
            assert reason == f"Request timed out: no whole reply within {SECONDS} s"


def test_time_runs_while_a_name_is_looked_up(monkeypatch):
    there = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: there.wait(60))
    assert "no whole reply within 0.1 s" in judge.check_judge(Judge("m", "http://host/v1"), 0.1)
    there.set()
    time.sleep(0.2)


def test_time_runs_during_the_handshake():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"https://127.0.0.1:{listening.getsockname()[1]}/v1"
        assert "no whole reply within 0.3 s" in judge.check_judge(Judge("m", url), 0.3)


def test_a_slow_server_is_asked_again_as_often_as_was_said():
    asked = []
    with answering(lambda c: (asked.append(c), time.sleep(60))) as url:
        judge.check_judge(Judge("m", url), 0.1, retries=1)
    assert len(asked) == 2


def huge(connection, size: int = 400 * 2**20):
    part = b" " * 2**20
    connection.sendall(HEAD + b"\r\n")
    for _ in range(size // len(part)):
        connection.sendall(part)


ZEROS = b"0" * 50_000_000
LARGE = {
    "400 MB": huge,
    "400 MB of an error": lambda c: (
        c.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        huge(c),
    ),
    "gzip": lambda c: c.sendall(whole(gzip.compress(ZEROS), b"Content-Encoding: gzip")),
    "deflate": lambda c: c.sendall(whole(zlib.compress(ZEROS), b"content-encoding: Deflate")),
}


@pytest.mark.parametrize("way", LARGE)
def test_a_large_reply_is_left_at_its_bound(way):
    asked = []
    with answering(lambda c: (asked.append(c), LARGE[way](c))) as url:
        tracemalloc.start()
        try:
            for reason in reasons(url, 20):
                assert reason == "its reply is larger than 1 MiB and was not read on"
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 16 * 2**20
    assert len(asked) == 2


def test_a_reply_just_within_the_bound_is_read():
    padded = GOOD.ljust(client.MAX_BYTES)
    ways = [
        whole(padded),
        whole(gzip.compress(padded), b"Content-Encoding: gzip"),
        whole(zlib.compress(padded), b"Content-Encoding: deflate"),
        HEAD + b"\r\n" + padded,
        HEAD.replace(b"1.1", b"1.0") + b"\r\n" + padded,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(GOOD), GOOD),
    ]
    for reply in ways:
        with answering(lambda c, reply=reply: c.sendall(reply)) as url:
            assert reasons(url, 20) == [None, None]


BROKEN = {
    b"": "Connection error: Server disconnected",
    b"SSH-2.0-OpenSSH_9.2\r\n": "Connection error: ",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + GOOD: "Connection error: peer closed",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n": "Connection error: ",
    HEAD + b"Content-Length: many\r\n\r\n": "Connection error: ",
    HEAD + b"X: " + b"x" * 300_000 + b"\r\n\r\n": "Connection error: ",
    whole(GOOD, b"Content-Encoding: gzip"): "its reply is not packed by gzip, as it says",
    whole(gzip.compress(GOOD)[:-9], b"Content-Encoding: gzip"): "packed by gzip, is cut short",
    whole(GOOD, b"Content-Encoding: zstd"): "its reply is packed (zstd), which was not asked for",
    whole(GOOD.replace(b"8 4", b"\xff\xfe")): "its reply is no chat completion",
    whole(b"[" * 900_000): "its reply is no chat completion",
    whole(b"1" * 5_000): "its reply is no chat completion",
    b"HTTP/1.1 400 no\r\n\r\n\x1b[31mred \x00 \xff" + b"x" * 9_000: "Error code: 400",
    whole(b'{"error": {"message": "\\u001b[31m%s"}}' % (b"x" * 900)).replace(
        b"200 OK", b"422 no"
    ): "31mxxx",
}


@pytest.mark.parametrize("reply", BROKEN, ids=range(len(BROKEN)))
def test_a_broken_reply_has_a_reason_on_one_short_line(reply):
    with answering(lambda c: c.sendall(reply)) as url:
        for reason in reasons(url, 20):
            assert BROKEN[reply] in reason
            assert reason.isprintable() and len(reason) < 700


@pytest.mark.parametrize(
    ("status", "location", "place"),
    [
        (301, "{other}/v2/chat/completions?a=" + quote(KEY), " to {other}/v2,"),
        (302, "/elsewhere/chat/completions#x", " to {own}/elsewhere,"),
        (307, "http://me:pass@127.0.0.1:1/" + quote(KEY, safe=""), " to http://127.0.0.1:1/***,"),
        (304, "", ","),
        (308, "http://[", ","),
    ],
)
def test_a_redirect_is_said_and_not_followed(status, location, place):
    asked = []
    with answering(asked.append) as other:
        other = other.removesuffix("/v1")
        line = f"HTTP/1.1 {status} Moved\r\nLocation: {location.format(other=other)}\r\n"
        with answering(lambda c: c.sendall(line.encode() + b"Content-Length: 0\r\n\r\n")) as url:
            for reason in reasons(url):
                own = url.removesuffix("/v1")
                assert f"redirects (status {status}){place.format(other=other, own=own)}" in reason
                assert "give the address" in reason
                assert KEY not in reason and quote(KEY, safe="") not in reason
                assert "pass" not in reason
    assert asked == []


def test_only_a_port_where_nobody_listens_is_just_a_connection_error():
    class Plain(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socketserver.TCPServer(("127.0.0.1", 0), Plain) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        url = f"127.0.0.1:{server.server_address[1]}/v1"
        assert "SSL" in judge.check_judge(Judge("m", f"https://{url}"), 20)
    assert judge.check_judge(Judge("m", f"http://{url}"), 20) == "Connection error."


def test_what_is_asked_goes_through_the_environments_proxy(monkeypatch):
    monkeypatch.delenv("NO_PROXY")
    with answering(lambda c: c.sendall(whole(GOOD))) as url:
        monkeypatch.setenv("HTTP_PROXY", url.removesuffix("/v1"))
        assert judge.check_judge(Judge("m", "http://192.0.2.1/v1"), 5) is None
        assert judge.check_judge(Judge(), 5) is None  # our own is not asked there
        with answering(lambda c: for_ever(c, HEAD, b"X: 1\r\n")) as slow:
            monkeypatch.setenv("HTTP_PROXY", slow.removesuffix("/v1"))
            assert "no whole reply" in judge.check_judge(Judge("m", "http://192.0.2.1/v1"), SECONDS)


def test_no_client_but_the_bounded_one(monkeypatch):
    """openai's own would follow a redirect; it has not become another."""
    assert openai.DefaultHttpxClient().follow_redirects
    one = client.make_client("http://127.0.0.1:1/v1", "k" * 9, 1)
    assert isinstance(one._client, client.BoundedClient) and not one._client.follow_redirects
    assert urlsplit(str(one.base_url)).path == "/v1/"
    assert json.loads(GOOD)["choices"]
