"""Hostile HTTP by hand through a real gateway: what is refused, what reaches the upstream, and what is recorded."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from listening import Listening, Said, listening
from running import PATIENCE_S, Running, gateway, until

from aasut.gateway import keyring, traffic

BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hello"}]}).encode()
STREAM = json.dumps({"model": "m", "messages": [], "stream": True, "stream_options": {"include_usage": True}}).encode()
EVENTS = b'data: {"choices": [{"index": 0, "delta": {"content": "yes"}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
SMUGGLED = b"GET /v1/smuggled HTTP/1.1\r\nhost: x\r\n\r\n"


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> Any:
        return json.loads(self.body)["error"]["code"]


@pytest.fixture(scope="module")
def upstream_of_all() -> Iterator[Listening]:
    with listening() as server:
        yield server


@pytest.fixture
def upstream(upstream_of_all: Listening) -> Listening:
    upstream_of_all.seen.clear()
    upstream_of_all.says = Said()
    return upstream_of_all


@pytest.fixture(scope="module")
def running(upstream_of_all: Listening, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    flags = ("--upstream", upstream_of_all.url, "--set", "listen.body_mb=1")
    with gateway(tmp_path_factory.mktemp("patient") / "traffic", *flags) as found:
        yield found


@pytest.fixture(scope="module")
def hasty(upstream_of_all: Listening, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A gateway with little patience."""
    flags = ("--set", "listen.header_timeout_s=0.3", "--set", "listen.send_timeout_s=0.3")
    with gateway(tmp_path_factory.mktemp("hasty") / "traffic", "--upstream", upstream_of_all.url, *flags) as found:
        yield found


@contextmanager
def fresh(folder: Path, *flags: object, env: dict[str, str] | None = None) -> Iterator[tuple[Running, Listening]]:
    with ExitStack() as stack:
        server = stack.enter_context(listening())
        yield stack.enter_context(gateway(folder / "traffic", "--upstream", server.url, *flags, env=env)), server


def post(
    body: bytes = BODY, *headers: bytes, path: bytes = b"/v1/chat/completions", version: bytes = b"1.1",
    length: int | None = None, last: bool = True,
) -> bytes:  # fmt: skip
    """A request as bytes; `last` asks for the end of the connection."""
    given = [b"host: x", b"content-type: application/json", *headers, *([b"connection: close"] if last else [])]
    given.append(b"content-length: %d" % (len(body) if length is None else length))
    return b"POST %s HTTP/%s\r\n%s\r\n\r\n" % (path, version, b"\r\n".join(given)) + body


def get(target: bytes, *headers: bytes, method: bytes = b"GET") -> bytes:
    return b"%s %s HTTP/1.1\r\n%s\r\n\r\n" % (method, target, b"\r\n".join([b"connection: close", *headers]))


def talk(running: Running, *parts: bytes) -> list[Reply]:
    """The answers to what is sent, each part once the last one's answer began; reads until the gateway ends."""
    got = b""
    with socket.create_connection(("127.0.0.1", running.port), timeout=PATIENCE_S) as connection:
        for number, part in enumerate(parts):
            connection.sendall(part)
            if number < len(parts) - 1:
                got += connection.recv(1 << 16)
        while part := connection.recv(1 << 16):
            got += part
    return replies(got)


def status_of(line: str) -> int:
    return int(line.split()[1])


def replies(got: bytes) -> list[Reply]:
    found = []
    while got:
        head, _, got = got.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {name: value for name, _, value in (line.partition(": ") for line in lines)}
        body = b""
        if status_of(first) == 100:
            continue
        if headers.get("transfer-encoding") == "chunked":
            while True:
                size, _, got = got.partition(b"\r\n")
                count = int(size, 16)
                body, got = body + got[:count], got[count + 2 :]
                if not count:
                    break
        else:
            count = 0 if status_of(first) == 204 else int(headers.get("content-length", len(got)))
            body, got = got[:count], got[count:]
        found.append(Reply(status_of(first), headers, body))
    return found


