"""Running the gateway: everything opened, requests answered until SIGTERM, and what is under way brought to its end.

SIGHUP reads the settings again and puts a new deployment in the place of the old one, which answers what it
has begun. Where the new one cannot be had, the old one stays.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import uvicorn
import uvloop

from aasut.errors import AasutError, StoreError
from aasut.files import disk_errors
from aasut.gateway import net, traffic
from aasut.gateway.app import Gateway, keeper
from aasut.gateway.bounds import bounded
from aasut.gateway.cascade import Cascade
from aasut.gateway.deployment import Deployment
from aasut.gateway.keys import Keys
from aasut.gateway.limits import Limits
from aasut.gateway.observe import Observer
from aasut.gateway.recording import Recording
from aasut.gateway.settings import Settings
from aasut.gateway.status import LOCK
from aasut.gateway.upstream import Upstream
from aasut.lock import holder, take
from aasut.progress import Progress
from aasut.serve.server import Server, listen

Load = Callable[[], Settings]


def run(load: Load, folder: Path, root: Path, progress: Progress) -> None:
    """Answer requests until SIGINT or SIGTERM. `load` gives the settings, and again at each SIGHUP.

    `folder` is the gateway's own, `root` that of the runs. Raises AasutError where something cannot be had.
    """
    settings = load()
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    lock = take(folder / LOCK)
    if lock is None:
        raise StoreError(
            f"Another gateway uses {folder} ({holder(folder / LOCK)}).", "Stop it, or give another --store."
        )
    with lock:
        running = _Running(load, settings, folder, root, progress)
        with listen(settings.listen.host, settings.listen.port) as listener:
            running.serve(listener)


def reload(folder: Path) -> None:
    """Tell the gateway of this folder to read its settings again. Raises AasutError where none runs."""
    os.kill(_process(folder), signal.SIGHUP)


def _process(folder: Path) -> int:
    who = holder(folder / LOCK)
    if not who.startswith("process "):
        raise AasutError(f"No gateway runs with {folder}.", "Start one with aasut gateway, or name its --store.")
    return int(who.removeprefix("process "))


class _Running:
    """A gateway in this process."""

    def __init__(self, load: Load, settings: Settings, folder: Path, root: Path, progress: Progress) -> None:
        self.load, self.folder, self.root, self.progress = load, folder, root, progress
        self.settings = settings
        self.keys = Keys.load(folder)
        net.check_public(settings.listen.host, self.keys)
        self.tls = net.tls(settings.listen)
        self._closing: set[asyncio.Task[None]] = set()

    def serve(self, listener: socket.socket) -> None:
        """Answer requests on a socket until a signal; everything is closed when this returns."""
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve(listener))

    async def _serve(self, listener: socket.socket) -> None:
        self.observer = observer = Observer(self.settings)
        upstream = Upstream(self.settings.upstream)
        self.recorder = await Recording.open(self.folder, self.settings.record, upstream.secrets)
        try:
            limits = Limits.resumed(
                lambda since: {k: usd for k, (usd, *_) in traffic.spent(self.folder, since).items()}
            )
            deployment = await self._deploy(self.settings, upstream, self.recorder)
            self.gateway = Gateway(deployment, self.recorder, self.keys, limits, observer)
            await self._answer(listener)
        finally:
            await self.recorder.close()
            observer.close()

    async def _answer(self, listener: socket.socket) -> None:
        host, port = listener.getsockname()[:2]
        context = self.tls
        scheme = "http" if context is None else "https"
        address = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}/v1"
        config = uvicorn.Config(
            self.gateway,
            http=bounded(self.settings.listen.header_timeout_s, self.settings.listen.send_timeout_s),
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=int(self.settings.listen.drain_s) or 1,
            ssl_context_factory=None if context is None else lambda *_: context,
        )
        server = Server(
            config, f"Gateway at {address} for {self.settings.upstream.base_url} (Ctrl-C stops)", self.progress
        )
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._again)
        self.recorder.event("start", address)
        gc.collect()
        gc.freeze()  # what is loaded stays: no request waits until all of that is looked through
        gc.set_threshold(10_000, 20, 20)
        async with self._tended():
            await server.serve([listener])
        self.recorder.event("stop", "stopped by a signal")
        await self.gateway.deployment.close(self.settings.listen.drain_s)
        await asyncio.gather(*self._closing)

    @asynccontextmanager
    async def _tended(self) -> AsyncIterator[None]:
        async def each_second() -> None:
            while True:
                await asyncio.sleep(1)
                self._look_at_keys()
                self._watch()

        task = asyncio.create_task(each_second())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def _look_at_keys(self) -> None:
        before = self.keys.trouble
        if self.keys.refresh():
            self._event("keys", "keys.json was changed")
        if self.keys.trouble and self.keys.trouble != before:
            self._event("keys", self.keys.trouble)
            self.observer.event("error", self.keys.trouble)

    def _watch(self) -> None:
        """What metrics and the log say of the gateway itself."""
        recorder, deployment = self.gateway.recorder, self.gateway.deployment
        self.observer.recorder(recorder.waiting, recorder.lost, recorder.failing)
        self.observer.in_flight(deployment.requests)
        if deployment.cascade is None:
            self.observer.student(False, "")
        else:
            state = deployment.cascade.state()
            up = state["process"] == "up" and state["on"]
            self.observer.student(up, state["monitor"]["sentence"] if state["alarm"] else "")

    def _again(self) -> None:
        task = asyncio.get_running_loop().create_task(self._reload())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _reload(self) -> None:
        """A new deployment from the settings as they are now. The old one ends when its requests have."""
        try:
            settings = self.load()
            for name in ("listen", "observe"):
                if getattr(settings, name) != getattr(self.settings, name):
                    raise AasutError(f"{name} has changed, which a running gateway cannot take.", "Start it again.")
            if self.tls is not None:  # a renewed certificate, for connections from now on
                self.tls.load_cert_chain(str(settings.listen.tls_certificate), settings.listen.tls_key)
            recorder, upstream = self.recorder, Upstream(settings.upstream)
            if settings.record != self.settings.record or upstream.secrets != self.gateway.deployment.upstream.secrets:
                recorder = await Recording.open(self.folder, settings.record, upstream.secrets)
            try:
                fresh = await self._deploy(settings, upstream, recorder)
            except BaseException:
                if recorder is not self.recorder:
                    await recorder.close()
                raise
        except (AasutError, OSError) as error:
            self._event("reload_failed", str(error))
            self.progress.say(f"The settings stay as they were: {error}")
            return
        self.observer.upstream(settings.upstream.base_url)
        old, self.gateway.deployment, self.settings = self.gateway.deployment, fresh, settings
        recorded, self.recorder = self.recorder, recorder
        self.gateway.recorder = self.recorder
        self._event("reload", "settings, keys and student read again")
        self.progress.say("Settings, keys and student read again")
        await old.close(settings.upstream.timeout_s)
        if recorded is not recorder:
            await recorded.close()

    def _event(self, kind: str, text: str) -> None:
        self.recorder.event(kind, text)

    async def _deploy(self, settings: Settings, upstream: Upstream, recorder: Recording) -> Deployment:
        self.recorder.event("upstream", settings.upstream.base_url)
        cascade = None
        if settings.student is not None:
            cascade = await Cascade.open(settings.student, self.root, self.folder, self._event, traffic.audits)
            found, monitor = cascade.certificate, cascade.monitor
            if found is not None and monitor is not None:
                recorder.promise(found.sha256, cascade.student.card.name, monitor.risk, 1 - monitor.level)
        keep = keeper(recorder, self.observer, strict=settings.record.strict)
        return Deployment(settings, upstream, cascade, keep)
