"""Which requests of a log were written with the same prompt: those that share whole lines and the starts of lines.

Features of a request are its lines and the first two words of each. Features that the same requests
hold belong together; a prompt's fixed text makes one such bundle, heavy and held by all requests of
the prompt. Text that inputs happen to share makes light bundles, or some that leave most requests out.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aasut.types import Message

SAMPLE = 2000  # requests looked at to find the prompts
_SHARE = 0.04  # of the requests hold a feature, from which it counts
_LONGEST = 300  # characters of a line that is taken for fixed text
_MOST = 1500  # features

Conversation = Sequence[Message]
Feature = tuple[int, str, str]  # number of the message; line, label, start or first; the text
_LABEL = re.compile(r"\W{0,4}(?:[^\W:]+ ?){1,4}:(?=\s)")  # what follows it may be a slot of few values


@dataclass(frozen=True, slots=True)
class _Bundle:
    """Features held by the same requests; `held` has a bit for each request, `words` counts by message."""

    held: int
    words: dict[int, int]
    first: bool


def largest(conversations: Sequence[Conversation], seed: int = 1) -> list[int]:
    """Places of the conversations of the commonest prompt, in order. All must have the same roles."""
    sample = list(range(len(conversations)))
    if len(sample) > SAMPLE:
        sample = sorted(random.Random(seed).sample(sample, SAMPLE))
    postings = _postings([conversations[place] for place in sample])
    everyone = (1 << len(sample)) - 1
    chosen = _descend(_bundles(postings), everyone)
    places = list(range(len(conversations)))
    if chosen != everyone:
        shared = [feature for feature, held in postings.items() if held & chosen == chosen]
        places = [p for p in places if all(text in conversations[p][number].content for number, _, text in shared)]
    for number in range(len(conversations[0])):
        for edge in (0, -1):
            places = _of_commonest_edge(conversations, places, number, edge)
    return places


def _of_commonest_edge(conversations: Sequence[Conversation], places: list[int], number: int, edge: int) -> list[int]:
    """The places with the commonest first or last line of a message, where there are a few that begin differently.

    `Team:` and `Urgency:` after the same input are two prompts, `Language: en` and `Language: hi` are one.
    """
    lines = []
    for place in places:
        text = conversations[place][number].content.strip()
        lines.append(text.splitlines()[edge].strip() if text else "")
    common = Counter(lines).most_common(6)
    starts = {line.split(None, 1)[0] if line else "" for line, _ in common}
    covered = sum(count for _, count in common)
    if not (1 < len(common) == len(starts) and covered >= 0.95 * len(places) and common[-1][1] > 1):
        return places
    return [place for place, line in zip(places, lines, strict=True) if line == common[0][0]]


def _features(conversation: Conversation) -> Iterable[Feature]:
    for number, message in enumerate(conversation):
        lines = [line.strip() for line in message.content.splitlines()]
        lines = [line for line in lines if line]
        for line in lines:
            label = _LABEL.match(line)
            if label is not None:
                yield number, "label", label[0]
            elif len(line) <= _LONGEST:
                yield number, "line", line
            yield number, "start", _start(line)
        if lines:
            yield number, "first", _start(lines[0])


def _start(line: str) -> str:
    """The first two words, as they stand in the line."""
    words = line[:_LONGEST].split(None, 2)
    if len(words) < 3:
        return line[:_LONGEST]
    return line[: line.index(words[1], len(words[0])) + len(words[1])]


def _postings(conversations: Sequence[Conversation]) -> dict[Feature, int]:
    """The common features, with a bit for each conversation that holds them."""
    counts: Counter[Feature] = Counter()
    found = []
    for conversation in conversations:
        features = set(_features(conversation))
        counts.update(features)
        found.append(features)
    least = max(3, math.ceil(_SHARE * len(conversations)))
    often = sorted((-count, feature) for feature, count in counts.items() if count >= least)
    common = {feature for _, feature in often[:_MOST]}
    held: dict[Feature, int] = defaultdict(int)
    for place, features in enumerate(found):
        for feature in features & common:
            held[feature] |= 1 << place
    return dict(held)


def _bundles(postings: dict[Feature, int]) -> list[_Bundle]:
    """Features of the same requests, one in fifty aside."""
    groups: list[tuple[int, list[Feature]]] = []
    for feature, held in sorted(postings.items(), key=lambda item: (-item[1].bit_count(), item[0])):
        for other, features in groups:
            if (held & other).bit_count() >= 0.98 * (held | other).bit_count():
                features.append(feature)
                break
        else:
            groups.append((held, [feature]))
    bundles = []
    for held, features in groups:
        words: Counter[int] = Counter()
        for number, kind, text in features:
            words[number] += len(text.split()) if kind == "line" else kind != "first"
        bundles.append(_Bundle(held, dict(words), any(kind == "first" for _, kind, _ in features)))
    return bundles


def _descend(bundles: Sequence[_Bundle], everyone: int) -> int:
    """The requests of the commonest prompt: from all, down to the largest part as long as the parts are prompts."""
    chosen = everyone
    while True:
        size = chosen.bit_count()
        fixed = _words(bundles, chosen)
        parts = [
            (held, extra, bundle.first)
            for bundle in bundles
            if 0.05 * size <= (held := bundle.held & chosen).bit_count() < size
            and (extra := _gain(_words(bundles, held), fixed))
        ]
        best = _largest_part(parts, size, sum(fixed.values()))
        if best is None:
            return chosen
        chosen = best


def _words(bundles: Iterable[_Bundle], requests: int) -> Counter[int]:
    """Words that all these requests share (one in a hundred aside), by message."""
    words: Counter[int] = Counter()
    size = requests.bit_count()
    for bundle in bundles:
        if (bundle.held & requests).bit_count() >= 0.99 * size:
            words.update(bundle.words)
    return words


def _gain(words: Counter[int], fixed: Counter[int]) -> int:
    """Further words that a part shares; 0 unless they are most of some message's fixed words."""
    gains = {number: count - fixed[number] for number, count in words.items()}
    return sum(gains.values()) if any(gain >= max(4, fixed[number]) for number, gain in gains.items()) else 0


def _largest_part(parts: Sequence[tuple[int, int, bool]], size: int, fixed: int) -> int | None:
    """The largest of parts that are prompts of their own: they cover nearly all, or nothing is shared beside them."""
    apart: list[tuple[int, int, bool]] = []
    covered = 0
    for part in sorted(parts, key=lambda p: -p[0].bit_count() * math.log1p(p[1])):
        if (part[0] & covered).bit_count() <= 0.02 * part[0].bit_count():
            apart.append(part)
            covered |= part[0]
    if not apart:
        return None
    held, extra, first = max(apart, key=lambda p: p[0].bit_count())
    share = held.bit_count() / size
    mixed = len(apart) > 1 and covered.bit_count() >= 0.8 * size
    lonely = fixed < 4 and extra >= 8 and (share >= 0.5 or (first and share >= 0.3))
    return held if mixed or lonely or share >= 0.9 else None