def one(running: Running, *parts: bytes) -> Reply:
    (reply,) = talk(running, *parts)
    return reply


@contextmanager
def unrecorded(running: Running, upstream: Listening) -> Iterator[None]:
    """Nothing in between reaches the upstream or the record."""

    def ids() -> list[str]:
        return [exchange.id for exchange in traffic.exchanges(running.store)]

    def mark() -> str:
        reply = one(running, post())
        return reply.headers["x-aasut-request-id"]

    first = mark()
    upstream.seen.clear()
    yield
    assert not upstream.seen
    last = mark()
    until(lambda: last in ids(), "the last mark is recorded")
    assert ids().index(last) == ids().index(first) + 1


def chunked(*pieces: bytes, trailers: bytes = b"") -> bytes:
    every = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return every + b"0\r\n" + trailers + b"\r\n"


def in_chunks(rest: bytes, *headers: bytes, version: bytes = b"1.1") -> bytes:
    given = b"\r\n".join([b"host: x", b"transfer-encoding: chunked", b"connection: close", *headers])
    return b"POST /v1/chat/completions HTTP/%s\r\n%s\r\n\r\n" % (version, given) + rest


def test_a_slow_head_is_ended(hasty: Running, upstream: Listening) -> None:
    for begun in (b"", b"POST /v1/chat", b"POST /v1/models HTTP/1.1\r\nhost: x\r\n"):
        reply = one(hasty, begun)
        assert (reply.status, reply.code, reply.headers["connection"]) == (408, "request_timeout", "close")
    answered, late = talk(hasty, post(last=False), b"\r\n\r\n")  # empty lines begin no request
    assert (answered.status, late.status) == (200, 408)
    answered, late = talk(hasty, post(last=False) + b"GET /v1/mod")
    assert (answered.status, late.status) == (200, 408)
    assert len(upstream.seen) == 2


def test_a_body_that_never_comes_or_never_ends(tmp_path: Path) -> None:
    with fresh(tmp_path, "--set", "listen.header_timeout_s=0.3", "--set", "listen.body_mb=1") as (running, upstream):
        reply = one(running, post(BODY, length=len(BODY) + 1, last=False))
        assert (reply.status, reply.code, reply.headers["connection"]) == (408, "request_timeout", "close")
        reply = one(running, in_chunks(b"5\r\nhe"))
        assert (reply.status, reply.code) == (408, "request_timeout")
        for request in (post(b"x" * (3 << 20)), post(b"x" * (3 << 20), length=1 << 60, last=False)):
            reply = one(running, request)
            assert (reply.status, reply.code, reply.headers["connection"]) == (413, "request_too_large", "close")
        reply = one(running, in_chunks(b"10000\r\n%s\r\n" % (b"x" * 0x10000) * 48))
        assert (reply.status, reply.code) == (413, "request_too_large")
        found = running.recorded(5)
        assert [(exchange.status, exchange.request, exchange.by) for exchange in found] == [
            (status, b"", "gateway") for status in (408, 408, 413, 413, 413)
        ]
        assert not upstream.seen


