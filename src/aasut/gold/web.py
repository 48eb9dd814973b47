"""Answering by hand on a page in the browser: one person, this machine alone.

The page and what it asks for stand below a random path that only the printed address has. Requests
must name this host, and those that write must come from this page, so that no other page that the
browser has open can reach it.
"""

from __future__ import annotations

import json
import secrets
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from aasut.errors import AasutError, DataError
from aasut.evaluate.metrics import quantile
from aasut.gold import form
from aasut.gold.session import Session
from aasut.gold.terminal import SKIP_REASONS, UNUSABLE, clock, keys_of

HOST = "127.0.0.1"
BODY_LIMIT = 1_000_000  # bytes
_PAGE = Path(__file__).with_name("page.html")


def serve(
    session: Session,
    port: int,
    measured: Callable[[], str],
    following: Callable[[], list[str]],
    announce: Callable[[str], None],
) -> None:
    """Serve the page until SIGINT or SIGTERM; `port` 0 takes a free one.

    measured: a note such as the kappa; following: what to do next, shown when nothing is left;
    announce: called with the page's address once it can be opened. Raises AasutError where the
    port cannot be had.
    """
    quantile(0.975, 10, 10)  # loads what intervals need while nobody waits
    listener = _listen(port)
    origin = f"http://{HOST}:{listener.getsockname()[1]}"
    token = secrets.token_urlsafe(24)
    config = uvicorn.Config(
        build(session, token, origin, measured, following),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,
    )
    with suppress(KeyboardInterrupt):  # the way to stop it
        _Server(config, lambda: announce(f"{origin}/{token}/")).run(sockets=[listener])


def build(
    session: Session, token: str, origin: str, measured: Callable[[], str], following: Callable[[], list[str]]
) -> Starlette:
    """The application below /`token`/; `origin` is its own address without a path."""
    page = _Page(session, origin, measured, following)
    return Starlette(
        routes=[
            Route(f"/{token}/", page.page),
            Route(f"/{token}/state", page.state),
            Route(f"/{token}/say", page.say, methods=["POST"]),
        ]
    )


class _Page:
    def __init__(
        self, session: Session, origin: str, measured: Callable[[], str], following: Callable[[], list[str]]
    ) -> None:
        self.session, self.origin, self.measured, self.following = session, origin, measured, following

    async def page(self, http: Request) -> Response:
        if (refused := self._refused(http)) is not None:
            return refused
        nonce = secrets.token_urlsafe(16)
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; "
            "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        text = _PAGE.read_text(encoding="utf-8").replace("{{ nonce }}", nonce)
        return Response(
            text, media_type="text/html; charset=utf-8", headers=_HEADERS | {"Content-Security-Policy": policy}
        )

    async def state(self, http: Request) -> Response:
        return self._refused(http) or self._state()

    async def say(self, http: Request) -> Response:
        if (refused := self._refused(http)) is not None:
            return refused
        said = await _body(http)
        if said is None:
            return JSONResponse({"error": "This is not what the page sends."}, 400, _HEADERS)
        try:
            self._keep(said)
        except DataError as error:
            return self._state(str(error))
        return self._state()

    def _keep(self, said: dict[str, str]) -> None:
        key = said.get("key", "")
        if "answer" in said:
            self.session.answer(key, said["answer"])
        elif "skip" in said:
            self.session.skip(key, said["skip"])
        elif "unusable" in said:
            self.session.unusable(key, said["unusable"])
        elif not self.session.undo():
            raise DataError("There is nothing to take back.")

    def _refused(self, http: Request) -> Response | None:
        """A refusal of what comes from elsewhere: under another name of this host, or from another page."""
        host = http.headers.get("host", "")
        origin = http.headers.get("origin", self.origin if http.method == "GET" else "")
        if f"http://{host}" == self.origin and origin == self.origin:
            return None
        return PlainTextResponse("This page is only for the browser that its address was opened in.", 403, _HEADERS)

    def _state(self, error: str = "") -> Response:
        session, task = self.session, self.session.task
        item, tally = session.item(), session.tally()
        shown: dict[str, Any] | None = None
        if item is not None:
            slots = [{"name": name, "text": item.example.slots[name]} for name in task.prompt.slots]
            shown = {"key": item.key, "slots": slots, "said": list(item.said)}
        return JSONResponse(
            {
                "rater": session.rater,
                "adjudicate": session.adjudicate,
                "prompt": "\n\n".join(message.content for message in task.prompt.messages),
                "answers": list(task.answers),
                "keys": list(keys_of(task.answers)),
                "blank": form.blank(task.schema),
                "hint": form.hint(task.schema),
                "reasons": list(SKIP_REASONS),
                "unusable": UNUSABLE,
                "item": shown,
                "done": tally.done,
                "left": tally.left,
                "time_left": "" if not tally.seconds_left else clock(tally.seconds_left),
                "note": self.measured(),
                "next": [] if item is not None else self.following(),
                "error": error,
            },
            409 if error else 200,
            _HEADERS,
        )


_HEADERS = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"}


async def _body(http: Request) -> dict[str, str] | None:
    """The posted JSON object of texts, None where it is none."""
    if http.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        return None
    raw = b""
    async for part in http.stream():
        raw += part
        if len(raw) > BODY_LIMIT:
            return None
    try:
        said = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict) or not all(isinstance(value, str) for value in said.values()):
        return None
    return said if set(said) in ({"key", "answer"}, {"key", "skip"}, {"key", "unusable"}, {"undo"}) else None


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()


def _listen(port: int) -> socket.socket:
    if not 0 <= port <= 65535:
        raise AasutError(f"There is no port {port}.", "Use a port from 1024 to 65535, or 0 for a free one.")
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen(64)
    except OSError as error:
        listener.close()
        raise AasutError(f"Port {port} cannot be had: {error.strerror}.", "Use another one with --port.") from None
    return listener
