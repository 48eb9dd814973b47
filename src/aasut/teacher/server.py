"""The scripted teacher as a real HTTP server with planned faults, for trying out whatever asks a teacher.

POST /v1/chat/completions   OpenAI's chat-completions API, answered by rule, whole or as server-sent events
POST /v1/responses          the same in the words of OpenAI's Responses API
POST /v1/embeddings         vectors that are the same for the same text
GET  /v1/models             one model
GET  /stats                 counts of what came and went, as JSON
GET  /requests              by SHA-256 of a call's JSON (see `aasut.store.digest`): [times asked, times answered]
"""

from __future__ import annotations

import asyncio
import errno
import json
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from aasut.errors import AasutError
from aasut.progress import Progress
from aasut.store import digest
from aasut.teacher import chat, embeddings, faults, python_rules, responses, sending, stream
from aasut.teacher.chat import Split, pieces
from aasut.teacher.faults import Fault, Plan
from aasut.teacher.python_rules import PythonRules
from aasut.teacher.scripted import ScriptedTeacher
from aasut.teacher.sending import Headers, chunk, send

BODY_LIMIT = 64 << 20
HEADER_LIMIT = 64 << 10
PAGE = "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"


CHAT = "/v1/chat/completions"
MODEL = {"id": "scripted", "object": "model", "created": 0, "owned_by": "aasut"}
# (request's JSON, teacher, cut after the first token, tokens) -> the answer's JSON
_MAKERS: dict[str, Callable[[Any, ScriptedTeacher, bool, Split], dict[str, Any]]] = {
    CHAT: lambda body, teacher, cut, split: chat.complete(body, teacher, cut=cut, split=split),
    "/v1/responses": lambda body, teacher, cut, split: responses.respond(body, teacher, cut=cut, split=split),
    "/v1/embeddings": lambda body, _, __, split: embeddings.embed(body, split),
}
# (the answer's JSON, request's JSON) -> the answer's events
_EVENTS: dict[str, Callable[[dict[str, Any], Any], Iterable[bytes]]] = {
    CHAT: lambda made, body: stream.events(made, counted=_counted(body.get("stream_options"))),
    "/v1/responses": lambda made, _: responses.events(made),
}


