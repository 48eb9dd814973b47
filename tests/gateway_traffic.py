"""Exchanges for tests of the gateway's recording, a process that puts them until it is killed, and what it left."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from aasut.gateway import schema, traffic
from aasut.gateway.exchange import Decision, Exchange

CHAT = "/v1/chat/completions"
GRACE_S = 0.1  # what was acknowledged so long before a kill is on the disk


def body(text: str, **more: Any) -> bytes:
    """The body of a chat request."""
    return json.dumps({"model": "big-1", "messages": [{"role": "user", "content": text}], **more}).encode()


def answer(text: str) -> bytes:
    """A chat completion."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop", "logprobs": None}
    return json.dumps({"id": "c", "object": "chat.completion", "model": "big-1", "choices": [choice]}).encode()


def stream(*texts: str, done: bool = True) -> bytes:
    """The same as server-sent events, a chunk each text."""
    chunks = [{"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]} for text in texts]
    chunks += [{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}] if done else []
    head = {"id": "c", "object": "chat.completion.chunk", "model": "big-1"}
    events = [json.dumps(head | chunk) for chunk in chunks] + (["[DONE]"] if done else [])
    return "".join(f"data: {event}\n\n" for event in events).encode()


def asked(**more: Any) -> Exchange:
    """An exchange with something in every field, but for what is given."""
    given: dict[str, Any] = {
        "path": CHAT, "key": "team", "model": "big-1", "request": body("Mail: win a prize"), "response": answer("spam"),
        "status": 200, "prompt_tokens": 7, "completion_tokens": 3, "cached_tokens": 2, "counted": True, "usd": 0.25,
        "saved_usd": 0.5, "first_byte_s": 0.01, "latency_s": 0.02,
        "decision": Decision("mail", "c1", "certified", 0.75, True, "", "spam", "agreed"),
    }  # fmt: skip
    return Exchange(**given | more)


def store(folder: Path, exchanges: Sequence[Exchange], **more: Any) -> None:
    """Put exchanges into a store as they are."""
    folder.mkdir(exist_ok=True)
    with closing(schema.open_to_write(folder)) as database:
        bodies = [(x.request, x.response, x.decision.answer if x.decision else "") for x in exchanges]
        schema.insert(database, list(zip(exchanges, bodies, strict=True)), **more)


def missing(folder: Path, acknowledged: Iterable[tuple[str, float]], killed: float) -> list[str]:
    """Ids acknowledged over GRACE_S before the kill that are not in the store; times are time.monotonic()."""
    there = {exchange.id for exchange in traffic.exchanges(folder)}
    return [name for name, at in acknowledged if at < killed - GRACE_S and name not in there]


def main(folder: str) -> None:
    """Put exchanges for ever, and say of each its id and when."""
    from aasut.gateway.recorder import Recorder
    from aasut.gateway.settings import Record

    recorder = Recorder(Path(folder), Record())
    while True:
        for _ in range(5):
            exchange = asked()
            recorder.put(exchange)
            print(exchange.id, time.monotonic(), flush=True)
        time.sleep(0.002)


if __name__ == "__main__":
    main(sys.argv[1])
