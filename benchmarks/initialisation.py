"""What a student's start is worth: tokens to a held-out loss, and accuracy by size. The last line is one JSON object.

curves   Four starts of one shape, made out of SmolLM2-135M, learn the same film reviews in the same order, as plain
         text: `pruned`; `trimmed`, the same without the tokens that these reviews have no use for; `healed`, the same
         after distillation on newspaper editorials; `random`, its architecture with random weights. Held-out reviews
         are looked at before, and as training goes on. Losses are bits per byte, so that vocabularies compare; tokens
         are those of the whole vocabulary, whoever reads them.

    loss_<start>                    at the end
    tokens_to_<of>_<start>          first look at which the loss is no more than target_<of>; null: never in the budget
    target_random, target_pruned    what `random` has at the end, and what `pruned` has
    tokens_ratio_pruned_vs_random   tokens of `random` to target_random over those of `pruned`: where `pruned` is as
                                    good at its first look, no more is claimed than that look says; null:
                                    it never was
    ratio_at_least                  the same at target_pruned, which `random` may not have reached: then its whole
                                    budget over the tokens of `pruned`, `reached_by_random` false; the true one is more
    tokens_healing                  were learned before, once for all tasks, and are not among the others

reviews  examples/reviews with students of at most .55, .35 and .2 of the teacher's weights (Gemma 3 270M): SmolLM2 as
         it is; and with fewer layers, the task's vocabulary, healed. Where a size has several candidates (--full), the
         one with the best validation loss on the teacher's answers is taken, and `test` is opened for that one alone.
         All share a folder of runs, so that the teacher answers once.

    accuracy_55, accuracy_35, accuracy_20   with parameters_, shape_, verdict_, seconds_, bits_per_byte_ (of healing)
    accuracy_teacher, accuracy_linear

What was done is kept in --root: a killed part goes on where it was, and a finished one is told again.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aasut import pipeline
from aasut import recipe as recipes
from aasut.documents import ingest
from aasut.formats.tokenizer import Tokenizer
from aasut.progress import Progress
from aasut.recipe import Recipe, Student
from aasut.recipe.documents import Documents
from aasut.sources import models
from aasut.sources.models import cache_root
from aasut.store import Store, digest, write_atomically
from aasut.student import general, heal, initialize, vocabulary
from aasut.student.corpus import Cutter, Passage, capped
from aasut.student.fit import Fit
from aasut.student.objective import Row, Text

VERSION = 1
REVIEWS = Path(__file__).parents[1] / "examples" / "reviews" / "recipe.yaml"
TEACHER = 268_098_176  # weights of Gemma 3 270M
SEED, CONTEXT = 7, 128
SHAPE: dict[str, Any] = {"layers": 12}  # of the curves
VOCABULARY = 8000  # tokens, of the curve `trimmed`
STARTS = ("pruned", "trimmed", "healed", "random")
RATES = {"random": 1e-3}  # random weights bear, and want, a higher one than 3e-4
RATE = 3e-4
STEP_ROWS, LOOKS = 32, 20
HELD = 3000  # tokens that are looked at


@dataclass(frozen=True)
class Budget:
    """Tokens: learned in a curve, and in healing for the curves and for the reviews."""

    curve: int
    heal_curve: int
    heal_reviews: int


SHORT, FULL = Budget(48_000, 60_000, 90_000), Budget(200_000, 120_000, 360_000)
SIZES: dict[str, list[dict[str, Any]]] = {  # of a size, what may be tried: the first one, or with --full all
    "55": [{}],
    "35": [{"shape": {"layers": 25}, "tokens": 8000}],
    "20": [
        {"shape": {"layers": 14}, "tokens": 6000},
        {"shape": {"layers": 14, "choose": "block"}, "tokens": 6000},
        {"shape": {"layers": 22, "neurons": 768}, "tokens": 6000},
    ],
}
LIMIT = {"55": 0.55, "35": 0.35, "20": 0.20}


def section(name: str, group: bool) -> Documents:
    """Snippets of a set as documents, an article's never parted where it is told which they are of."""
    table = recipes.load(REVIEWS).data.tables[0]
    plain: dict[str, Any] = {
        "source": table.source.replace("amazonReviewSnippets", name), "sha256": table.sha256, "format": "text",
        "encoding": "latin-1", "language": "en", "licence": "MIT",
        "records": {"pattern": r"(?m)^(?P<id>\d+_?\d*)\t\S+\t(?P<text>.*)$", "fields": ["text"], "id": "id"},
    }  # fmt: skip
    return Documents.model_validate(plain | ({"group": r"#(\d+)_"} if group else {}))


