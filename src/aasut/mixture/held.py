"""What models of several fields cost on documents that are held out for choosing, each cost a stage of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aasut.mixture.members import GENERAL
from aasut.mixture.stages import MODEL
from aasut.mixture.texts import Texts
from aasut.progress import Progress
from aasut.recipe import MixtureRecipe
from aasut.store import Artefact

if TYPE_CHECKING:
    from aasut.evaluate.between import Costs
    from aasut.evaluate.bits import Bits
    from aasut.student.corpus import Passage

Stage = Callable[[str, Any, list[Artefact], Callable[[Path], dict[str, Any]]], Artefact]
CHOSEN = "chosen.json"


class Held:
    """Documents of the split `tune` of the fields `served`, and general text; `stage` makes what the store lacks."""

    def __init__(
        self, recipe: MixtureRecipe, served: Sequence[str], texts: Texts, stage: Stage, progress: Progress
    ) -> None:
        self.recipe, self.served, self.texts, self.stage, self.progress = recipe, list(served), texts, stage, progress

    @cached_property
    def sets(self) -> dict[str, list[Passage]]:
        """What is measured, drawn by the seed: of each field, and general text that several fields have once."""
        from aasut.evaluate import field

        found: dict[str, list[Passage]] = {name: self.texts.passages(name, "tune") for name in self.served}
        found[GENERAL] = []
        seen: set[str] = set()
        for number, name in enumerate(self.served):
            key = self.texts.done[name]["general parts"].fingerprint
            if key in seen:
                continue
            seen.add(key)
            for passage in self.texts.passages(name, "tune", "general "):
                own = tuple(f"{number}:{document}" for document in passage.documents)
                found[GENERAL].append(replace(passage, documents=own))
        return {name: field.drawn(of, self.recipe.measured, self.recipe.seed) for name, of in found.items()}

    def read(self) -> list[Artefact]:
        """What all fields' texts are read from."""
        found = {one.fingerprint: one for name in self.served for one in self.texts.read(name)}
        return list(found.values())

    def choices(self) -> Artefact:
        """Which student a classifier, which learned the fields' texts, chooses for each text that is measured."""
        from aasut.evaluate.chooser import Chooser
        from aasut.files import write_atomically

        def build(folder: Path) -> dict[str, Any]:
            texts = {name: [one.text for one in self.texts.passages(name, "train")] for name in self.served}
            chooser = Chooser(texts, self.recipe.seed)
            chosen = {name: chooser.choose([one.text for one in of]) for name, of in self.sets.items()}
            write_atomically(folder / CHOSEN, json.dumps(chosen))
            return {"right": {name: chosen[name].count(name) / max(len(chosen[name]), 1) for name in self.served}}

        return self.stage("choices", [self.recipe.seed, self.recipe.measured, self.served], self.read(), build)

    def bits(self, arm: str, name: str, model: Artefact | None) -> Bits:
        """What a set costs under a model; where that is None, each text under the student that is chosen for it."""
        if model is None:
            before = [self.choices(), *(self.texts.done[one]["adapt"] for one in self.served)]
        else:
            before = [model]

        def build(folder: Path) -> dict[str, Any]:
            return {"bits_per_byte": self._cost(arm, name, model, folder).per_byte}

        settings = [name, self.served, self.recipe.measured, self.recipe.seed, self.texts.context(name)]
        settings.append(self.recipe.train.precision)
        made = self.stage(f"{name} on tune, {arm}", settings, [*before, *self.read()], build)
        return self._cost(arm, name, model, made.path)

    def costs(self, models: Mapping[str, Artefact | None]) -> dict[str, Costs]:
        """What the documents of each set cost under each model; see `bits`."""
        from aasut.evaluate.between import Costs

        found = {}
        for name, passages in self.sets.items():
            measured = {arm: self.bits(arm, name, model) for arm, model in models.items()}
            found[name] = Costs.of(name, passages, measured)
        return found

    def _cost(self, arm: str, name: str, model: Artefact | None, folder: Path) -> Bits:
        """As kept in a folder, or measured and kept there."""
        import numpy as np

        from aasut.evaluate import bits

        passages = self.sets[name]
        if model is not None:
            return self._under(model.path / MODEL, passages, folder / f"{name}-{arm}.json", name)
        chosen = json.loads((self.choices().path / CHOSEN).read_text(encoding="utf-8"))[name]
        count = len(passages)
        whole = bits.Bits(np.zeros(count), np.zeros(count, np.int64), np.zeros(count, np.int64))
        for student in sorted(set(chosen)):
            places = [place for place, one in enumerate(chosen) if one == student]
            own, file = [passages[place] for place in places], folder / f"{name}-by-{student}.json"
            found = self._under(self.texts.branch(student), own, file, name)
            whole.bits[places], whole.bytes[places], whole.tokens[places] = found.bits, found.bytes, found.tokens
        return whole

    def _under(self, model: Path, passages: Sequence[Passage], file: Path, name: str) -> Bits:
        from aasut.evaluate import field

        context, precision = self.texts.context(name), self.recipe.train.precision
        return field.kept(passages, model, file, self.progress, context, context // 4, precision)