def test_a_huge_head_is_refused(running: Running, upstream: Listening) -> None:
    heads = (
        b"GET /v1/models HTTP/1.1\r\nx: " + b"a" * (3 << 20),
        b"GET /v1/" + b"a" * (3 << 20),
        b"GET /v1/models HTTP/1.1\r\n" + b"a: b\r\n" * (1 << 19),
    )
    with unrecorded(running, upstream):
        for head in heads:
            reply = one(running, head + b"\r\n\r\n")
            assert (reply.status, reply.code) == (431, "head_too_large")
        assert one(running, in_chunks(chunked(BODY, trailers=b"a: b\r\n" * (1 << 19)))).status == 431


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b'{"model": "\xff"}', "invalid_json"),
        (b'{"model": "\xed\xa0\xbd"}', "invalid_json"),  # half a surrogate pair
        (BODY.decode().encode("utf-16"), "invalid_json"),
        (b"\xef\xbb\xbf" + BODY, "invalid_json"),
        (b"[" * 100_000, "invalid_json"),
        (b'{"n": ' + b"9" * 5000 + b"}", "invalid_json"),
        (b"[]", "invalid_type"),
        (b"3", "invalid_type"),
    ],
    ids=lambda given: repr(given)[:20],
)
def test_bad_json_is_refused_and_recorded_without_its_body(tmp_path: Path, body: bytes, code: str) -> None:
    with fresh(tmp_path) as (running, upstream):
        answers = talk(running, post(body, last=False) + post(body))
        assert [(reply.status, reply.code) for reply in answers] == [(400, code)] * 2
        assert [(exchange.status, exchange.request) for exchange in running.recorded(2)] == [(400, b"")] * 2
        assert not upstream.seen


def test_strange_json_passes_as_it_came(running: Running, upstream: Listening) -> None:
    for text in (b'"\\ud83d"', b'"\\u0000"', b'"m", "x": NaN', b'"m", "x": 1e999', b'"m", "seed": 1, "seed": 2', b"7"):
        body = BODY.replace(b'"m"', text)
        assert one(running, post(body)).status == 200
        assert upstream.seen.pop().body == body
        upstream.says = Said(headers=[("content-type", "text/event-stream")], body=EVENTS)
        streamed = body.replace(b"{", b' {"stream": true, ', 1)
        assert one(running, post(streamed)).body == EVENTS
        counting = b' {"stream_options": {"include_usage": true}, "stream": true, '
        assert upstream.seen.pop().body == body.replace(b"{", counting, 1)
        upstream.says = Said()
    with running.client() as client:
        assert client.get("/../health", cast_to=object)
    assert one(running, get(b"/metrics")).status == 200


def test_chunks_reach_the_upstream_whole_and_trailers_do_not(running: Running, upstream: Listening) -> None:
    trailers = b"authorization: Bearer of-a-trailer\r\nx-more: 1\r\n"
    for request in (in_chunks(chunked(BODY[:5], BODY[5:])), in_chunks(chunked(BODY, trailers=trailers))):
        assert one(running, request).status == 200
        seen = upstream.seen.pop()
        assert (seen.body, seen.all("content-length"), seen.all("transfer-encoding")) == (BODY, [str(len(BODY))], [])
        assert not seen.all("authorization")
        assert not seen.all("x-more")


