"""Bad requests to `aasut serve`: each must get OpenAI's error object, and the server must go on."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import small

GOOD: dict[str, Any] = {"model": "small", "messages": [{"role": "user", "content": "Text: a great phone\nSentiment:"}]}


def bodies() -> dict[str, bytes]:
    """Bodies of POST /v1/chat/completions that must be refused."""
    changes: dict[str, Any] = {
        "messages are nothing": {"messages": None},
        "no messages": {"messages": []},
        "messages are a text": {"messages": "hello"},
        "a message is a text": {"messages": ["hello"]},
        "no content": {"messages": [{"role": "user"}]},
        "content is a number": {"messages": [{"role": "user", "content": 3}]},
        "content is an image": {
            "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]
        },
        "unknown role": {"messages": [{"role": "robot", "content": "x"}]},
        "another prompt": {"messages": [{"role": "user", "content": "Tell me a joke"}]},
        "half a pair": {"messages": [{"role": "user", "content": "Text: \ud800\nSentiment:"}]},
        "unknown model": {"model": "nothing"},
        "model is a list": {"model": []},
        "n is 0": {"n": 0},
        "n is huge": {"n": 10**9},
        "temperature is a text": {"temperature": "hot"},
        "temperature is huge": {"temperature": 1e30},
        "max_tokens is negative": {"max_tokens": -1},
        "tools": {"tools": [{"type": "function", "function": {"name": "f"}}]},
        "unknown field": {"nonsense": True},
        "stream is a text": {"stream": "yes"},
        "top_logprobs is huge": {"logprobs": True, "top_logprobs": 10**6},
        "stop is a number": {"stop": 3},
        "seed is a text": {"seed": "x"},
    }
    raw = {
        "empty": b"",
        "null": b"null",
        "a list": b"[]",
        "a number": b"1e999",
        "cut off": b'{"model": "small", "mess',
        "not UTF-8": b'{"model": "\xff"}',
        "NULs": bytes(1000),
        "deep": b'{"messages": ' + b"[" * 100_000,
        "deep and closed": b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
        "2 MB": b" " * 2_000_000,
        "a huge number": b'{"n": ' + b"9" * 10_000 + b"}",
    }
    return raw | {name: json.dumps(GOOD | change).encode() for name, change in changes.items()}


def raws() -> dict[str, bytes]:
    """Bytes that are no good HTTP; the server may answer with any refusal, or hang up."""
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
    return {
        "no HTTP": b"hello\r\n\r\n",
        "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        "unknown method": b"BREW / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "GET": b"GET /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "unknown path": b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "path of 1 MB": b"GET /" + b"x" * 1_000_000 + b" HTTP/1.1\r\n\r\n",
        "header of 1 MB": head + b"X: " + b"x" * 1_000_000 + b"\r\n\r\n",
        "length no number": head + b"Content-Length: x\r\n\r\n",
        "negative length": head + b"Content-Length: -5\r\n\r\n",
        "two lengths": head + b"Content-Length: 5\r\nContent-Length: 9\r\n\r\nhello",
        "bad chunks": head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        "a body that never comes": head + b"Content-Length: 500\r\n\r\n{",
    }


def run(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, what is wrong) of each request; nothing wrong is an empty mapping."""
    recipe = small.write(folder, small.recipe(), 60)
    root = folder / "runs"
    made = small.Command(["run", str(recipe), "--root", str(root)]).end()
    if made.code != 0:
        raise SystemExit(f"The run to be served failed: {made.said}")
    server = small.Command(["serve", "small", "--root", str(root), "--port", "0"])
    server.wait_for("http://")
    line = next(line for _, line in server.lines if "http://" in line)
    port = int(line.split("http://127.0.0.1:", 1)[1].split("/")[0].split('"')[0].split()[0])
    for name, body in bodies().items():
        status, answer = _post(port, body)
        refused = 400 <= status < 500 and isinstance(answer, dict) and set(answer) == {"error"}
        wrong = "" if refused else f"status {status}: {str(answer)[:200]}"
        yield f"request: {name}", {"unclear": wrong} if wrong else {}
    for name, data in raws().items():
        status, _ = _send(port, data, 3)
        yield f"raw request: {name}", {"unclear": f"status {status}"} if 200 <= status < 300 else {}
    status, answer = _post(port, json.dumps(GOOD).encode())
    alive = {} if status == 200 else {"hang": True, "unclear": f"the server is gone: {status} {answer}"}
    yield "request: a good one after all that", alive
    server.process.terminate()
    ended = server.end(30)
    trace = "Traceback" in ended.err or ended.code is None
    yield "request: the server's own words", {"traceback": True, "unclear": ended.err[-500:]} if trace else {}


def _post(port: int, body: bytes) -> tuple[int, Any]:
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(body)}\r\n"
    return _send(port, head.encode() + b"Connection: close\r\n\r\n" + body, 20)


def _send(port: int, data: bytes, limit_s: float) -> tuple[int, Any]:
    """(status, the answer's JSON or bytes); status 0 where the server hung up or said nothing in time."""
    received = b""
    try:
        with socket.create_connection(("127.0.0.1", port), limit_s) as connection:
            connection.sendall(data)
            while part := connection.recv(1 << 16):
                received += part
    except OSError:
        pass
    head, _, body = received.partition(b"\r\n\r\n")
    try:
        status = int(head.split(b" ")[1])
    except (ValueError, IndexError):
        return 0, received[:200]
    try:
        return status, json.loads(body)
    except ValueError:
        return status, body[:200]
