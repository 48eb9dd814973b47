"""A whole run: every stage in order. Start reading here; docs/lifecycle.md tells the same in words."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from aasut.errors import RecipeError
from aasut.progress import Progress
from aasut.publish import publish
from aasut.recipe import ModelAddress, Recipe, text_at
from aasut.recipe.scale import scaled
from aasut.store import Artefact, Store


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, the content of its report.json, and what the teacher was asked just now."""

    folder: Path
    facts: dict[str, Any]
    calls_made: int


def run(recipe: Recipe, base: Path, root: Path, progress: Progress, scale: str = "full") -> Run:
    """Run a recipe whose paths are relative to `base`; results stand in `root`/<name>.

    What was done before is reused; what a kill interrupted goes on. Raises AasutError.
    """
    recipe = scaled(recipe, scale)
    check(recipe)
    with Store(root / ".store") as store:
        stages = Stages(recipe, base, store, progress)
        try:
            done = stages.all(scale)
            store.finished(recipe.name, done["report"])
            publish([done["export"], done["report"]], root / recipe.name, text_at(recipe, base, root / recipe.name))
            facts = json.loads((done["report"].path / "report.json").read_text(encoding="utf-8"))
            return Run(root / recipe.name, facts, stages.calls_made)
        finally:
            stages.close()


def check(recipe: Recipe) -> None:
    """Refuse what would fail late. Raises RecipeError."""
    if schema := recipe.task.build().schema:
        from aasut.engine import grammar

        grammar.check(schema)


