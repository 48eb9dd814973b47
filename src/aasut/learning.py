"""The stages that make the student: how it learns, its start, its training, and what it prefers afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aasut.recipe import Recipe
from aasut.store import Artefact
from aasut.workshop import Workshop


class Learning(Workshop[Recipe]):
    """Stages between the teacher's answers and the export."""

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
        drawn: list[Any] = [self.recipe.seed] if wanted.initialise == "random" else []
        drawn += [wanted.experts.start_settings(), self.recipe.seed] if wanted.experts is not None else []
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
