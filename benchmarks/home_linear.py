"""What home commands come to without a language model: linear classifiers, and a lookup of the house's words.

One classifier takes a sentence, in which the house's words are marked by what they are, to its frame: the intent, and
arguments that no word says. A second one tells by the words around it which argument a number is. All other arguments
that the frame was seen with are the longest of their words in the sentence: names, rooms, the grammar's closed lists,
and what training had of free text.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import grammar
from hassil.intents import TextSlotList
from hassil.sample import sample_expression
from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union

Row = dict[str, str]
NUMBER = re.compile(r"^-?\d+(\.\d+)?")
UNIT = re.compile(r"(?<=\d)(?=[^\d.\s])|-(?=[a-z])")  # 40% and 5-minute are a number and its unit
AROUND = 3  # words on either side of a number


class Linear:
    """Learns from rows with their calls, and answers sentences."""

    def fit(self, rows: Sequence[Row]) -> Linear:
        self.words = _lists()
        self.domains = {entity["name"]: entity["domain"] for entity in grammar.HOUSE["entities"]}
        self.slots: dict[str, set[str]] = defaultdict(set)  # arguments that a frame was seen with
        calls = [json.loads(row["calls"])[0] for row in rows]
        for row, call in zip(rows, calls, strict=True):
            for slot, value in call["arguments"].items():
                if isinstance(value, str) and value.casefold() in row["text"].casefold():
                    self.words[slot].setdefault(value.casefold(), value)
        features, roles, frames = [], [], []
        for row, call in zip(rows, calls, strict=True):
            words = _split(row["text"])
            frame = self._frame(words, call)
            frames.append(frame)
            self.slots[frame].update(set(call["arguments"]) - set(json.loads(frame)[1]))
            for place, word in enumerate(words):
                slots = [slot for slot, value in call["arguments"].items() if _same(value, word)]
                if slots:
                    features.append(_around(words, place) | {call["name"]: True})
                    roles.append(slots[0])
        self.frames = make_pipeline(
            make_union(
                TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\S+", sublinear_tf=True),
                TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True, min_df=2),
            ),
            LogisticRegression(C=50, max_iter=100),
        ).fit([self.marked(row["text"]) for row in rows], frames)
        self.roles = make_pipeline(DictVectorizer(), LogisticRegression(C=30, max_iter=100)).fit(features, roles)
        return self

    def answer(self, texts: Sequence[str]) -> list[str]:
        frames = self.frames.predict([self.marked(text) for text in texts])
        return [self._filled(_split(text), frame) for text, frame in zip(texts, frames, strict=True)]

    def marked(self, text: str) -> str:
        """The sentence with names, rooms, floors and numbers as what they are."""
        words = _split(text)
        for slot in ("name", "area", "floor"):
            found = _longest(words, self.words[slot])
            if found:
                place, length, value = found
                kind = self.domains.get(value, "text") if slot == "name" else ""
                words[place : place + length] = [f"<{slot}{kind}>"]
        return " ".join("<number>" if NUMBER.match(word) else word for word in words)

    def _frame(self, words: Sequence[str], call: dict[str, Any]) -> str:
        """Intent, arguments that no word of the sentence says, and whether a number is less than nothing."""
        constant, less = {}, False
        for slot, value in call["arguments"].items():
            known = {said: meant for said, meant in self.words.get(slot, {}).items() if meant == value}
            if any(_same(value, word) for word in words):
                less = less or value < 0
            elif not _longest(words, known):
                constant[slot] = value
        return json.dumps([call["name"], constant, less], ensure_ascii=False)

    def _filled(self, words: list[str], frame: str) -> str:
        intent, constant, less = json.loads(frame)
        arguments, left = dict(constant), set(self.slots[frame])
        numbers = [place for place, word in enumerate(words) if NUMBER.match(word)]
        if numbers:
            weights = self.roles.predict_proba([_around(words, place) | {intent: True} for place in numbers])
            for place, row in zip(numbers, weights, strict=True):
                fit = [(weight, slot) for weight, slot in zip(row, self.roles.classes_, strict=True) if slot in left]
                number = NUMBER.match(words[place])
                if fit and number is not None:
                    slot = max(fit)[1]
                    value = float(number[0]) * (-1 if less else 1)
                    arguments[slot] = int(value) if value.is_integer() else value
                    left.remove(slot)
                    words[place] = "<taken>"
        found = {slot: _longest(words, self.words.get(slot, {})) for slot in sorted(left)}
        for slot, _ in sorted(((s, f) for s, f in found.items() if f), key=lambda pair: -pair[1][1]):
            again = _longest(words, self.words[slot])  # what a longer one took is gone
            if again:
                place, length, value = again
                arguments[slot] = value
                words[place : place + length] = ["<taken>"] * length
        return grammar.written(intent, arguments)


def _lists() -> dict[str, dict[str, Any]]:
    """By argument: what may be said for it in either language, and the value that it has then."""
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    for language in grammar.LANGUAGES:
        known = grammar.grammar(language)
        for template in grammar.templates(language):
            group: Any = template.expression
            for one in group.list_references(known.expansion_rules | template.block.expansion_rules):
                listed = (known.slot_lists | template.block.slot_lists).get(one.list_name)
                if not isinstance(listed, TextSlotList) or one.list_name in found.get(f"{one.slot_name}.seen", {}):
                    continue
                found[f"{one.slot_name}.seen"][f"{language}.{one.list_name}"] = True
                for value in listed.values:
                    for said in sample_expression(value.text_in):
                        found[one.slot_name][" ".join(said.casefold().split())] = value.value_out
    return defaultdict(dict, {slot: words for slot, words in found.items() if not slot.endswith(".seen")})


def _split(text: str) -> list[str]:
    return UNIT.sub(" ", text.casefold()).split()


def _same(value: Any, word: str) -> bool:
    number = NUMBER.match(word)
    return isinstance(value, int | float) and number is not None and abs(value) == float(number[0])


def _longest(words: Sequence[str], known: dict[str, Any]) -> tuple[int, int, Any] | None:
    """(place, words, value) of the longest that is known in a sentence; the first of equally long ones."""
    for length in range(min(len(words), 8), 0, -1):
        for place in range(len(words) - length + 1):
            said = " ".join(words[place : place + length])
            if said in known:
                return place, length, known[said]
    return None


def _around(words: Sequence[str], place: int) -> dict[str, bool]:
    near = {}
    for step in range(-AROUND, AROUND + 1):
        at = place + step
        word = words[at] if 0 <= at < len(words) else "<none>"
        near[f"{step}:{'<number>' if NUMBER.match(word) else word}"] = True
    near |= {f"before:{word}": True for word in words[:place]} | {f"after:{word}": True for word in words[place + 1 :]}
    return near
