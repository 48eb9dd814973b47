"""Draws spoken commands for the house from the grammar, with their calls: data/pool.jsonl and data/gold.jsonl.

Templates are split before any sentence is drawn: three in ten of each intent and language go to gold, which the
recipe parts by template into tune, calibrate and test; intents with fewer than three templates stay in training and
are listed. A sentence is kept where the grammar's own best reading is the answer that it was drawn with, and a gold
sentence only where no template of training reads it. Run: python examples/home/commands.py
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from grammar import FOLDER, HOUSE, LANGUAGES, Template, as_good, calls, grammar, readings, templates, written
from hassil.expression import (
    Alternative,
    Expression,
    Group,
    ListReference,
    Permutation,
    RuleReference,
    TextChunk,
)
from hassil.intents import RangeSlotList, TextSlotList

FEWEST = 3  # templates of an intent that is tested
GOLD = 0.3  # of an intent's templates
CAPS = {("en", "pool"): 14, ("hi", "pool"): 48, ("en", "gold"): 4, ("hi", "gold"): 13}  # sentences of one template
TRIES = 8  # draws for each sentence wanted
FILLERS = ("please", "can you", "could you", "would you")  # which the grammar skips; of every eighth English command
ROOM = (15, 30)  # temperatures that people ask for; every other is drawn from these
NAMED = ("name", "area", "floor")


@dataclass
class Account:
    """Sentences drawn = kept + dropped by reason."""

    drawn: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)

    def check(self) -> None:
        if self.drawn != self.kept + self.dropped.total():
            raise SystemExit(f"{self.drawn} sentences were drawn, and {self.kept} + {self.dropped.total()} are counted")


class Draw:
    """Draws sentences of templates, each with the slots that its words fill."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def sentence(self, template: Template) -> tuple[str, str]:
        """A sentence and its calls."""
        slots: dict[str, Any] = dict(template.block.slots)
        words = self._words(template.expression, template, slots)
        if template.language == "en" and self.random.random() < 1 / 8:
            words = f"{self.random.choice(FILLERS)} {words}"
        return " ".join(words.split()), written(template.intent, slots)

    def _words(self, part: Expression, template: Template, slots: dict[str, Any]) -> str:
        if isinstance(part, TextChunk):
            return str(part.original_text)
        if isinstance(part, Alternative):
            return self._words(self.random.choice(part.items), template, slots)
        if isinstance(part, Permutation):
            mixed = self.random.sample(part.items, len(part.items))
            return " ".join(self._words(one, template, slots) for one in mixed)
        if isinstance(part, Group):
            return "".join(self._words(one, template, slots) for one in part.items)
        if isinstance(part, RuleReference):
            rules = grammar(template.language).expansion_rules | template.block.expansion_rules
            return self._words(rules[part.rule_name].expression, template, slots)
        if isinstance(part, ListReference):
            text, value = self._listed(part.list_name, template)
            slots[part.slot_name] = value
            return text
        raise TypeError(f"{type(part).__name__} in {template.text}")

    def _listed(self, name: str, template: Template) -> tuple[str, Any]:
        known = (grammar(template.language).slot_lists | template.block.slot_lists)[name]
        if isinstance(known, RangeSlotList):
            numbers = list(known.get_numbers())
            if name == "temperature" and self.random.random() < 0.5:
                numbers = [number for number in numbers if ROOM[0] <= number <= ROOM[1]]
            number = self.random.choice(numbers)
            return f"{number:g}", number * (known.multiplier or 1)
        if not isinstance(known, TextSlotList):
            said = self.random.choice(HOUSE["words"][name])
            return said, said
        domains = template.block.requires_context.get("domain") if name == "name" else None
        fit = [v for v in known.values if domains is None or (v.context or {}).get("domain") in domains]
        value = self.random.choice(fit)
        return self._words(value.text_in, template, {}), value.value_out


def split(every: Iterable[Template], seed: int) -> tuple[set[str], list[dict[str, Any]]]:
    """Keys of the templates that are gold; the intents with too few templates, which stay in training."""
    found: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    for template in every:
        found[template.language, template.intent][template.key] = None
    gold: set[str] = set()
    few = []
    for (language, intent), keys in found.items():
        if len(keys) < FEWEST:
            few.append({"language": language, "intent": intent, "templates": len(keys)})
            continue
        mixed = random.Random(f"{seed}:{language}:{intent}").sample(list(keys), len(keys))
        gold.update(mixed[: max(1, round(GOLD * len(keys)))])
    return gold, few


