"""A finished mixture beside what else could serve its fields: each field's own student, and dense models.

    mixture        as it was made
    students       each field's own student, behind a classifier that chooses one for a text
    dense_active   a dense model with as many weights a token, each neuron of the start as often as experts are active
    dense_total    the same with as many weights in all, each neuron as often as there are experts

The dense models learn the texts of all fields, with as many floating-point operations as the fields' students and the
mixture took together. All are held against the mixture on documents of the split `tune`: `test` stays closed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aasut.economics import sparse
from aasut.economics.operations import Weights
from aasut.economics.sparse import ACTIVE, BATCH, MIXTURE, STUDENTS, TOTAL
from aasut.errors import StoreError
from aasut.field import REPORT, STORE
from aasut.mixture import spent
from aasut.mixture.dense import Dense
from aasut.mixture.held import Held
from aasut.mixture.members import Member, members_of, model_of
from aasut.mixture.stages import MODEL
from aasut.mixture.texts import Texts
from aasut.progress import Progress
from aasut.recipe import MixtureRecipe
from aasut.recipe import mixture as recipes
from aasut.records import Entry, ancestry
from aasut.store import Artefact, Store
from aasut.workshop import told

if TYPE_CHECKING:
    from aasut.evaluate.between import Costs
    from aasut.evaluate.ratios import Ratio

VERSION = 1
RECIPE = "recipe.yaml"
CONFIDENCE = 0.95
EFFORT = {"full": (32, 3), "ci": (8, 2)}  # tokens of an answer, and turns, that are timed


def folder_of(run: str, root: Path) -> Path | None:
    """The folder of a finished mixture, by its name or as it stands; None where the run is no mixture."""
    for folder in (root / run, Path(run)):
        if (folder / REPORT).is_file():
            facts = _report(folder)
            return folder if facts.get("kind") == "mixture" else None
    return None


def compare(folder: Path, progress: Progress, *, dense: bool) -> dict[str, Any]:
    """Figures of all arms, and which to serve; serving.html in the folder shows them. `dense`: train the dense models
    too, and measure what they say.

    What was done before is reused; what a kill interrupted goes on. Raises AasutError.
    """
    from aasut.report import serving

    if not (folder / RECIPE).is_file():
        raise StoreError(f"The recipe of {folder.name} is not in {folder}.", "Mix it again, then plan from it.")
    recipe, scale = recipes.load(folder / RECIPE), str(_report(folder)["scale"])
    members = members_of(recipe, folder, scale)
    with Store(folder.parent / STORE) as store:
        alternatives = Alternatives(recipe, members, store, folder.parent, progress)
        found = {"run": recipe.name, "page": str(folder / serving.PAGE), **alternatives.facts(scale, dense=dense)}
    serving.write(found, folder)
    return found


def _report(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / REPORT).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        raise StoreError(f"{folder / REPORT} is damaged.", "Run its recipe again.") from None


class Alternatives:
    """The stages that comparing adds to a finished mixture, in an open store; nothing of the mixture is made again."""

    def __init__(
        self, recipe: MixtureRecipe, members: Sequence[Member], store: Store, root: Path, progress: Progress
    ) -> None:
        from aasut.student import mix

        self.recipe, self.store, self.root, self.progress = recipe, store, root, progress
        self.members = {member.name: member for member in members}
        start = model_of(members[0], progress)[0]
        # All that a field's own student has learned, and not what was left of it for the mixture.
        whole = recipe.model_copy(update={"train": recipe.train.model_copy(update={"tokens": None})})
        self.texts = Texts(whole, self.members, store, start, None)
        gone = next((member.name for member in members if not self.texts.learned(member, root)), None)
        if gone is not None:
            raise StoreError(
                f"What {gone} reads changed since {recipe.name} was made, or the store has it no more.",
                "Mix it again: what did not change is reused.",
            )
        self.lineage = self._lineage()
        self.mixture = self._made(next(entry for entry in reversed(self.lineage) if _is_mixture(entry)))
        self.served = mix.names_of(self.mixture.path / MODEL)
        self.times = {ACTIVE: recipe.active, TOTAL: len(self.served)}
        if self.times[ACTIVE] == self.times[TOTAL]:  # one model
            del self.times[TOTAL]
        self.held = Held(recipe, self.served, self.texts, self._stage, progress)
        self.dense = Dense(recipe, members, self.texts, self.served, self._stage, progress)

    def _lineage(self) -> list[Entry]:
        """All that the mixture was made from, and itself, parents first."""
        name, entries = self.recipe.name, self.store.entries()
        run = next((run for run in self.store.runs() if run.name == name), None)
        if run is None or run.report not in entries:
            raise StoreError(f"The store has no finished run {name}.", "Mix it again, then plan from it.")
        model = next(one for one in entries[run.report].parents if one in entries and _is_mixture(entries[one]))
        return [entries[one] for one in ancestry(entries, [model]) if one in entries]

    def _made(self, entry: Entry) -> Artefact:
        found = self.store.find(entry.fingerprint)
        if found is None:
            raise StoreError(f"The store has no {entry.stage} of {self.recipe.name} any more.", "Mix it again.")
        return found

    def spent(self) -> float:
        """Floating-point operations that the fields' students and the mixture took."""
        made = self._trained()
        branches = [one for one in made if one.stage == "adapt"]
        trained = {one.stage: one for one in made if one.stage != "adapt"}
        teacher = None
        if self.recipe.teacher is not None:
            from aasut.sources import models

            base = self.root / self.recipe.name
            teacher = models.fetch(self.recipe.teacher.model, base=base, progress=self.progress).path
        return spent.operations(self.recipe, self.dense.student, branches, trained, teacher, frozen=self.dense.frozen)

    def _branches(self) -> list[Artefact]:
        return [self.texts.done[name]["adapt"] for name in self.served]

    # Stages.

    def speed(self, scale: str) -> Artefact:
        """Tokens a second of each arm, on this machine."""
        from aasut.evaluate import writing

        wide = {arm: self.dense.wide(times) for arm, times in self.times.items()}
        effort = writing.Effort(*EFFORT[scale])
        arms = {MIXTURE: [self.mixture.path / MODEL], STUDENTS: [self.texts.branch(name) for name in self.served]}
        arms |= {arm: [made.path / MODEL] for arm, made in wide.items()}
        engines = {arm: writing.engine_of(models[0]) for arm, models in arms.items()}

        def build(folder: Path) -> dict[str, Any]:
            texts = [[passage.text for passage in self.held.sets[name]] for name in self.served]
            prompts = writing.prompts(self.texts.tokenizer, texts, BATCH)
            turns = writing.measure(arms, prompts, self.recipe.train.precision, effort, self.progress)
            return {"turns": turns, "engines": engines}

        settings = [writing.machine(), asdict(effort), BATCH, self.served, self.recipe.train.precision, engines]
        before = [self.mixture, *self._branches(), *wide.values(), *self.held.read()]
        return self._stage("writing", settings, before, build)

    def _stage(
        self, name: str, settings: Any, parents: list[Artefact], build: Callable[[Path], dict[str, Any]]
    ) -> Artefact:
        known = self._stages.get(name)
        if known is None:
            known = self._stages[name] = self.store.stage(name, VERSION, settings, parents, build)
            self.progress.say(told(known))
        return known

    @cached_property
    def _stages(self) -> dict[str, Artefact]:
        """Those that were gone through, each of which is told once."""
        return {}

    # What comes of them.

    def facts(self, scale: str, *, dense: bool) -> dict[str, Any]:
        """Every stage, and what follows."""
        from aasut.evaluate import writing
        from aasut.evaluate.between import mean

        timed = self.speed(scale).facts
        speeds = {arm: writing.medians(turns) for arm, turns in timed["turns"].items()}
        models: dict[str, Artefact | None] = {MIXTURE: self.mixture, STUDENTS: None}
        if dense:
            models |= {arm: self.dense.trained(arm, times, self.spent()) for arm, times in self.times.items()}
        costs = self.held.costs(models)
        fields = [costs[name] for name in self.served]
        more = {(a, b): mean([one.more(a, b, CONFIDENCE) for one in fields]) for a in models for b in models if a != b}
        arms = {
            arm: self._size(arm) | {"tokens_s": speeds[arm], "engine": timed["engines"][arm]}
            for arm in (MIXTURE, STUDENTS, *self.times)
        }
        for arm, model in models.items():
            arms[arm] |= {
                "bits_per_byte": mean([one.per_byte(arm, CONFIDENCE) for one in fields]).as_dict(),
                "over_mixture": more[arm, MIXTURE].as_dict() if arm != MIXTURE else None,
                "sets": {name: _of_set(one, arm) for name, one in costs.items()},
            }
            if arm in self.times and model is not None:
                arms[arm] |= {name: model.facts[name] for name in ("operations", "tokens")}
        return {
            "kind": "mixture",
            "model": self.mixture.fingerprint,
            "fields": self.served,
            "documents": {name: len(one.bytes) for name, one in costs.items()},
            "chosen_right": self.held.choices().facts["right"],
            "operations": self.spent(),
            "machine": writing.machine(),
            "arms": arms,
            "verdict": self._verdict(arms, more).as_dict(),
        }

    def _verdict(self, arms: Mapping[str, Any], more: Mapping[tuple[str, str], Ratio]) -> sparse.Verdict:
        given = [
            sparse.Arm(
                arm, of["megabytes"], of["tokens_s"]["1"], of["tokens_s"][str(BATCH)],
                of["bits_per_byte"]["value"] if "bits_per_byte" in of else None,
            )
            for arm, of in arms.items()
        ]  # fmt: skip
        pairs = {pair: sparse.More(of.value, of.lower, of.upper) for pair, of in more.items()}
        seconds = sum(one.seconds for one in self._trained()) * len(self.times)
        return sparse.decide(given, pairs, f"aasut plan {self.recipe.name} --dense (about {_minutes(seconds)})")

    def _trained(self) -> list[Artefact]:
        """All that was trained for the mixture."""
        return [self._made(entry) for entry in self.lineage if entry.stage == "adapt" or _is_mixture(entry)]

    def _size(self, arm: str) -> dict[str, Any]:
        """Weights of an arm, in all and that a token has to do with, and how much memory they take as they serve."""
        from aasut.engine.torch import choose_precision

        count = 1
        if arm == STUDENTS:
            one, count = Weights.read(self.texts.branch(self.served[0])), len(self.served)
        else:
            made = self.mixture if arm == MIXTURE else self.dense.wide(self.times[arm])
            one = Weights.read(made.path / MODEL)
        each = choose_precision(self.recipe.train.precision).itemsize
        return {"weights": count * one.all, "active": one.active, "megabytes": count * one.all * each / 1e6}


def _is_mixture(entry: Entry) -> bool:
    return entry.stage.split()[0] == MODEL


def _of_set(costs: Costs, arm: str) -> dict[str, Any]:
    """Bits per byte of a set under an arm, and how many more than under the mixture."""
    found: dict[str, Any] = {"bits_per_byte": costs.per_byte(arm, CONFIDENCE).as_dict()}
    return found if arm == MIXTURE else found | {"over_mixture": costs.more(arm, MIXTURE, CONFIDENCE).as_dict()}


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"
