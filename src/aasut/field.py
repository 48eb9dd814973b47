"""From documents to a student that knows the field: every stage in order. docs/lifecycle.md tells the same in words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from aasut.progress import Progress
from aasut.recipe import FieldRecipe
from aasut.store import Artefact, Store
from aasut.workshop import Workshop

PASSAGES = 3  # that a question is answered from, where they are searched for
STORE = ".store"  # folder of the run store, below the folder of runs
INDEX, ADAPTED = "index", "adapted"  # folders below the run's


@dataclass(frozen=True)
class Made:
    """What stands in a run's folder: the content of its report.json, and what the teacher was asked just now."""

    folder: Path
    facts: dict[str, Any]
    calls_made: int


def synthesize(recipe: FieldRecipe, base: Path, root: Path, progress: Progress, scale: str = "full") -> Made:
    """Make training data and an evaluation of the recipe's documents; results stand in `root`/<name>.

    Paths are relative to `base`. What was done before is reused; what a kill interrupted goes on. Raises AasutError.
    """
    with opened(recipe, base, root, progress) as stages:
        return stages.publish(stages.synthesized(), root / recipe.name, scale)


def adapt(recipe: FieldRecipe, base: Path, root: Path, progress: Progress, scale: str = "full") -> Made:
    """Train the recipe's student on its documents and on what was made of them; see `synthesize`."""
    with opened(recipe, base, root, progress) as stages:
        done = stages.synthesized() if stages.learns_generated else stages.parted()
        return stages.publish(done | stages.adapted(done), root / recipe.name, scale)


def preview(recipe: FieldRecipe, base: Path, root: Path, progress: Progress, count: int) -> dict[str, Any]:
    """`count` items, and by their measure what the whole would take. Nothing is published."""
    from aasut.documents import ingest
    from aasut.synthesize import parts, preview

    with opened(recipe, base, root, progress) as stages:
        done = stages.parted()
        chunks, parted = ingest.load_chunks(done["documents"].path), parts.load(done["parts"].path)
        return preview.preview(recipe, chunks, parted, stages.ledger, stages.search(done["index"]), count, progress)


@contextmanager
def opened(recipe: FieldRecipe, base: Path, root: Path, progress: Progress) -> Iterator[FieldStages]:
    """The stages over the store below `root`."""
    with Store(root / STORE) as store:
        stages = FieldStages(recipe, base, store, progress)
        try:
            yield stages
        finally:
            stages.close()