class ScriptedServer:
    """Answers by `rules`, in the tokens of `split`, and fails by `plan`.

    As a context manager it runs in a thread of its own, at `url`.
    """

    def __init__(
        self,
        rules: Mapping[str, str] | PythonRules,
        plan: Plan | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        split: Split = pieces,
    ) -> None:
        self.teacher, self.plan = ScriptedTeacher(rules), plan or Plan()
        self.host, self.port, self.split = host, port, split
        self.requests = self.answered = self.open = self.most_at_once = self.with_key = self.left = 0
        self.faults: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        self.whole: Counter[str] = Counter()
        self._ready = threading.Event()
        self._failure: AasutError | None = None
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Base address, as a client wants it."""
        return f"http://[{self.host}]:{self.port}/v1" if ":" in self.host else f"http://{self.host}:{self.port}/v1"

    def stats(self) -> dict[str, Any]:
        """What GET /stats says."""
        return {
            "requests": self.requests,
            "answered": self.answered,
            "different": len(self.asked),
            "answered_again": sum(times - 1 for times in self.whole.values()),
            "most_at_once": self.most_at_once,
            "with_key": self.with_key,
            "left": self.left,
            "faults": dict(self.faults),
        }

    async def serve(self, stop: asyncio.Event, ready: Callable[[], None]) -> None:
        """Answer until `stop` is set; call `ready` once it listens. Raises AasutError where the address is taken."""
        try:
            listener = await asyncio.start_server(self._accept, self.host, self.port, limit=HEADER_LIMIT, backlog=2048)
        except (OSError, UnicodeError, OverflowError) as error:
            taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            why = "is taken" if taken else f"cannot be had: {error}"
            raise AasutError(f"Port {self.port} on {self.host} {why}.", "Use --port with another number.") from None
        self.port = listener.sockets[0].getsockname()[1]
        ready()
        await stop.wait()
        listener.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def __enter__(self) -> ScriptedServer:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        async def main() -> None:
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
            await self.serve(self._stop, self._ready.set)

        try:
            asyncio.run(main())
        except AasutError as error:
            self._failure = error
            self._ready.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            with suppress(ConnectionError, TimeoutError, asyncio.CancelledError):
                while await self._one(reader, writer):
                    pass
        finally:
            self._connections.discard(task)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Read and answer one request; whether the connection stays open."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return False
        except asyncio.LimitOverrunError:
            return await send(writer, 431, chat.refusal(431, "The header is too long."))
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {n.strip().lower(): v.strip() for n, _, v in (line.partition(":") for line in lines if line)}
        try:
            method, target, _ = first.split(" ")
            length = int(headers.get("content-length", 0))
        except ValueError:
            return await send(writer, 400, chat.refusal(400, "This is no HTTP request."))
        if "transfer-encoding" in headers:
            return await send(writer, 411, chat.refusal(411, "Send a Content-Length."))
        if not 0 <= length <= BODY_LIMIT:
            return await send(writer, 413, chat.refusal(413, f"The body is longer than {BODY_LIMIT} bytes."))
        raw, path = await reader.readexactly(length), target.partition("?")[0]
        if method == "POST" and path in _MAKERS:
            return await self._asked(path, reader, writer, raw, headers)
        known: dict[str, Callable[[], Any]] = {
            "/stats": self.stats,
            "/requests": lambda: {key: [times, self.whole[key]] for key, times in self.asked.items()},
            "/v1/models": lambda: {"object": "list", "data": [MODEL]},
        }
        if path not in known or method != "GET":
            return await send(writer, 404, chat.refusal(404, f"Unknown request URL: {method} {path}."))
        return await send(writer, 200, known[path](), keep=True)

    async def _asked(
        self, path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, raw: bytes, headers: Headers
    ) -> bool:
        try:
            body = json.loads(raw)
        except (ValueError, RecursionError):
            return await send(writer, 400, chat.refusal(400, "The body is no JSON."), keep=True)
        content = digest(body)
        number, attempt = self.requests, self.asked[content]
        self.requests += 1
        self.asked[content] += 1
        self.with_key += "authorization" in headers
        self.open += 1
        self.most_at_once = max(self.most_at_once, self.open)
        try:
            fault = self.plan.choose(number, content, attempt)
            if self.plan.most_at_once is not None and self.open > self.plan.most_at_once:
                fault = Fault(fault=429, at=(number,))
            if fault is not None:
                self.faults[str(fault.fault)] += 1
            keeps = await self._reply(path, writer, body, content, fault)
            self.left += reader.at_eof()  # whoever asked did not wait for the end
            return keeps
        except ConnectionError:
            self.left += 1
            raise
        finally:
            self.open -= 1

    async def _reply(
        self, path: str, writer: asyncio.StreamWriter, body: Any, content: str, fault: Fault | None
    ) -> bool:
        kind = fault.fault if fault else None
        if fault and isinstance(kind, int):
            return await send(writer, kind, sending.refusal(fault, kind), sending.headers_of(fault), keep=True)
        if kind == "hang_up":
            return False
        if fault and kind == "stall":
            await asyncio.sleep(fault.lasts_s)
            return False
        streams = isinstance(body, dict) and bool(body.get("stream")) and path in _EVENTS
        if fault and (kind in ("garbage", "html") or (kind == "garbage_event" and not streams)):
            page = fault.body if fault.body is not None else PAGE if kind == "html" else '{"choices": ['
            return await send(writer, 200, page, keep=True)
        if kind == "no_logprobs" and isinstance(body, dict) and body.get("logprobs"):
            return await send(writer, 400, chat.refusal(400, "logprobs are not supported with this model."), keep=True)
        try:
            made = _MAKERS[path](body, self.teacher, kind == "length", self.split)
        except chat.Refused as refused:
            return await send(writer, refused.status, chat.refusal(refused.status, refused.message), keep=True)
        if kind == "content_filter" and path == CHAT:
            made["choices"][0] |= {"finish_reason": kind, "logprobs": None}
            made["choices"][0]["message"]["content"] = ""
        if kind == "no_usage":
            del made["usage"]
        await asyncio.sleep(self.plan.latency_s + (fault.lasts_s if fault and kind == "slow" else 0.0))
        if streams:
            if not await self._stream(writer, list(_EVENTS[path](made, body)), fault):
                return False
            self.answered += 1
            self.whole[content] += 1
            return True
        data = json.dumps(made).encode()
        if fault and kind in ("half", "half_chunked", "freeze"):
            return await sending.half(writer, data, fault)
        if fault and kind == "drip":
            await sending.drip(writer, data, fault.lasts_s)
        else:
            await send(writer, 200, data, keep=True)
        self.answered += 1
        self.whole[content] += 1
        return True

    async def _stream(self, writer: asyncio.StreamWriter, every: list[bytes], fault: Fault | None) -> bool:
        """The answer as events; whether all were sent."""
        kind = fault.fault if fault else None
        broken = fault is not None and kind in ("half", "half_chunked", "freeze", "garbage_event")
        writer.write(sending.head(200, None, {"Content-Type": "text/event-stream"}, not broken))
        pause = fault.lasts_s / len(every) if fault and kind == "drip" else 0.0
        for event in every[: len(every) // 2] if broken else every:
            await asyncio.sleep(pause)
            writer.write(chunk(event))
            await writer.drain()
        if kind == "half":  # in the middle of an event
            writer.write(chunk(every[len(every) // 2][:20]))
        if kind == "garbage_event":
            writer.write(chunk(b"data: {not json\n\n"))
        if fault and kind == "freeze":
            await asyncio.sleep(fault.lasts_s)
        if not broken:
            writer.write(chunk(b""))
        await writer.drain()
        return not broken


def run(
    rules: Path, plan: Path | None, host: str, port: int, progress: Progress, tokenizer: Path | None = None
) -> dict[str, Any]:
    """Serve files of rules (`.py`: see python_rules.py) and faults until SIGINT or SIGTERM.

    Says one line when ready, and gives the stats at the end.

    Answers come in the tokens of a model's folder `tokenizer`, where it is given. Raises AasutError where a
    file or the address cannot be used.
    """
    split = pieces if tokenizer is None else chat.tokens_of(tokenizer)
    known = python_rules.load(rules) if rules.suffix == ".py" else faults.load_rules(rules)
    server = ScriptedServer(known, faults.load(plan) if plan else None, host, port, split)

    async def main() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        await server.serve(stop, lambda: progress.say(f"Scripted teacher at {server.url} (Ctrl-C stops)"))

    asyncio.run(main())
    return server.stats()


def _counted(options: Any) -> bool:
    return isinstance(options, dict) and bool(options.get("include_usage"))
