"""What a run will take, said before anything is spent: calls, tokens, dollars, minutes and gigabytes, by stage.

Nothing is paid, no call is made to an endpoint, and no model is downloaded.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from aasut.errors import AasutError, EngineError, StoreError, TeacherError
from aasut.forecast import judging, space
from aasut.forecast import pace as paces
from aasut.forecast import work as works
from aasut.forecast.rehearse import Rehearsal
from aasut.forecast.stand_in import Pieces
from aasut.progress import Progress
from aasut.recipe import Recipe
from aasut.recipe.scale import scaled
from aasut.store import Artefact, Store


@dataclass(frozen=True)
class Line:
    """One stage. Token counts are those of calls still to be made; `usd_worst`: all answers as long as allowed."""

    stage: str
    reused: bool
    calls: int
    held: int
    tokens_in: int
    tokens_out: int
    usd: float
    usd_worst: float
    seconds: float
    gigabytes: float


@dataclass(frozen=True)
class Forecast:
    """A run's forecast. `how` says how each figure is known; `stops_after` is None where the cap holds."""

    name: str
    lines: list[Line]
    downloads: list[space.Download]
    memory_gb: float
    disk_free_gb: float
    memory_free_gb: float
    max_usd: float | None
    paid_usd: float
    stops_after: int | None
    probe_s: float
    judges: list[judging.Bill] = field(default_factory=list)
    others: list[judging.Bill] = field(default_factory=list)
    how: dict[str, str] = field(default_factory=dict)

    @property
    def calls(self) -> int:
        return sum(line.calls for line in self.lines)

    @property
    def usd(self) -> float:
        return sum(line.usd for line in self.lines)

    @property
    def seconds(self) -> float:
        return sum(line.seconds for line in self.lines)

    @property
    def gigabytes(self) -> float:
        """Disk that the run adds, downloads included."""
        return sum(line.gigabytes for line in self.lines) + sum(d.kept_gb for d in self.downloads)

    def as_dict(self) -> dict[str, Any]:
        """Plain data, with totals."""
        total = {
            "calls": self.calls,
            "tokens_in": sum(line.tokens_in for line in self.lines),
            "tokens_out": sum(line.tokens_out for line in self.lines),
            "usd": self.usd,
            "usd_worst": sum(line.usd_worst for line in self.lines),
            "minutes": self.seconds / 60,
            "gigabytes": self.gigabytes,
            "memory_gb": self.memory_gb,
        }
        return {**asdict(self), "total": total}

    def problem(self) -> AasutError | None:
        """Why the run could not work, None where nothing is in the way."""
        if self.gigabytes > self.disk_free_gb:
            return StoreError(
                f"The run needs {self.gigabytes:.1f} GB of disk, and {self.disk_free_gb:.1f} GB are free.",
                "Free some space, or give --root a folder on another disk.",
            )
        if self.memory_gb > self.memory_free_gb:
            return EngineError(
                f"The run needs about {self.memory_gb:.1f} GB of memory, and {self.memory_free_gb:.1f} GB are free.",
                "Take a smaller model, or another machine.",
            )
        if self.stops_after is not None:
            return TeacherError(
                f"teacher.max_usd (${self.max_usd:.4f}) would stop the run after about {self.stops_after} of "
                f"{self.calls} calls; it needs about ${self.paid_usd + self.usd:.4f}.",
                "Raise teacher.max_usd, or take fewer inputs with data.limit.",
            )
        for section, bills, fewer in (
            ("teacher.others", self.others, "take fewer inputs with data.limit"),
            ("judges", self.judges, "judge fewer inputs with judges[].unlabelled or data.limit"),
        ):
            for number, bill in enumerate(bills):
                if bill.too_dear:
                    return TeacherError(
                        f"{section}[{number}].max_usd (${bill.max_usd:.4f}) may stop the run: {bill.name} needs up to "
                        f"about ${bill.paid_usd + bill.usd:.4f}.",
                        f"Raise it, or {fewer}.",
                    )
        return None


