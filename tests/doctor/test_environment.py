from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from aasut.doctor import environment
from aasut.doctor.finding import Finding


class Index(BaseHTTPRequestHandler):
    """Answers 404, which is an answer; never at /silent."""

    def do_HEAD(self) -> None:
        if self.path.startswith("/silent"):
            time.sleep(10)
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def index() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Index) as server:
        server.daemon_threads = True
        server.block_on_close = False
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_the_package_index_is_asked(index: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"http://user:password@127.0.0.1:{free.getsockname()[1]}/simple"
    for name in ("PIP_EXTRA_INDEX_URL", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", f"{index}/simple")
    (found,) = environment.network()
    assert found == Finding("package index", "127.0.0.1 answers")
    monkeypatch.setenv("PIP_INDEX_URL", closed)
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"{index}/silent {tmp_path} {tmp_path}/gone")
    refused, silent, there, gone = environment.network()
    assert "127.0.0.1 cannot be reached ([Errno 111] Connection refused)" in refused.problem
    assert "timed out" in silent.problem
    assert [f.level for f in (refused, silent, there, gone)] == ["fault", "fault", "ok", "fault"]
    assert "password" not in refused.problem + refused.value
