"""What a mixture takes of its fields: their stages, once they are learned, and their texts as rows."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aasut.errors import StoreError
from aasut.field import ADAPTED, FieldStages
from aasut.mixture.members import GENERAL, Member
from aasut.progress import Progress
from aasut.recipe import MixtureRecipe
from aasut.store import Artefact, Store

if TYPE_CHECKING:
    from aasut.student.corpus import Corpus, Passage
    from aasut.student.objective import Row

PROBED = 4096  # tokens of a field that a router starts from


class Texts:
    """Of all members. `done`: the stages of each that is learned · `start`: the model folder that all began from ·
    `teacher`: that of another model which reads what is learned, where there is one."""

    def __init__(
        self, recipe: MixtureRecipe, members: Mapping[str, Member], store: Store, start: Path, teacher: Path | None
    ) -> None:
        self.recipe, self.members, self.store, self.start, self.teacher = recipe, members, store, start, teacher
        self.done: dict[str, dict[str, Artefact]] = {}
        self._lessons: dict[str, Corpus] = {}

    @cached_property
    def tokenizer(self) -> Any:
        """All students'."""
        from aasut.formats.tokenizer import Tokenizer

        return Tokenizer.load(self.start)

    def stages(self, member: Member) -> FieldStages:
        """Those of a field, which make nothing here."""
        return FieldStages(member.recipe, member.path.parent, self.store, Progress(quiet=True), makes=())

    def learned(self, member: Member, root: Path) -> bool:
        """Whether the store has all stages of a field; they are noted in `done`."""
        try:
            self.done[member.name] = self.stages(member).learned(root / member.recipe.name)
        except StoreError:
            return False
        return True

    def branch(self, name: str) -> Path:
        """The folder of a field's student."""
        return self.done[name]["adapt"].path / ADAPTED

    def read(self, name: str) -> list[Artefact]:
        """What a field's texts are read from."""
        names = ("documents", "parts", "general", "general parts", "filter")
        return [self.done[name][stage] for stage in names if stage in self.done[name]]

    def passages(self, name: str, split: str, of: str = "") -> list[Passage]:
        found: list[Passage] = self.stages(self.members[name]).passages(self.done[name], split, of)
        return found

    def probe(self, name: str) -> list[Row]:
        """Rows of a field's documents, drawn by the seed, that a router starts from."""
        from aasut.student.corpus import Cutter

        cut = Cutter(self.tokenizer, self.members[name].adapt.context).cut_all(self.passages(name, "train"))
        rows = [row for one in cut for row in one.rows]
        random.Random(self.recipe.seed).shuffle(rows)
        found, tokens = [], 0
        for row in rows:
            if tokens >= PROBED:
                break
            found.append(replace(row, group=name))
            tokens += len(row.ids)
        return found

    def lessons(self, name: str) -> Corpus:
        """What is learned of a field, and kept for validation, by rows of its group."""
        from aasut.engine.common import opening
        from aasut.formats.tokenizer import Tokenizer
        from aasut.student import corpus
        from aasut.synthesize import item

        if name not in self._lessons:
            member, done = self.members[name], self.done[name]
            most = self.recipe.train.tokens
            wanted = member.adapt if most is None else member.adapt.model_copy(update={"tokens": most})
            made = corpus.of_items(item.load(done["filter"].path / "train.jsonl")) if "filter" in done else []
            texts = corpus.build(
                self.passages(name, "train"), made, self.passages(name, "train", "general "), self.tokenizer, wanted,
                member.student.validation, member.recipe.seed,
            )  # fmt: skip
            asked = opening(self.tokenizer if self.teacher is None else Tokenizer.load(self.teacher))
            before = len(opening(self.tokenizer))

            def own(rows: Sequence[Row]) -> list[Row]:
                return [
                    replace(row, group=name, asked=[*asked, *row.ids[before : len(row.ids) - row.answer]])
                    for row in rows
                ]

            self._lessons[name] = corpus.Corpus(own(texts.rows), own(texts.validation), texts.tokens)
        return self._lessons[name]

    def settings(self, names: Sequence[str]) -> list[Any]:
        """What decides on the rows of fields, beside their texts."""
        found: list[Any] = [self.recipe.seed]
        for name in names:
            member = self.members[name]
            adapt = member.adapt.model_dump(mode="json", include={"context", "tokens", "replay_share"})
            found.append([adapt, member.student.validation, member.student.frozen_embeddings, member.recipe.seed])
        return found

    def context(self, name: str) -> int:
        """Tokens of a row of a set of texts."""
        return max(member.adapt.context for member in self.members.values() if name in (GENERAL, member.name))

    def held(self, name: str) -> list[Passage]:
        """Held-out documents of a field, or of all fields' general text, drawn by the seed."""
        from aasut.evaluate import field

        if name != GENERAL:
            found = self.passages(name, "test")
        else:
            found = []
            for number, other in enumerate(self._generals()):
                for passage in self.passages(other, "test", "general "):
                    own = tuple(f"{number}:{document}" for document in passage.documents)
                    found.append(replace(passage, documents=own))
        return field.drawn(found, self.recipe.measured, self.recipe.seed)

    def _generals(self) -> Iterator[str]:
        """Fields whose general text no field before has."""
        seen = set()
        for name in self.members:
            key = self.done[name]["general parts"].fingerprint
            if key not in seen:
                seen.add(key)
                yield name

    def read_held(self, name: str) -> list[Artefact]:
        """What `held` is read from."""
        if name != GENERAL:
            return [self.done[name]["documents"], self.done[name]["parts"]]
        return [self.done[one][stage] for one in self._generals() for stage in ("general", "general parts")]

    def settings_held(self, name: str) -> list[Any]:
        """What decides on `held` and its rows, beside the texts."""
        return [name, self.recipe.measured, self.recipe.seed, self.context(name)]
