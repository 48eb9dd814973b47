"""A rehearsal of a run: every stage that costs nothing is done, the teacher's stages with a stand-in for the teacher.

Since the stages themselves are called, with their own settings, what they would ask is what they
will ask, and what the store holds already is known by the very fingerprint that the run looks for.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from aasut.data import split
from aasut.data.ask import ask
from aasut.data.panel import Panel
from aasut.forecast.stand_in import Asked, Counter, StandIn, Tokens, learned, tokenizer_of
from aasut.pipeline import Stages
from aasut.progress import Progress
from aasut.recipe import Asked as AskedModel
from aasut.recipe import ModelAddress, Recipe
from aasut.sources import models
from aasut.store import Artefact, Store, connect, fingerprint_of
from aasut.teacher import base as teachers
from aasut.teacher.ledger import MIGRATIONS, Ledger

REHEARSED = ("choose", "label")


class Rehearsal(Stages):
    """The stages of a run that is not made. `data` and `general` go into the store, what else is written into
    `scratch`."""

    def __init__(self, recipe: Recipe, base: Path, store: Store, progress: Progress, scratch: Path) -> None:
        super().__init__(recipe, base, store, Progress(quiet=True))
        self.said, self.scratch = progress, scratch
        self.seconds: dict[str, float] = {}  # that the rehearsal of a stage took
        self.held: dict[str, int] = {}  # answers that a stage would find in the ledger
        self.others: dict[int, tuple[StandIn, Ledger]] = {}  # that stood in for `teacher.others`
        self.test_tokens: list[Tokens] = []  # of every question of `evaluate`, asked before or not

    def rehearse(self, scale: str) -> dict[str, Artefact]:
        """Every stage by name: as it lies in the store, or with the fingerprint that it will have."""
        done = self.all()
        done["report"] = self.report(done | self.made_since(done), scale)
        if not done["evaluate"].reused:
            task, template = self.recipe.task.build(), self.recipe.teacher_template()
            panel = Panel.from_json((done["label"].path / "panel.json").read_text(encoding="utf-8"))
            panel = panel if task.answers else panel.first()
            test = split.load(done["data"].path, "test")
            with self.rehearsing("evaluate"):
                ask(self.recipe, panel, test, self.ledger, self.progress, "")
            members = range(len(panel.members))
            requests = [panel.request(template, task, e.slots, member) for e in test for member in members]
            self.test_tokens = [self.stand_in.counter.count(request, "") for request in requests]
        return done

    @contextmanager
    def rehearsing(self, stage: str) -> Iterator[None]:
        """What is asked within is what the stage asks."""
        self.stand_in.stage = stage
        held, started = self.ledger.calls_reused, time.perf_counter()
        yield
        self.seconds[stage] = time.perf_counter() - started
        self.held[stage] = self.ledger.calls_reused - held

    def asked(self, stage: str) -> Asked:
        """What a stage would ask of the teacher."""
        return self.stand_in.asked.get(stage, Asked())

    def prefix_scale(self, done: dict[str, Artefact]) -> float:
        """Mean length of the candidates' worked examples over that of the ones the stand-in chose.

        Which candidates the teacher's own answers would choose is not known beforehand.
        """
        asked = self.asked("choose")
        if done["choose"].reused or not asked.tokens:
            return 1.0
        lengths = {r.messages[:-1]: t.prefix for r, t in zip(asked.requests, asked.tokens, strict=True)}
        later = self.asked("label")
        chosen = {r.messages[:-1]: t.prefix for r, t in zip(later.requests, later.tokens, strict=True)}
        chosen = {key: value for key, value in chosen.items() if key in lengths}
        if not sum(chosen.values()):
            return 1.0
        return (sum(lengths.values()) / len(lengths)) / (sum(chosen.values()) / len(chosen))

    @cached_property
    def teacher_kind(self) -> str:
        """model, endpoint or scripted."""
        wanted = self.recipe.teacher
        return "model" if wanted.model else "endpoint" if wanted.endpoint else "scripted"

    def folder_of(self, address: ModelAddress | None) -> Path | None:
        """A model's folder, None where it is not on this machine yet."""
        found = None if address is None else models.have(address, base=self.base)
        return None if found is None else found.path

    @cached_property
    def stand_in(self) -> StandIn:
        """The stand-in for the recipe's teacher. Raises TeacherError where the teacher could not be asked."""
        wanted, ledger = self.recipe.teacher, self.store.root / "ledger.db"
        texts = self._tune_answers()
        if self.teacher_kind == "model":
            counter = Counter(tokenizer_of(self.folder_of(wanted.model)), chat=False)
            return StandIn(self._local_identity(), counter, texts, logprobs=True)
        real = teachers.create(self.teacher_kind, wanted, None, "")
        counter = Counter(tokenizer_of(self.folder_of(self.recipe.student.model)), chat=True)
        counter.learned = learned(ledger, real.identity, counter) or (1.0, 1.0)
        stand_in = StandIn(real.identity, counter, texts, logprobs=self._gives_logprobs(), real=real)
        if self.teacher_kind == "scripted":
            stand_in.answers = lambda request: real.complete([request])[0]
        return stand_in

    def stand_in_for(self, wanted: AskedModel, name: str) -> StandIn:
        """The stand-in for a judge or another teacher, whose answers are labels; name: of a local model's answers."""
        real = None if wanted.model else teachers.create(wanted.kind, wanted, None, "")
        counter = Counter(tokenizer_of(self.folder_of(wanted.model)), chat=wanted.model is None)
        identity = name if real is None else real.identity
        if wanted.endpoint is not None:
            counter.learned = learned(self.store.root / "ledger.db", identity, counter) or (1.0, 1.0)
        return StandIn(identity, counter, [], logprobs=False, real=real)

    def open_other(self, number: int) -> Any:
        """A stand-in for one of `teacher.others`, behind the copy of the ledger."""
        stand_in = self.stand_in_for(self.recipe.teacher.others[number], f"other teacher {number}")
        ledger = Ledger(stand_in, self.books)
        self.others[number] = stand_in, ledger
        return ledger

    def _gives_logprobs(self) -> bool:
        endpoint = self.recipe.teacher.endpoint
        return endpoint is not None and endpoint.logprobs

    def _local_identity(self) -> str:
        from aasut.engine.torch import choose_precision

        wanted = self.recipe.teacher
        precision = str(choose_precision(wanted.precision)).removeprefix("torch.")
        return f"local:torch-{precision}:{self._revision(wanted.model)}"

    def _tune_answers(self) -> list[str]:
        """Human answers, whose lengths stand for those of free-text answers."""
        data = super().data()
        return [str(e.answer) for e in split.load(data.path, "tune") if e.answer is not None]

    @cached_property
    def books(self) -> Path:
        """A copy of the ledger's file."""
        copy, original = self.scratch / "ledger.db", self.store.root / "ledger.db"
        if original.exists():
            source, target = sqlite3.connect(original), sqlite3.connect(copy)
            source.backup(target)
            source.close()
            target.close()
        connect(copy, MIGRATIONS).close()
        return copy

    @cached_property
    def ledger(self) -> Any:
        """The stand-in behind a copy of the ledger."""
        return self._with_recorded(Ledger(self.stand_in, self.books))

    def _stage(
        self, name: str, version: int, settings: Any, parents: list[Artefact], build: Callable[[Path], dict[str, Any]]
    ) -> Artefact:
        if name in ("data", "general"):  # read now, and then reused
            return self.store.stage(name, version, settings, parents, build)
        fingerprint = fingerprint_of(name, version, settings, parents)
        found = self.store.find(fingerprint)
        if found is not None:
            return found
        folder = self.scratch / name
        folder.mkdir(exist_ok=True)
        facts: dict[str, Any] = build(folder) if name == "method" else {}  # it costs nothing
        if name in REHEARSED:
            with self.rehearsing(name):
                facts = build(folder)
        return Artefact(name, fingerprint, folder, "", facts, 0.0, reused=False)

    def _model(self, address: ModelAddress | None) -> Any:
        """As in a run, but nothing is downloaded: of a model that is not here, only what the recipe pins is known."""
        if address is not None and models.have(address, base=self.base) is None:
            return SimpleNamespace(path=None, sha256=address.sha256 or "not fetched", licence="unknown")
        return super()._model(address)
