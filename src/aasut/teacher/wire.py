"""One call of an HTTP API: sent, waited for with a limit on each kind of silence, and read to its end."""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from aasut.errors import TeacherError
from aasut.recipe import Endpoint
from aasut.teacher.logprobs import holds
from aasut.teacher.pace import wait_of

ANSWER_LIMIT = 16 << 20  # bytes
SECRET = 8  # characters, from which a key is blotted out wherever an endpoint sends it back


@dataclass(frozen=True)
class Reply:
    """What came back, whole. `wait_s` is what Retry-After asks for, None where it is not sent."""

    status: int
    raw: bytes
    wait_s: float | None = None
    location: str = ""

    @property
    def message(self) -> str:
        """What the API says is wrong, in one short line."""
        try:
            error = json.loads(self.raw)["error"]
            said = str(error["message"] if isinstance(error, dict) else error)
        except (ValueError, LookupError, TypeError, RecursionError):
            said = _page(self.raw[:10_000].decode("utf-8", "replace"))
        return " ".join(said.split())[:200] or "no reason given"

    @property
    def penniless(self) -> bool:
        """Whether the account has no money left, which some say with 429, as if it passed by waiting."""
        return b'"insufficient_quota"' in self.raw


class Broken(Exception):
    """A call without a whole answer. `slow`: the endpoint did not keep up. `sent`: it may have been answered, and paid.

    `final`: it makes no sense to try again.
    """

    def __init__(self, reason: str, *, slow: bool = False, sent: bool = True, final: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.slow, self.sent, self.final = reason, slow, sent, final


class Wire:
    """Connections to an endpoint, kept open between calls. For one event loop.

    Raises TeacherError where the address is none, or the key is missing or cannot be one.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.url = endpoint.base_url.rstrip("/") + "/chat/completions"
        self._limits = endpoint
        self._key = _key(endpoint)
        self._session: aiohttp.ClientSession | None = None
        try:
            parts = urlsplit(self.url)
            named = bool(parts.hostname) and parts.port != 0
        except ValueError:
            named = False
        if not named:
            raise TeacherError(f"{endpoint.base_url} is no address.", "Mend teacher.endpoint.base_url.")

    def hide(self, text: str) -> str:
        """A text without the key, should the endpoint have sent that back."""
        return text.replace(self._key, "[key]") if len(self._key) >= SECRET else text

    def has_key(self, packed: bytes) -> bool:
        """Whether packed tokens hold the key."""
        return len(self._key) >= SECRET and holds(packed, self._key.encode())

    async def post(self, body: Mapping[str, Any]) -> Reply:
        """Send a body and read the whole answer, of any status. Raises Broken where there is none."""
        call = SimpleNamespace(timer=None, sent=False, first_byte_s=self._limits.first_byte_timeout_s)
        whole: asyncio.Timeout = asyncio.timeout(self._limits.timeout_s)
        try:
            async with whole, asyncio.timeout(None) as call.timer:
                return await self._post(body, call)
        except aiohttp.ConnectionTimeoutError:
            raise Broken(f"no connection within {self._limits.connect_timeout_s:g} s", slow=True, sent=False) from None
        except TimeoutError:
            raise Broken(self._silence(call, whole.expired()), slow=True, sent=call.sent) from None
        except aiohttp.ClientConnectorCertificateError as error:
            raise Broken(f"its certificate is not valid: {error}", sent=False, final=True) from None
        except (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError) as error:
            where = "in the middle of" if isinstance(error, aiohttp.ClientPayloadError) else "before"
            raise Broken(f"the connection ended {where} the answer", sent=call.sent) from None
        except aiohttp.ClientConnectorError as error:
            raise Broken(str(error), slow=True, sent=False) from None
        except (aiohttp.ClientError, OSError) as error:
            reason = "the answer is not HTTP" if isinstance(error, aiohttp.ClientResponseError) else str(error)
            raise Broken(reason or type(error).__name__, sent=call.sent) from None

    async def _post(self, body: Mapping[str, Any], call: SimpleNamespace) -> Reply:
        parts, size, now = [], 0, asyncio.get_running_loop().time
        async with self._open().post(self.url, json=body, allow_redirects=False, trace_request_ctx=call) as response:
            async for part in response.content.iter_any():
                call.timer.reschedule(now() + self._limits.stall_timeout_s)
                call.parts = True
                parts.append(part)
                size += len(part)
                if size > ANSWER_LIMIT:
                    raise Broken(f"the answer is longer than {ANSWER_LIMIT >> 20} MB", final=True)
            headers = response.headers
            return Reply(response.status, b"".join(parts), _wait(headers), headers.get("Location", ""))

    def _silence(self, call: SimpleNamespace, whole: bool) -> str:
        if whole:
            return f"no whole answer within {self._limits.timeout_s:g} s"
        if hasattr(call, "parts"):
            return f"nothing more of an answer for {self._limits.stall_timeout_s:g} s"
        return f"no answer began within {self._limits.first_byte_timeout_s:g} s"

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            tracing = aiohttp.TraceConfig()
            tracing.on_request_headers_sent.append(_sent)
            self._session = aiohttp.ClientSession(
                headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
                timeout=aiohttp.ClientTimeout(total=None, connect=self._limits.connect_timeout_s),
                connector=aiohttp.TCPConnector(limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                trace_configs=[tracing],
            )
        return self._session

    async def close(self) -> None:
        """End all connections."""
        if self._session is not None:
            await self._session.close()


async def _sent(_: aiohttp.ClientSession, context: SimpleNamespace, __: aiohttp.TraceRequestHeadersSentParams) -> None:
    call = context.trace_request_ctx
    call.sent = True
    call.timer.reschedule(asyncio.get_running_loop().time() + call.first_byte_s)


def _key(endpoint: Endpoint) -> str:
    if not endpoint.api_key_env:
        return ""
    key = os.environ.get(endpoint.api_key_env, "").strip()
    if not key:
        raise TeacherError(
            f"The environment variable {endpoint.api_key_env} holds no key for {endpoint.base_url}.",
            "Set it, or set teacher.endpoint.api_key_env to '' for an API without keys.",
        )
    if not (key.isascii() and key.isprintable()):
        raise TeacherError(
            f"The environment variable {endpoint.api_key_env} holds characters that no key has.", "Set it again."
        )
    return key


def _wait(headers: Mapping[str, str]) -> float | None:
    """What the endpoint asks to wait, in seconds; some say it in milliseconds too."""
    exact = wait_of(headers.get("retry-after-ms"), time.time())
    return exact / 1000 if exact is not None else wait_of(headers.get("Retry-After"), time.time())


def _page(text: str) -> str:
    """Text that is no error object; of an HTML page its title."""
    if not re.search(r"<(!doctype|html|head|body|title|h1)\b", text, re.IGNORECASE):
        return text
    title = re.search(r"<(title|h1)[^>]*>([^<]*)", text, re.IGNORECASE)
    return f"an HTML page, {title[2].strip()!r}" if title else "an HTML page"