class FieldStages(Workshop[FieldRecipe]):
    """The stages of one field."""

    def parted(self) -> dict[str, Artefact]:
        """All that is done before anything is generated, by name."""
        documents = self.documents()
        return {"documents": documents, "parts": self.parts(documents), "index": self.index(documents)}

    def synthesized(self) -> dict[str, Artefact]:
        """Every stage up to the tables that a run learns from, by name, parents before children."""
        done = self.parted()
        done["items"] = self.items(done)
        done["filter"] = self.filtered(done)
        done["handover"] = self.handover(done)
        return done

    @property
    def learns_generated(self) -> bool:
        """Is the student to learn what the teacher writes?"""
        return self.recipe.adapt is None or self.recipe.adapt.generated

    @cached_property
    def embedder(self) -> Any | None:
        """The recipe's model of sentences, None where it has none."""
        if self.recipe.embeddings is None:
            return None
        from aasut.engine import embed

        self.progress.say("loading the model of sentences")
        return embed.load(self._model(self.recipe.embeddings).path)

    def search(self, index: Artefact) -> Any:
        """The index, open for searching."""
        from aasut.retrieval.index import Index

        return Index.open(index.path / INDEX, self.embedder)

    def documents(self) -> Artefact:
        from aasut.documents import ingest

        def build(folder: Path) -> dict[str, Any]:
            return ingest.build(self.recipe, self.base, folder, self.progress)

        return self._stage("documents", ingest.VERSION, ingest.settings(self.recipe, self.base), [], build)

    def parts(self, documents: Artefact) -> Artefact:
        from aasut.synthesize import parts

        def build(folder: Path) -> dict[str, Any]:
            return parts.build(self.recipe, documents.path, folder, self.progress)

        return self._stage("parts", parts.VERSION, [self.recipe.split, self.recipe.seed], [documents], build)

    def index(self, documents: Artefact) -> Artefact:
        from aasut.documents import ingest
        from aasut.retrieval import index

        def build(folder: Path) -> dict[str, Any]:
            chunks, count = ingest.load_chunks(documents.path), documents.facts["chunks"]
            return index.build(chunks, folder / INDEX, self.embedder, count=count, progress=self.progress)

        return self._stage("index", index.FORMAT, [self._revision(self.recipe.embeddings)], [documents], build)

    def items(self, done: dict[str, Artefact]) -> Artefact:
        from aasut.documents import ingest
        from aasut.synthesize import parts, write

        def build(folder: Path) -> dict[str, Any]:
            chunks, parted = ingest.load_chunks(done["documents"].path), parts.load(done["parts"].path)
            index = self.search(done["index"])
            return write.build(self.recipe, chunks, parted, self.ledger, index, folder, self.progress)

        settings = [self.recipe.synthesize, self.recipe.chunks.least, self.recipe.seed, *self._asked_of()]
        before = [done[name] for name in ("documents", "parts", "index")]
        return self._stage("items", write.VERSION, settings, before, self._counted(build))

    def filtered(self, done: dict[str, Artefact]) -> Artefact:
        from aasut.data import held_out
        from aasut.documents import ingest
        from aasut.synthesize import filter as sieve
        from aasut.synthesize import item

        recipe, documents = self.recipe, done["documents"].path

        def search(question: str) -> list[str]:
            return [hit.chunk.text for hit in self.search(done["index"]).search(question, PASSAGES)]

        def build(folder: Path) -> dict[str, Any]:
            items = item.load(done["items"].path / "items.jsonl")
            return sieve.build(
                recipe, items, ingest.load_chunks(documents), self.ledger, self._held(done), self.embedder, search,
                folder, self.progress,
            )  # fmt: skip

        settings = [recipe.filter, recipe.synthesize, recipe.seed, self._revision(recipe.embeddings)]
        settings += [held_out.identity(recipe.held_out, self.base), *self._asked_of()]
        before = [done[name] for name in ("documents", "parts", "index", "items")]
        return self._stage("filter", sieve.VERSION, settings, before, self._counted(build))

    def _asked_of(self) -> list[Any]:
        """What of the teacher its answers hang on."""
        teacher = self.recipe.teacher
        return [teacher.model_dump(mode="json", exclude={"max_usd", "max_failed"}), self._revision(teacher.model)]

    def _held(self, done: dict[str, Artefact]) -> Any:
        """Makes what train must not repeat of the items of tune and test that are kept."""
        from aasut.data import held_out
        from aasut.documents import ingest
        from aasut.synthesize import held, parts

        def make(items: Any) -> held.HeldTexts:
            return held.HeldTexts(
                held_out.read(self.recipe.held_out, self.base, self.progress),
                ingest.load_chunks(done["documents"].path), parts.load(done["parts"].path), items,
                embedder=self.embedder, cosine=self.recipe.filter.contaminated, progress=self.progress,
            )  # fmt: skip

        return make

    def handover(self, done: dict[str, Artefact], home: Path) -> Artefact:
        """Tables and recipes for `aasut run`, as they will stand in `home`."""
        from aasut.documents import ingest
        from aasut.synthesize import handover, item

        def build(folder: Path) -> dict[str, Any]:
            kept = [one for split in item.SPLITS for one in item.load(done["filter"].path / f"{split}.jsonl")]
            documents = {document.id: document for document in ingest.load_documents(done["documents"].path)}
            return {"lines": handover.write(self.recipe, self.base, kept, documents, folder, home)}

        settings = [self.recipe, text_at(self.recipe, self.base, home)]
        return self._stage("handover", handover.VERSION, settings, [done["documents"], done["filter"]], build)
