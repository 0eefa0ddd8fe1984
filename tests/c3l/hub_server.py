"""A server that answers as the Hub does: for HF_ENDPOINT, on this machine."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlparse

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REFUSALS = {
    "gated": (401, "GatedRepo"),
    "gated403": (403, "GatedRepo"),
    "missing": (404, "RepoNotFound"),
    "missing401": (401, "RepoNotFound"),
    "forbidden": (403, ""),
    "plain404": (404, ""),
    "busy": (503, ""),
    "limited": (429, ""),
    "disabled": (403, ""),
}
"""By a model's name: the status and the Hub's own word for it (X-Error-Code)."""


class Hub(BaseHTTPRequestHandler):
    """Serves the folders of `models` by name, and refuses what REFUSALS name."""

    protocol_version = "HTTP/1.1"
    models: dict[str, Path]
    asked: list[str]

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = unquote(urlparse(self.path).path).strip("/").split("/")
        api = parts[:2] == ["api", "models"]
        owner, name, *rest = parts[2:] if api else parts
        if self.command == "GET" and not api:
            type(self).asked.append("/".join([name, *rest[2:]]))
        if name in REFUSALS:
            status, word = REFUSALS[name]
            message = "Access to this resource is disabled." if name == "disabled" else word
            return self._answer(status, b"", {"X-Error-Code": word, "X-Error-Message": message})
        folder = type(self).models.get(f"{owner}/{name}")
        if folder is None:
            return self._answer(404, b"", {"X-Error-Code": "RepoNotFound"})
        if rest and rest[0] in ("revision", "resolve", "tree") and rest[1] not in ("main", COMMIT):
            return self._answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
        if api:
            return self._answer(200, self._listing(folder, rest), {})
        file = folder / "/".join(rest[2:])
        if not file.is_file():
            return self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})
        content = file.read_bytes()
        tag = {"ETag": f'"{sha256(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
        return self._answer(200, content, tag)

    def _listing(self, folder: Path, rest: list[str]) -> bytes:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        names = [path.relative_to(folder).as_posix() for path in files]
        if rest and rest[0] == "tree":
            return json.dumps(
                [
                    {"type": "file", "path": name, "size": path.stat().st_size, "oid": "0" * 40}
                    for name, path in zip(names, files, strict=True)
                ]
            ).encode()
        siblings = [{"rfilename": name} for name in names]
        return json.dumps({"id": "a/b", "sha": COMMIT, "siblings": siblings}).encode()

    def _answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *args) -> None:
        pass


@contextmanager
def serve(models: dict[str, Path]) -> Iterator[tuple[str, list[str]]]:
    """The server's address, and the files that are fetched from it, as NAME/FILE."""
    asked: list[str] = []
    handler = type("Serving", (Hub,), {"models": models, "asked": asked})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
