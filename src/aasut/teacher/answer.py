"""What an API's answer says: text, token counts, log-probabilities of the choices, and why it cannot be used."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from aasut import tools
from aasut.teacher.logprobs import read, token_bytes
from aasut.types import Completion, Request, Usage

NO_COMPLETION = "the answer is no chat completion"
CUT = {
    "length": "cut short at max_tokens",
    "content_filter": "withheld by the endpoint's content filter",
}
MARKS = "\"'`*"  # that models put around a word
LEAST_MASS = 0.5  # of the alternatives listed, that must name a choice
MOST_VAGUE = 0.25  # of that, which may name several
FLOOR = 1e-6
MOST_TOKENS = 1 << 31  # of one call; a larger count is no count


def parse(raw: bytes, request: Request) -> tuple[Completion, bool]:
    """A chat completion's JSON as a Completion, and whether it counts its tokens; garbage becomes a failed row.

    An answer that was cut short or withheld is a failed row too, unless it names a choice all the same.
    Of free text the tokens' log-probabilities are kept, where they are given and sound. Calls of tools become their
    text.
    """
    try:
        plain = json.loads(raw)
        choice = plain["choices"][0]
        text = _called(choice["message"], request) or choice["message"]["content"] or ""
        if not isinstance(text, str):
            raise TypeError("content is no text")
        finish = str(choice.get("finish_reason") or "stop")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return Completion("", failure=NO_COMPLETION), False
    usage, logprobs = _usage(plain), _logprobs(choice, request.choices)
    named = logprobs is not None or _folded(text) in map(_folded, request.choices)
    failure = "" if named else CUT.get(finish, "")
    tokens = None if request.choices or failure else read(choice, text)
    return Completion(text, usage or Usage(), logprobs, finish, failure, tokens), usage is not None


def _called(message: Any, request: Request) -> str:
    """The calls that a message makes, as text, where the request has tools; "" where there are none."""
    return tools.written(message["tool_calls"]) if request.tools and message.get("tool_calls") else ""


def _usage(plain: Any) -> Usage | None:
    """Counts of tokens; None where they are missing or garbled."""
    try:
        found = plain["usage"]
        cached = (found.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
        usage = Usage(int(found["prompt_tokens"]), int(found["completion_tokens"]), int(cached))
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError):
        return None
    counts = (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens)
    return usage if all(0 <= count < MOST_TOKENS for count in counts) else None


def _logprobs(choice: Any, choices: Sequence[str]) -> tuple[float, ...] | None:
    """As `choice_logprobs`; None where they are missing or garbled."""
    try:
        return choice_logprobs((choice.get("logprobs") or {}).get("content") or [], choices)
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError):
        return None


def _folded(text: str) -> str:
    """As the choices are compared: without case, spaces around, and the marks that models put around a word."""
    return text.casefold().strip().strip(MARKS + ".").strip()


def choice_logprobs(tokens: Sequence[Any], choices: Sequence[str]) -> tuple[float, ...] | None:
    """Log-probabilities of the choices, normalised over them, from the alternatives to each token of an answer.

    Follows the answer token by token while it could still become several choices. At each, an
    alternative that leaves one choice gives it its probability times that of the tokens before; one
    that leaves several, and was not said, is shared among them. None where the alternatives listed do
    not tell the choices apart: then the text alone counts.
    """
    if not choices or not tokens:
        return None
    folded = [choice.casefold().strip() for choice in choices]
    mass, vague = [0.0] * len(choices), 0.0
    said, path = b"", 1.0
    for entry in tokens:
        spoken, going_on = said + token_bytes(entry), 0.0
        listed = [
            (said + token_bytes(other), math.exp(float(other["logprob"]))) for other in entry.get("top_logprobs") or []
        ]
        for text, chance in listed:
            fits = _fitting(text, said, folded)
            if _begun(text) == _begun(spoken) and len(fits) > 1:
                going_on += chance
            elif _begun(text):
                vague += path * chance if len(fits) > 1 else 0.0
                for choice in fits:
                    mass[choice] += path * chance / len(fits)
        if spoken not in dict(listed) and not going_on and len(_fitting(spoken, said, folded)) > 1:
            going_on = math.exp(float(entry["logprob"]))
        if not going_on:
            break
        said, path = spoken, path * going_on
    else:
        ended = [number for number, choice in enumerate(folded) if choice == _begun(said).strip()]
        if not ended:
            return None  # cut off while it could still become several choices
        mass[ended[0]] += path
    total = sum(mass)
    if not LEAST_MASS <= total < math.inf or vague > MOST_VAGUE * total:
        return None
    return tuple(math.log((m + FLOOR) / (total + FLOOR * len(mass))) for m in mass)


def _fitting(text: bytes, before: bytes, choices: Sequence[str]) -> list[int]:
    """Numbers of the choices that a text may still become, or is; else the one that the text before it was."""
    word, ended = _begun(text), _begun(before).strip()
    fits = [number for number, choice in enumerate(choices) if choice.startswith(word)]
    whole = word.strip().strip(MARKS + ".").strip()
    return fits or [number for number, choice in enumerate(choices) if choice in (whole, ended)][:1]


def _begun(text: bytes) -> str:
    """The answer so far; a character whose bytes are not all there yet is left out."""
    return text.decode("utf-8", "ignore").casefold().lstrip().lstrip(MARKS).lstrip()
