"""The recorder: what is put is on the disk a moment later, whatever ends the process, and nothing else suffers."""

from __future__ import annotations

import threading
from pathlib import Path

from aasut.gateway import traffic
from aasut.gateway.exchange import Decision, Exchange
from aasut.gateway.recorder import Recorder
from aasut.gateway.settings import Record


def asked(**more: object) -> Exchange:
    """An exchange with everything in it."""
    given = {
        "path": "/v1/chat/completions", "key": "team", "model": "big-1", "request": b'{"model": "big-1"}',
        "response": b'{"choices": []}', "status": 200, "prompt_tokens": 7, "completion_tokens": 3, "cached_tokens": 2,
        "counted": True, "usd": 0.25, "saved_usd": 0.5, "first_byte_s": 0.01, "latency_s": 0.02,
        "decision": Decision("run", "c1", "certified", 0.75, True, "", "spam", "agreed"),
    }  # fmt: skip
    return Exchange(**{**given, **more})  # type: ignore[arg-type]


def test_what_is_put_is_read_back_as_it_was(tmp_path: Path) -> None:
    put = [asked(), asked(decision=None, fault="client_gone", key=""), asked(by="student", streamed=True)]
    said: list[str] = []
    told = threading.Event()
    recorder = Recorder(tmp_path / "traffic", Record())
    for exchange in put:
        recorder.put(exchange, lambda why: (said.append(why), told.set())[0])
    assert told.wait(10)
    recorder.close()
    assert said == ["", "", ""]
    assert (recorder.written, recorder.lost, recorder.waiting, recorder.failing) == (3, 0, 0, "")
    assert list(traffic.exchanges(tmp_path / "traffic")) == put
