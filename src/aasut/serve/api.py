"""OpenAI's HTTP API over one student: chat completions, models, health, and a description of them.

Requests that arrive while the engine is busy wait and are scored together in its next call. There
are no keys and nothing is stored: keep it on the loopback address, or behind a proxy that guards it.
"""

from __future__ import annotations

import asyncio
import sys
import time
import traceback
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from aasut.errors import DataError, ModelError, PromptMismatch
from aasut.progress import Progress
from aasut.serve import openapi, protocol
from aasut.serve.answering import answer
from aasut.serve.batch import Waiter, batcher
from aasut.serve.refusal import Refusal, failed
from aasut.serve.reply import Reply
from aasut.serve.server import Server, listen
from aasut.serve.student import ServedStudent

BODY_LIMIT = 1_000_000  # bytes
EVENTS = "text/event-stream"
Made = TypeVar("Made")
_STOP_S = 10  # seconds that requests under way have to end in when the server is stopped


class _Api:
    def __init__(self, student: ServedStudent, batcher: Waiter) -> None:
        self.student, self.batcher = student, batcher
        self.fingerprint = f"fp_{student.file_sha256[:12]}"
        self.described = openapi.student()
        self.model = {"id": student.name, "object": "model", "created": int(time.time()), "owned_by": "aasut"}

    async def chat(self, http: Request) -> Response:
        try:
            request = protocol.parse(await _body(http))
            self._check_model(request.model)
            reply = Reply(request, self.student.name, self.fingerprint)
            made = await _while_there(http, answer(request, self.student, self.batcher, reply))
            return JSONResponse(made) if isinstance(made, dict) else StreamingResponse(made, media_type=EVENTS)
        except (Refusal, ClientDisconnect):
            raise
        except PromptMismatch as error:
            raise Refusal(str(error), param="messages", code="prompt_mismatch") from None
        except (DataError, ModelError) as error:  # a text that the model cannot take, such as one too long
            raise Refusal(str(error), param="messages", code="invalid_input") from None
        except Exception as error:
            # The reason goes to standard error; the client learns only that it happened.
            traceback.print_exception(error, file=sys.stderr)
            raise failed() from None

    async def models(self, _: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self.model]})

    async def one_model(self, http: Request) -> Response:
        self._check_model(http.path_params["id"])
        return JSONResponse(self.model)

    async def health(self, _: Request) -> Response:
        student = self.student
        return JSONResponse(
            {"status": "ok", "model": student.name, "sha256": student.file_sha256, "engine": student.engine.name}
        )

    async def description(self, _: Request) -> Response:
        return JSONResponse(self.described)

    def _check_model(self, name: str) -> None:
        if name != self.student.name:
            raise Refusal(
                f"The model {name!r} does not exist. This server has {self.student.name!r}.",
                status=404,
                param="model",
                code="model_not_found",
            )


def build(student: ServedStudent, *, largest_batch: int = 32, waiting: int = 1024) -> Starlette:
    """The application. At most `waiting` requests wait for the engine, which takes `largest_batch` at once."""
    waiter = batcher(student, largest_batch, waiting)
    api = _Api(student, waiter)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        waiter.close()

    app = Starlette(
        routes=[
            Route("/v1/chat/completions", api.chat, methods=["POST"]),
            Route("/v1/models", api.models),
            Route("/v1/models/{id:path}", api.one_model),
            Route("/health", api.health),
            Route("/openapi.json", api.description),
        ],
        exception_handlers={Refusal: _refused, HTTPException: _no_route, ClientDisconnect: _gone},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    return app


def run(student: ServedStudent, host: str = "127.0.0.1", port: int = 8000, progress: Progress | None = None) -> None:
    """Serve until SIGINT or SIGTERM, then finish the requests under way and return.

    Says one line when it is ready. `port` 0 takes a free one. Raises AasutError where the address
    cannot be had. The student stays open.
    """
    listener = listen(host, port)
    config = uvicorn.Config(
        build(student),
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_STOP_S,
    )
    address = f"[{host}]" if ":" in host else host
    ready = f"Serving {student.name} at http://{address}:{listener.getsockname()[1]}/v1 (Ctrl-C stops)"
    if host not in ("127.0.0.1", "::1", "localhost"):
        ready += ". It asks for no key: everyone who reaches this address can use it"
    Server(config, ready, progress or Progress()).run(sockets=[listener])


async def _body(http: Request) -> bytes:
    """The whole body; Refusal 413 where it is longer than the limit."""
    parts: list[bytes] = []
    size = 0
    async for part in http.stream():
        size += len(part)
        parts.append(part)
        if size > BODY_LIMIT:  # the rest is read and thrown away by uvicorn, so that the sender sees the refusal
            raise Refusal(
                f"The body is longer than the limit of {BODY_LIMIT} bytes.", status=413, code="request_too_large"
            )
    return b"".join(parts)


async def _while_there(http: Request, answer: Coroutine[Any, Any, Made]) -> Made:
    """The answer; where the client goes away before there is one, it is given up and ClientDisconnect is raised."""
    working = asyncio.create_task(answer)
    leaving = asyncio.ensure_future(http.receive())
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.wait((working, leaving))


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return JSONResponse(error.body, error.status)


async def _no_route(http: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    what = f"{http.method} {http.url.path}"
    if error.status_code == 405:
        refusal = Refusal(f"Not allowed to {what}.", status=405, code="method_not_allowed")
    else:
        refusal = Refusal(f"Unknown request URL: {what}.", status=error.status_code, code="unknown_url")
    return JSONResponse(refusal.body, refusal.status, error.headers)


async def _gone(_: Request, __: Exception) -> Response:
    return Response(status_code=499)  # nobody is there to read it
