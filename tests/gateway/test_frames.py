from __future__ import annotations

import math

import pytest

from aasut.gateway.frames import Frames, pack

VALUES = [{"ready": {"engine": "e"}}, [1, "नमस्ते \ud800 x" * 500, 0.1], [2, {"logprobs": {"a": -math.inf}}], []]


@pytest.mark.parametrize("size", [1, 3, 4, 1000, 1 << 20])
def test_values_come_through_whatever_the_parts(size: int) -> None:
    sent = b"".join(map(pack, VALUES))
    frames = Frames()
    got = [value for at in range(0, len(sent), size) for value in frames.add(sent[at : at + size])]
    assert got == VALUES
