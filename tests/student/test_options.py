"""No option of training is accepted and then read by nothing: each one changes what is trained, or is told why not."""

from __future__ import annotations

import ast
import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch

import aasut
from aasut import recipe
from aasut.engine.torch import load_model
from aasut.formats.tokenizer import Tokenizer
from aasut.progress import Progress
from aasut.recipe import OnPolicy, Recipe, Section, Student
from aasut.student.lessons import Lessons
from aasut.student.objective import Row
from aasut.student.rollouts import Asking, Rollouts
from aasut.student.teaching import Live
from aasut.student.train import objective_of
from aasut.student.trainer import Trainer

BEFORE: dict[str, Any] = {"learning_rate": 1e-3, "epochs": 2, "batch_examples": 3, "checks": 1, "precision": "float32"}
OWN: dict[str, Any] = {"share": 0.6, "start": 0.0, "rise": 0.0}
CHANGED: dict[str, dict[str, Any]] = {  # what the option is set to, with what goes with it
    "epochs": {"epochs": 1},
    "learning_rate": {"learning_rate": 2e-3},
    "warmup": {"warmup": 0.9},
    "schedule": {"schedule": "wsd"},
    "decay": {"schedule": "wsd", "decay": 1.0},
    "weight_decay": {"weight_decay": 0.9},
    "batch_examples": {"batch_examples": 4},
    "clip_norm": {"clip_norm": 1e-3},
    "frozen_layers": {"frozen_layers": 1},
    "frozen_embeddings": {"frozen_embeddings": False},
    "lora": {"lora": {"rank": 2}},
    "loss": {"loss": "reverse_kl"},
    "beta": {"loss": "jsd", "beta": 0.9},
    "alpha": {"loss": "skewed_kl", "alpha": 0.9},
    "on_policy": {"on_policy": OWN},
    "on_policy.share": {"on_policy": OWN | {"share": 1.0}},
    "on_policy.start": {"on_policy": OWN | {"start": 0.5}},
    "on_policy.rise": {"on_policy": OWN | {"rise": 0.5}},
    "on_policy.refresh": {"on_policy": OWN | {"refresh": 2}},
    "on_policy.temperature": {"on_policy": OWN | {"temperature": 0.3}},
}
BESIDE = {  # without them, the options that go with others change nothing by themselves
    "decay": {"schedule": "wsd"}, "beta": {"loss": "jsd"}, "alpha": {"loss": "skewed_kl"},
} | {option: {"on_policy": OWN} for option in CHANGED if option.startswith("on_policy.")}  # fmt: skip
ELSEWHERE = {  # tested where they are read: they decide the start, the rows, or how, and not what, is computed
    "initialise", "model", "shape", "vocabulary", "heal", "experts", "preference", "prompt", "method", "validation",
    "checks", "precision", "checkpoint_s", "micro_tokens", "activation_checkpointing", "processes", "patience",
    "most_spikes",
}  # fmt: skip


def trained(tiny_llama: Path, folder: Path, **settings: Any) -> str:
    """A hash of the weights after a few steps against a teacher that runs alongside."""
    student, teacher = (load_model(tiny_llama, torch.float32) for _ in range(2))
    with torch.no_grad():
        teacher.model.layers[0].mlp.down_proj.weight.mul_(-1)
    options = Student.model_validate({"model": {"address": "file:x"}, **BEFORE, **settings})
    rows = [
        Row([5 + i, 40, 41 + i, 7, 60 + i, 1], answer=3, own=1, key=f"{i}#0", asked=[5 + i, 40, 41 + i])
        for i in range(8)
    ]
    folder.mkdir()
    objective = objective_of(None, options, Lessons(Live(teacher, 512)))
    own = None if options.on_policy is None else _own(options.on_policy, rows, Tokenizer.load(tiny_llama), folder)
    Trainer(student, objective, options, 7).fit(rows, rows[:2], folder, Progress(quiet=True), own=own)
    state = {name: weight.contiguous() for name, weight in sorted(student.state_dict().items())}
    return hashlib.sha256(b"".join(weight.numpy().tobytes() for weight in state.values())).hexdigest()


def _own(settings: OnPolicy, rows: list[Row], tokenizer: Tokenizer, folder: Path) -> Rollouts:
    prompts = {row.key.split("#")[0]: tokenizer.decode(row.ids[:3]) for row in rows}
    return Rollouts(settings, Asking(prompts, 3), tokenizer, 7, folder, Progress(quiet=True))


@pytest.mark.parametrize("option", CHANGED)
def test_an_option_of_training_changes_the_student(option: str, tiny_llama: Path, tmp_path: Path) -> None:
    before = trained(tiny_llama, tmp_path / "before", **BESIDE.get(option, {}))
    assert trained(tiny_llama, tmp_path / "again", **BESIDE.get(option, {})) == before
    assert trained(tiny_llama, tmp_path / "changed", **CHANGED[option]) != before


def test_every_option_of_the_student_is_tried_here_or_elsewhere() -> None:
    assert {option for option in CHANGED if "." not in option} | ELSEWHERE == set(Student.model_fields)
    assert not set(CHANGED) & ELSEWHERE
    assert {f"on_policy.{name}" for name in OnPolicy.model_fields} <= set(CHANGED)


def sections() -> list[type[Section]]:
    found = [value for value in vars(recipe).values() if isinstance(value, type) and issubclass(value, Section)]
    assert Recipe in found
    return found


def read() -> set[str]:
    """Names of all attributes that are read outside the recipe's checks of itself, which use nothing."""
    root, names = Path(aasut.__file__).parent, set()
    for path in root.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if path.parent.name == "recipe":
            checks = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.decorator_list]
            for node in checks:
                node.body = []
        attributes = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute))
        names |= {node.attr for node in attributes if isinstance(node.ctx, ast.Load)}
    return names


@pytest.mark.parametrize("section", sections(), ids=lambda section: section.__name__)
def test_no_field_of_a_recipe_is_read_by_nothing(section: type[Section]) -> None:
    unread = {name.rstrip("_") for name in section.model_fields} - {name.rstrip("_") for name in read()}
    assert unread == set()
