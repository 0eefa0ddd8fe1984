"""Servers on the loopback interface: any handler, and the pocket judge for lmms-eval's client."""

import contextlib
import json
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

from benchmarks.judge.judge import POCKET_MODEL, pocket_reply


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


class PocketJudge(BaseHTTPRequestHandler):
    """A completion for a POST to any path: lmms-eval's tasks add different ones to the address."""

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        reply = pocket_reply("\n".join(message["content"] for message in request["messages"]))
        message = {"role": "assistant", "content": reply}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        body = json.dumps(
            {
                **{"id": "chatcmpl-pocket", "object": "chat.completion", "created": 0},
                **{"model": POCKET_MODEL, "usage": usage},
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            }
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args) -> None:
        pass
