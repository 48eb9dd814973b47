"""Stage `export`: the student as files that run anywhere, proved to be one and the same model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aasut.engine.linear import VOCABULARY
from aasut.export import card, licences
from aasut.export.manifest import StudentCard, content_hash
from aasut.progress import Progress
from aasut.recipe import Recipe
from aasut.store import write_atomically

VERSION = 1


def build(
    recipe: Recipe,
    trained: Path,
    prompts: Sequence[str],
    descent: list[dict[str, Any]],
    folder: Path,
    progress: Progress,
) -> dict[str, Any]:
    """Write student/, student.gguf, card.md and student.json into `folder`.

    `prompts` are the run's own inputs, on which the forms are compared; `descent` comes from
    `licences.ledger`. Raises RoundTripError where the forms differ.
    """
    linear = recipe.student.initialise == "linear"
    student = folder / "student"
    shutil.rmtree(student, ignore_errors=True)
    shutil.copytree(trained, student)
    facts: dict[str, Any] = {}
    licence = licences.combined(descent)
    if not linear:
        facts["round_trip"] = _write_gguf(recipe, trained, prompts, licence, folder, progress)
    files = ["student"] + [path.name for path in sorted(folder.glob("*.gguf"))]
    facts["files"] = {name: content_hash(folder / name) for name in files}
    served = "student" if linear or recipe.export.serve == "safetensors" else "student.gguf"
    describe(recipe, served, facts["files"][served]).write(folder)
    write_atomically(folder / "card.md", card.render(recipe, facts, descent, licence))
    return {**facts, "served": served, "licence": licence}


def describe(recipe: Recipe, served: str, sha256: str) -> StudentCard:
    """What the server needs to know."""
    task = recipe.task.build()
    return StudentCard(
        name=recipe.name,
        kind=recipe.task.kind,
        answers=task.answers,
        max_tokens=task.max_tokens,
        schema=task.schema,
        tools=task.tools,
        task_prompt=task.prompt.messages,
        student_prompt=recipe.student_template().messages,
        file=served,
        engine="linear" if recipe.student.initialise == "linear" else recipe.export.engine,
        precision=recipe.export.precision,
        sha256=sha256,
    )


def _write_gguf(
    recipe: Recipe, trained: Path, prompts: Sequence[str], licence: str, folder: Path, progress: Progress
) -> dict[str, Any]:
    from aasut.export import roundtrip
    from aasut.formats import gguf_write
    from aasut.formats.template import PLAIN
    from aasut.student.train import answer_texts

    student = folder / "student"
    write_atomically(student / "chat_template.jinja", PLAIN)
    settings = json.loads((student / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings.pop("chat_template", None)
    write_atomically(student / "tokenizer_config.json", json.dumps(settings, indent=2, ensure_ascii=False) + "\n")
    progress.say("exporting: GGUF in bfloat16" + (" and Q8_0" if recipe.export.q8_0 else ""))
    gguf_write.write(student, folder / "student.gguf", "bf16", licence=licence)
    if recipe.export.q8_0:
        gguf_write.write(student, folder / "student-q8_0.gguf", "q8_0", licence=licence)
    tried = list(prompts[: recipe.export.round_trip])
    progress.say(f"exporting: comparing the written forms on {len(tried)} inputs")
    return roundtrip.prove(trained, student, folder / "student.gguf", tried, answer_texts(recipe))


def is_linear(folder: Path) -> bool:
    """Does this folder hold a linear student?"""
    return (folder / VOCABULARY).exists()
