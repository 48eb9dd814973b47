"""A student on a real server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from aasut.serve import api, server
from aasut.serve.student import ServedStudent


@contextmanager
def serving(student: ServedStudent, **settings: int) -> Iterator[int]:
    """A server on a free port of 127.0.0.1; yields the port."""
    with server.listen("127.0.0.1", 0) as listener:
        app = api.build(student, **settings)
        running = uvicorn.Server(uvicorn.Config(app, log_config=None, log_level="error", lifespan="on"))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            running.should_exit = True
            thread.join(20)
            assert not thread.is_alive()
