"""The text of a message's content."""

from __future__ import annotations

from typing import Any

from aasut.serve.refusal import UNSUPPORTED, Refusal


def text_of(content: Any, where: str) -> str:
    """The text of a string or of a list of text parts; Refusal, which calls the place `where`, for anything else."""
    if isinstance(content, str):
        return _unicode(content, where)
    if not isinstance(content, list) or not content:
        raise Refusal(f"{where}: give a text or a list of text parts.", param=where, code="invalid_type")
    texts = []
    for number, part in enumerate(content):
        place = f"{where}[{number}]"
        kind = part.get("type") if isinstance(part, dict) else None
        if kind != "text":
            raise Refusal(
                f"{place}: a part of type {kind!r} is refused: this model reads text only.",
                param=place,
                code=UNSUPPORTED,
            )
        extra = [key for key, value in part.items() if key not in ("type", "text") and value is not None]
        if extra:
            raise Refusal(
                f"{place}: {extra[0]} is not supported.", param=f"{place}.{extra[0]}", code="unknown_parameter"
            )
        if not isinstance(part.get("text"), str):
            raise Refusal(f"{place}.text: give a text.", param=f"{place}.text", code="invalid_type")
        texts.append(part["text"])
    return _unicode("".join(texts), where)


def _unicode(text: str, where: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Refusal(f"{where} holds half a surrogate pair.", param=where, code="invalid_value") from None
    return text
