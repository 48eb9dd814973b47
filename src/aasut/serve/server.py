"""An HTTP server that says when it is ready, on an address that is had before anything slow begins."""

from __future__ import annotations

import errno
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from aasut.errors import AasutError
from aasut.progress import Progress


class Server(uvicorn.Server):
    """Says when it is ready, and takes a signal as a wish to stop, not as a failure to raise again."""

    def __init__(self, config: uvicorn.Config, ready: str, progress: Progress) -> None:
        super().__init__(config)
        self._ready, self._progress = ready, progress

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._progress.say(self._ready)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; `port` 0 takes a free one. Raises AasutError where the address cannot be had."""
    if not 0 <= port <= 65535:  # the system would take it modulo 65536
        raise AasutError(f"There is no port {port}.", "Use a port from 1024 to 65535, or 0 for a free one.")
    listener = None
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # asyncio turns TCP's send delay off (40 ms an answer) only where the protocol is given by name.
        listener = socket.socket(family, kind, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except (OSError, UnicodeError) as error:
        if listener is not None:
            listener.close()
        code = error.errno if isinstance(error, OSError) else None
        if code == errno.EADDRINUSE:
            raise AasutError(f"Port {port} on {host} is taken.", "Stop what listens there, or use --port.") from None
        if code == errno.EACCES:
            raise AasutError(f"Port {port} on {host} is not allowed.", "Use a port from 1024 on.") from None
        raise AasutError(f"Cannot listen on {host}: {error}.", "Use --host 127.0.0.1.") from None
    return listener