EDITORIALS, FILMS = ("nytEditorialSnippets", True), ("movieReviewSnippets", False)


def passages(folder: Path, name: str, group: bool, progress: Progress) -> list[Passage]:
    """The texts of a set."""
    where = folder / name
    if not (where / "whole").is_file():
        shutil.rmtree(where, ignore_errors=True)
        where.mkdir(parents=True)
        ingest.build(ingest.Texts([section(name, group)]), REVIEWS.parent, where, progress)
        write_atomically(where / "whole", "")
    return general.passages(ingest.load_documents(where), ingest.load_chunks(where))


def student(initialise: str, rate: float, **more: Any) -> Student:
    """Options of one start; all of its weights are learned."""
    found = recipes.load(REVIEWS).student
    assert found.model is not None
    plain = {
        "initialise": initialise, "model": found.model.model_dump(), "shape": SHAPE, "frozen_embeddings": False,
        "epochs": 1, "batch_examples": STEP_ROWS, "checks": LOOKS, "learning_rate": rate,
    }  # fmt: skip
    return Student.model_validate(plain | more)


def start_of(
    name: str, source: Path, films: Sequence[str], editorials: Sequence[Passage], budget: Budget, folder: Path,
    progress: Progress,
) -> dict[str, Any]:  # fmt: skip
    """Make a start in `folder`; gives what is told of it."""
    done = folder / "start.json"
    if done.is_file():
        return dict(json.loads(done.read_text()))
    facts: dict[str, Any] = {}
    texts = [{"source": "editorials"}]
    if name == "healed":
        wanted = student("pruned", RATE, heal={"texts": texts, "tokens": budget.heal_curve, "context": CONTEXT})
        told = heal.build(wanted, SEED, editorials, source, folder / "model", progress)
        facts = {"tokens": told["tokens_learned"], "loss": told["loss"]}
    else:
        kind = "random" if name == "random" else "pruned"
        begin(kind, student(kind, RATE), source, [one.text for one in editorials][:64], folder / "model")
        if name == "trimmed":
            wanted = student("pruned", RATE, vocabulary={"tokens": VOCABULARY})
            found = vocabulary.trim(folder / "model", wanted, vocabulary.Use(films, [], "", films[:8]))
            facts = {"tokens_kept": found["tokens"][1]}
    write_atomically(done, json.dumps(facts))
    return facts


def begin(kind: str, wanted: Student, source: Path, texts: Sequence[str], folder: Path) -> None:
    """A start that is not healed."""
    shutil.rmtree(folder, ignore_errors=True)
    initialize.get(kind)(wanted, source, texts, folder, SEED)


def rows_of(tokenizer: Tokenizer, texts: Sequence[str]) -> list[Row]:
    """A row a text, so that every start reads the same texts in the same order, in its own tokens."""
    cuts = Cutter(tokenizer, CONTEXT * 4).cut_all([Passage((), text) for text in texts])
    return [cut.rows[0] for cut in cuts]


