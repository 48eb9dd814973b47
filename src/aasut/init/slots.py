"""The prompt template behind a log of requests: its fixed text and its slots, found from the requests alone.

The requests of the commonest roles and the commonest prompt are taken; whatever stands in all of
them, in the same order, is the prompt, and what varies are the slots. Every request is then read
back with the template, as the server will read it.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from aasut.errors import AmbiguousPrompt, DataError, PromptMismatch
from aasut.init import align, cluster, names
from aasut.prompts import PromptTemplate
from aasut.types import Message, Role

Conversation = tuple[Message, ...]
MOST = 10_000
_ATTEMPTS = 3  # at finding requests to start from that are no outliers
_FIRST = 12  # requests that say how much of the text is fixed
_JURY = 500  # requests that say whether the fixed text is settled
_STRANGERS = 100  # requests without the settled text that are looked into
_LEAST_KEPT = 0.5  # of a message's fixed words; a request that shares fewer was written with another prompt


@dataclass(frozen=True)
class Found:
    """A template and how the log's requests fare with it: requests = read + ambiguous + other_prompt + other_roles.

    `values` counts, by slot, how many different texts were seen among the requests that were read.
    `merged` has labels that inputs hold as well, so that no slot can end there, with the number of
    requests in which they do.
    """

    template: PromptTemplate
    requests: int
    read: int
    ambiguous: int
    other_prompt: int
    other_roles: int
    values: Mapping[str, int]
    merged: Mapping[str, int]


def infer(conversations: Sequence[Conversation], seed: int = 1) -> Found:
    """The template of the commonest prompt in a log; from MOST of many requests, and read back from all.

    Raises DataError where there are fewer than two different requests, where nothing varies, and
    where most requests could be read in more than one way.
    """
    if len(set(conversations)) < 2:
        raise DataError(
            f"The log's {len(conversations)} requests are all the same: nothing tells the prompt from the input.",
            "Give a log of at least two different requests.",
        )
    roles = Counter(tuple(message.role for message in one) for one in conversations)
    commonest = roles.most_common(1)[0][0]
    alike = [one for one in conversations if tuple(message.role for message in one) == commonest]
    draw = random.Random(seed)
    some = alike if len(alike) <= MOST else draw.sample(alike, MOST)
    members: Sequence[Conversation] = [some[place] for place in cluster.largest(some, seed)]
    fixed, members, merged = _fixed_text(members, draw)
    if all(len(pieces) == 1 for pieces in fixed):
        raise DataError(
            f"{len(members)} of {len(conversations)} requests are the same text, and the others have little in common.",
            "Give a log in which the commonest prompt has different inputs.",
        )
    template = PromptTemplate(_messages(commonest, fixed, members))
    return _read_back(template, alike, len(conversations), merged)


def _fixed_text(
    members: Sequence[Conversation], draw: random.Random
) -> tuple[list[align.Pieces], Sequence[Conversation], dict[str, int]]:
    """The pieces of each message, who has them, and labels that part nothing; rare wordings are left out."""
    for _ in range(4):
        fixed, members, merged = _aligned(members, draw)
        wording = _commonest_wording(fixed, members)
        if wording is None:
            break
        members = wording
    return fixed, members, merged


def _aligned(
    members: Sequence[Conversation], draw: random.Random
) -> tuple[list[align.Pieces], list[Conversation], dict[str, int]]:
    """The fixed pieces of each message, the members that hold them, and labels that part nothing."""
    fixed = max((_started(members, draw) for _ in range(_ATTEMPTS)), key=lambda pieces: sum(map(align.words, pieces)))
    least = [_LEAST_KEPT * align.words(pieces) for pieces in fixed]
    different = list(dict.fromkeys(members))
    some = different if len(different) <= _JURY else draw.sample(different, _JURY)
    fixed, settled, merged = _settled(fixed, some)
    kept, strangers = [], 0
    for one in different:
        if not _matches(fixed, one):
            strangers += settled
            if strangers > _STRANGERS:
                continue
            narrower = [align.narrowed(pieces, message.content) for pieces, message in zip(fixed, one, strict=True)]
            pairs = list(zip(fixed, narrower, strict=True))
            strange = any(align.words(new) < low for (_, new), low in zip(pairs, least, strict=True))
            if strange or (settled and not all(old == new or _has_new_label(old, new) for old, new in pairs)):
                continue
            fixed, settled, gone = _settled(narrower, some)
            merged |= gone
        kept.append(one)
    result = []
    for number, pieces in enumerate(fixed):
        texts = [one[number].content for one in kept]
        pieces, gone = align.without_doubtful(align.fixed_text(texts, pieces), texts)
        result.append(align.with_single_words(pieces, texts))
        merged |= gone
    chosen = set(kept)
    return result, [one for one in members if one in chosen], merged


def _matches(fixed: Sequence[align.Pieces], one: Conversation) -> bool:
    return all(align.edges(pieces, message.content) is not None for pieces, message in zip(fixed, one, strict=True))


def _settled(
    fixed: list[align.Pieces], some: Sequence[Conversation]
) -> tuple[list[align.Pieces], bool, dict[str, int]]:
    """Is this nearly every request's fixed text? Then a request without it was written otherwise.

    Pieces that inputs hold too are no fixed text: they are left out, and labels among them are told.
    """
    matching = [one for one in some if _matches(fixed, one)]
    if len(some) < 20 or len(matching) < 0.95 * len(some):
        return fixed, False, {}
    merged: dict[str, int] = {}
    result = []
    for number, pieces in enumerate(fixed):
        clear, gone = align.without_doubtful(pieces, [one[number].content for one in matching])
        result.append(clear)
        merged |= {piece: count * len(some) // len(matching) for piece, count in gone.items()}
    return result, True, merged


def _has_new_label(old: align.Pieces, new: align.Pieces) -> bool:
    """Is there a further slot, behind a label? Then what stood there was a value that nearly all inputs share."""
    return len(new) > len(old) and sum(map(_labelled, new[:-1])) > sum(map(_labelled, old[:-1]))


def _labelled(before: str) -> bool:
    return names.label_of(before) != ""


def _started(members: Sequence[Conversation], draw: random.Random) -> list[align.Pieces]:
    """The text that a few requests share; the shortest of them is the least likely to share words by chance."""
    some = sorted(draw.sample(range(len(members)), min(_FIRST, len(members))))
    chosen = sorted(dict.fromkeys(members[place] for place in some), key=lambda one: sum(len(m.content) for m in one))
    fixed: list[align.Pieces] = [[message.content] for message in chosen[0]]
    for one in chosen[1:]:
        fixed = [align.narrowed(pieces, message.content) for pieces, message in zip(fixed, one, strict=True)]
    return fixed


def _commonest_wording(fixed: Sequence[align.Pieces], members: Sequence[Conversation]) -> list[Conversation] | None:
    """The members of the commonest wording, where slots turn out to be older wordings of the prompt itself.

    So is a slot without a label that mostly says the same, or is one of a few texts and sometimes
    nothing. None where there is no such slot.
    """
    chosen = list(members)
    for number, pieces in enumerate(fixed):
        columns = zip(*(align.values(pieces, one[number].content) for one in members), strict=True)
        for place, column in enumerate(columns):
            seen = Counter(column)
            value, count = seen.most_common(1)[0]
            few = len(seen) <= 5 and "" in seen and len(column) >= 10 * len(seen)
            if names.label_of(pieces[place]) or not (count >= 0.8 * len(column) or few):
                continue
            chosen = [one for one in chosen if align.values(pieces, one[number].content)[place] == value]
    return chosen if chosen and len(chosen) < len(members) else None


def _messages(roles: Sequence[Role], fixed: Sequence[align.Pieces], members: Sequence[Conversation]) -> list[Message]:
    """The template's messages, with named slots; of those without a label, the one with the most text is `text`."""
    sizes: dict[tuple[int, int], int] = {}
    for number, pieces in enumerate(fixed):
        columns = zip(*(align.values(pieces, one[number].content) for one in members), strict=True)
        sizes |= {
            (number, place): sum(map(len, column))
            for place, column in enumerate(columns)
            if not names.label_of(pieces[place])
        }
    main = max(sizes, key=lambda slot: sizes[slot], default=None)
    taken: list[str] = []
    messages = []
    for number, (role, pieces) in enumerate(zip(roles, fixed, strict=True)):
        text = _escaped(pieces[0])
        for place, (before, after) in enumerate(pairwise(pieces)):
            taken.append(names.name_of(before, taken, "text" if (number, place) == main else "part"))
            text += "{" + taken[-1] + "}" + _escaped(after)
        messages.append(Message(role, text))
    return messages


