"""What `aasut plan` works out from finished runs: a learning curve, which student for a target, a scaling law."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aasut import recipe as recipes
from aasut.data import label as labelling
from aasut.data import split
from aasut.economics import devices, scaling_law, worth
from aasut.errors import AasutError, DataError, RecipeError, StoreError
from aasut.evaluate import subsets
from aasut.evaluate.metrics import accuracy
from aasut.progress import Progress
from aasut.recipe import Recipe
from aasut.records import FinishedRun
from aasut.runs.catalogue import STORE, Catalogue
from aasut.store import Artefact, Store
from aasut.types import Example, Label
from aasut.workshop import Workshop

Plain = dict[str, Any]
RECIPE = "recipe.yaml"
STUDENT = "tuned"  # stage: a finished student judged on tune


@dataclass(frozen=True)
class Finished:
    """A finished run: its recipe, its parts in the store by stage, and its report."""

    run: FinishedRun
    recipe: Recipe
    parts: dict[str, Artefact]
    facts: Plain

    @property
    def linear(self) -> bool:
        return self.recipe.student.initialise == "linear"

    @property
    def trained(self) -> Artefact:
        """The student's own weights."""
        return self.parts["linear" if self.linear else "train"]

    @property
    def labels(self) -> int:
        """Answers of the teacher that the student learned from."""
        return int(self.parts["label"].facts["conservation"]["label"]["kept"])

    @property
    def usd_per_answer(self) -> float:
        """Of the teacher's; people's are another matter."""
        money = self.facts["economics"]
        return (float(money["labelling_usd"]) - float(money.get("human_answers_usd", 0))) / max(self.labels, 1)


def find(catalogue: Catalogue, word: str) -> Finished:
    """A run that stands in its folder. Raises AasutError where a part of it is not in the store any more."""
    run = catalogue.find(word)
    place = catalogue.root / run.name / RECIPE
    if catalogue.current[run.name] != run or not place.is_file():
        raise StoreError(f"The recipe of {word} is not in {place.parent}.", "Run it again, then plan from it.")
    found = {entry.stage: catalogue.store.find(entry.fingerprint) for entry in catalogue.lineage(run)}
    parts = {stage: made for stage, made in found.items() if made is not None}
    recipe = recipes.load(place)
    needed = {"data", "label", "linear" if recipe.student.initialise == "linear" else "train"}
    if missing := needed - set(parts):
        raise StoreError(f"The store has no {min(missing)} of {word} any more.", f"Run it again: aasut run {place} ...")
    return Finished(run, recipe, parts, catalogue.facts(run))


class Planning(Workshop[Recipe]):
    """The stages that planning adds to a finished run; nothing of the run is made again."""

    def __init__(self, done: Finished, root: Path, store: Store, progress: Progress) -> None:
        super().__init__(done.recipe, root / done.run.name, store, progress)
        self.done = done

    def curve(self, *, proxy: bool) -> Artefact:
        """Students of parts of the answers, the recipe's own kind, or with `proxy` linear ones."""
        done, recipe = self.done, self.recipe
        linear = done.linear or proxy
        if proxy and "linear" not in done.parts:
            raise DataError("There is no linear model of free text.", "Leave --linear out.")
        data, label = done.parts["data"], done.parts["label"]
        whole = done.parts["linear"] if linear else done.trained

        def build(folder: Path) -> Plain:
            tune, labels, groups = split.load(data.path, "tune"), *self._labelled()
            judge = subsets.Judge(recipe, tune, linear=linear)
            seconds = whole.seconds * subsets.trainings(every=linear)
            self.progress.say(
                f"training {len(subsets.parts(groups, recipe.seed, every=linear))} students of parts of the answers: "
                f"about {_minutes(seconds)}, as the run's own took {_minutes(whole.seconds)}"
            )
            make = self._make_linear if linear else self._make
            return subsets.build(labels, groups, whole.path, make, judge, folder, self.progress, recipe.seed)

        wanted = recipe.student.model_dump(mode="json", exclude={"checkpoint_s"})
        settings = [wanted, recipe.task, recipe.seed, recipe.export.precision, linear]
        return self._stage(subsets.NAME, subsets.VERSION, settings, [data, label, whole], build)

    def _labelled(self) -> tuple[list[Label], list[str]]:
        """The teacher's answers in the pool's order, and the group of each."""
        pool = split.load(self.done.parts["data"].path, "pool")
        by_id = {label.id: label for label in labelling.load(self.done.parts["label"].path)}
        rows: list[Example] = [example for example in pool if example.id in by_id]
        return [by_id[example.id] for example in rows], [example.group for example in rows]

    def _make_linear(self, labels: Any, folder: Path) -> None:
        from aasut.student import train

        train.linear(self.recipe, split.load(self.done.parts["data"].path, "pool"), labels, folder)

    def _make(self, labels: Any, folder: Path) -> None:
        """Train as the run did, on these labels alone."""
        from aasut.student import lessons, train
        from aasut.student.method import Method

        parts = self.done.parts
        method, cache, start = parts.get("method"), parts.get("logits"), parts["initialise"].path
        learned = None if "method" not in self.done.trained.facts else Method(**self.done.trained.facts["method"])
        given = replace(self._given(parts["data"], parts["label"], method, learned, parts["initialise"]), labels=labels)
        taught = None if learned is None else lessons.build(given, start, cache.path if cache else None)
        folder.mkdir(exist_ok=True)
        train.train(self.recipe, start, given.pool, labels, folder, self.progress, taught)

    def speeds(self) -> dict[int, float]:
        """Tokens trained on in a second, by number of processes."""
        from aasut.forecast import processes

        parts = self.done.parts
        pool, labels = split.load(parts["data"].path, "pool"), labelling.load(parts["label"].path)
        return processes.measure(self.recipe, parts["initialise"].path, pool, labels, self.progress)

    def tuned(self) -> Artefact:
        """The finished student judged on tune: what sizes of student are compared by, so that test stays closed."""
        done, data = self.done, self.done.parts["data"]

        def build(folder: Path) -> Plain:
            judge = subsets.Judge(self.recipe, split.load(data.path, "tune"), linear=done.linear)
            correct = judge(done.trained.path)
            found = accuracy(correct, [example.group for example in judge.tune], self.recipe.evaluate.confidence)
            return {"accuracy": found.value, "ci": [found.lower, found.upper], "n": found.n}

        recipe = self.recipe
        settings = [recipe.task, recipe.student.prompt, recipe.export.precision, recipe.evaluate.confidence]
        return self._stage(STUDENT, subsets.VERSION, settings, [data, done.trained], build)


