"""`aasut search`: the passages of a field's documents that a question is about. Parses, calls, prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aasut.progress import Progress

if TYPE_CHECKING:
    from aasut.retrieval.index import Hit

SHOWN = 300  # characters of a passage


def search(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe that `aasut synthesize` was run with.")],
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="What to look for, in any language.")],
    count: Annotated[int, typer.Option("--count", min=1, help="Passages to show.")] = 5,
    root: Annotated[Path, typer.Option("--root", help="Folder that holds the runs.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
) -> None:
    """Find the passages of a recipe's documents that a question is about, and say where they stand."""
    from aasut.recipe.field import load

    field = load(recipe)
    found = find(root / field.name / "index", question, count, _embedder(field, recipe.parent))
    print(json.dumps(plain(question, found), ensure_ascii=False) if as_json else render(found))


def find(folder: Path, question: str, count: int, embedder: Any | None = None) -> list[Hit]:
    """What the index in a folder finds. Raises StoreError where there is none."""
    from aasut.errors import StoreError
    from aasut.retrieval.index import Index

    if not folder.is_dir():
        raise StoreError(f"There is no index {folder}.", "Run `aasut synthesize` with this recipe first.")
    return Index.open(folder, embedder).search(question, count)


def plain(question: str, found: list[Hit]) -> dict[str, Any]:
    """As plain data."""
    hits = [
        {
            "citation": hit.citation,
            "document": hit.chunk.span.document,
            "page": hit.chunk.span.page,
            "headings": list(hit.chunk.span.headings),
            "characters": [hit.chunk.span.start, hit.chunk.span.end],
            "chunk": hit.chunk.id,
            "text": hit.chunk.text,
            "score": hit.score,
            "ranks": dict(hit.ranks),
        }
        for hit in found
    ]
    return {"question": question, "hits": hits}


def render(found: list[Hit]) -> str:
    """For a terminal: where each passage stands, and how it begins."""
    if not found:
        return "Nothing in the documents has words of this question."
    lines = []
    for number, hit in enumerate(found, 1):
        text = " ".join(hit.chunk.text.split())
        lines += [f"{number}. {hit.citation}", f"   {text if len(text) <= SHOWN else text[: SHOWN - 1] + '…'}"]
    return "\n".join(lines)


def _embedder(field: Any, base: Path) -> Any | None:
    """The recipe's model of sentences, None where it has none."""
    if field.embeddings is None:
        return None
    from aasut.engine import embed
    from aasut.sources import models

    return embed.load(models.fetch(field.embeddings, base=base, progress=Progress()).path)