def _escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _read_back(
    template: PromptTemplate, alike: Sequence[Conversation], requests: int, merged: Mapping[str, int]
) -> Found:
    """Read every request with the template, as the server will."""
    read = ambiguous = 0
    values: dict[str, set[int]] = {name: set() for name in template.slots}
    for one in alike:
        try:
            slots = template.read(one)
        except PromptMismatch as mismatch:
            ambiguous += isinstance(mismatch, AmbiguousPrompt)
            continue
        if template.render(slots) != one:
            raise DataError("The prompt that was found does not give back what it read.", "Write task.prompt yourself.")
        read += 1
        for name, value in slots.items():
            values[name].add(hash(value))
    if ambiguous > read:
        raise DataError(
            f"{ambiguous} of {len(alike)} requests could be read in more than one way: their inputs hold the text that "
            "parts the slots.",
            "Write task.prompt yourself, and put a marker between the slots that inputs never contain.",
        )
    return Found(
        template=template,
        requests=requests,
        read=read,
        ambiguous=ambiguous,
        other_prompt=len(alike) - read - ambiguous,
        other_roles=requests - len(alike),
        values={name: len(seen) for name, seen in values.items()},
        merged=merged,
    )


def reads(template: PromptTemplate, one: Conversation) -> bool:
    """Does the template read this request, in one way?"""
    try:
        template.read(one)
    except PromptMismatch:
        return False
    return True
