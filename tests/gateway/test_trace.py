from __future__ import annotations

import pytest

from aasut.gateway.trace import begin

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_a_clients_trace_is_gone_on_with_and_passed_on() -> None:
    trace = begin(PARENT, "vendor=a,other=b")
    assert f"{trace.trace_id:032x}" == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert f"{trace.parent_id:016x}" == "00f067aa0ba902b7"
    assert trace.sampled
    sent = trace.headers()
    assert sent["tracestate"] == "vendor=a,other=b"
    assert sent["traceparent"] == f"00-4bf92f3577b34da6a3ce929d0e0e4736-{trace.span_id:016x}-01"
    below = begin(sent["traceparent"])
    assert (below.trace_id, below.parent_id) == (trace.trace_id, trace.span_id)


def test_who_does_not_want_to_be_sampled_is_not() -> None:
    trace = begin(PARENT[:-1] + "0")
    assert not trace.sampled
    assert trace.headers()["traceparent"].endswith("-00")


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    assert begin("01" + PARENT[2:] + "-more").parent_id == 0x00F067AA0BA902B7


@pytest.mark.parametrize(
    "wrong",
    [None, "", "x", "ff" + PARENT[2:], PARENT + "-more", PARENT.upper(), PARENT[:-1], "00-" + "0" * 32 + PARENT[35:],
     PARENT[:36] + "0" * 16 + "-01", PARENT + "\nx: y"],
)  # fmt: skip
def test_another_header_begins_a_trace_of_its_own(wrong: str | None) -> None:
    trace = begin(wrong, "vendor=a")
    assert trace.parent_id == 0
    assert trace.trace_id != 0
    assert trace.sampled
    assert set(trace.headers()) == {"traceparent"}


@pytest.mark.parametrize("state", ["a=b\r\nx: y", "é=1", "a=" + "b" * 600])
def test_a_state_that_may_not_be_sent_is_left_out(state: str) -> None:
    assert set(begin(PARENT, state).headers()) == {"traceparent"}


def test_spans_differ() -> None:
    assert len({begin(PARENT).span_id for _ in range(1000)}) == 1000
