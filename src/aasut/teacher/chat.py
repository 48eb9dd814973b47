"""A chat completion as an API writes it, made by the rules of a scripted teacher."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from aasut import tools
from aasut.errors import ModelError
from aasut.teacher.scripted import ScriptedTeacher
from aasut.types import Message, Request, Role

END = b"<|end|>"  # stands where an answer may end
Split = Callable[[str], Sequence[bytes]]  # a text's tokens, which joined are its UTF-8
MOST_ANSWERS = 128  # `n`, as at OpenAI
CERTAINTY = 0.9  # probability of the rule's answer; the other answers of the rules share the rest
FIELDS = {
    "model", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "seed", "user", "n",
    "logprobs", "top_logprobs", "response_format", "stream", "stream_options", "tools", "tool_choice",
    "parallel_tool_calls",
}  # fmt: skip


ROLES: dict[str, Role] = {
    "system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "user",
}  # fmt: skip


class Refused(Exception):
    """A call that the API does not take: (status, message)."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


def tokens(text: str) -> list[str]:
    """Text in pieces of up to four letters, as a stand-in for a model's tokens; joined they are the text."""
    return re.findall(r"\s*(?:\w{1,4}|[^\w\s])|\s+", text)


def pieces(text: str) -> list[bytes]:
    """`tokens` as bytes; half a surrogate pair goes through."""
    return [token.encode("utf-8", "surrogatepass") for token in tokens(text)]


def tokens_of(folder: Path) -> Split:
    """As `pieces`, with the tokens of the tokenizer in a model's folder. Raises ModelError where it cannot be used."""
    from aasut.formats.token_bytes import vocabulary_bytes
    from aasut.formats.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(folder)
    known = vocabulary_bytes(tokenizer)
    if not known:
        raise ModelError(f"The tokens of {folder} stand for no bytes.", "Take a model with byte-level tokens.")
    return lambda text: [
        known.get(number, b"") for number in tokenizer.encode(text.encode("utf-8", "replace").decode())
    ]


def refusal(status: int, message: str) -> dict[str, Any]:
    """An error object."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


def complete(body: Any, teacher: ScriptedTeacher, *, cut: bool = False, split: Split = pieces) -> dict[str, Any]:
    """The chat completion for a request's JSON; `cut` keeps the first token alone. Raises Refused.

    A rule's answer is the same whatever `temperature`, `seed`, `response_format` and `tool_choice` say. One that is
    a JSON list of calls is given as `tool_calls` to a request with tools. All `n` answers are the same, and images
    are taken, but say nothing to a rule.
    """
    messages = _messages(body)
    strange = sorted(set(body) - FIELDS)
    if strange:
        raise Refused(400, f"Unsupported parameter: {strange[0]}.")
    copies = 1 if body.get("n") is None else body["n"]
    if not isinstance(copies, int) or not 0 < copies <= MOST_ANSWERS:
        raise Refused(400, f"n is a whole number from 1 to {MOST_ANSWERS}.")
    numbers = [body.get(name) for name in ("max_tokens", "max_completion_tokens", "top_logprobs")]
    if any(n is not None and (not isinstance(n, int) or n < 0) for n in numbers):
        raise Refused(400, "max_tokens, max_completion_tokens and top_logprobs are whole numbers.")
    reason = tools.fault_in(json.dumps(body["tools"])) if body.get("tools") is not None else ""
    if reason:
        raise Refused(400, f"Invalid tools: {reason}.")
    answer = teacher.complete([Request(tuple(messages))])[0]
    if answer.failure:
        raise Refused(422, answer.failure)
    whole = split(answer.text)
    limit = body.get("max_completion_tokens") or body.get("max_tokens") or len(whole)
    kept = whole[:1] if cut else whole[:limit]
    choice: dict[str, Any] = {
        "index": 0,
        "message": {"role": "assistant", "content": _text(b"".join(kept))},
        "finish_reason": "stop" if len(kept) == len(whole) else "length",
        "logprobs": None,
    }
    calls = tools.native(answer.text) if body.get("tools") else []
    if calls and len(kept) == len(whole):
        choice["message"] |= {"content": None, "tool_calls": calls}
        choice["finish_reason"] = "tool_calls"
    elif body.get("logprobs"):
        listed = _logprobs(kept, answer.text, teacher.rules, split, body.get("top_logprobs") or 0)
        choice["logprobs"] = {"content": listed, "refusal": None}
    asked, said = sum(len(split(m.content)) for m in messages), copies * len(kept)
    return {
        "id": "chatcmpl-scripted",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": str(body.get("model", "scripted")),
        "choices": [choice | {"index": index} for index in range(copies)],
        "usage": {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said},
    }


def _messages(body: Any) -> list[Message]:
    if not isinstance(body, dict) or not isinstance(body.get("messages"), list) or not body["messages"]:
        raise Refused(400, "The body needs a list `messages`.")
    found = []
    for plain in body["messages"]:
        role = plain.get("role") if isinstance(plain, dict) else None
        if not isinstance(role, str) or role not in ROLES:
            raise Refused(400, f"A message needs a role ({', '.join(ROLES)}).")
        content = plain.get("content")
        if content is None and plain.get("tool_calls"):
            continue  # what was called before changes no rule's answer
        found.append(Message(ROLES[role], _content(content)))
    if not found:
        raise Refused(400, "The body needs a message without calls.")
    return found


def _content(content: Any) -> str:
    """The text of a message, or of its parts. Raises Refused."""
    if isinstance(content, str):
        return content
    texts = []
    for one in content if isinstance(content, list) else [None]:
        part = one if isinstance(one, dict) else {}
        kind = part.get("type")
        image = part.get("image_url") if kind == "image_url" else None
        if kind == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif not (isinstance(image, dict) and isinstance(image.get("url"), str)):
            raise Refused(400, "A message needs a text `content`, or parts of it: texts, and images by image_url.")
    return "".join(texts)


def _logprobs(
    said: Sequence[bytes], answer: str, rules: Mapping[str, str], split: Split, top: int
) -> list[dict[str, Any]]:
    """Token by token, the likeliest alternatives under a distribution over the rules' answers."""
    others = [other for other in dict.fromkeys(rules.values()) if other != answer]
    chance = {answer: CERTAINTY if others else 1.0} | {other: (1 - CERTAINTY) / len(others) for other in others}
    parts = {text: list(split(text)) for text in chance}
    content = []
    for place, token in enumerate(said):
        mass: dict[bytes, float] = {}
        for text, tokens_of in parts.items():
            if tokens_of[:place] == list(said[:place]):
                following = tokens_of[place] if len(tokens_of) > place else END
                mass[following] = mass.get(following, 0.0) + chance[text]
        total = sum(mass.values())
        listed = sorted(((-math.log(m / total), t) for t, m in mass.items()))[:top]
        alternatives = [_entry(t, -cost) for cost, t in listed]
        content.append(_entry(token, math.log(mass[token] / total)) | {"top_logprobs": alternatives})
    return content


def _entry(token: bytes, logprob: float) -> dict[str, Any]:
    """A part of a character has its bytes alone to tell it by."""
    return {"token": _text(token), "logprob": logprob, "bytes": list(token)}


def _text(token: bytes) -> str:
    try:
        return token.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return token.decode("utf-8", "replace")
