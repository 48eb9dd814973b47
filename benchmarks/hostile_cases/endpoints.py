"""Teachers behind an API that misbehave: the scripted server with planned faults, and raw bytes that break HTTP.

Run as a program, this serves them all and prints their addresses; `cases` starts it once.
"""

from __future__ import annotations

import atexit
import gzip
import json
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from typing import Any

import small

from hostile_cases.case import Case, with_recipe

PLANS: dict[str, tuple[str, dict[str, Any]]] = {  # name: what may come of it, the plan
    **{
        f"always {status}": ("refuse", {"fault": status, "first": 0})
        for status in (
            300,
            304,
            400,
            401,
            402,
            403,
            404,
            405,
            408,
            409,
            413,
            418,
            422,
            425,
            429,
            451,
            500,
            501,
            502,
            503,
            504,
            529,
            599,
        )
    },
    "429 that says when, then good": ("pass", {"fault": 429, "last": 3, "retry_after_s": 0.2}),
    "429 with a date": ("pass", {"fault": 429, "last": 1, "retry_after_s": 1, "as_date": True}),
    "429 with a year to wait": ("refuse", {"fault": 429, "first": 0, "retry_after_s": 3e7}),
    "401 after some answers": ("refuse", {"fault": 401, "first": 10}),
    "500 with a page": ("refuse", {"fault": 500, "first": 0, "body": "<html>" * 1000}),
    "400 with control characters": (
        "refuse",
        {"fault": 400, "first": 0, "body": '{"error": {"message": "a\\nb\\u001b[31m"}}'},
    ),
    "401 that repeats the key": (
        "refuse",
        {"fault": 401, "first": 0, "body": '{"error": {"message": "bad key sk-SECRET"}}'},
    ),
    "302 to nowhere": ("refuse", {"fault": 302, "first": 0, "location": "http://127.0.0.1:9/v1"}),
    "302 without an address": ("refuse", {"fault": 302, "first": 0}),
    "307 to a file": ("refuse", {"fault": 307, "first": 0, "location": "file:///etc/passwd"}),
    "some 500": ("pass", {"fault": 500, "share": 0.2}),
    "some hang up": ("pass", {"fault": "hang_up", "share": 0.1}),
    "some half": ("pass", {"fault": "half", "share": 0.1}),
    "some html": ("either", {"fault": "html", "share": 0.1}),
    "some garbage": ("either", {"fault": "garbage", "share": 0.1}),
    "some without usage": ("pass", {"fault": "no_usage", "share": 0.3}),
    "some filtered": ("either", {"fault": "content_filter", "share": 0.2}),
    "stalls": ("refuse", {"fault": "stall", "first": 0}),
    "freezes": ("refuse", {"fault": "freeze", "first": 0}),
    "half": ("refuse", {"fault": "half", "first": 0}),
    "half, chunked": ("refuse", {"fault": "half_chunked", "first": 0}),
    "garbage": ("refuse", {"fault": "garbage", "first": 0}),
    "html": ("refuse", {"fault": "html", "first": 0}),
    "hang up": ("refuse", {"fault": "hang_up", "first": 0}),
    "drips": ("pass", {"fault": "drip", "first": 0, "seconds": 0.3}),
    "slow": ("pass", {"fault": "slow", "first": 0, "seconds": 0.2}),
    "no usage": ("pass", {"fault": "no_usage", "first": 0}),
    "all filtered": ("refuse", {"fault": "content_filter", "first": 0}),
}
RULES = small.RULES


def cases() -> list[Case]:
    """All of them; starts the servers."""
    urls = _servers()
    found = [_case(name, urls[name], may) for name, (may, _) in PLANS.items()]
    found += [_case(name, urls["raw"] + f"/{number}/v1", may) for number, (name, may, _) in enumerate(RAW)]
    for number, (name, may, _) in enumerate(RAW):
        if "logprobs" in name:
            found.append(_case(f"{name}, asked for", urls["raw"] + f"/{number}/v1", may, logprobs=True))
    found.append(_case("no key in the environment", urls["raw"] + "/0/v1", "refuse", api_key_env="AASUT_NO_SUCH_KEY"))
    for number, key in enumerate(["", " ", "a\nb", "ключ", "x" * 100_000, "a\x01b"]):
        one = _case(f"odd key {number}", urls["raw"] + "/0/v1", "either" if number else "refuse", api_key_env="ODD_KEY")
        one.env = {"ODD_KEY": key}
        found.append(one)
    return found


def _case(name: str, url: str, may: str, **more: Any) -> Case:
    endpoint = {
        "base_url": url,
        "model": "m",
        "api_key_env": "",
        "retries": 2,
        "timeout_s": 2,
        "concurrency": 4,
        "usd_per_million_input_tokens": 1,
        "usd_per_million_output_tokens": 2,
    } | more
    plain = small.recipe(teacher={"endpoint": endpoint, "max_usd": 5, "max_failed": 0.4})
    return with_recipe(f"endpoint: {name}", plain, may=may, rows=40 if may == "pass" else None, limit_s=60)


