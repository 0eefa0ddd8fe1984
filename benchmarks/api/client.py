"""The one client of servers: each reply arrives in bounded time and size, without redirects.

`openai`'s own client follows redirects and sends the key along where the host stays the same. It
bounds the silence between two bytes, not the time of a reply, and it reads any amount. Its import
takes a second: import this only where a server is asked.
"""

import socket
import sys
import threading
import zlib
from contextlib import suppress
from typing import Any
from urllib.parse import urljoin, urlsplit

from openai import APIStatusError, APITimeoutError, DefaultHttpxClient, OpenAI, OpenAIError
from openai.types.chat import ChatCompletion

from benchmarks.api.address import ENDPOINT
from benchmarks.api.keys import mask_key

MAX_BYTES = 2**20
"""Limit on a reply, packed and unpacked. lmms-eval's longest is some ten thousand bytes."""
MALFORMED = (AttributeError, IndexError, KeyError, TypeError, ValueError, RecursionError)
"""The errors of reading a reply that is no chat completion: servers send anything with status 200,
and the client checks little of it."""
NO_COMPLETION = "its reply is no chat completion with a text"
MAX_REASON = 300

# openai's releases are built on httpx or on its successor.
httpx = sys.modules[DefaultHttpxClient.__base__.__module__.partition(".")[0]]


class RefusedError(OpenAIError):
    """A reply that is not accepted; asking again gives the same one."""


class NoCompletionError(RuntimeError):
    """A request without a completion; the reason is printable and without the key."""


def complete(client: OpenAI, key: str, **request: Any) -> ChatCompletion:
    """Return a chat completion, its text without the key.

    Raises NoCompletionError if the request fails, or its reply cannot be read.
    """
    try:
        completion = client.chat.completions.create(**request)
        message = completion.choices[0].message
        message.content = message.content and mask_key(message.content, key)
        return completion
    except OpenAIError as error:
        raise NoCompletionError(error_reason(error, key)) from None
    except MALFORMED:
        raise NoCompletionError(NO_COMPLETION) from None


def make_client(
    url: str, key: str, seconds: float, retries: int = 0, *, proxies: bool = True
) -> OpenAI:
    """Return a client of an address whose every request ends within `seconds`.

    Args:
        retries: how often a busy or silent server is asked again.
        proxies: use the environment's proxies.
    """
    http = BoundedClient(seconds, trust_env=proxies)
    return OpenAI(base_url=url, api_key=key, timeout=seconds, max_retries=retries, http_client=http)


def error_reason(error: OpenAIError, key: str) -> str:
    """Explain why a request failed: printable, short, and without the key."""
    cause = error.__cause__
    if isinstance(cause, RefusedError):  # as older releases of openai wrap it
        error, cause = cause, None
    text = str(error)
    if isinstance(error, APIStatusError) and not text.startswith("Error code"):
        text = f"Error code: {error.status_code} - {text}"
    elif isinstance(error, APITimeoutError):
        text = f"Request timed out: {cause}"
    elif cause is not None and not _was_refused(cause):
        text = f"{text.rstrip('.')}: {cause}"
    return one_line(mask_key(text, key))


def one_line(text: str) -> str:
    """Make a server's text fit a sentence: on one line, printable, short."""
    line = " ".join(text.split())[:MAX_REASON]
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)


