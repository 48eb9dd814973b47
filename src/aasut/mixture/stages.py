"""From several fields to one Mixture of Experts: every stage in order. docs/mixture.md tells the same in words."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from aasut.errors import RecipeError, StoreError
from aasut.field import REPORT, STORE, Made
from aasut.files import plain, write_atomically
from aasut.mixture import children
from aasut.mixture.members import GENERAL, Member, check_starts, members_of, model_of
from aasut.mixture.texts import Texts
from aasut.progress import Progress
from aasut.publish import publish
from aasut.recipe import MixtureRecipe, Student
from aasut.recipe.mixture import text_at
from aasut.recipe.scale import scaled_mixture
from aasut.store import LOCKS, Artefact, Store
from aasut.workshop import told

VERSION = 1
MODEL = "mixture"  # folder below the run's
ROLES = ("before", "branch", "after")  # models that text is measured under; general text has no branch


def build(
    recipe: MixtureRecipe, base: Path, root: Path, progress: Progress, scale: str = "full", at_once: int = 1
) -> Made:
    """Learn every field, mix, train, add, remove, and measure; results stand in `root`/<name>.

    Paths are relative to `base`; `scale` as in recipe.scale; `at_once`: fields that are learned at the same time. What
    was done before is reused; what a kill interrupted goes on. Raises AasutError.
    """
    recipe = scaled_mixture(recipe, scale)
    members = members_of(recipe, base, scale)
    check_starts(members, progress)
    with Store(root / STORE) as store:
        stages = MixtureStages(recipe, base, members, store, progress)
        stages.learn(root, scale, at_once)
        return stages.publish(stages.all(), root / recipe.name, scale)


class MixtureStages:
    """The stages of one mixture, in an open store."""

    def __init__(
        self, recipe: MixtureRecipe, base: Path, members: Sequence[Member], store: Store, progress: Progress
    ) -> None:
        self.recipe, self.base, self.store, self.progress = recipe, base, store, progress
        self.members = {member.name: member for member in members}
        self.begun = list(self.members)[: len(recipe.fields)]
        start = model_of(members[0], progress)[0]
        self.teacher = self._teacher(start)
        self.texts = Texts(recipe, self.members, store, start, self.teacher and self.teacher[0])

    # Each field by itself.

    def learn(self, root: Path, scale: str, at_once: int) -> None:
        """Have every field learned that was not, in processes of their own."""
        missing = [member for member in self.members.values() if not self.texts.learned(member, root)]
        capped = next((member for member in missing if member.recipe.teacher.max_usd is not None), None)
        if at_once > 1 and capped is not None:
            raise RecipeError(
                f"{capped.name} has teacher.max_usd, and what several processes spend at once keeps to no cap.",
                "Leave --processes 1.",
            )
        commands = {
            member.name: ["adapt", str(member.path), "--root", str(root), "--scale", scale, "--beside"]
            for member in missing
        }
        if commands:
            self._prepare_ledger()
            try:
                children.run(commands, at_once, self.progress)
            finally:
                shutil.rmtree(self.store.root / LOCKS, ignore_errors=True)
        for member in missing:
            if not self.texts.learned(member, root):
                raise StoreError(
                    f"What {member.name} reads changed while it was learned.", "Run the same command again."
                )
        for name in self.members:
            self.progress.say(f"{name:<10} {'learned' if self.members[name] in missing else 'reused'}")

    def _prepare_ledger(self) -> None:
        """Bring the ledger up to date, so that no two processes do."""
        from aasut.files import connect
        from aasut.teacher import ledger

        connect(self.store.root / "ledger.db", ledger.MIGRATIONS).close()

    # What the mixture's stages work with.

    def _teacher(self, start: Path) -> tuple[Path, str] | None:
        """(folder, SHA-256) of the recipe's teacher. Raises RecipeError where it has other tokens than the students."""
        from aasut.formats.same_tokens import difference
        from aasut.formats.tokenizer import Tokenizer
        from aasut.sources import models

        if self.recipe.teacher is None:
            return None
        model = models.fetch(self.recipe.teacher.model, base=self.base, progress=self.progress)
        if reason := difference(Tokenizer.load(model.path), Tokenizer.load(start)):
            raise RecipeError(
                f"The teacher has other tokens than the students: {reason}.", "Take one of their family, or branches."
            )
        return model.path, model.sha256

    def settings(self, count: int, *, alone: bool = False) -> Student:
        """Of training a mixture of so many experts; `alone`: one of them, whose even use is not wished for."""
        member, train = self.members[self.begun[0]], self.recipe.train
        given = train.model_dump(include=set(type(train).model_fields) & set(Student.model_fields))
        frozen = all(self.members[name].student.frozen_embeddings for name in self.begun)
        experts = None if alone else train.experts(count, self.recipe.active)
        return Student(model=member.student.model, frozen_embeddings=frozen, experts=experts, **given)

    def _training(self) -> list[Any]:
        """What the weights after training hang on, texts aside."""
        wanted = self.recipe.train.model_dump(mode="json", exclude={"checkpoint_s"})
        return [wanted, self.teacher[1] if self.teacher else "", self.recipe.seed]

    # Stages.

    def all(self) -> dict[str, Artefact]:
        """Every stage of the mixture, by name; the model that is published stands under MODEL."""
        done = {"mix": self.mix()}
        done["train"] = model = self.train(done["mix"])
        there = list(self.begun)
        for name in list(self.members)[len(self.begun) :]:
            model = self.taught(self.come(model, name, there), name, len(there))
            done[f"added {name}"] = model
            there.append(name)
        for name in self.recipe.removed:
            model = self.gone(model, name)
        done[MODEL] = model
        for name, role in self._measured():
            done[f"{name}, {role}"] = self.bits(name, role, model)
        return done | {"router": self.router(model)}

    def mix(self) -> Artefact:
        from aasut.student import mix

        def build(folder: Path) -> dict[str, Any]:
            branches = {name: self.texts.branch(name) for name in self.begun}
            texts = {name: self.texts.probe(name) for name in self.begun}
            return mix.mix(branches, texts, _plain_text(), self.recipe.active, folder / MODEL)

        before = self._learned(self.begun)
        return self._stage("mix", [self.begun, self.recipe.active, self.texts.settings(self.begun)], before, build)

    def train(self, mixed: Artefact) -> Artefact:
        """All of the mixture, on the texts of all fields."""
        teaching = self._teaching(self.begun)

        def build(folder: Path) -> dict[str, Any]:
            return self._fit(mixed, folder, self.begun, teaching, self.settings(len(self.begun)))

        before = [mixed, *self._learned(self.begun)]
        return self._stage(MODEL, [*self._training(), self.texts.settings(self.begun)], before, build)

    def come(self, model: Artefact, name: str, there: Sequence[str]) -> Artefact:
        """The mixture with one expert more, untrained."""
        from aasut.student import mix

        def build(folder: Path) -> dict[str, Any]:
            others = [row for other in there for row in self.texts.probe(other)]
            own, objective = self.texts.probe(name), _plain_text()
            return mix.add(model.path / MODEL, name, self.texts.branch(name), own, others, objective, folder / MODEL)

        before = [
            model,
            self.texts.done[name]["adapt"],
            *(one for each in (name, *there) for one in self.texts.read(each)),
        ]
        return self._stage(f"come {name}", [name, self.texts.settings([name, *there])], before, build)

    def taught(self, model: Artefact, name: str, number: int) -> Artefact:
        """The mixture with that expert trained, and it alone."""
        teaching = self._teaching([name])

        def build(folder: Path) -> dict[str, Any]:
            return self._fit(model, folder, [name], teaching, self.settings(number + 1, alone=True), (number,))

        before = [model, *self._learned([name])]
        return self._stage(f"{MODEL} with {name}", [*self._training(), self.texts.settings([name])], before, build)

    def gone(self, model: Artefact, name: str) -> Artefact:
        """The mixture without an expert."""
        from aasut.student import mix

        def build(folder: Path) -> dict[str, Any]:
            return mix.remove(model.path / MODEL, name, folder / MODEL)

        return self._stage(f"{MODEL} without {name}", [name], [model], build)

    def bits(self, name: str, role: str, model: Artefact) -> Artefact:
        """What held-out text of a field, or general text, costs under its `before`, `branch` or `after`."""
        from aasut.evaluate import field

        context, precision = self.texts.context(name), self.recipe.train.precision

        def build(folder: Path) -> dict[str, Any]:
            paths = {"before": self.texts.start, "after": model.path / MODEL}
            path = self.texts.branch(name) if role == "branch" else paths[role]
            file = folder / f"{name}-{role}.json"
            found = field.kept(self.texts.held(name), path, file, self.progress, context, context // 4, precision)
            return {"bits_per_byte": found.per_byte}

        before = [model] if role == "after" else [self.texts.done[name]["adapt"]] if role == "branch" else []
        settings = [self.texts.settings_held(name), role, precision]
        if role == "before":
            settings.append(model_of(self.members[self.begun[0]], self.progress)[1])
        return self._stage(f"{name} {role}", settings, [*before, *self.texts.read_held(name)], build)

    def router(self, model: Artefact) -> Artefact:
        """How the experts are used by held-out text."""
        from aasut.student import mix

        sets = [*self.members, GENERAL]

        def build(folder: Path) -> dict[str, Any]:
            from aasut.engine.torch import choose_precision, load_model
            from aasut.student import balance
            from aasut.student.corpus import Cutter

            rows = []
            for name in sets:
                for cut in Cutter(self.texts.tokenizer, self.texts.context(name)).cut_all(self.texts.held(name)):
                    rows += [replace(row, group=name) for row in cut.rows]
            used = load_model(model.path / MODEL, choose_precision(self.recipe.train.precision))
            found = balance.by_group(used, _plain_text(), rows, self.recipe.train.micro_tokens)
            in_order = {name: found["groups"][name] for name in sets if name in found["groups"]}
            return found | {"groups": in_order, "names": mix.names_of(model.path / MODEL)}

        before = [model, *(one for name in sets for one in self.texts.read_held(name))]
        settings = [self.texts.settings_held(name) for name in sets]
        return self._stage("router", [settings, self.recipe.train.precision], before, build)

    # Their parts.

    def _learned(self, names: Sequence[str]) -> list[Artefact]:
        """The students of fields, and what their texts are read from."""
        return [one for name in names for one in (self.texts.done[name]["adapt"], *self.texts.read(name))]

    def _fit(
        self, begun: Artefact, folder: Path, names: Sequence[str], teaching: Callable[[], Any], settings: Student,
        only: tuple[int, ...] = (),
    ) -> dict[str, Any]:  # fmt: skip
        from aasut.formats import safetensors
        from aasut.student.fit import Fit
        from aasut.student.initialize import copy_model
        from aasut.student.replay import Replay

        lessons = [self.texts.lessons(name) for name in names]
        rows = [row for one in lessons for row in one.rows]
        validation = [row for one in lessons for row in one.validation]
        teacher = teaching()
        if teacher is not None:
            teacher.foresee([*rows, *validation])
        objective = Replay(self.recipe.train.distil, teacher)
        start = begun.path / MODEL
        report = Fit(start, settings, self.recipe.seed, objective, rows, validation, only=only).run(
            folder / MODEL, self.progress
        )
        copy_model(start, folder / MODEL, weights=False)
        accounts = {
            f"{name} {source} (tokens)": account
            for name, one in zip(names, lessons, strict=True)
            for source, account in one.tokens.items()
        }
        learned = {
            name: sum(account.kept for account in one.tokens.values()) for name, one in zip(names, lessons, strict=True)
        }
        return {
            **asdict(report),
            "tokens_learned": learned,
            "parameters": safetensors.parameters(folder / MODEL),
            "conservation": accounts,
        }

    def _teaching(self, names: Sequence[str]) -> Callable[[], Any]:
        """What is learned from; nothing beside the texts where that is None."""
        train, teacher = self.recipe.train, self.teacher

        def load() -> Any:
            import torch

            from aasut.engine.torch import choose_precision, load_model
            from aasut.student.branches import Branches
            from aasut.student.teaching import Live

            if train.teach == "branches":
                return Branches.load(
                    {name: self.texts.branch(name) for name in names}, train.micro_tokens, train.precision
                )
            if teacher is None:
                return None
            model = load_model(teacher[0], choose_precision(train.precision))
            return Live(model.to("cuda") if torch.cuda.is_available() else model, train.micro_tokens)

        return load

    def _stage(
        self, name: str, settings: Any, parents: list[Artefact], build: Callable[[Path], dict[str, Any]]
    ) -> Artefact:
        artefact = self.store.stage(name, VERSION, settings, parents, build)
        self.progress.say(told(artefact))
        return artefact

    # What is left of it.

    def publish(self, done: dict[str, Artefact], folder: Path, scale: str) -> Made:
        """Gather the report, and copy it and the model into `folder`."""
        from aasut.report import serving

        report = self.report(done, scale)
        self.store.finished(self.recipe.name, report)
        shown = [done[MODEL], report]
        serving.forget(folder, done[MODEL].fingerprint)
        publish(shown, folder, text_at(self.recipe, self.base, folder))
        return Made(folder, json.loads((report.path / REPORT).read_text(encoding="utf-8")), 0)

    def report(self, done: dict[str, Artefact], scale: str) -> Artefact:
        """report.json and its page."""
        from aasut.report import mixture

        def build(folder: Path) -> dict[str, Any]:
            found = self.facts(done)
            facts = {"kind": "mixture", "name": self.recipe.name, "scale": scale, "mixture": found}
            mixture.write(self.recipe.name, found, folder)
            text = json.dumps(facts, ensure_ascii=False, indent=2, allow_nan=False, default=plain)
            write_atomically(folder / REPORT, text + "\n")
            return {}

        last = [one for name, one in done.items() if name not in ("mix", "train") and not name.startswith("added ")]
        return self._stage("report", [self.recipe, scale, list(self.members)], last, build)

    def facts(self, done: Mapping[str, Artefact]) -> dict[str, Any]:
        """What was made, what it is worth, and which experts are used by what."""
        from aasut.evaluate import field
        from aasut.formats import safetensors
        from aasut.formats.tokenizer import read_json
        from aasut.student import mix

        folder = done[MODEL].path / MODEL
        config, names, whole = read_json(folder / "config.json"), mix.names_of(folder), safetensors.parameters(folder)
        network = 3 * config["hidden_size"] * config["intermediate_size"] * config["num_hidden_layers"]
        sets = {}
        for name in (*self.members, GENERAL):
            held, measured = self.texts.held(name), {}
            for role in (role for one, role in self._measured() if one == name):
                path = done[f"{name}, {role}"].path / f"{name}-{role}.json"
                measured[role] = field.kept(held, folder, path, self.progress, 0, 0, "auto")
            found = field.compared(held, measured, 0.95)
            models = {("mixture" if role == "after" else role): of for role, of in found["models"].items()}
            sets[name] = found | {"models": models, "mixture_over": found["after_over"]}
            del sets[name]["after_over"]
        trained = {name: done[key].facts for name, key in self._trainings().items()}
        return {
            "experts": {"names": names, "active": self.recipe.active},
            "added": list(self.members)[len(self.begun) :],
            "removed": self.recipe.removed,
            "parameters": {"all": whole, "active": whole - (len(names) - self.recipe.active) * network},
            "teach": self.recipe.train.teach,
            "train": trained,
            "sets": sets,
            "router": done["router"].facts,
        }

    def _measured(self) -> list[tuple[str, str]]:
        """(set of texts, role of a model) for all that is measured."""
        sets = (*self.members, GENERAL)
        return [(name, role) for name in sets for role in ROLES if (name, role) != (GENERAL, "branch")]

    def _trainings(self) -> dict[str, str]:
        """What was trained, by the name of its stage in `all`."""
        return {"all": "train"} | {name: f"added {name}" for name in list(self.members)[len(self.begun) :]}


def _plain_text() -> Any:
    """The objective of text as it stands."""
    from aasut.student import losses
    from aasut.student.objective import Text
    from aasut.student.teaching import Right

    return Text(losses.get("cross_entropy"), Right())
