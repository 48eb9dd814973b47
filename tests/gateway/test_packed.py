"""Tests of gateway.packed: frames put together from any parts."""

from __future__ import annotations

import pytest

from aasut.gateway.packed import Frames, framed


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_frames_come_through_in_any_parts(size: int) -> None:
    sent = [[("put", b"\x00" * 300, None)], [], [("event", "start", "é"), ("end",)]]
    data = b"".join(map(framed, sent))
    frames = Frames()
    got = [one for at in range(0, len(data), size) for one in frames.add(data[at : at + size])]
    assert got == [one for frame in sent for one in frame]
