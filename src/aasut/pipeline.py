"""A whole run: every stage in order. Start reading here; docs/lifecycle.md tells the same in words."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aasut.learning import Learning
from aasut.progress import Progress
from aasut.proof import Proof
from aasut.publish import publish
from aasut.recipe import Recipe, text_at
from aasut.recipe.scale import scaled
from aasut.store import Artefact, Store

STORE = ".store"  # folder of the run store, below the folder of runs
LATER = ("certificate.json",)  # what stages after the run leave; gone with the student that they were about


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
    with Store(root / STORE) as store:
        stages = Stages(recipe, base, store, progress)
        try:
            return finish(stages, stages.all(), scale, root / recipe.name)
        finally:
            stages.close()


def finish(stages: Stages, done: dict[str, Artefact], scale: str, folder: Path) -> Run:
    """Gather the report from all that was made, and publish it with the student in `folder`."""
    done = stages.made_since(done) | done
    report = stages.report(done, scale)
    stages.store.finished(stages.recipe.name, report)
    shown = [done[name] for name in ("export", "certify") if name in done]
    publish([*shown, report], folder, text_at(stages.recipe, stages.base, folder), stale=LATER)
    facts = json.loads((report.path / "report.json").read_text(encoding="utf-8"))
    return Run(folder, facts, stages.calls_made)


def check(recipe: Recipe) -> None:
    """Refuse what would fail late. Raises RecipeError, or EngineError for an engine that is not installed."""
    if "vllm" in (recipe.export.engine, recipe.teacher.engine):
        from aasut.engine import vllm

        vllm.require()
    task = recipe.task.build()
    if task.schema:
        from aasut.engine import grammar

        grammar.check(task.schema, "task.tools" if task.tools else "task.schema")


class Stages(Learning, Proof):
    """The stages of one run."""

    def all(self) -> dict[str, Artefact]:
        """Every stage but the report, by name, parents before children."""
        recipe, linear = self.recipe, self.recipe.student.initialise == "linear"
        done: dict[str, Artefact] = {}
        data = done["data"] = self.data()
        self.declare(data)
        method = self.method() if recipe.task.kind != "classify" else None
        choose = done["choose"] = self.choose(data)
        label = done["label"] = self.label(data, choose)
        baseline = self.linear(data, label) if recipe.task.kind == "classify" else None
        if linear and baseline is not None:
            done["train"] = baseline
        else:
            done |= {"linear": baseline} if baseline is not None else {}
            done |= self.heal()
            start = done["initialise"] = self.initialise(data, label, done.get("heal"))
            if method is not None:
                done |= {"method": method} | self.logits(data, label, method, start)
            done["train"] = self.train(data, label, start, method, done.get("logits"))
            if recipe.student.preference is not None:
                rank = done["rank"] = self.rank(data, done["train"])
                done["prefer"] = self.prefer(data, done["train"], rank)
        export = done["export"] = self.export(data, done.get("prefer", done["train"]))
        evaluate = done["evaluate"] = self.evaluate(data, label, export, baseline, done.get("initialise"))
        if recipe.judges:
            done["judge"] = self.judge(data, export, evaluate)
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

        teacher = self.recipe.teacher.model_dump(exclude={"calibration", "max_usd", "max_failed", "others"})
        settings = [teacher, self._revision(self.recipe.teacher.model), self.recipe.task, self.recipe.seed]
        return self._stage("choose", choose.VERSION, settings, [data], self._counted(build))

    def label(self, data: Artefact, choose: Artefact) -> Artefact:
        from aasut.data import aside, label, split
        from aasut.data.panel import Panel

        def build(folder: Path) -> dict[str, Any]:
            pool, kept = aside.part(self.recipe, split.load(data.path, "pool"))
            tune = split.load(data.path, "tune")
            panel = Panel.from_json((choose.path / "panel.json").read_text(encoding="utf-8"))
            weights = split.load_weights(data.path)
            teachers = self.ledger, folder, self.progress
            facts = label.build(self.recipe, panel, pool, tune, *teachers, len(kept), weights, self.open_other)
            facts["conservation"] |= {"recorded": self.recorded} if self.recorded else {}
            return facts

        settings: list[Any] = [self.recipe.teacher.calibration, self.recipe.teacher.max_failed]
        if wanted := max((judge.unlabelled for judge in self.recipe.judges), default=0):
            settings += [wanted, self.recipe.seed]
        if others := self.recipe.teacher.others:
            settings += [
                [one.model_dump(mode="json", exclude={"max_usd"}), self._revision(one.model)] for one in others
            ]
        return self._stage("label", label.VERSION, settings, [data, choose], self._counted(build))

    def export(self, data: Artefact, trained: Artefact) -> Artefact:
        from aasut.data import split
        from aasut.export import export
        from aasut.student.train import prompts_of

        def build(folder: Path) -> dict[str, Any]:
            prompts = prompts_of(self.recipe, split.load(data.path, "pool")[: self.recipe.export.round_trip])
            return export.build(self.recipe, trained.path, prompts, self._licences(), folder, self.progress)

        settings = [self.recipe.name, self.recipe.export, self.recipe.task, self.recipe.student.prompt]
        return self._stage("export", export.VERSION, settings, [data, trained], build)

    def report(self, done: dict[str, Artefact], scale: str) -> Artefact:
        from aasut.data import split
        from aasut.gateway import harvest
        from aasut.report import facts, report

        evaluated, recipe = done["evaluate"], self.recipe
        saw = harvest.facts_of(recipe, self.base)
        test_split = done["data"].facts["split_hash"]["test"]

        def build(folder: Path) -> dict[str, Any]:
            more = {
                "lineage": self.store.lineage(evaluated),
                "test_opened": self.store.openings(test_split),
                "margin_recorded": self.store.declared(test_split),
                "licences": self._licences(),
                "traffic": saw,
            }
            gathered = facts.gather(recipe, scale, done, split.load(done["data"].path, "test"), more)
            report.write(gathered, folder)
            return {}

        return self._stage(
            "report", report.VERSION, [recipe, scale, *([saw] if saw else [])], list(done.values()), build
        )
