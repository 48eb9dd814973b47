"""From documents to a student that knows the field: every stage in order. docs/lifecycle.md tells the same in words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from aasut.errors import RecipeError
from aasut.files import plain, write_atomically
from aasut.progress import Progress
from aasut.publish import publish
from aasut.recipe import FieldRecipe
from aasut.recipe.documents import Documents
from aasut.recipe.field import Adapt, text_at
from aasut.recipe.scale import scaled_field
from aasut.store import Artefact, Store
from aasut.workshop import Workshop

PASSAGES = 3  # that a question is answered from, where they are searched for
VERSION = 1  # of the report
REPORT = "report.json"
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

    Paths are relative to `base`; `scale` as in recipe.scale. What was done before is reused; what a kill interrupted
    goes on. Raises AasutError.
    """
    recipe = scaled_field(recipe, scale)
    with opened(recipe, base, root, progress) as stages:
        return stages.publish(stages.synthesized(root / recipe.name), root / recipe.name, scale)


def adapt(
    recipe: FieldRecipe, base: Path, root: Path, progress: Progress, scale: str = "full", *, beside: bool = False
) -> Made:
    """Train the recipe's student on its documents and on what was made of them; see `synthesize`.

    `beside`: in the store that the process which started this one holds.
    Raises RecipeError where the recipe has no student.
    """
    recipe = scaled_field(recipe, scale)
    with opened(recipe, base, root, progress, beside=beside) as stages:
        return stages.publish(stages.learned(root / recipe.name), root / recipe.name, scale)


def preview(
    recipe: FieldRecipe, base: Path, root: Path, progress: Progress, count: int, scale: str = "full"
) -> dict[str, Any]:
    """`count` items, and by their measure what the whole would take. Nothing is published."""
    from aasut.documents import ingest
    from aasut.synthesize import parts, preview

    recipe = scaled_field(recipe, scale)
    with opened(recipe, base, root, progress) as stages:
        done = stages.indexed()
        chunks, parted = ingest.load_chunks(done["documents"].path), parts.load(done["parts"].path)
        return preview.preview(recipe, chunks, parted, stages.ledger, stages.search(done["index"]), count, progress)