def learning_curve(
    root: Path, word: str, progress: Progress, *, proxy: bool = False, target: float | None = None, timed: bool = False
) -> Plain:
    """Everything that a run's learning curve, the other runs of its data and, where `timed`, two processes say.

    proxy: learn the curve from linear models. Raises AasutError.
    """
    with Store(root / STORE) as store:
        catalogue = Catalogue(root, store)
        done = find(catalogue, word)
        if timed and done.linear:
            raise RecipeError("A linear student trains in one process.", "Leave --processes out.")
        stages = Planning(done, root, store, progress)
        try:
            made = stages.curve(proxy=proxy)
            students = _students(catalogue, done, root, store, progress)
        finally:
            stages.close()
        curve = worth.curve_of(made, done.recipe.evaluate.confidence)
        found: Plain = {
            "run": done.run.name,
            "learning_curve": worth.as_facts(curve, made.facts),
            "labels": done.labels,
            "usd_per_answer": done.usd_per_answer,
            "gains": worth.gains(curve, done.usd_per_answer),
            "students": students,
            "scaling_law": _law(catalogue, students),
            "devices": devices.as_facts(stages.speeds() if timed else {}),
        }
        if target is not None:
            found["target"] = worth.target(curve, target, done.usd_per_answer)
            found["size"] = size_for(students, target)
        return found


def _students(catalogue: Catalogue, done: Finished, root: Path, store: Store, progress: Progress) -> list[Plain]:
    """The finished runs that have the same human answers in tune, the smallest student first."""
    found, seen = [], set()
    for name in catalogue.current:
        try:
            other = find(catalogue, name)
        except (AasutError, KeyError):
            continue  # its parts are gone, or another version of aasut wrote it
        if other.parts["data"].facts["split_hash"]["tune"] != done.parts["data"].facts["split_hash"]["tune"]:
            continue
        if other.trained.fingerprint in seen:
            continue
        seen.add(other.trained.fingerprint)
        stages = Planning(other, root, store, progress)
        judged = stages.tuned().facts
        student = other.facts["student"]
        found.append(
            {
                "run": name,
                "parameters": student["parameters_total"],
                "answers": other.labels,
                **judged,
                "usd_per_million_requests": student["usd_per_million_requests"],
                "one_off_usd": other.facts["economics"]["labelling_usd"] + other.facts["economics"]["training_usd"],
                "linear": other.linear,
                "trained": other.trained.fingerprint,
            }
        )
    return sorted(found, key=lambda one: one["parameters"])


def size_for(students: list[Plain], target: float) -> Plain:
    """The cheapest student of those run that reaches a target on tune, and the cheapest that is sure to."""
    by_cost = sorted(students, key=lambda one: one["usd_per_million_requests"])
    seen = next((one["run"] for one in by_cost if one["accuracy"] >= target), None)
    sure = next((one["run"] for one in by_cost if one["ci"][0] >= target), None)
    said = f"Of the finished students on these data ({len(students)})"
    if seen is None:
        sentence = f"{said} none reaches {100 * target:g} %."
    elif sure is None:
        sentence = f"{said} {seen} is the cheapest that reaches {100 * target:g} %; the interval of none lies above it."
    elif sure == seen:
        sentence = f"{said} {seen} is the cheapest that reaches {100 * target:g} %, its whole interval included."
    else:
        sentence = f"{said} {seen} is the cheapest that reaches {100 * target:g} %, {sure} with its whole interval."
    return {"seen": seen, "sure": sure, "sentence": sentence}


def _law(catalogue: Catalogue, students: list[Plain]) -> Plain:
    """A scaling law of the error on tune, from students of several sizes and of several numbers of answers."""
    runs = []
    for one in students:
        if one["linear"]:
            continue
        points = {one["answers"]: one["accuracy"]}
        for entry in catalogue.store.entries().values():
            made = catalogue.store.find(entry.fingerprint) if entry.stage == subsets.NAME else None
            if made is not None and one["trained"] in entry.parents and not made.facts["linear"]:
                curve = worth.curve_of(made)
                points |= {n: p.value for n, p in curve.sizes.items()}
        least = 0.5 / one["n"]  # no error seen is not none
        runs += [scaling_law.Run(one["parameters"], n, max(1 - a, least)) for n, a in points.items()]
    missing = scaling_law.lacking(runs)
    if missing:
        return {
            "runs": len(runs),
            "missing": f"No scaling law: {missing}. Run the recipe with other sizes of student (student.shape, "
            "student.model) under other names, and plan each.",
        }
    return scaling_law.fit(runs).as_dict()


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"
