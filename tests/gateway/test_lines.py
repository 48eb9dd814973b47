from __future__ import annotations

import io
import json
import os
import threading

from aasut.gateway.lines import Lines


def test_lines_are_written_in_order() -> None:
    stream = io.StringIO()
    lines = Lines(stream)
    for number in range(1000):
        lines.put({"number": number, "text": "नमस्ते\nb"})
    lines.close()
    found = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["number"] for line in found] == list(range(1000))
    assert found[0]["text"] == "नमस्ते\nb"
    assert lines.lost == 0


def test_a_reader_that_does_not_read_holds_up_nobody() -> None:
    back, forth = os.pipe()
    with os.fdopen(forth, "w") as stream, os.fdopen(back) as reader:
        lines = Lines(stream, waiting=100)
        for _ in range(5000):
            lines.put({"text": "x" * 1000})  # far more than the pipe holds
        assert lines.lost > 0
        read: list[str] = []
        thread = threading.Thread(target=lambda: read.extend(reader))
        thread.start()
        lines.close(60)
        stream.close()
        thread.join()
    assert len(read) + lines.lost == 5000


def test_a_reader_that_has_gone_is_borne() -> None:
    back, forth = os.pipe()
    os.close(back)
    stream = os.fdopen(forth, "wb", buffering=0)
    lines = Lines(io.TextIOWrapper(stream, write_through=True))
    lines.put({"text": "x"})
    lines.close()
    assert lines.lost == 1
    lines.put({"text": "y"})
    assert lines.lost == 2
