"""Tests of gateway.sse: events passed on whole, counts hidden, ends noticed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aasut.gateway.sse import LONGEST, Stream, error_event

DONE = b"data: [DONE]\n\n"


def event(*choices: dict[str, Any], usage: Any = None) -> bytes:
    return b"data: " + json.dumps({"id": "x", "choices": list(choices), "usage": usage}).encode() + b"\n\n"


def said(text: str, finish: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": finish}


FIRST, LAST = event(said("Hé")), event(said("", "stop"))
COUNT = event(usage={"prompt_tokens": 3, "completion_tokens": 1})
WHOLE = FIRST + LAST + COUNT + DONE


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize("hide", [False, True])
def test_however_it_is_cut_only_whole_events_pass(size: int, hide: bool) -> None:
    stream = Stream(chat=True, hide_usage=hide)
    passed = [stream.take(WHOLE[i : i + size]) for i in range(0, len(WHOLE), size)]
    assert all(part == b"" or part.endswith(b"\n\n") for part in passed)
    assert b"".join(passed) == FIRST + LAST + (b"" if hide else COUNT)
    assert stream.last == DONE
    assert stream.usage == {"prompt_tokens": 3, "completion_tokens": 1}
    assert stream.whole
    assert stream.pieces == 1


def test_a_stream_without_its_end_is_not_whole() -> None:
    for part in (FIRST, FIRST + LAST[:-1], FIRST + b": wait\n\n"):
        stream = Stream(chat=True, hide_usage=False)
        stream.take(part)
        assert not stream.whole
    stream.take(LAST)  # some APIs send no [DONE]
    assert stream.whole


def test_a_count_beside_text_passes_although_counts_are_hidden() -> None:
    stream = Stream(chat=True, hide_usage=True)
    both = event(said("a"), usage={"prompt_tokens": 1})
    assert stream.take(both) == both
    assert stream.usage == {"prompt_tokens": 1}


def test_other_ends_of_lines_comments_and_several_lines_of_data() -> None:
    stream = Stream(chat=True, hide_usage=False)
    spread = b'event: message\r\ndata: {"choices":\r\ndata: [{"index": 0, "delta": {"content": "a"}}]}\r\n\r\n'
    comment = b": keep-alive\n\n"
    assert stream.take(comment + spread) == comment + spread
    assert stream.pieces == 1


@pytest.mark.parametrize("bad", [b"data: {not json\n\n", b'data: {"choices": [1]}\n\n'])
def test_garbage_is_not_passed_on(bad: bytes) -> None:
    stream = Stream(chat=True, hide_usage=False)
    assert stream.take(FIRST + bad + LAST) == FIRST
    assert stream.broken.startswith("an event that is no")


def test_an_event_without_an_end_is_bounded() -> None:
    stream = Stream(chat=True, hide_usage=False)
    assert stream.take(b"data: " + b"a" * LONGEST) == b""
    assert stream.broken == "an event longer than 8 MB"


def test_an_error_that_the_upstream_sends_passes_and_ends_it() -> None:
    stream = Stream(chat=True, hide_usage=True)
    error = error_event({"error": {"message": "Overloaded"}})
    assert stream.take(FIRST + error) == FIRST + error
    assert stream.whole


def test_events_of_other_apis_pass_whatever_they_hold() -> None:
    stream = Stream(chat=False, hide_usage=False)
    delta = b'event: response.output_text.delta\ndata: {"type": "response.output_text.delta", "delta": "a"}\n\n'
    end = b'event: response.completed\ndata: {"response": {"usage": {"input_tokens": 4, "output_tokens": 2}}}\n\n'
    assert stream.take(delta + b"data: odd\n\n" + end) == delta + b"data: odd\n\n" + end
    assert stream.usage == {"input_tokens": 4, "output_tokens": 2}
    assert stream.pieces == 1
    assert stream.whole
    stream.take(b"data: half")
    assert not stream.whole
