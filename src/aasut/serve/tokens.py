"""The tokens of a written answer in OpenAI's form, and without the white space that stands before the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from aasut.engine.base import Token

LEAST_LOGPROB = -9999.0  # stands for minus infinity, as OpenAI has it


class Opening:
    """Takes the white space away that stands between a prompt and its answer, text and tokens alike."""

    def __init__(self) -> None:
        self.begun = False

    def shown(self, text: str, said: Sequence[Token] = ()) -> tuple[str, Sequence[Token]]:
        """A further piece of an answer as it is shown."""
        if self.begun:
            return text, said
        kept = text.lstrip()
        self.begun = bool(kept)
        return kept, trimmed(said, len(text) - len(kept))


def trimmed(said: Sequence[Token], size: int) -> list[Token]:
    """The tokens without the first `size` characters, which are white space; alternatives to the first lose it too."""
    found = list(said)
    while found and size:
        first = found.pop(0)
        size -= len(first.text)
        if size < 0:
            kept = first.text[size:]
            top = tuple((raw.lstrip() or raw, logprob) for raw, logprob in first.top)
            return [replace(first, text=kept, raw=kept.encode(), top=top), *found]
    return found


def entry(token: str, raw: bytes, logprob: float) -> dict[str, Any]:
    """One token, or one alternative."""
    return {"token": token, "logprob": max(logprob, LEAST_LOGPROB), "bytes": list(raw)}


def content(said: Sequence[Token]) -> list[dict[str, Any]]:
    """Tokens as `logprobs.content` lists them: their texts together are the answer's, and their bytes, once decoded."""
    return [
        entry(token.text, _bytes(token), token.logprob)
        | {"top_logprobs": [entry(raw.decode("utf-8", "replace"), raw, logprob) for raw, logprob in token.top]}
        for token in said
    ]


def _bytes(token: Token) -> bytes:
    """Its own where it is, or ends, a part of a character; else those of the text, which decoding may have changed."""
    try:
        token.raw.decode()
    except UnicodeDecodeError:
        return token.raw
    return token.raw if "\ufffd" in token.text else token.text.encode()