def curve(
    name: str, model: Path, learned: Sequence[str], held: Sequence[str], counts: Sequence[int], folder: Path,
    progress: Progress,
) -> list[tuple[int, float]]:  # fmt: skip
    """(whole-vocabulary tokens learned, bits per byte of held-out text) at each look, the first before training."""
    done = folder / "curve.json"
    if done.is_file():
        return [(int(tokens), float(loss)) for tokens, loss in json.loads(done.read_text())]
    from aasut.engine.torch import choose_precision, load_model
    from aasut.student import losses, schedule
    from aasut.student.teaching import Right
    from aasut.student.trainer import Trainer

    settings, tokenizer = student("random", RATES.get(name, RATE)), Tokenizer.load(model)
    rows, looked = rows_of(tokenizer, learned), rows_of(tokenizer, held)
    objective = Text(losses.get("cross_entropy"), Right())
    before = Trainer(load_model(model, choose_precision("auto")), objective, settings, SEED).evaluate(looked)
    report = Fit(model, settings, SEED, objective, rows, looked).run(folder / "trained", progress)
    order = schedule.steps([len(row.ids) for row in rows], 1, STEP_ROWS, SEED, mixed=True)
    seen = [0]
    for step in order:
        seen.append(seen[-1] + sum(counts[i] for i in step))
    bits = objective.targets(looked) / math.log(2) / sum(len(text.encode("utf-8")) for text in held)
    found = [(0, before * bits)]
    found += [(seen[int(look["step"])], look["validation_loss"] * bits) for look in report.curve]
    write_atomically(done, json.dumps(found))
    return found


def tokens_to(points: Sequence[tuple[int, float]], target: float) -> int | None:
    """Tokens of the first look at which the loss is no more than the target."""
    return next((tokens for tokens, loss in points if loss <= target), None)


def curves(root: Path, budget: Budget, progress: Progress) -> dict[str, Any]:
    """Tokens to a held-out loss."""
    folder = root / digest([VERSION, SHAPE, VOCABULARY, RATES, RATE, STEP_ROWS, LOOKS, budget.curve, budget.heal_curve])
    folder.mkdir(parents=True, exist_ok=True)
    films, editorials = (passages(root / "texts", *of, progress) for of in (FILMS, EDITORIALS))
    address = student("pruned", RATE).model
    assert address is not None
    source = models.fetch(address, base=REVIEWS.parent, progress=progress).path
    tokenizer = Tokenizer.load(source)
    every = rows_of(tokenizer, [one.text for one in films])
    size = {id(row): i for i, row in enumerate(every)}
    drawn = capped(every, budget.curve + HELD, SEED)
    taken, held, room = [], [], HELD
    for row in drawn:  # in the order of the file: the first ones are looked at
        (held if room > 0 else taken).append(size[id(row)])
        room -= row.answer
    learned, looked = ([films[i].text for i in part] for part in (taken, held))
    counts = [every[i].answer for i in taken]
    found: dict[str, Any] = {"tokens_budget": sum(counts), "held_bytes": sum(len(t.encode()) for t in looked)}
    points: dict[str, list[tuple[int, float]]] = {}
    for name in STARTS:
        begun = time.monotonic()
        facts = start_of(name, source, learned, editorials, budget, folder / name, progress)
        points[name] = curve(name, folder / name / "model", learned, looked, counts, folder / name, progress)
        spent(folder / name, begun)
        found |= {f"loss_before_{name}": round(points[name][0][1], 4), f"loss_{name}": round(points[name][-1][1], 4)}
        found |= {f"seconds_{name}": spent(folder / name)}
        if name == "healed":
            found["tokens_healing"] = facts["tokens"]
        told = ", ".join(f"{tokens:,}: {loss:.3f}" for tokens, loss in points[name])
        print(f"{name}: bits per byte by tokens learned: {told}", flush=True)
    return found | compared(points)


def compared(points: dict[str, list[tuple[int, float]]]) -> dict[str, Any]:
    """Tokens of each start to what `random` and what `pruned` end at, and the quotients."""
    targets = {of: min(loss for _, loss in points[of]) for of in ("random", "pruned")}
    found: dict[str, Any] = {}
    for of, target in targets.items():
        found[f"target_{of}"] = round(target, 4)
        found |= {f"tokens_to_{of}_{name}": tokens_to(points[name], target) for name in STARTS}
    budget, first = points["random"][-1][0], points["pruned"][1][0]
    needed, own = found["tokens_to_random_pruned"], found["tokens_to_random_random"]
    found["tokens_ratio_pruned_vs_random"] = None if needed is None else round(own / max(needed, first), 2)
    found["as_good_at_the_first_look"] = needed is not None and needed <= first
    reached = found["tokens_to_pruned_random"]
    found["reached_by_random"] = reached is not None
    by_pruned = max(found["tokens_to_pruned_pruned"], first)
    found["ratio_at_least"] = round((budget if reached is None else reached) / by_pruned, 2)
    return found