Reply = Callable[[dict[str, Any]], bytes]


def answer(body: dict[str, Any]) -> str:
    """What a good teacher says."""
    question = body["messages"][-1]["content"]
    return "positive" if any(word in question for word in small.WORDS["positive"]) else "negative"


def whole(content: Any, head: str = "", **changes: Any) -> bytes:
    """An HTTP answer with a chat completion of this content in it."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    plain = {"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 1}} | changes
    return http(json.dumps(plain).encode(), head)


def http(raw: bytes, head: str = "", length: int | None = None, status: str = "200 OK") -> bytes:
    """Bytes of an HTTP answer."""
    size = len(raw) if length is None else length
    return f"HTTP/1.1 {status}\r\n{head}Content-Length: {size}\r\nConnection: close\r\n\r\n".encode() + raw


def good(**changes: Any) -> Reply:
    """A good answer with some fields changed."""
    return lambda body: whole(answer(body), **changes)


def usage(prompt: Any, completion: Any = 1) -> Reply:
    return good(usage={"prompt_tokens": prompt, "completion_tokens": completion})


def logprobs(content: Any) -> Reply:
    def reply(body: dict[str, Any]) -> bytes:
        message = {"role": "assistant", "content": answer(body)}
        return whole("", choices=[{"message": message, "finish_reason": "stop", "logprobs": content}])

    return reply


def raw(data: bytes) -> Reply:
    return lambda _: data


DEEP = b'{"choices": ' + b"[" * 200_000
RAW: list[tuple[str, str, Reply]] = [
    ("good", "pass", good()),
    ("wrong content type", "pass", lambda body: whole(answer(body), "Content-Type: text/html\r\n")),
    ("marks around the answer", "pass", lambda body: whole(f" **{answer(body).upper()}**.\n")),
    ("redirect loop", "refuse", raw(http(b"", "Location: chat/completions\r\n", status="302 Found"))),
    ("redirect to a file", "refuse", raw(http(b"", "Location: file:///etc/passwd\r\n", status="308 Moved"))),
    ("nothing at all", "refuse", raw(b"")),
    ("no HTTP", "refuse", raw(b"hello\r\n\r\n")),
    ("SSH", "refuse", raw(b"SSH-2.0-OpenSSH_9.6\r\n")),
    ("TLS", "refuse", raw(b"\x16\x03\x01\x02\x00\x01\x00")),
    ("status 999", "refuse", raw(http(b"{}", status="999 Odd"))),
    ("status 0", "refuse", raw(http(b"{}", status="0 Odd"))),
    ("status is a word", "refuse", raw(http(b"{}", status="fine"))),
    ("100 for ever", "refuse", raw(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)),
    ("204", "refuse", raw(b"HTTP/1.1 204 No Content\r\n\r\n")),
    ("header of 1 MB", "refuse", raw(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1_000_000 + b"\r\n\r\n")),
    ("header with control characters", "either", lambda body: whole(answer(body), "X: a\x01b\r\n")),
    ("two lengths", "either", lambda body: whole(answer(body), "Content-Length: 5\r\n")),
    ("negative length", "refuse", raw(http(b"{}", length=-5))),
    ("length too large", "refuse", raw(http(b"{}", length=500))),
    ("length too small", "refuse", raw(http(b'{"choices": []}', length=5))),
    ("huge length", "refuse", raw(http(b"{}", length=10**18))),
    ("bad chunks", "refuse", raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n")),
    ("huge chunk", "refuse", raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nabc")),
    ("no gzip", "refuse", raw(http(b"hello", "Content-Encoding: gzip\r\n"))),
    ("unknown encoding", "either", raw(http(b"hello", "Content-Encoding: zstd-9\r\n"))),
    ("gzip bomb", "refuse", raw(http(gzip.compress(b" " * 300_000_000, 9), "Content-Encoding: gzip\r\n"))),
    ("100 MB", "refuse", raw(http(b" " * 100_000_000))),
    ("empty body", "refuse", raw(http(b""))),
    ("null", "refuse", raw(http(b"null"))),
    ("a list", "refuse", raw(http(b"[]"))),
    ("a number", "refuse", raw(http(b"1e999"))),
    ("deep JSON", "refuse", raw(http(DEEP))),
    ("a huge number", "refuse", raw(http(b"9" * 10_000))),
    ("BOM", "either", lambda body: http(b"\xef\xbb\xbf" + whole(answer(body)).split(b"\r\n\r\n", 1)[1])),
    ("UTF-16", "either", lambda body: http(whole(answer(body)).split(b"\r\n\r\n", 1)[1].decode().encode("utf-16"))),
    ("not UTF-8", "refuse", raw(http(b'{"choices": [{"message": {"content": "\xff"}}]}'))),
    ("an error with status 200", "refuse", raw(http(b'{"error": {"message": "no quota", "code": 429}}'))),
    (
        "a stream",
        "refuse",
        raw(http(b'data: {"choices": []}\n\ndata: [DONE]\n\n', "Content-Type: text/event-stream\r\n")),
    ),
    ("no choices", "refuse", good(choices=[])),
    ("choices are nothing", "refuse", good(choices=None)),
    ("choices are an object", "refuse", good(choices={"0": 1})),
    ("a choice is a text", "refuse", good(choices=["positive"])),
    ("no message", "refuse", good(choices=[{"text": "positive"}])),
    ("content is nothing", "refuse", lambda _: whole(None)),
    ("content is a number", "refuse", lambda _: whole(3)),
    ("content is a list", "refuse", lambda _: whole([{"type": "text", "text": "positive"}])),
    ("content is true", "refuse", lambda _: whole(True)),
    ("content is empty", "refuse", lambda _: whole("")),
    ("content is a surrogate", "refuse", lambda _: whole("\ud800")),
    ("content is NUL", "refuse", lambda _: whole("\0")),
    ("content is 5 MB", "refuse", lambda _: whole("x" * 5_000_000)),
    ("answer not in the list", "refuse", lambda _: whole("sideways")),
    ("two answers", "refuse", lambda _: whole("positive or negative")),
    ("always the same answer", "refuse", lambda _: whole("positive")),
    (
        "finish reason is a number",
        "pass",
        lambda body: whole("", choices=[{"message": {"content": answer(body)}, "finish_reason": 3}]),
    ),
    ("usage is nothing", "pass", good(usage=None)),
    ("usage is a text", "either", good(usage="12")),
    ("usage is a list", "either", good(usage=[1])),
    ("usage: negative", "either", usage(-5)),
    ("usage: huge", "either", usage(10**30)),
    ("usage: 1e308", "either", usage(1e308)),
    ("usage: infinite", "either", usage(float("inf"))),
    ("usage: NaN", "either", usage(float("nan"))),
    ("usage: a text", "either", usage("9")),
    ("usage: true", "either", usage(True)),
    ("usage: 400 digits", "either", usage(10**400)),
    ("logprobs are nothing", "pass", logprobs(None)),
    ("logprobs are a text", "either", logprobs("x")),
    ("logprobs are empty", "pass", logprobs({"content": []})),
    ("logprobs of nothing", "either", logprobs({"content": [None]})),
    ("logprobs without a token", "either", logprobs({"content": [{"logprob": 0}]})),
    (
        "logprobs are texts",
        "either",
        logprobs(
            {
                "content": [
                    {"token": "positive", "logprob": "x", "top_logprobs": [{"token": "positive", "logprob": "x"}]}
                ]
            }
        ),
    ),
    (
        "logprobs are NaN",
        "either",
        logprobs(
            {
                "content": [
                    {
                        "token": "positive",
                        "logprob": 0,
                        "top_logprobs": [{"token": "positive", "logprob": float("nan")}],
                    }
                ]
            }
        ),
    ),
    (
        "logprobs are infinite",
        "either",
        logprobs(
            {
                "content": [
                    {
                        "token": "positive",
                        "logprob": 0,
                        "top_logprobs": [{"token": "positive", "logprob": float("inf")}],
                    }
                ]
            }
        ),
    ),
    (
        "logprobs are 1000",
        "either",
        logprobs(
            {"content": [{"token": "positive", "logprob": 0, "top_logprobs": [{"token": "positive", "logprob": 1000}]}]}
        ),
    ),
    (
        "logprobs of surrogates",
        "either",
        logprobs(
            {"content": [{"token": "\ud800", "logprob": 0, "top_logprobs": [{"token": "\udfff", "logprob": -1}]}]}
        ),
    ),
]


class _Raw(socketserver.StreamRequestHandler):
    """Answers /<number>/v1/chat/completions with the bytes of that number in RAW."""

    def handle(self) -> None:
        with suppress(OSError, ValueError, LookupError):
            path = self.rfile.readline().split(b" ")[1].decode()
            size = 0
            while (line := self.rfile.readline().strip()) != b"":
                name, _, value = line.partition(b":")
                size = int(value) if name.lower() == b"content-length" else size
            reply = RAW[int(path.split("/")[1])][2]
            self.wfile.write(reply(json.loads(self.rfile.read(size))))


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
    request_queue_size = 200


@cache
def _servers() -> dict[str, str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "hostile_cases.endpoints"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    atexit.register(process.kill)
    assert process.stdout is not None
    return dict(json.loads(process.stdout.readline()))


def main() -> None:
    """Serve for ever."""
    from aasut.teacher.faults import Fault, Plan
    from aasut.teacher.server import ScriptedServer

    with ExitStack() as stack:
        urls = {}
        for name, (_, fault) in PLANS.items():
            server = ScriptedServer(RULES, Plan(faults=(Fault(**fault),)))
            urls[name] = stack.enter_context(server).url
        listener = stack.enter_context(_Server(("127.0.0.1", 0), _Raw))
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        urls["raw"] = f"http://127.0.0.1:{listener.server_address[1]}"
        print(json.dumps(urls), flush=True)
        time.sleep(3600)


if __name__ == "__main__":
    main()
