"""One thread with a session: a request joins the answers under way at the next step, and leaves when nobody waits."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import suppress

from aasut.engine.base import Piece, Prompt, Session
from aasut.serve.refusal import Refusal

Told = Piece | Exception


class _Ask:
    def __init__(self, prompt: Prompt) -> None:
        self.prompt = prompt
        self.told: asyncio.Queue[Told] = asyncio.Queue()
        self.row = -1  # its number in the session, once it has one
        self.over = False


class Flow:
    """Answers of a session. More than `open_most` at once, those that wait counted, get Refusal 503."""

    def __init__(self, session: Session, open_most: int) -> None:
        self.session, self.open_most = session, open_most
        self._open: set[_Ask] = set()
        self._news: deque[_Ask] = deque()  # to join, or to leave
        self._change = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def ask(self, prompt: Prompt) -> AsyncGenerator[Piece, None]:
        """The pieces of one answer, as they are made; raises what the engine raised."""
        if len(self._open) >= self.open_most:
            raise Refusal("Too many requests wait. Try again soon.", status=503, kind="server_error", code="overloaded")
        if self._thread is None:
            self._loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
            self._thread.start()
        ask = _Ask(prompt)
        self._open.add(ask)
        self._tell_thread(ask)
        try:
            while True:
                said = await ask.told.get()
                if isinstance(said, Exception):
                    ask.over = True
                    raise said
                ask.over = bool(said.finish)
                yield said
                if ask.over:
                    return
        finally:
            self._open.discard(ask)
            if not ask.over:
                ask.over = True
                self._tell_thread(ask)

    def close(self) -> None:
        with self._change:
            self._closed = True
            self._change.notify()
        if self._thread is not None:
            self._thread.join()

    def _tell_thread(self, ask: _Ask) -> None:
        with self._change:
            self._news.append(ask)
            self._change.notify()

    def _work(self) -> None:
        rows: dict[int, _Ask] = {}
        while True:
            with self._change:
                while not (self._news or rows or self._closed):
                    self._change.wait()
                if self._closed:
                    break
                news = list(self._news)
                self._news.clear()
            told = [found for ask in news if (found := self._admit(ask, rows)) is not None]
            try:
                said = self.session.step() if rows else []
            except Exception as error:
                for row in rows:
                    self.session.cancel(row)
                said = [(row, error) for row in rows]
            for row, one in said:
                ask = rows[row]
                if isinstance(one, Exception) or one.finish:
                    del rows[row]
                told.append((ask, one))
            if told:
                self._send(told)
        self.session.close()

    def _admit(self, ask: _Ask, rows: dict[int, _Ask]) -> tuple[_Ask, Told] | None:
        """Let a request join, or one that nobody waits for any more leave; what there is to tell it."""
        if ask.over:
            if rows.pop(ask.row, None) is not None:
                self.session.cancel(ask.row)
            return None
        try:
            ask.row = self.session.add(ask.prompt)
        except Exception as error:
            return ask, error
        rows[ask.row] = ask
        return None

    def _send(self, told: list[tuple[_Ask, Told]]) -> None:
        def put() -> None:
            for ask, said in told:
                ask.told.put_nowait(said)

        assert self._loop is not None
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(put)