def spent(folder: Path, begun: float | None = None) -> int:
    """Seconds that a part took when it was made; `begun`: write them down, where they are not yet."""
    told = folder / "seconds"
    if begun is not None and not told.exists():
        write_atomically(told, f"{time.monotonic() - begun:.0f}")
    return int(told.read_text())


def recipe_of(size: str, candidate: dict[str, Any], number: int, budget: Budget) -> Recipe:
    """examples/reviews with another student."""
    plain = recipes.load(REVIEWS).model_dump(mode="json", exclude_unset=True, by_alias=True)
    plain["name"] = f"reviews-{size}" + (f"-{number}" if number else "")
    if candidate:
        texts = [section(*of).model_dump(mode="json", exclude_unset=True) for of in (EDITORIALS, FILMS)]
        plain["student"] |= {
            "initialise": "pruned", "shape": candidate["shape"], "vocabulary": {"tokens": candidate["tokens"]},
            "heal": {"texts": texts, "tokens": budget.heal_reviews, "context": CONTEXT}, "learning_rate": 1.2e-4,
        }  # fmt: skip
    return Recipe.model_validate(plain)


def validation_loss(recipe: Recipe, root: Path, progress: Progress) -> float:
    """Best loss on the validation share of the teacher's answers; `test` stays closed."""
    with Store(root / pipeline.STORE) as store:
        stages = pipeline.Stages(recipe, REVIEWS.parent, store, progress)
        try:
            data = stages.data()
            label = stages.label(data, stages.choose(data))
            start = stages.initialise(data, label, stages.heal().get("heal"))
            return float(stages.train(data, label, start, None, None).facts["best_loss"])
        finally:
            stages.close()


def reviews(root: Path, budget: Budget, sizes: Sequence[str], every: bool, progress: Progress) -> dict[str, Any]:
    """Accuracy on the human answers of `test`, by size."""
    found: dict[str, Any] = {}
    for size in sizes:
        candidates = SIZES[size] if every else SIZES[size][:1]
        made = [recipe_of(size, one, number, budget) for number, one in enumerate(candidates)]
        losses = [validation_loss(one, root, progress) for one in made] if len(made) > 1 else [0.0]
        best = losses.index(min(losses))
        done = pipeline.run(made[best], REVIEWS.parent, root, progress).facts
        parameters = done["student"]["parameters_total"]
        if parameters > LIMIT[size] * TEACHER:
            raise SystemExit(
                f"{made[best].name} has {parameters:,} weights, more than {LIMIT[size]:g} of the teacher's"
            )
        found |= {
            f"accuracy_{size}": round(done["student"]["accuracy"], 4), f"parameters_{size}": parameters,
            f"shape_{size}": candidates[best], f"verdict_{size}": done["verdict"]["result"],
            f"validation_{size}": [round(loss, 4) for loss in losses if loss],
            f"seconds_{size}": round(sum(done["seconds"].values())),
            "accuracy_teacher": round(done["teacher"]["accuracy"], 4),
            "accuracy_linear": round(done["baselines"]["linear"]["accuracy"], 4),
        }  # fmt: skip
        if "heal" in done["training"]:
            loss = done["training"]["heal"]["loss"]
            found[f"bits_per_byte_{size}"] = {name: round(one["bits_per_byte"], 4) for name, one in loss.items()}
        print(json.dumps({key: value for key, value in found.items() if size in key}), flush=True)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=["curves", "reviews", "all"], default="all", help="which part")
    parser.add_argument("--sizes", default=",".join(SIZES), help="of the part reviews, with commas")
    parser.add_argument("--full", action="store_true", help="more tokens, and several shapes of a size")
    parser.add_argument("--root", type=Path, default=cache_root() / "benchmarks" / "initialisation", help="all is kept")
    wanted = parser.parse_args()
    budget, root = FULL if wanted.full else SHORT, wanted.root / ("full" if wanted.full else "short")
    root.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {}
    if wanted.part in ("curves", "all"):
        found |= curves(root, budget, Progress())
    if wanted.part in ("reviews", "all"):
        found |= reviews(root / "runs", budget, wanted.sizes.split(","), wanted.full, Progress())
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