@pytest.mark.parametrize(
    "head",
    [
        b"content-length: 5\r\ntransfer-encoding: chunked",
        b"transfer-encoding: chunked\r\ncontent-length: 5",
        b"content-length: 5\r\ncontent-length: 6",
        b"content-length: +5",
        b"content-length: 5x",
        b"content-length: -1",
        b"content-length: 99999999999999999999999",
        b"transfer-encoding: xchunked",
        b"transfer-encoding: gzip, chunked",
        b"transfer-encoding: chunked, identity",
        b"transfer-encoding: chunked\r\ntransfer-encoding: chunked, gzip",
        b"transfer-encoding : chunked",
        b"transfer-encoding:\x0bchunked",
        b"x: y\n\ncontent-length: 0",
        b"x: y\r\n z: folded",
        b"x: a\x00b",
        b": y",
        b"upgrade: h2c\r\nconnection: upgrade\r\ntransfer-encoding: chunked",
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(running: Running, upstream: Listening, head: bytes) -> None:
    request = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n" + head + b"\r\n\r\n0\r\n\r\n" + SMUGGLED
    with unrecorded(running, upstream):
        reply = one(running, request)
        assert (reply.status, reply.code, reply.headers["connection"]) == (400, "invalid_http", "close")


@pytest.mark.parametrize("rest", [b"zz\r\n", b"-1\r\n", b"ffffffffffffffffff\r\n", b"1\r\nab\r\n0\r\n\r\n", b"3\nabc"])
def test_bad_chunks_are_refused(running: Running, upstream: Listening, rest: bytes) -> None:
    reply = one(running, in_chunks(rest + SMUGGLED))
    assert (reply.status, reply.code) == (400, "invalid_http")
    assert not upstream.seen


def test_what_is_no_http_is_refused(running: Running, upstream: Listening) -> None:
    for begun in (
        b"hello\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /v1/models HTTP/3.7\r\n\r\n", b"GET /v1/models\r\n\r\n",
        b"GET /v1/mod\xc3\xa9ls HTTP/1.1\r\n\r\n", b"GET /v1/models?q=\x01 HTTP/1.1\r\n\r\n",
        b"CONNECT evil:443 HTTP/1.1\r\nhost: evil\r\n\r\n", b"GET evil:443 HTTP/1.1\r\n\r\n",
    ):  # fmt: skip
        assert one(running, begun).status == 400
    assert not upstream.seen


def test_several_requests_on_one_connection(running: Running, upstream: Listening) -> None:
    bodies = [BODY.replace(b"hello", b"hello %d" % number) for number in range(3)]
    requests = [post(body, last=number == 2) for number, body in enumerate(bodies)]
    assert [reply.status for reply in talk(running, b"".join(requests))] == [200] * 3  # pipelined
    assert [seen.body for seen in upstream.seen] == bodies
    upstream.seen.clear()
    assert [reply.status for reply in talk(running, *requests)] == [200] * 3  # one after the other
    assert [seen.body for seen in upstream.seen] == bodies
    upstream.seen.clear()
    answers = talk(running, post(BODY) + post(BODY))  # the first one asks for the end
    assert [reply.status for reply in answers] == [200]
    assert len(upstream.seen) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_garbage_after_a_request_does_not_harm_its_answer(running: Running, upstream: Listening, stream: bool) -> None:
    if stream:
        upstream.says = Said(headers=[("content-type", "text/event-stream")], body=EVENTS)
    reply = one(running, post(STREAM if stream else BODY, last=False) + b"\x00\x01 garbage\r\n\r\n" + SMUGGLED)
    assert reply.status == 200
    assert reply.body == (EVENTS if stream else upstream.says.body)
    assert [seen.target for seen in upstream.seen] == ["/v1/chat/completions"]


def test_http_1_0_gets_no_chunks(running: Running, upstream: Listening) -> None:
    reply = one(running, post(version=b"1.0", last=False))
    assert (reply.status, reply.body, reply.headers["connection"]) == (200, upstream.says.body, "close")
    assert "transfer-encoding" not in reply.headers
    upstream.says = Said(headers=[("content-type", "text/event-stream")], body=EVENTS)
    reply = one(running, post(STREAM, version=b"1.0", last=False))
    assert (reply.status, reply.body, reply.headers["connection"]) == (200, EVENTS, "close")
    assert not {"transfer-encoding", "content-length"} & set(reply.headers)


@pytest.mark.parametrize(
    "target",
    [
        b"/v1/../admin", b"/v1/%2e%2e/admin", b"/v1/%2E./admin", b"/v1/a%2f..%2fb", b"/v1//models", b"//v1/models",
        b"/v1/./models", b"/v1/models/..", b"/v1/models/..;/admin", b"/v1/models\\..\\x", b"/v1", b"/", b"/V1/models",
        b"/v1%00/models", b"*", b"http://evil/", b"http://evil/v1/../x", b"http://evil//v1/models", b"http://evil?v1/",
    ],
)  # fmt: skip
def test_paths_that_lead_elsewhere_are_refused(running: Running, upstream: Listening, target: bytes) -> None:
    with unrecorded(running, upstream):
        reply = one(running, get(target, b"host: evil"))
        assert (reply.status, reply.code) in ((404, "unknown_url"), (400, "invalid_http"))


@pytest.mark.parametrize(
    ("target", "asked"),
    [
        (b"http://evil/v1/models", "/v1/models"),
        (b"http://user:password@evil:1/v1/models?a=b", "/v1/models?a=b"),
        (b"/v1/models@evil", "/v1/models@evil"),
        (b"/v1/models/a:b", "/v1/models/a:b"),
        (b"/v1/files?after=%2e%2e%2f&x=../..#part", "/v1/files?after=%2e%2e%2f&x=../.."),
        (b"/v1/models?url=http://evil/", "/v1/models?url=http://evil/"),
    ],
)
def test_nothing_goes_to_another_place(running: Running, upstream: Listening, target: bytes, asked: str) -> None:
    assert one(running, get(target, b"host: evil", b"x-forwarded-host: evil", b"forwarded: host=evil")).status == 200
    (seen,) = upstream.seen
    assert seen.target == asked
    assert seen.all("host") == [upstream.url.removeprefix("http://").removesuffix("/v1")]
    assert "evil" not in "".join(value for _, value in seen.headers)


def test_methods_that_the_api_has_not(running: Running, upstream: Listening) -> None:
    for method in (b"PUT", b"PATCH", b"OPTIONS", b"TRACE", b"HEAD"):
        reply = one(running, get(b"/v1/models", method=method))
        assert (reply.status, reply.headers["allow"]) == (405, "GET, POST, DELETE")
    for path in (b"/health", b"/metrics", b"/openapi.json"):
        assert one(running, get(path)).status == 200
        reply = one(running, get(path, method=b"DELETE"))
        assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD")
    assert not upstream.seen


def test_headers_about_the_connection_and_cookies_stay_here(running: Running, upstream: Listening) -> None:
    hop = [
        b"connection: x-mine, keep-alive", b"x-mine: 1", b"keep-alive: timeout=5", b"te: trailers", b"cookie: a=b",
        b"proxy-authorization: Basic abc", b"proxy-connection: keep-alive", b"x-forwarded-for: 1.2.3.4", b"via: 1.1 me",
        b"expect: 100-continue",
    ]  # fmt: skip
    upstream.says.headers += [
        ("set-cookie", "a=b"), ("connection", "x-own"), ("x-own", "1"), ("location", "http://evil/"),
        ("x-kept", "1"), ("x-control", "a\x01b"), ("strict-transport-security", "max-age=1"),
    ]  # fmt: skip
    reply = one(running, post(BODY, *hop, b"openai-organization: o", b"authorization: Bearer sk-1"))
    (seen,) = upstream.seen
    assert {name for name, _ in seen.headers} == {
        "host", "accept-encoding", "content-type", "content-length", "openai-organization", "authorization",
    }  # fmt: skip
    assert (seen.all("authorization"), seen.all("accept-encoding")) == (["Bearer sk-1"], ["identity"])
    assert reply.status == 200
    assert set(reply.headers) == {
        "date", "content-type", "x-kept", "x-aasut-answered-by", "x-aasut-request-id", "content-length", "connection",
    }  # fmt: skip
    assert reply.headers["connection"] == "close"


@pytest.mark.parametrize("own", [False, True])
def test_keys_of_the_gateway_stay_here(tmp_path: Path, own: bool) -> None:
    secret, _ = keyring.add(tmp_path / "traffic", "shop", 0.0)
    given, flags = secret.encode(), ("--api-key-env", "UPSTREAM_KEY") if own else ()
    with fresh(tmp_path, *flags, env={"UPSTREAM_KEY": "sk-upstream"}) as (running, upstream):
        for headers in (
            [b"authorization: Bearer " + given],
            [b"api-key: " + given],
            [b"x-api-key: " + given, b"authorization: Basic abc"],
            [b"authorization: Bearer " + given, b"api-key: " + given, b"x-goog-api-key: " + given],
            [b"authorization: Bearer " + given, b"user-agent: aasut-shop/1.0 " + given],
        ):
            assert one(running, post(BODY, *headers)).status == 200
            seen = upstream.seen.pop()
            assert secret not in str(seen.headers)
            if own:
                assert (seen.all("authorization"), seen.all("api-key")) == (["Bearer sk-upstream"], [])
        for headers in ([], [b"authorization: Bearer sk-upstream"], [b"authorization: Bearer " + given[:-1]]):
            assert one(running, post(BODY, *headers)).code == "invalid_api_key"
        assert not upstream.seen


def test_a_refusal_before_the_body_ends_the_connection(tmp_path: Path) -> None:
    keyring.add(tmp_path / "traffic", "shop", 0.0)
    with fresh(tmp_path) as (running, upstream):
        reply = one(running, post(b"", b"expect: 100-continue", length=len(SMUGGLED), last=False), SMUGGLED)
        assert (reply.status, reply.code, reply.headers["connection"]) == (401, "invalid_api_key", "close")
        answers = talk(running, post(last=False) + post())  # these came whole
        assert [one.status for one in answers] == [401, 401]
        assert not upstream.seen
        assert not list(traffic.exchanges(running.store))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(running: Running, upstream: Listening, status: int) -> None:
    with listening() as elsewhere:
        upstream.says = Said(status, [("location", elsewhere.url + "/stolen")], b"{}")
        reply = one(running, post(BODY, b"authorization: Bearer sk-1"))
        assert (reply.status, reply.code) == (502, "upstream_redirects")
        assert "location" not in reply.headers
        assert elsewhere.url.encode() not in reply.body
        assert not elsewhere.seen


@pytest.mark.parametrize("status", [101, 204, 600, 999])
def test_a_status_that_is_none_is_the_upstreams_fault(running: Running, upstream: Listening, status: int) -> None:
    upstream.says = Said(status, body=b"")
    reply = one(running, post())
    assert reply.status == 502
    assert reply.code.startswith("upstream_")


def test_nothing_to_say_has_no_length(running: Running, upstream: Listening) -> None:
    upstream.says = Said(204, [], b"")
    first, last = talk(running, get(b"/v1/files/f", method=b"DELETE").replace(b"close", b"keep-alive"), get(b"/health"))
    assert (first.status, last.status) == (204, 200)
    assert "content-length" not in first.headers


def test_another_protocol_is_not_taken_up_and_the_body_is_read(running: Running, upstream: Listening) -> None:
    upgrade = (b"connection: Upgrade, HTTP2-Settings", b"upgrade: h2c", b"http2-settings: AAMAAABkAAQCAAAAAAIAAAAA")
    request = post(BODY, *upgrade, last=False)
    answers = talk(running, request + request[:-9], request[-9:] + post())
    assert [reply.status for reply in answers] == [200] * 3
    assert [seen.body for seen in upstream.seen] == [BODY] * 3
    assert not upstream.seen[0].all("upgrade")
    assert not upstream.seen[0].all("http2-settings")
    reply = one(running, post(SMUGGLED, *upgrade))  # a body, and no request
    assert (reply.status, reply.code) == (400, "invalid_json")
    command = ["curl", "-sS", "--http2", "-d", BODY.decode(), f"{running.url}/chat/completions"]
    assert subprocess.run(command, capture_output=True, timeout=PATIENCE_S).stdout == upstream.says.body


def test_a_client_that_takes_nothing_is_left(tmp_path: Path) -> None:
    event = b'data: {"choices": [{"index": 0, "delta": {"content": "%s"}}]}\n\n' % (b"x" * 60_000)
    with fresh(tmp_path, "--set", "listen.send_timeout_s=0.3") as (running, upstream):
        upstream.says = Said(headers=[("content-type", "text/event-stream")], body=event * 400 + EVENTS)
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", running.port))
            connection.sendall(post(STREAM))
            found = running.recorded(1)[0]
        assert (found.status, found.fault) == (499, "client_gone")