def draw(
    seed: int, scale: float = 1.0
) -> tuple[dict[str, list[dict[str, str]]], list[dict[str, Any]], dict[str, Account]]:
    """Rows by role, the intents that stay in training, and what became of each sentence drawn, by language and role."""
    every = [template for language in LANGUAGES for template in templates(language)]
    gold, few = split(every, seed)
    alike: dict[str, list[Template]] = defaultdict(list)  # of equal text, in blocks of their own
    for template in every:
        alike[template.key].append(template)
    drawing, seen = Draw(seed), set()
    rows: dict[str, list[dict[str, str]]] = {"gold": [], "pool": []}
    accounts: dict[str, Account] = defaultdict(Account)
    for role in rows:  # gold first: what it has, training may not have
        for key, same in alike.items():
            if (key in gold) != (role == "gold"):
                continue
            account = accounts[f"{same[0].language} {role}"]
            wanted = max(1, round(CAPS[same[0].language, role] * scale))
            kept = 0
            for number in range(wanted * TRIES):
                if kept == wanted:
                    break
                sentence, answer = drawing.sentence(same[number % len(same)])
                account.drawn += 1
                reason = _fault(sentence, answer, seen, gold if role == "gold" else None, same[0].language)
                if reason:
                    account.dropped[reason] += 1
                    continue
                kept += 1
                account.kept += 1
                seen.add(sentence.casefold())
                row = {"id": f"{role}-{len(rows[role])}", "text": sentence, "language": same[0].language}
                rows[role].append(row | {"intent": same[0].intent, "template": key, "calls": answer})
    for account in accounts.values():
        account.check()
    return rows, few, dict(accounts)


def _fault(sentence: str, answer: str, seen: set[str], gold: set[str] | None, language: str) -> str:
    """Why a sentence is not kept."""
    if sentence.casefold() in seen:
        return "drawn before"
    words = sentence.casefold().split()
    if any(one == other for one, other in pairwise(words)):
        return "a word twice over"
    found = readings(sentence)
    if not found:
        return "no reading"
    if calls(found[0]) != answer:
        return "another answer reads better"
    if any(calls(other) != answer and as_good(found[0], other) for other in found):
        return "another answer reads as well"
    if gold is not None and any(f"{language}/{f.intent.name}/{f.intent_sentence.text}" not in gold for f in found):  # type: ignore[union-attr]
        return "a template of training reads it"
    return ""


def write(folder: Path, seed: int, scale: float = 1.0) -> dict[str, Any]:
    """Write the tables and the list of what stays in training; what was written, in numbers."""
    rows, few, accounts = draw(seed, scale)
    folder.mkdir(parents=True, exist_ok=True)
    for role, listed in rows.items():
        kept = [row if role == "gold" else {k: v for k, v in row.items() if k != "calls"} for row in listed]
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept)
        (folder / f"{role}.jsonl").write_text(text, encoding="utf-8")
    (folder / "in_training.json").write_text(json.dumps(few, indent=1) + "\n", encoding="utf-8")
    return {"accounts": accounts, "few": few, "templates": {role: _counted(listed) for role, listed in rows.items()}}


def tools() -> str:
    """The functions of house.py as the text of tools.json."""
    from aasut.agents.functions import Toolbox

    return json.dumps(Toolbox.load(FOLDER / "house.py").definitions, ensure_ascii=False, indent=1) + "\n"


def _counted(rows: Iterable[Mapping[str, str]]) -> dict[str, int]:
    found: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        found[row["language"]].add(row["template"])
    return {language: len(keys) for language, keys in found.items()}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--folder", type=Path, default=FOLDER / "data")
    options.add_argument("--seed", type=int, default=7)
    options.add_argument("--scale", type=float, default=1.0, help="sentences of a template, as a share of the usual")
    options.add_argument("--tools", action="store_true", help="write tools.json out of house.py, and no commands")
    chosen = options.parse_args()
    if chosen.tools:
        (FOLDER / "tools.json").write_text(tools(), encoding="utf-8")
        return
    facts = write(chosen.folder, chosen.seed, chosen.scale)
    for name, account in facts["accounts"].items():
        reasons = ", ".join(f"{count} {reason}" for reason, count in account.dropped.most_common())
        print(f"{name}: {account.drawn} drawn = {account.kept} kept + {account.dropped.total()} dropped ({reasons})")
    print(f"templates: {facts['templates']}")
    print("in training alone, with fewer than three templates:")
    for language in LANGUAGES:
        print(f"  {language}: " + ", ".join(few["intent"] for few in facts["few"] if few["language"] == language))


if __name__ == "__main__":
    main()