class Stages:
    """The stages of one run. Models and the teacher are fetched and loaded when a stage first needs them."""

    def __init__(self, recipe: Recipe, base: Path, store: Store, progress: Progress) -> None:
        self.recipe, self.base, self.store, self.progress = recipe, base, store, progress
        self.calls_made = 0

    def all(self, scale: str) -> dict[str, Artefact]:
        """Every stage, by name, parents before children."""
        recipe, linear = self.recipe, self.recipe.student.initialise == "linear"
        done: dict[str, Artefact] = {}
        data = done["data"] = self.data()
        choose = done["choose"] = self.choose(data)
        label = done["label"] = self.label(data, choose)
        baseline = self.linear(data, label) if recipe.task.kind == "classify" else None
        if linear and baseline is not None:
            done["train"] = baseline
        else:
            done |= {"linear": baseline} if baseline is not None else {}
            start = done["initialise"] = self.initialise(data)
            done["train"] = self.train(data, label, start)
        export = done["export"] = self.export(data, done["train"])
        evaluate = done["evaluate"] = self.evaluate(data, label, export, baseline, done.get("initialise"))
        done["report"] = self.report(done, evaluate, scale, recipe)
        return done

    def data(self) -> Artefact:
        from aasut.data import split

        def build(folder: Path) -> dict[str, Any]:
            return split.build(self.recipe, self.base, folder, self.progress)

        return self._stage("data", split.VERSION, split.settings(self.recipe, self.base), [], build)

    def choose(self, data: Artefact) -> Artefact:
        from aasut.data import choose, split

        def build(folder: Path) -> dict[str, Any]:
            return choose.build(self.recipe, split.load(data.path, "tune"), self.ledger, folder, self.progress)

        teacher = self.recipe.teacher.model_dump(exclude={"calibration", "max_usd", "max_failed"})
        settings = [teacher, self._revision(self.recipe.teacher.model), self.recipe.task, self.recipe.seed]
        return self._stage("choose", choose.VERSION, settings, [data], self._counted(build))

    def label(self, data: Artefact, choose: Artefact) -> Artefact:
        from aasut.data import label, split
        from aasut.data.panel import Panel

        def build(folder: Path) -> dict[str, Any]:
            pool, tune = split.load(data.path, "pool"), split.load(data.path, "tune")
            panel = Panel.from_json((choose.path / "panel.json").read_text(encoding="utf-8"))
            return label.build(self.recipe, panel, pool, tune, self.ledger, folder, self.progress)

        settings = [self.recipe.teacher.calibration, self.recipe.teacher.max_failed]
        return self._stage("label", label.VERSION, settings, [data, choose], self._counted(build))

    def initialise(self, data: Artefact) -> Artefact:
        from aasut.data import split
        from aasut.student import train

        def build(folder: Path) -> dict[str, Any]:
            pool = split.load(data.path, "pool")
            return train.initialise(
                self.recipe, self._model(self.recipe.student.model).path, pool, folder, self.progress
            )

        wanted = self.recipe.student
        settings = [wanted.initialise, wanted.layers, self.recipe.student_template().plain(), wanted.precision]
        return self._stage("initialise", train.VERSION, [settings, self._revision(wanted.model)], [data], build)

    def train(self, data: Artefact, label: Artefact, start: Artefact) -> Artefact:
        from aasut.data import label as labelling
        from aasut.data import split
        from aasut.student import train

        def build(folder: Path) -> dict[str, Any]:
            pool, labels = split.load(data.path, "pool"), labelling.load(label.path)
            return train.train(self.recipe, start.path, pool, labels, folder, self.progress)

        wanted = self.recipe.student.model_dump(mode="json", exclude={"checkpoint_s"})
        settings = [wanted, self.recipe.task, self.recipe.seed]
        return self._stage("train", train.VERSION, settings, [data, label, start], build)

    def linear(self, data: Artefact, label: Artefact) -> Artefact:
        from aasut.data import label as labelling
        from aasut.data import split
        from aasut.student import train

        def build(folder: Path) -> dict[str, Any]:
            return train.linear(self.recipe, split.load(data.path, "pool"), labelling.load(label.path), folder)

        return self._stage("linear", train.VERSION, [self.recipe.task, self.recipe.seed], [data, label], build)

    def export(self, data: Artefact, trained: Artefact) -> Artefact:
        from aasut.data import split
        from aasut.export import export
        from aasut.student.train import prompts_of

        def build(folder: Path) -> dict[str, Any]:
            prompts = prompts_of(self.recipe, split.load(data.path, "pool")[: self.recipe.export.round_trip])
            return export.build(self.recipe, trained.path, prompts, self._licences(), folder, self.progress)

        settings = [self.recipe.name, self.recipe.export, self.recipe.task, self.recipe.student.prompt]
        return self._stage("export", export.VERSION, settings, [data, trained], build)

    def evaluate(
        self, data: Artefact, label: Artefact, export: Artefact, linear: Artefact | None, start: Artefact | None
    ) -> Artefact:
        from aasut.data import split
        from aasut.data.panel import Panel
        from aasut.evaluate import candidates, evaluate

        def build(folder: Path) -> dict[str, Any]:
            self.store.open_split(data.facts["split_hash"]["test"], "evaluate")
            panel = Panel.from_json((label.path / "panel.json").read_text(encoding="utf-8"))
            q8_0 = export.path / "student-q8_0.gguf"
            models = candidates.Models(
                student=export.path / export.facts["served"],
                linear=linear.path if linear else None,
                untrained=start.path if start else None,
                student_q8_0=q8_0 if q8_0.exists() else None,
            )
            test = split.load(data.path, "test")
            return evaluate.build(self.recipe, panel, self.ledger, models, test, label.facts, folder, self.progress)

        settings = [self.recipe.evaluate.timing_requests, self.recipe.export.engine, self.recipe.export.precision]
        parents = [data, label, export, *(one for one in (linear, start) if one is not None)]
        return self._stage("evaluate", evaluate.VERSION, settings, parents, self._counted(build))

    def report(self, done: dict[str, Artefact], evaluated: Artefact, scale: str, recipe: Recipe) -> Artefact:
        from aasut.data import split
        from aasut.report import facts, report

        def build(folder: Path) -> dict[str, Any]:
            more = {
                "lineage": self.store.lineage(evaluated),
                "test_opened": self.store.openings(done["data"].facts["split_hash"]["test"]),
                "licences": self._licences(),
            }
            gathered = facts.gather(recipe, scale, done, split.load(done["data"].path, "test"), more)
            report.write(gathered, folder)
            return {}

        return self._stage("report", report.VERSION, [recipe, scale], list(done.values()), build)

    @cached_property
    def ledger(self) -> Any:
        """The teacher behind its ledger."""
        from aasut.teacher import base
        from aasut.teacher.ledger import Ledger

        wanted = self.recipe.teacher
        kind = "model" if wanted.model else "endpoint" if wanted.endpoint else "scripted"
        model = self._model(wanted.model) if wanted.model else None
        self.progress.say("loading the teacher")
        teacher = base.create(kind, wanted, model.path if model else None, model.sha256 if model else "")
        return Ledger(teacher, self.store.root / "ledger.db")

    def close(self) -> None:
        """Give the teacher's memory back."""
        if "ledger" in self.__dict__:
            self.ledger.close()

    def _stage(
        self, name: str, version: int, settings: Any, parents: list[Artefact], build: Callable[[Path], dict[str, Any]]
    ) -> Artefact:
        artefact = self.store.stage(name, version, settings, parents, build)
        how = "reused" if artefact.reused else f"done in {artefact.seconds:.1f} s"
        self.progress.say(f"{name:<11}{how}{_rows(artefact)}")
        return artefact

    def _counted(self, build: Callable[[Path], dict[str, Any]]) -> Callable[[Path], dict[str, Any]]:
        """`build`, with the calls that it made of the teacher among its facts."""

        def counted(folder: Path) -> dict[str, Any]:
            ledger = self.ledger
            names = ("calls_made", "calls_reused", "usd_spent", "usd_reused")
            before = {name: getattr(ledger, name) for name in names}
            facts = build(folder)
            calls = {name: getattr(ledger, name) - before[name] for name in names}
            self.calls_made += calls["calls_made"]
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

    def _licences(self) -> list[dict[str, Any]]:
        from aasut.export import licences

        teacher, student = self.recipe.teacher, self.recipe.student
        name = teacher.model.address if teacher.model else teacher.endpoint.model if teacher.endpoint else "scripted"
        licence = self._model(teacher.model).licence if teacher.model else "own" if teacher.scripted else "unknown"
        start = student.model.address if student.model else None
        return licences.ledger(name, licence, start, self._model(student.model).licence if student.model else None)


def _rows(artefact: Artefact) -> str:
    """Row accounting of a stage for the screen."""
    parts = []
    for rows in artefact.facts.get("conservation", {}).values():
        lost = {**rows["dropped"], **rows["failed"]}
        reasons = ", ".join(f"{count} {reason}" for reason, count in lost.items() if count)
        parts.append(f"{rows['in']} rows in, {rows['kept']} kept" + (f" ({reasons})" if reasons else ""))
    return ": " + "; ".join(parts) if parts else ""
