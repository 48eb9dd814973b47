"""What the stages of a run work with: the store, models, the teacher behind its ledger."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from aasut.errors import RecipeError, StoreError
from aasut.progress import Progress
from aasut.recipe import Asked, FieldRecipe, ModelAddress, Recipe
from aasut.store import Artefact, Store
from aasut.types import Conservation

R = TypeVar("R", Recipe, FieldRecipe)


class Workshop(Generic[R]):
    """Models and the teacher are fetched and loaded when a stage first needs them.

    `makes` names the stages that may be made where the store lacks them; None for all of them.
    """

    def __init__(
        self, recipe: R, base: Path, store: Store, progress: Progress, makes: Collection[str] | None = None
    ) -> None:
        self.recipe: R = recipe
        self.base, self.store, self.progress, self.makes = base, store, progress, makes
        self.calls_made, self.usd_spent = 0, 0.0
        self.recorded: Conservation | None = None  # of answers in recorded tables, once they are read

    def _given(
        self: Workshop[Recipe], data: Artefact, label: Artefact, method: Artefact | None, learned: Any = None,
        start: Artefact | None = None,
    ) -> Any:  # fmt: skip
        """What teaching may need; the teacher itself is loaded when that is asked for.

        A student with a trimmed vocabulary has the tokens of its start, others those of its model.
        """
        from aasut.data import label as labelling
        from aasut.data import split
        from aasut.data.panel import Panel
        from aasut.student.lessons import Given

        panel = Panel.from_json((label.path / "panel.json").read_text(encoding="utf-8"))
        teacher, facts = self.recipe.teacher, {} if method is None else method.facts
        remote = teacher.endpoint
        trimmed = start if self.recipe.student.vocabulary is not None else None
        tokens = trimmed.facts["vocabulary"]["tokens"][1] if trimmed else facts.get("vocabulary", 0)
        own = trimmed.path if trimmed else self._model(self.recipe.student.model).path
        model = partial(self._teacher_for, own) if trimmed else self._teacher_model
        revision = f"{remote.base_url} {remote.model} {remote.revision}" if remote else self._revision(teacher.model)
        return Given(
            self.recipe, panel, split.load(data.path, "pool"), labelling.load(label.path), own,
            learned.name if learned else facts.get("name", ""), tokens, revision, model,
            lambda: self.ledger,
        )  # fmt: skip

    def _teacher_model(self) -> tuple[Any, Any]:
        """A local teacher's model and tokenizer: those that answered, or loaded anew."""
        from aasut.engine.torch import TorchEngine, load

        engine = self.ledger.teacher.engine if "ledger" in self.__dict__ else None
        if not isinstance(engine, TorchEngine):
            wanted = self.recipe.teacher
            self.progress.say("loading the teacher")
            engine = load(self._model(wanted.model).path, precision=wanted.precision)
        return engine.model, engine.tokenizer

    def _teacher_for(self: Workshop[Recipe], start: Path) -> tuple[Any, Any]:
        """A local teacher whose tokens bear the numbers that they have in the trimmed student in `start`."""
        from aasut.formats.tokenizer import Tokenizer
        from aasut.student import renumbered

        self.close()  # the one that answered keeps its numbers
        own = Tokenizer.load(self._model(self.recipe.student.model).path)
        return renumbered.renumber(*self._teacher_model(), renumbered.kept(Tokenizer.load(start), own))

    @cached_property
    def ledger(self) -> Any:
        """The teacher behind its ledger, which has the answers in recorded tables too."""
        self.progress.say("loading the teacher")
        return self._with_recorded(self._asked(self.recipe.teacher))

    def _with_recorded(self, ledger: Any) -> Any:
        if isinstance(self.recipe, Recipe) and any(table.recorded for table in self.recipe.data.tables):
            from aasut.data import recorded

            found = recorded.read(self.recipe, self.base)
            ledger.enter(found.answers)
            self.recorded = found.conservation
        return ledger

    def open_judge(self: Workshop[Recipe], number: int) -> Any:
        """A judge behind the same ledger; the teacher, which is not asked any more, gives its memory back first."""
        self.close()
        self.progress.say(f"loading judge {number + 1}")
        return self._asked(self.recipe.judges[number])

    def open_other(self: Workshop[Recipe], number: int) -> Any:
        """One of `teacher.others` behind the same ledger; two local models are not held at once."""
        if self.recipe.teacher.others[number].model is not None:
            self.close()
        self.progress.say(f"loading other teacher {number + 1}")
        return self._asked(self.recipe.teacher.others[number])

    def _asked(self, wanted: Asked) -> Any:
        from aasut.teacher import base
        from aasut.teacher.ledger import Ledger

        model = self._model(wanted.model) if wanted.model else None
        asked = base.create(wanted.kind, wanted, model.path if model else None, model.sha256 if model else "")
        return Ledger(asked, self.store.root / "ledger.db")

    def close(self) -> None:
        """Give the teacher's memory back."""
        if ledger := self.__dict__.pop("ledger", None):
            ledger.close()

    def _stage(
        self, name: str, version: int, settings: Any, parents: list[Artefact], build: Callable[[Path], dict[str, Any]]
    ) -> Artefact:
        if self.makes is not None and name not in self.makes and not self.store.made(name, version, settings, parents):
            raise StoreError(
                f"The run {self.recipe.name} is not as it was made: its stage {name} would have to be made again.",
                "Run its recipe again: what did not change is reused.",
            )
        artefact = self.store.stage(name, version, settings, parents, build)
        self.progress.say(told(artefact))
        return artefact

    def _documents(self, name: str, wanted: Any) -> Artefact:
        """The stage `name` that reads what `wanted` (documents.ingest.Wanted) names."""
        from aasut.documents import ingest

        def build(folder: Path) -> dict[str, Any]:
            return ingest.build(wanted, self.base, folder, self.progress)

        return self._stage(name, ingest.VERSION, ingest.settings(wanted, self.base), [], build)

    def _counted(self, build: Callable[[Path], dict[str, Any]]) -> Callable[[Path], dict[str, Any]]:
        """`build`, with the calls that it made of the teacher, and those that it names itself, among its facts."""

        def counted(folder: Path) -> dict[str, Any]:
            ledger = self.ledger
            names = ("calls_made", "calls_reused", "calls_recorded", "usd_spent", "usd_reused")
            before = {name: getattr(ledger, name) for name in names}
            facts: dict[str, Any] = {}
            try:
                facts = build(folder)
            finally:
                others = facts.get("calls", {})
                calls = {name: getattr(ledger, name) - before[name] + others.get(name, 0) for name in names}
                self.calls_made += calls["calls_made"]
                self.usd_spent += calls["usd_spent"]
            return {**facts, "calls": calls}

        return counted

    def _model(self, address: ModelAddress | None) -> Any:
        from aasut.sources import models

        if address is None:
            raise RecipeError("The recipe names no model here.", "Give student.model or teacher.model.")
        return models.fetch(address, base=self.base, progress=self.progress)

    def _revision(self, address: ModelAddress | None) -> str:
        """What identifies a model without fetching it, where the recipe pins it."""
        if address is None:
            return ""
        return address.sha256 or self._model(address).sha256

    def _licences(self: Workshop[Recipe]) -> list[dict[str, Any]]:
        from aasut.export import licences

        teacher, student = self.recipe.teacher, self.recipe.student
        start = student.model.address if student.model else None
        others = [(one.source, _licence(one, self._model)) for one in teacher.others]
        own = self._model(student.model).licence if student.model else None
        texts = [(text.source, text.licence) for text in student.heal.texts] if student.heal else []
        return licences.ledger(teacher.source, _licence(teacher, self._model), start, own, others, texts)


def _licence(asked: Asked, model: Callable[[ModelAddress], Any]) -> str:
    return str(model(asked.model).licence) if asked.model else "own" if asked.scripted else "unknown"


def told(artefact: Artefact) -> str:
    """A line about a stage: how it was come by, and what became of its rows."""
    how = "reused" if artefact.reused else f"done in {artefact.seconds:.1f} s"
    return f"{artefact.stage:<10} {how}{_rows(artefact)}"


def _rows(artefact: Artefact) -> str:
    """Row accounting of a stage for the screen."""
    parts = []
    for rows in artefact.facts.get("conservation", {}).values():
        lost = {**rows["dropped"], **rows["failed"]}
        reasons = ", ".join(f"{count} {reason}" for reason, count in lost.items() if count)
        parts.append(f"{rows['in']} rows in, {rows['kept']} kept" + (f" ({reasons})" if reasons else ""))
    return ": " + "; ".join(parts) if parts else ""
