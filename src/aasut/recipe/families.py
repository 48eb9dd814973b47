"""Which family of models a model is of: models of one family share training data, habits and a liking for each other.

Panickssery, Bowman & Feng (2024), "LLM evaluators recognize and favor their own generations", arXiv 2404.13076.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

FAMILIES = {
    "gemini": ("gemma", "gemini"),
    "gpt": ("gpt", "chatgpt", "davinci", "o1", "o3", "o4"),
    "llama": ("llama", "vicuna", "alpaca", "tulu"),
    "smollm": ("smollm",),
    "qwen": ("qwen", "qwq"),
    "claude": ("claude",),
    "mistral": ("mistral", "mixtral", "ministral", "magistral", "codestral", "devstral", "zephyr"),
    "phi": ("phi",),
    "deepseek": ("deepseek",),
    "command": ("command", "c4ai", "aya"),
    "granite": ("granite",),
    "olmo": ("olmo",),
    "falcon": ("falcon",),
    "glm": ("glm", "chatglm"),
    "grok": ("grok",),
    "kimi": ("kimi",),
    "nova": ("nova",),
    "t5": ("t5", "flan"),
    "scripted": ("scripted",),
}  # by the words that begin a part of a name
UNKNOWN = "unknown"
FEWEST = 3  # that votes can be weighed of: of two, who errs cannot be told from what is the case


def family(name: str, given: str | None = None) -> frozenset[str]:
    """The families that a model's name or address tells, `given` before it; empty where it tells none.

    A model distilled from one family into another is of both.
    """
    if given is not None:
        return frozenset((given.casefold(),))
    parts = re.split(r"[^a-z0-9]+", name.casefold())
    return frozenset(
        which
        for which, words in FAMILIES.items()
        if any(re.fullmatch(rf"(meta)?{word}[0-9]*[a-z]?", part) for word in words for part in parts)
    )


def shown(families: frozenset[str]) -> str:
    """One name for it; of all that are unknown, the same, since they may be one."""
    return "+".join(sorted(families)) or UNKNOWN


def apart(models: Sequence[frozenset[str]]) -> list[str]:
    """The one vote that each model belongs to: models that share a family, or whose family is unknown, have one."""
    votes: list[tuple[set[str], list[int]]] = []
    for number, found in enumerate(models):
        own, members = set(found or {UNKNOWN}), [number]
        for other in [vote for vote in votes if vote[0] & own]:
            votes.remove(other)
            own, members = own | other[0], members + other[1]
        votes.append((own, members))
    name = {member: shown(frozenset(own)) for own, members in votes for member in members}
    return [name[number] for number in range(len(models))]


def warnings(judge: str, own: frozenset[str], teacher: frozenset[str], student: frozenset[str]) -> list[str]:
    """What to know of a judge beside the sides that it judges."""
    if not own:
        return [f"The family of the judge {judge} is not known: give judges[].family."]
    found = []
    for side, families in (("teacher", teacher), ("student", student)):
        if own & families:
            found.append(f"The judge {judge} is of the {side}'s family, {shown(own & families)}: it may favour it.")
    return found
