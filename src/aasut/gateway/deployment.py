"""What the gateway answers with: settings, and the upstream and student of them. A new one takes its place whole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from aasut.gateway.cascade import Cascade
from aasut.gateway.exchange import Exchange
from aasut.gateway.settings import Settings
from aasut.gateway.tokens import Estimate
from aasut.gateway.upstream import Upstream

Keep = Callable[[Exchange], "asyncio.Future[str] | None"]


@dataclass
class Deployment:
    """`keep` records an exchange; where recording is strict, it gives what to wait for: "" or why it failed.

    `requests` under way hold it open after another has taken its place.
    """

    settings: Settings
    upstream: Upstream
    cascade: Cascade | None
    keep: Keep
    estimate: Estimate = field(default_factory=Estimate)
    requests: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _free: asyncio.Event = field(default_factory=asyncio.Event)

    def __enter__(self) -> Deployment:
        self.requests += 1
        return self

    def __exit__(self, *_: object) -> None:
        self.requests -= 1
        if not self.requests:
            self._free.set()

    def beside(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something that no client waits for."""
        task = asyncio.get_running_loop().create_task(self._holding(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _holding(self, work: Coroutine[Any, Any, None]) -> None:
        with self:
            await work

    async def close(self, seconds: float) -> None:
        """Wait for what is under way, so long at most, and end the connections and the student."""
        try:
            async with asyncio.timeout(seconds):
                while self.requests:
                    self._free.clear()
                    await self._free.wait()
        except TimeoutError:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.upstream.close()
        if self.cascade is not None:
            await self.cascade.close()
