"""Gigabytes: what a run adds to the disk, what it downloads, and the most memory that it takes."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from aasut.forecast.pace import Pace
from aasut.forecast.rehearse import Rehearsal
from aasut.forecast.work import Stage
from aasut.recipe import ModelAddress

TRAINED_BYTES = 18  # a trained parameter: bf16 weight and gradient, float32 master, its gradient, two moments, ...
FROZEN_BYTES = 2
BEST_BYTES = 2  # a copy of the best weights
Q8_0 = 0.53  # of bfloat16's size
CHECKPOINT_BYTES = 14  # a trained parameter: master, two moments, best
BASE_GB = 0.7  # Python with PyTorch and transformers
LIGHT_GB = 0.2  # Python with scikit-learn and the report's charts
# Bytes that stages leave beside models: of a labelled row, of a tested one, of a report.
CACHE_BYTES = 36  # of an answer's token in a logit cache
LABEL_BYTES, PREDICTION_BYTES, REPORT_BYTES = 90, 230, 240_000


@dataclass(frozen=True)
class Download:
    """A model that is fetched at the run's beginning; bytes None where the index does not say."""

    address: str
    bytes: int | None

    @property
    def kept_gb(self) -> float:
        """In the cache it lies as bfloat16, where a quantised file has about 4.5 bits a weight."""
        return 0.0 if self.bytes is None else self.bytes / 1e9 * (16 / 4.5)


@dataclass(frozen=True)
class Sizes:
    """Gigabytes of a model's files, and seconds to write a checkpoint."""

    student_gb: float
    served_by_openvino: bool
    checkpoint_s: float

    @classmethod
    def of(cls, rehearsal: Rehearsal, pace: Pace) -> Sizes:
        recipe = rehearsal.recipe
        if recipe.student.initialise == "linear":
            return cls(0.0, False, 0.0)
        folder = rehearsal.folder_of(recipe.student.model)
        source = sum(p.stat().st_size for p in folder.iterdir()) / 1e9 if folder else 0.3
        student = pace.student.get("parameters", 0.0) * 2 / 1e9 or source
        openvino = recipe.export.serve == "gguf" and recipe.export.engine != "torch"
        trained_gb = pace.student.get("trained", student * 1e9 / 2) * CHECKPOINT_BYTES / 1e9
        return cls(student, openvino, trained_gb / write_gb_s(rehearsal.scratch) if trained_gb else 0.0)

    def of_stage(self, stage: Stage) -> float:
        """Gigabytes that a stage leaves on the disk; the export lies in the store and in the run's folder."""
        small = stage.ledger_bytes + LABEL_BYTES * stage.units["rows.labelled"]
        small += PREDICTION_BYTES * stage.units["rows.tested"] + REPORT_BYTES * stage.units["report"]
        small += stage.units["linear.bytes"] + CACHE_BYTES * stage.units["logits.answers"]
        large = 0.0
        if stage.name in ("heal", "initialise", "train", "prefer"):
            large = self.student_gb
        elif stage.name == "export":
            large = 2 * self.student_gb * (2 + Q8_0 * stage.units["export.q8_0"])
        elif (
            stage.name in ("rank", "evaluate") and self.served_by_openvino and stage.units["served.load"]
        ):  # the engine's graph, in the cache
            large = self.student_gb * (1 + Q8_0 * (stage.units["served.load"] - 1))
        return small / 1e9 + large


def write_gb_s(folder: Path, megabytes: int = 64) -> float:
    """Speed of writing to this disk, in GB a second."""
    path = folder / "speed"
    block = os.urandom(1 << 20)
    began = time.perf_counter()
    with path.open("wb") as file:
        for _ in range(megabytes):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    path.unlink()
    return megabytes / 1e3 / (time.perf_counter() - began)


def memory_gb(pace: Pace) -> float:
    """Most memory: the teacher stays while the student trains. Measured by the probes, else from parameters.

    A trained parameter takes 18 bytes (bfloat16 weight and gradient, float32 master weight and gradient,
    two moments, and the best weights so far), another 2; activations of a micro-batch come on top.
    """
    if not pace.teacher and not pace.student:
        return LIGHT_GB
    teacher, student = (
        max(p.get("peak_gb", 0.0) - BASE_GB, p.get("parameters", 0.0) * bytes_each / 1e9)
        for p, bytes_each in ((pace.teacher, FROZEN_BYTES), (pace.student, TRAINED_BYTES))
    )
    return BASE_GB + teacher + student


def memory_free_gb() -> float:
    """Memory that programs can still take, in GB."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            lines = dict(line.split(":", 1) for line in file)
        return int(lines["MemAvailable"].split()[0]) * 1024 / 1e9
    except (OSError, KeyError, ValueError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


def downloads(rehearsal: Rehearsal) -> list[Download]:
    """Models that the run would fetch, each once."""
    recipe = rehearsal.recipe
    asked = [recipe.teacher, *recipe.teacher.others, *recipe.judges]
    wanted: list[ModelAddress | None] = [recipe.student.model, *(one.model for one in asked)]
    missing = {m.address: m for m in wanted if m is not None and rehearsal.folder_of(m) is None}
    return [Download(address, size(address)) for address in missing]


def size(address: str) -> int | None:
    """Bytes of a model's files, as the index or the hub states them without a download; None where it does not."""
    from aasut.sources import fetch, hub

    kind, _, rest = address.partition(":")
    if kind == "pypi":
        sizes = [fetch.wheel_bytes(pin.strip()) for pin in rest.partition("#")[0].split(",")]
        return None if None in sizes else sum(s for s in sizes if s is not None)
    return hub.stated_bytes(address) if kind == "hf" else None
