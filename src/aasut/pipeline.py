"""A whole run: every stage in order. Start reading here; docs/lifecycle.md tells the same in words."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    """Refuse what would fail late. Raises RecipeError."""
    task = recipe.task.build()
    if task.schema:
        from aasut.engine import grammar

        grammar.check(task.schema, "task.tools" if task.tools else "task.schema")


class Stages(Proof):
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

    def method(self) -> Artefact:
        """How text will be learned; before the teacher is asked, so that a vain wish costs nothing."""
        from aasut.student import method

        wanted, teacher = self.recipe.student, self.recipe.teacher

        def build(folder: Path) -> dict[str, Any]:
            local = self._model(teacher.model).path if teacher.model else None
            return method.build(self.recipe, local, self._model(wanted.model).path)

        listed = teacher.endpoint and [teacher.endpoint.logprobs, teacher.endpoint.top_logprobs]
        templates = [self.recipe.teacher_template().plain(), self.recipe.student_template().plain()]
        models = [self._revision(teacher.model), self._revision(wanted.model)]
        more = ["taught"] if any(table.taught for table in self.recipe.data.tables) else []
        more += ["vocabulary"] if wanted.vocabulary is not None else []
        more += ["on_policy"] if wanted.on_policy is not None else []
        settings = [wanted.method, wanted.loss, listed, *models, templates, *more]
        found = self._stage("method", method.VERSION, settings, [], build)
        if found.facts:
            self.progress.say(f"the student learns by {method.Method.of(found.facts)}")
        return found

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

    def heal(self) -> dict[str, Artefact]:
        """General text and the start that was healed on it; the same for all recipes of a model, a shape and a seed."""
        from aasut.documents import ingest
        from aasut.student import general, heal

        wanted = self.recipe.student
        if wanted.heal is None:
            return {}
        texts = self._documents("general", ingest.Texts(wanted.heal.texts))

        def build(folder: Path) -> dict[str, Any]:
            self.close()  # the teacher's memory
            read = general.passages(ingest.load_documents(texts.path), ingest.load_chunks(texts.path))
            source = self._model(wanted.model).path
            return heal.build(wanted, self.recipe.seed, read, source, folder, self.progress)

        settings = [heal.identity(wanted), self._revision(wanted.model), self.recipe.seed]
        return {"general": texts, "heal": self._stage("heal", heal.VERSION, settings, [texts], build)}

    def initialise(self, data: Artefact, label: Artefact, heal: Artefact | None = None) -> Artefact:
        """The student's start, `heal`'s where there is one, with the vocabulary that it keeps."""
        from aasut.data import label as labelling
        from aasut.data import split
        from aasut.student import train

        wanted = self.recipe.student
        trimmed = wanted.vocabulary is not None  # then the answers decide which tokens stay

        def build(folder: Path) -> dict[str, Any]:
            pool = split.load(data.path, "pool")
            use = (labelling.load(label.path), split.load(data.path, "tune")) if trimmed else ((), ())
            source = heal.path if heal else self._model(wanted.model).path
            facts = None if heal is None else dict(heal.facts)
            return train.initialise(self.recipe, source, pool, folder, self.progress, *use, healed=facts)

        settings = [wanted.initialise, wanted.shape, self.recipe.student_template().plain(), wanted.precision]
        drawn = [self.recipe.seed] if wanted.initialise == "random" else []
        kept = [wanted.vocabulary, self.recipe.task] if trimmed else []
        given = [settings, self._revision(wanted.model), *drawn, *kept]
        parents = [data, *([label] if trimmed else []), *([] if heal is None else [heal])]
        return self._stage("initialise", train.START_VERSION, given, parents, build)

    def logits(self, data: Artefact, label: Artefact, method: Artefact, start: Artefact) -> dict[str, Artefact]:
        """Where a logit cache is learned from: the same one for all students of a tokenizer and a prompt."""
        from aasut.student import logits
        from aasut.student.method import CACHED

        if method.facts.get("name") not in CACHED:
            return {}

        def build(folder: Path) -> dict[str, Any]:
            return logits.build(self._given(data, label, method, start=start), folder, self.progress)

        trimmed = self.recipe.student.vocabulary is not None  # then its tokens are those of its start
        teacher, prompt = self.recipe.teacher, self.recipe.student_template().plain()
        shared = [method.facts[name] for name in ("name", "tokenizer", "vocabulary")]
        settings = [
            shared,
            prompt,
            self.recipe.task,
            self._revision(teacher.model),
            teacher.precision,
            self.recipe.seed,
        ]
        counted = self._counted(build) if teacher.endpoint else build
        parents = [data, label, *([start] if trimmed else [])]
        return {"logits": self._stage("logits", logits.VERSION, settings, parents, counted)}

    def train(
        self, data: Artefact, label: Artefact, start: Artefact, method: Artefact | None, logits: Artefact | None
    ) -> Artefact:
        from aasut.student import lessons, train
        from aasut.student.method import Method, settle

        learned = None if method is None or not method.facts else Method.of(method.facts)
        if learned is not None and logits is not None and logits.facts:
            learned = settle(learned, logits.facts["matched"])

        def build(folder: Path) -> dict[str, Any]:
            given = self._given(data, label, method, learned, start)
            taught = None if learned is None else lessons.build(given, start.path, logits.path if logits else None)
            facts = train.train(self.recipe, start.path, given.pool, given.labels, folder, self.progress, taught)
            return facts | ({} if learned is None else {"method": learned.as_dict()})

        wanted = self.recipe.student.model_dump(mode="json", exclude={"checkpoint_s", "preference"})
        settings = [wanted, self.recipe.task, self.recipe.seed, learned and learned.name]
        parents = [data, label, start, *([] if logits is None else [logits])]
        return self._stage("train", train.VERSION, settings, parents, build)

    def rank(self, data: Artefact, trained: Artefact) -> Artefact:
        """The teacher's preferences between the trained student's own answers."""
        from aasut.data import aside, preference, split
        from aasut.student import own_answers

        recipe = self.recipe

        def build(folder: Path) -> dict[str, Any]:
            inputs = preference.inputs(recipe, aside.part(recipe, split.load(data.path, "pool"))[0])
            given = own_answers.draw(recipe, trained.path, inputs, folder, self.progress)
            return preference.build(recipe, given, self.ledger, folder, self.progress)

        wanted = preference.settings_of(recipe).model_dump(exclude={"beta", "learning_rate", "epochs", "max_failed"})
        judge = recipe.teacher.model_dump(mode="json", include={"model", "endpoint", "scripted", "engine", "precision"})
        served = [recipe.export.engine, recipe.export.serve, recipe.export.precision]
        prompt = recipe.student_template().plain()
        settings = [wanted, judge, self._revision(recipe.teacher.model), recipe.task, prompt, served, recipe.seed]
        return self._stage("rank", preference.VERSION, settings, [data, trained], self._counted(build))

    def prefer(self, data: Artefact, trained: Artefact, rank: Artefact) -> Artefact:
        from aasut.data import preference, split
        from aasut.student import prefer

        def build(folder: Path) -> dict[str, Any]:
            pool, pairs = split.load(data.path, "pool"), preference.load(rank.path)
            return prefer.build(self.recipe, trained.path, pool, pairs, folder, self.progress)

        wanted = self.recipe.student.model_dump(mode="json", exclude={"checkpoint_s", "preference"})
        preferred = preference.settings_of(self.recipe).model_dump(include={"beta", "learning_rate", "epochs"})
        settings = [wanted, preferred, self.recipe.task, self.recipe.seed]
        return self._stage("prefer", prefer.VERSION, settings, [data, trained, rank], build)

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