@contextmanager
def opened(
    recipe: FieldRecipe, base: Path, root: Path, progress: Progress, *, beside: bool = False
) -> Iterator[FieldStages]:
    """The stages over the store below `root`."""
    with Store(root / STORE, beside=beside) as store:
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
        return {"documents": documents, "parts": self.parts(documents)}

    def indexed(self) -> dict[str, Artefact]:
        """The same, with the index that generation and readers search."""
        done = self.parted()
        return done | {"index": self.index(done["documents"])}

    def synthesized(self, home: Path) -> dict[str, Artefact]:
        """Every stage up to the tables that a run learns from, as they will stand in `home`; parents come first."""
        done = self.indexed()
        done["items"] = self.items(done)
        done["filter"] = self.filtered(done)
        done["handover"] = self.handover(done, home)
        return done

    def adapted(self, done: dict[str, Artefact], wanted: Adapt) -> dict[str, Artefact]:
        """What is `done`, with the student that has read it, and what that brought and cost."""
        general = self.documents("general", wanted.replay)
        done |= {"general": general, "general parts": self.parts(general, "general parts")}
        done["adapt"] = self.train(done)
        return done | {"measure": self.measure(done, wanted)}

    def learned(self, home: Path) -> dict[str, Artefact]:
        """Every stage of a student that has read its field. Raises RecipeError where the recipe has none."""
        wanted = self.recipe.adapt
        if wanted is None:
            raise RecipeError(f"{self.recipe.name} has no student to adapt.", "Give the sections student and adapt.")
        return self.adapted(self.synthesized(home) if wanted.generated else self.parted(), wanted)

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

    def documents(self, name: str = "documents", sections: Sequence[Documents] | None = None) -> Artefact:
        """The recipe's documents, or other `sections` under another name."""
        from aasut.documents.ingest import Texts

        recipe = self.recipe
        wanted = recipe if sections is None else Texts(sections, recipe.reading, recipe.chunks)
        return self._documents(name, wanted)

    def parts(self, documents: Artefact, name: str = "parts") -> Artefact:
        from aasut.synthesize import parts

        def build(folder: Path) -> dict[str, Any]:
            return parts.build(self.recipe, documents.path, folder, self.progress)

        return self._stage(name, parts.VERSION, parts.settings(self.recipe), [documents], build)

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

        @cache
        def index() -> Any:
            return self.search(done["index"])

        def search(question: str) -> list[str]:
            return [hit.chunk.text for hit in index().search(question, PASSAGES)]

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

    def train(self, done: dict[str, Artefact]) -> Artefact:
        """The student, in the folder ADAPTED."""
        from aasut.student import adapt, corpus
        from aasut.synthesize import item

        recipe, wanted = self.recipe, self.recipe.student
        assert wanted is not None
        teacher = recipe.teacher.model

        def build(folder: Path) -> dict[str, Any]:
            made = item.load(done["filter"].path / "train.jsonl") if "filter" in done else ()
            self.close()  # the teacher's memory; its model may be loaded again to learn from
            return adapt.build(
                recipe, self.passages(done, "train"), corpus.of_items(made), self.passages(done, "train", "general "),
                self._model(wanted.model).path, self._model(teacher).path if teacher else None, folder / ADAPTED,
                self.progress,
            )  # fmt: skip

        settings: list[Any] = [wanted.model_dump(mode="json", exclude={"checkpoint_s"}), recipe.adapt, recipe.seed]
        settings += [self._revision(wanted.model), self._revision(teacher)]
        before = [done[name] for name in ("documents", "parts", "general", "general parts", "filter") if name in done]
        return self._stage("adapt", adapt.VERSION, settings, before, build)

    def measure(self, done: dict[str, Artefact], wanted: Adapt) -> Artefact:
        """Bits per byte of what was held out, of the field and of general text, under each model."""
        from aasut.evaluate import field

        recipe = self.recipe
        assert recipe.student is not None
        teacher, student = recipe.teacher.model, recipe.student

        def build(folder: Path) -> dict[str, Any]:
            held = {"field": self.passages(done, "test"), "general": self.passages(done, "test", "general ")}
            sets = {name: field.drawn(passages, wanted.measured, recipe.seed) for name, passages in held.items()}
            models = {field.BEFORE: self._model(student.model).path, field.AFTER: done["adapt"].path / ADAPTED}
            if teacher and self._revision(teacher) != self._revision(student.model):
                models[field.TEACHER] = self._model(teacher).path
            context, precision = wanted.context, student.precision
            return field.build(sets, models, folder, self.progress, context=context, precision=precision)

        settings: list[Any] = [wanted.context, wanted.measured, student.precision, recipe.seed]
        settings += [self._revision(student.model), self._revision(teacher)]
        before = [done[name] for name in ("documents", "parts", "general", "general parts", "adapt")]
        return self._stage("measure", field.VERSION, settings, before, build)

    def passages(self, done: dict[str, Artefact], split: str, of: str = "") -> list[Any]:
        """The documents of a split, of the field or of "general " text, as they are read."""
        from aasut.documents import ingest
        from aasut.student import corpus
        from aasut.synthesize import parts

        documents, parted = done["general" if of else "documents"], parts.load(done[f"{of}parts"].path)
        chunks = ingest.load_chunks(documents.path)
        return corpus.of_chunks(chunk for chunk in chunks if parted[chunk.span.document] == split)

    def publish(self, done: dict[str, Artefact], folder: Path, scale: str) -> Made:
        """Gather the report, and copy it and all that people look for into `folder`."""
        report = self.report(done, scale)
        self.store.finished(self.recipe.name, report)
        shown = [done[name] for name in ("index", "handover", "adapt") if name in done]
        publish([*shown, report], folder, text_at(self.recipe, self.base, folder))
        return Made(folder, json.loads((report.path / REPORT).read_text(encoding="utf-8")), self.calls_made)

    def report(self, done: dict[str, Artefact], scale: str) -> Artefact:
        """report.json, with pages of what was made and of what the student learned."""
        from aasut.report import adaptation, synthesis
        from aasut.synthesize import parts

        recipe = self.recipe

        def build(folder: Path) -> dict[str, Any]:
            facts: dict[str, Any] = {"kind": "field", "name": recipe.name, "scale": scale}
            if "handover" in done:
                stages = {name: dict(artefact.facts) for name, artefact in done.items()}
                parted = parts.load(done["parts"].path)
                facts["synthesis"] = synthesis.gather(recipe, stages, done["documents"].path, parted)
                synthesis.write(facts["synthesis"], folder)
            if "measure" in done:
                facts["adaptation"] = {"train": done["adapt"].facts, "evaluate": done["measure"].facts}
                adaptation.write(recipe.name, facts["adaptation"], folder)
            text = json.dumps(facts, ensure_ascii=False, indent=2, allow_nan=False, default=plain)
            write_atomically(folder / REPORT, text + "\n")
            return {}

        return self._stage("report", VERSION, [recipe, scale], list(done.values()), build)
