"""What was made of documents: synthesis.json, the truth, and synthesis.html, its picture; and lines for a terminal.

The page is one file that works offline: no scripts, nothing fetched. It shows what documents and models wrote, which
may be anything, so every text is escaped, its control characters are shown as such, and each text keeps the direction
of its own script.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from aasut.economics.cost import usd
from aasut.files import write_atomically
from aasut.recipe.field import FieldRecipe
from aasut.report.drawing import COLOURS, chart, svg
from aasut.report.page import template
from aasut.report.report import reasons
from aasut.report.table import percent
from aasut.types import Conservation

PAGE, FACTS = "synthesis.html", "synthesis.json"
SPLITS = ("train", "tune", "test")
LISTED = 500  # unread files on the page; the JSON file has all
LONGEST = 4000  # characters of a text on the page
RATES = {
    "grounding": "rest on their span",
    "round_trip": "answered alike again",
    "duplicates": "repeat no other",
    "decontamination": "repeat nothing held out",
}
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

Facts = dict[str, Any]


def gather(
    recipe: FieldRecipe, stages: Mapping[str, Mapping[str, Any]], corpus: Path, parts: Mapping[str, str]
) -> Facts:
    """All facts of what was made.

    stages: facts by the stages' names, `documents`, `items` and `filter` among them; corpus: the folder with
    documents.jsonl, chunks.jsonl and unread.jsonl; parts: split by document.
    """
    sieved = stages["filter"]
    samples = {reason: list(found) for reason, found in sieved["samples"].items()}
    wanted = {span["document"] for found in samples.values() for one in found for span in one["spans"]}
    files: dict[str, str] = {}
    splits = {split: Counter[str]() for split in SPLITS}
    languages = {split: Counter[str]() for split in SPLITS}
    for document in _lines(corpus / "documents.jsonl"):
        if document["id"] in wanted:
            files[document["id"]] = document["file"]
        splits[parts[document["id"]]]["documents"] += 1
    for one in _lines(corpus / "chunks.jsonl"):
        split = parts[one["span"]["document"]]
        splits[split]["chunks"] += 1
        languages[split][one["language"]] += 1
    return {
        "name": recipe.name,
        "teacher": recipe.teacher.source,
        "licences": list(dict.fromkeys(documents.licence for documents in recipe.documents)),
        "files": _plain(stages["documents"]["conservation"]["files"]),
        "unread": list(_lines(corpus / "unread.jsonl")),
        "splits": {
            split: {**counts, "languages": dict(languages[split].most_common())} for split, counts in splits.items()
        },
        "conservation": {
            what: _plain(rows) for facts in stages.values() for what, rows in facts.get("conservation", {}).items()
        },
        "ledger": _ledger(stages.values()),
        "requests": stages["items"].get("requests", {}),
        "tokens": stages["items"].get("tokens", {}),
        "repairs": stages["items"].get("repairs", {}),
        "kinds": sieved["kinds"],
        "reasons": sieved["reasons"],
        "rates": sieved["rates"],
        "samples": {
            reason: [one | {"citations": [_cited(span, files) for span in one["spans"]]} for one in found]
            for reason, found in samples.items()
        },
    }


def write(facts: Facts, folder: Path) -> None:
    """Write synthesis.json and synthesis.html into `folder`; equal facts give equal bytes."""
    text = json.dumps(facts, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    page = html(facts)
    write_atomically(folder / PAGE, page)
    write_atomically(folder / FACTS, text.encode("utf-8", "replace").decode())


def html(facts: Facts) -> str:
    """The page of these facts; every text in them is escaped."""
    filters = {
        "percent": percent,
        "usd": usd,
        "reasons": reasons,
        "number": lambda value: f"{value:,}",
        "initial": lambda text: text[:1].upper() + text[1:],
        "cut": _cut,
    }
    return template("synthesis.html", filters, finalize=_finally).render(
        facts=facts,
        whole=facts["conservation"]["filtered"],
        way=way(facts),
        names=RATES,
        unread=facts["unread"][:LISTED],
        shown=sorted(facts["samples"], key=lambda reason: (reason != "kept", -_lost(facts)[reason], reason)),
    )


def _finally(value: Any) -> Any:
    """What is put out for a value of the template."""
    return _shown(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def way(facts: Facts) -> Markup:
    """From what was asked for to what was kept: a bar for what stays, and one for each reason why the rest does not."""
    whole = facts["conservation"]["filtered"]
    lost = _lost(facts).most_common()
    bars = [("kept", whole["kept"], "student"), *((reason, count, "other") for reason, count in lost)]
    if not whole["in"]:
        return Markup("")
    with chart(0.42 + 0.26 * len(bars)) as (figure, axes):
        for row, (_, count, colour) in enumerate(reversed(bars)):
            axes.barh([row], [count / whole["in"] * 100], height=0.62, color=COLOURS[colour])
            axes.text(1.02, row, f"{count:,}", transform=axes.get_yaxis_transform(), va="center")
        axes.set_yticks(range(len(bars)), [name for name, *_ in reversed(bars)])
        axes.set_ylim(-0.6, len(bars) - 0.4)
        axes.set_xlim(0, 100)
        axes.set_xlabel(f"of {whole['in']:,} items, %")
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)
        return svg(figure, "way", "What was kept of the items, and why the others were not")


def lines(facts: Facts) -> list[str]:
    """In lines for a reader at a terminal."""
    files, whole, ledger = facts["files"], facts["conservation"]["filtered"], facts["ledger"]
    splits, languages = facts["splits"], Counter[str]()
    for one in splits.values():
        languages.update(one["languages"])
    documents, chunks = (sum(one.get(what, 0) for one in splits.values()) for what in ("documents", "chunks"))
    spoken = ", ".join(f"{count:,} {language or 'of no language'}" for language, count in languages.most_common())
    paid = f", for {usd(ledger['usd_spent'])}" if ledger["usd_spent"] else ""
    gone = files["dropped"] | files["failed"]
    kinds = ", ".join(f"{one['kept']:,} of {one['in']:,} {kind}" for kind, one in facts["kinds"].items())
    told = [
        f"Files      {files['kept']:,} of {files['in']:,} read" + (f"; {reasons(gone)}" if gone else ""),
        f"Documents  {documents:,} in {chunks:,} chunks ({spoken}): "
        + ", ".join(f"{splits[split].get('documents', 0):,} {split}" for split in SPLITS),
        f"Teacher    {ledger['calls_made']:,} calls made, {ledger['calls_reused']:,} answered before{paid}",
        f"Kept       {whole['kept']:,} of {whole['in']:,} items" + (f": {kinds}" if kinds else ""),
    ]
    lost = _lost(facts).most_common()
    told += [f"{'Not kept' if not place else '':<11}{count:,} {reason}" for place, (reason, count) in enumerate(lost)]
    rates = [(RATES[name], one) for name, one in facts["rates"].items() if name in ("grounding", "round_trip")]
    told += [
        f"{'Accepted' if not place else '':<11}{percent(one['share'])} {name} ({one['passed']:,} of {one['reached']:,})"
        for place, (name, one) in enumerate(rates)
    ]
    return told


def _lost(facts: Facts) -> Counter[str]:
    """How many items were not kept, by reason."""
    total: Counter[str] = Counter()
    for found in facts["reasons"].values():
        total.update(found)
    return total


def _ledger(stages: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    total: dict[str, Any] = {"calls_made": 0, "calls_reused": 0, "usd_spent": 0.0, "usd_reused": 0.0}
    for facts in stages:
        for name in total:
            total[name] += facts.get("calls", {}).get(name, 0)
    return total


def _cited(span: Mapping[str, Any], files: Mapping[str, str]) -> str:
    """Where a reader finds a span: file (and record), page, headings."""
    document = span["document"]
    file = files.get(document, document)
    record = document.removeprefix(file).removeprefix("#") if document != file else ""
    parts = [file, *([record] if record else []), *([f"page {span['page']}"] if span["page"] else [])]
    return ", ".join([*parts, *([" › ".join(span["headings"])] if span["headings"] else [])])


def _plain(rows: Conservation | Mapping[str, Any]) -> dict[str, Any]:
    return rows.as_dict() if isinstance(rows, Conservation) else dict(rows)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="\n") as file:
        for line in file:
            yield json.loads(line)


def _cut(text: str) -> str:
    """A text that is not too long for the page."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} … ({len(text) - LONGEST:,} more characters)"


def _shown(text: str) -> str:
    """With control characters, marks that turn the direction of others, and halves of pairs as what they are."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)
