"""Embeddings as an API writes them: the same text has the same vector, and the vector says nothing of its meaning."""

from __future__ import annotations

import base64
import hashlib
import math
import struct
from typing import Any

from aasut.teacher.chat import Refused, Split, pieces

WIDTH = 16  # numbers of a vector, where no `dimensions` are asked for
MOST = 4096


def embed(body: Any, split: Split = pieces) -> dict[str, Any]:
    """The answer to a request's JSON: one vector of length 1 for each text, or list of tokens. Raises Refused."""
    if not isinstance(body, dict):
        raise Refused(400, "The body is no JSON object.")
    width = WIDTH if body.get("dimensions") is None else body["dimensions"]
    if not isinstance(width, int) or not 0 < width <= MOST:
        raise Refused(400, f"dimensions is a whole number from 1 to {MOST}.")
    form = body.get("encoding_format") or "float"
    if form not in ("float", "base64"):
        raise Refused(400, "encoding_format is float or base64.")
    texts = _inputs(body.get("input"))
    asked = sum(len(split(text)) if isinstance(text, str) else len(text) for text in texts)
    data = [
        {"object": "embedding", "index": index, "embedding": _written(vector(str(text), width), form)}
        for index, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": asked, "total_tokens": asked}
    return {"object": "list", "model": str(body.get("model", "scripted")), "data": data, "usage": usage}


def vector(text: str, width: int = WIDTH) -> list[float]:
    """Numbers of a text, of 32 bits each."""
    drawn = hashlib.shake_256(text.encode("utf-8", "surrogatepass")).digest(2 * width)
    numbers = [number + 0.5 for number in struct.unpack(f"<{width}h", drawn)]
    norm = math.sqrt(sum(number * number for number in numbers))
    return list(struct.unpack(f"<{width}f", struct.pack(f"<{width}f", *(number / norm for number in numbers))))


def _inputs(given: Any) -> list[str | list[int]]:
    one = isinstance(given, str) or (isinstance(given, list) and bool(given) and _are_tokens(given))
    every = [given] if one else given
    if not isinstance(every, list) or not every or not all(isinstance(x, str) or _are_tokens(x) for x in every):
        raise Refused(400, "`input` is a text, a list of tokens, or a list of either.")
    return every


def _are_tokens(given: Any) -> bool:
    return isinstance(given, list) and bool(given) and all(type(x) is int for x in given)


def _written(numbers: list[float], form: str) -> list[float] | str:
    return numbers if form == "float" else base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()
