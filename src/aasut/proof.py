"""The stages that prove a student: what is declared beforehand, the verdict's answers, judges, the certificate."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aasut.errors import RecipeError
from aasut.recipe import Recipe
from aasut.store import Artefact, digest
from aasut.workshop import Workshop


class Proof(Workshop[Recipe]):
    """Stages after the export; `test` and `calibrate` are opened here alone."""

    def declare(self, data: Artefact) -> None:
        """Record what the verdict will be judged by, before `test` is opened and anything is paid for.

        Raises RecipeError where `test` was opened already for another margin, confidence or choice of metrics,
        DataError where its human answers cannot be scored by these.
        """
        from aasut.data import split
        from aasut.evaluate import scores

        wanted, metrics = self.recipe.evaluate, self.recipe.metrics()
        scores.check(metrics, [str(example.answer) for example in split.load(data.path, "test")])
        found = self.store.declare(data.facts["split_hash"]["test"], wanted.margin, wanted.confidence, metrics)
        for name, now, then in (
            ("margin", wanted.margin, found.margin),
            ("confidence", wanted.confidence, found.confidence),
            ("metrics", f"[{', '.join(metrics)}]", f"[{', '.join(found.metrics)}]"),
        ):
            if now != then:
                at = time.strftime("%Y-%m-%d %H:%M", time.localtime(found.at))
                raise RecipeError(
                    f"evaluate.{name} is {now}, but {then} was recorded for this `test` split on {at}, and the split "
                    "has been opened since.",
                    f"Set evaluate.{name} to {then}, or collect new human answers, so that `test` is another one.",
                )

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

        settings: list[Any] = [self.recipe.evaluate.timing_requests]
        settings += [self.recipe.export.engine, self.recipe.export.precision]
        settings += ["forced"] if self.recipe.task.build().schema else []  # tokens of which count as certain
        parents = [data, label, export, *(one for one in (linear, start) if one is not None)]
        return self._stage("evaluate", evaluate.VERSION, settings, parents, self._counted(build))

    def judge(self, data: Artefact, export: Artefact, evaluated: Artefact) -> Artefact:
        """Judges look at answers that are given: to `test`, as `evaluate` opened it, and to inputs kept aside."""
        from aasut.data import aside, split
        from aasut.evaluate import judges
        from aasut.evaluate.verdict import Answers

        recipe = self.recipe

        def build(folder: Path) -> dict[str, Any]:
            predictions = json.loads((evaluated.path / "predictions.json").read_text(encoding="utf-8"))
            answers = Answers.of(recipe.task.build(), split.load(data.path, "test"), predictions)
            wanted = aside.part(recipe, split.load(data.path, "pool"))[1]
            given = judges.answer_aside(recipe, export.path / export.facts["served"], wanted, self.progress)
            found = judges.build(recipe, self.open_judge, answers, wanted, given, folder, self.progress)
            self.calls_made += found["calls"]["calls_made"]
            return found

        asked = [judge.model_dump(mode="json", exclude={"max_usd", "max_failed"}) for judge in recipe.judges]
        revisions = [self._revision(judge.model) for judge in recipe.judges]
        settings = [asked, revisions, recipe.evaluate.confidence, recipe.evaluate.strata, recipe.task, recipe.seed,
                    recipe.export.engine, recipe.export.precision]  # fmt: skip
        return self._stage("judge", judges.VERSION, settings, [data, export, evaluated], build)

    def made_since(self, done: dict[str, Artefact]) -> dict[str, Artefact]:
        """The newest of what commands of their own made of what is `done`: a certificate, a learning curve."""
        found = {"certify": self.store.newest("certify", self._certified_parents(done))}
        for of in ("linear", "train"):  # a curve of the student's own kind goes before one of linear models
            made = self.store.newest("plan", [done["data"], done["label"], done[of]]) if of in done else None
            found["plan"] = made or found.get("plan")
        return {name: artefact for name, artefact in found.items() if artefact is not None}

    def certify(self, done: dict[str, Artefact], wish: Any) -> Artefact:
        """The certificate that `wish` (evaluate.certificate.Wish) asks for."""
        from aasut.data import split
        from aasut.data.panel import Panel
        from aasut.evaluate import candidates, certificate

        data, export, splits = done["data"], done["export"], done["data"].facts["split_hash"]

        def open_calibrate() -> tuple[list[Any], int]:
            self.store.open_split(splits[split.CALIBRATE], "certify")
            return split.load(data.path, split.CALIBRATE), self.store.openings(splits[split.CALIBRATE])

        def build(folder: Path) -> dict[str, Any]:
            panel = Panel.from_json((done["label"].path / "panel.json").read_text(encoding="utf-8"))
            served = export.facts["served"]
            template = digest([self.recipe.task.build().prompt.plain(), self.recipe.student_template().plain()])
            hashes = {**splits, "file": served, "file_sha256": export.facts["files"][served], "template": template}
            student = candidates.student_candidate(self.recipe, export.path / served)
            predicted = json.loads((done["evaluate"].path / "predictions.json").read_text(encoding="utf-8"))
            tune, test = (split.load(data.path, name) for name in (split.TUNE, split.TEST))
            subject = certificate.Subject(student, tune, test, predicted, hashes, open_calibrate)
            try:
                return certificate.build(self.recipe, wish, subject, panel, lambda: self.ledger, folder, self.progress)
            finally:
                student.engine.close()

        counted = self._counted(build) if wish.asks_teacher else build
        return self._stage("certify", certificate.VERSION, asdict(wish), self._certified_parents(done), counted)

    def _certified_parents(self, done: dict[str, Artefact]) -> list[Artefact]:
        return [done[name] for name in ("data", "label", "export", "evaluate")]