def without_surrogates(text: str) -> str:
    """Replace each half of a surrogate pair, which no file can hold, by a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")


class BoundedClient(DefaultHttpxClient):
    """openai's HTTP client, whose `send` returns a whole reply of at most LARGEST bytes.

    A thread sends the request, for no library bounds the time of all its parts: name lookup,
    connection, handshake, a byte a second of headers. When the time is up its socket is shut.
    """

    def __init__(self, seconds: float, **options: Any):
        # A connection a request: it is shut at a deadline, and its socket is known from its start.
        limits = httpx.Limits(max_keepalive_connections=0)
        super().__init__(timeout=seconds, limits=limits, follow_redirects=False, **options)
        self._seconds = seconds

    def send(self, request: Any, **options: Any) -> Any:
        """Return the reply. Raises httpx's time-out, or RefusedError."""
        connection, outcome = _Connection(), []

        def ask() -> None:
            try:
                outcome.append(self._receive(request, **options))
            except BaseException as error:
                outcome.append(error)

        request.extensions = {**request.extensions, "trace": connection}
        request.headers["Accept-Encoding"] = "identity"
        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        try:
            thread.join(self._seconds)
            late = thread.is_alive()
        finally:
            connection.shut()
        if late:
            thread.join(0.2)  # a name lookup outlives this
            outcome = [httpx.ReadTimeout("")]
        if isinstance(outcome[0], httpx.TimeoutException):
            words = f"no whole reply within {self._seconds:g} s"
            raise httpx.ReadTimeout(words, request=request) from None
        if isinstance(outcome[0], BaseException):
            raise outcome[0]
        return outcome[0]

    def _receive(self, request: Any, **options: Any) -> Any:
        """Return the reply, read and unpacked."""
        options |= {"stream": True, "follow_redirects": False}
        response = super().send(request, **options)
        try:
            if 300 <= response.status_code < 400:
                raise RefusedError(_redirects(response))
            content = _unpacked(_read(response), response.headers.get("Content-Encoding", ""))
        finally:
            response.close()
        stale = ("content-encoding", "content-length", "transfer-encoding")
        headers = [item for item in response.headers.multi_items() if item[0].lower() not in stale]
        return httpx.Response(
            response.status_code, headers=headers, content=content, request=request
        )


class _Connection:
    """The socket of one request, from httpx's "trace" extension."""

    def __init__(self) -> None:
        self._socket, self._closed = None, False

    def __call__(self, event: str, info: dict) -> None:
        stream = info.get("return_value")
        if hasattr(stream, "get_extra_info"):
            self._socket = stream.get_extra_info("socket")
        if self._closed:
            self.shut()
            raise TimeoutError

    def shut(self) -> None:
        """End every wait for the socket, which may be closed already."""
        self._closed = True
        if self._socket is not None:
            with suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


def _read(response: Any) -> bytes:
    content = bytearray()
    for part in response.iter_raw():
        content += part
        if len(content) > MAX_BYTES:
            raise _too_large()
    return bytes(content)


def _unpacked(content: bytes, encoding: str) -> bytes:
    """Unpack a body that a server has packed although it was asked not to."""
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return content
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise RefusedError(
            f"its reply is packed ({one_line(encoding)[:20]}), which was not asked for"
        )
    unpacking = zlib.decompressobj(zlib.MAX_WBITS | 32)  # gzip's header or zlib's
    try:
        unpacked = unpacking.decompress(content, MAX_BYTES + 1)
    except zlib.error as error:
        raise RefusedError(f"its reply is not packed by {encoding}, as it says") from error
    if len(unpacked) > MAX_BYTES:
        raise _too_large()
    if not unpacking.eof:
        raise RefusedError(f"its reply, packed by {encoding}, is cut short")
    return unpacked


def _too_large() -> RefusedError:
    return RefusedError(f"its reply is larger than {MAX_BYTES / 2**20:g} MiB and was not read on")


def _redirects(response: Any) -> str:
    """Describe a redirect, its target without user and query."""
    text = f"it redirects (status {response.status_code})"
    target = response.headers.get("Location", "")
    with suppress(ValueError):
        parts = urlsplit(urljoin(str(response.request.url), target))
        if target and parts.hostname:
            address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
            text += f" to {address.rstrip('/').removesuffix(ENDPOINT)}"
    return f"{text}, where the key is not sent: give the address that is meant to be asked"


def _was_refused(error: BaseException | None) -> bool:
    """Tell if nothing listens there: "Connection error." says enough then."""
    while error is not None:
        if isinstance(error, ConnectionRefusedError):
            return True
        error = error.__cause__ or error.__context__
    return False
