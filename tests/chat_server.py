"""A real HTTP server on a free port that speaks the chat-completions API, for tests of clients."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

Reply = tuple[int, Mapping[str, Any] | bytes] | None  # status and body; None: hang up without an answer


def completion(text: Any, *, top: Mapping[str, float] | None = None, tokens: tuple[int, int] = (10, 1)) -> Reply:
    """A well-formed answer; `top`: log-probabilities of the alternatives to its first token."""
    choice: dict[str, Any] = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    if top is not None:
        listed = [{"token": token, "logprob": value} for token, value in top.items()]
        choice["logprobs"] = {"content": [{"token": text, "logprob": listed[0]["logprob"], "top_logprobs": listed}]}
    return 200, {"choices": [choice], "usage": {"prompt_tokens": tokens[0], "completion_tokens": tokens[1]}}


def refusal(status: int, message: str) -> Reply:
    """An error as the API writes it."""
    return status, {"error": {"message": message, "type": "error"}}


class ChatServer:
    """Answers POST /v1/chat/completions with `reply(number of the request from 0, its body)`.

    `headers` are sent with the answer to the request of that number.
    `bodies` and `keys` (the Authorization headers) hold what came in; `most` is the most requests at one time.
    """

    def __init__(self, reply: Callable[[int, dict[str, Any]], Reply]) -> None:
        self.reply = reply
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.headers: dict[int, Mapping[str, str]] = {}
        self.open = self.most = 0
        self.lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def questions(self) -> list[str]:
        """Text of the last message of each request."""
        return [body["messages"][-1]["content"] for body in self.bodies]

    def __enter__(self) -> ChatServer:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(10)


def _handler(server: ChatServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with server.lock:
                number = len(server.bodies)
                server.bodies.append(body)
                server.keys.append(self.headers.get("Authorization"))
                server.open += 1
                server.most = max(server.most, server.open)
            try:
                found = (404, b"no such path") if self.path != "/v1/chat/completions" else server.reply(number, body)
            finally:
                with server.lock:
                    server.open -= 1
            if found is None:
                self.close_connection = True
                self.connection.close()
                return
            status, answer = found
            raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            with suppress(ConnectionError):  # the client may be gone
                self.send_response(status)
                self.send_header("Content-Length", str(len(raw)))
                for name, value in server.headers.get(number, {}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(raw)

        def log_message(self, *_: Any) -> None:
            """Nothing is printed."""

    return Handler