def forecast(
    recipe: Recipe, base: Path, root: Path, progress: Progress, scale: str = "full", *,
    probing: bool = True, latency_s: float | None = None,
) -> Forecast:  # fmt: skip
    """Forecast the run of a recipe whose paths are relative to `base`, into `root`.

    The rows are read and parted, which the run then reuses. Raises AasutError where the run could not begin.
    """
    recipe = scaled(recipe, scale)
    with Store(root / ".store") as store, tempfile.TemporaryDirectory() as scratch:
        rehearsal = Rehearsal(recipe, base, store, progress, Path(scratch))
        done = rehearsal.rehearse(scale)
        work = works.count(rehearsal, done)
        pace = paces.find(rehearsal, done, work, probing=probing, latency_s=latency_s, progress=progress)
        sizes = space.Sizes.of(rehearsal, pace)
        lines = [_line(recipe, stage, pace, sizes) for stage in work.stages]
        budget = recipe.teacher.max_usd
        return Forecast(
            name=recipe.name,
            lines=lines,
            downloads=space.downloads(rehearsal),
            memory_gb=space.memory_gb(pace),
            disk_free_gb=shutil.disk_usage(store.root).free / 1e9,
            memory_free_gb=space.memory_free_gb(),
            max_usd=budget,
            paid_usd=rehearsal.stand_in.paid,
            stops_after=_stops_after(rehearsal, work) if budget is not None else None,
            probe_s=pace.probe_s,
            judges=work.judges,
            others=work.others,
            how=_how(rehearsal, work) | _method(done) | pace.how,
        )


def _line(recipe: Recipe, stage: works.Stage, pace: paces.Pace, sizes: space.Sizes) -> Line:
    seconds = pace.of(stage.units)
    every_s = recipe.student.checkpoint_s
    if stage.name in ("train", "prefer") and stage.units:
        seconds += seconds // every_s * sizes.checkpoint_s if every_s else 0.0
    if stage.name == "data":
        seconds += paces.START_S  # the process itself
    return Line(
        stage.name, stage.reused, stage.calls, stage.held, stage.tokens_in, stage.tokens_out, stage.usd,
        stage.worst_usd, seconds, 0.0 if stage.reused else sizes.of_stage(stage),
    )  # fmt: skip


def _stops_after(rehearsal: Rehearsal, work: works.Work) -> int | None:
    """Calls after which the cap stops the run; None where it holds.

    A call is begun if what is spent and the worst case of all calls in flight, itself included, lie within the
    cap. Where they do not, the budget waits for calls in flight; it stops where one call alone would pass it.
    """
    most = rehearsal.recipe.teacher.max_usd
    if most is None:
        return None
    spent, made = rehearsal.stand_in.paid, 0
    for stage in work.stages:
        if not stage.calls or stage.name in ("judge", works.OTHERS):  # they have caps of their own
            continue
        each, worst = stage.usd / stage.calls, stage.worst_usd / stage.calls
        if spent + stage.usd - each + worst > most:
            return made + (max(int((most - spent - worst) / each) + 1, 0) if each else 0)
        spent, made = spent + stage.usd, made + stage.calls
    return None


def _how(rehearsal: Rehearsal, work: works.Work) -> dict[str, str]:
    """How calls and tokens are known."""
    counter, kind = rehearsal.stand_in.counter, rehearsal.teacher_kind
    here = kind != "model" or rehearsal.folder_of(rehearsal.recipe.teacher.model) is not None
    by = "4 bytes a token" if isinstance(counter.tokenizer, Pieces) else "a tokenizer at hand"
    tokens = f"estimated by {by}" + ("" if here else ": the model is not here yet")
    if counter.learned != (1.0, 1.0):
        tokens += ", scaled by the ledger's earlier calls"
    if kind == "model" and here:
        tokens = "exact, by the teacher's tokenizer"
    if not rehearsal.recipe.task.build().answers:
        tokens += "; answers as long as the human ones in tune"
    if kind == "scripted":
        tokens = "exact: the scripted teacher was asked"
    calls = "exact, by a rehearsal of the stages"
    if work.judges:
        calls += "; the judges' at most, as answers that are the same are not compared"
    if any(stage.name == "rank" and stage.calls for stage in work.stages):
        calls += "; those about the student's answers at most, as if they all were different"
    return {"calls": calls, "tokens": tokens}


def _method(done: dict[str, Artefact]) -> dict[str, str]:
    """How the student will learn text, and why."""
    facts = done["method"].facts if "method" in done else {}
    return {"method": f"{facts['name']}, as {facts['reason']}"} if facts else {}


def to_json(found: Forecast) -> str:
    """One JSON object."""
    return json.dumps(found.as_dict())
