"""The way from what was kept to a run: tables that `aasut run` reads, recipes for it, and chats for other trainers.

    tables/train.jsonl      questions of train with the teacher's answers, which a run learns as they stand
    tables/held_out.jsonl   questions of tune and test, which people answer with `aasut gold`
    tables/calls.jsonl      requests of train with the calls that they need; calls_held_out.jsonl those of the others
    texts.jsonl             texts of train: relations and readings
    chat.jsonl              all of train that is asked and answered, as chat APIs have it
    task.yaml               a recipe of a task of questions; task-calls.yaml one of calls

Questions in the middle of a conversation mean nothing by themselves, so conversations are in chat.jsonl alone. What
stands in tune or test is in the tables of held-out questions and nowhere else. The teacher's answer to a held-out
question stands beside it to be looked up: it is no human answer, and nothing reads it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from aasut import tools as functions
from aasut.files import disk_errors, write_atomically
from aasut.recipe import file
from aasut.recipe.field import FieldRecipe
from aasut.recipe.models import SMALL_MODEL
from aasut.synthesize.item import Item
from aasut.types import Document

TRAIN, HELD_OUT, CALLS, CALLS_HELD_OUT = (
    f"tables/{name}.jsonl" for name in ("train", "held_out", "calls", "calls_held_out")
)
TEXTS, CHAT, TASK, TASK_CALLS = "texts.jsonl", "chat.jsonl", "task.yaml", "task-calls.yaml"
GOLD, GOLD_CALLS = "gold.jsonl", "gold-calls.jsonl"
MARGIN = 0.03
VERSION = 1  # of what `write` makes: raised when the same settings would give other files

Plain = dict[str, Any]


def write(
    recipe: FieldRecipe,
    base: Path,
    kept: Iterable[Item],
    documents: Mapping[str, Document],
    folder: Path,
    home: Path | None = None,
) -> Plain:
    """Write the files above into `folder`; gives how many lines each has, by name.

    base: the folder that the recipe's paths are relative to; home: where the files will stand, if not in `folder`;
    kept: the items of all splits; documents: by id, those at least that items rest on. A recipe is written where train
    has items for it, and tune or test some to hold against.
    """
    items = list(kept)
    train = [item for item in items if item.split == "train"]
    held = [item for item in items if item.split != "train"]
    files: dict[str, Iterator[Plain]] = {
        TRAIN: (_row(item, documents, "answer") for item in train if item.kind == "questions"),
        HELD_OUT: (_row(item, documents, "teacher_answer") for item in held if item.kind == "questions"),
        TEXTS: (_text(item) for item in train if item.is_text),
        CHAT: (_chat(item, recipe) for item in train if not item.is_text),
    }
    if recipe.synthesize.tools:
        asked = [item for item in held if item.kind in ("calls", "questions")]
        files[CALLS] = (_row(item, documents, "answer") for item in train if item.kind == "calls")
        files[CALLS_HELD_OUT] = (_row(item, documents, "teacher_answer") for item in asked)
    with disk_errors(folder):
        (folder / "tables").mkdir(exist_ok=True)
        counts = {name: _lines(folder / name, rows) for name, rows in files.items()}
    for name, kind, tables in (
        (TASK, "questions", (TRAIN, HELD_OUT)),
        (TASK_CALLS, "calls", (CALLS, CALLS_HELD_OUT)),
    ):
        if all(counts.get(table) for table in tables):
            groups = {documents[item.spans[0].document].group for item in train if item.kind == kind}
            lines = [counts[table] for table in tables]
            text = _recipe(recipe, base, home or folder, name, lines, grouped=len(groups) > 1)
            write_atomically(folder / name, text)
    return counts


def _lines(path: Path, rows: Iterable[Plain]) -> int:
    with path.open("w", encoding="utf-8", newline="\n") as out:
        return sum(bool(out.write(json.dumps(row, ensure_ascii=False) + "\n")) for row in rows)


def _row(item: Item, documents: Mapping[str, Document], answer: str) -> Plain:
    """One question with its answer in flat columns, and where a reader finds it."""
    span = item.spans[0]
    document = documents[span.document]
    return {
        "question": item.questions[0],
        answer: item.answers[0],
        "id": item.id,
        "document": document.id,
        "group": document.group,
        "file": document.file,
        "page": span.page,
        "headings": " › ".join(span.headings),
    }


def _text(item: Item) -> Plain:
    places = list(dict.fromkeys(span.document for span in item.spans))
    return {"text": item.text, "id": item.id, "kind": item.kind, "documents": places, "language": item.language}


def _chat(item: Item, recipe: FieldRecipe) -> Plain:
    messages: list[Plain] = []
    for turn in item.turns:
        called = functions.native(turn.content) if item.kind == "calls" and turn.role == "assistant" else []
        said = {"content": None, "tool_calls": called} if called else {"content": turn.content}
        messages.append({"role": turn.role} | said)
    tools = {"tools": recipe.synthesize.tools} if item.kind == "calls" else {}
    return {"messages": messages, "id": item.id} | tools


def _recipe(recipe: FieldRecipe, base: Path, folder: Path, name: str, counts: list[int], *, grouped: bool) -> str:
    """The recipe of a task, with a comment on what to do next and on every choice.

    grouped: whether documents of train are of several groups, one of which can be kept for validation.
    """
    calls = name == TASK_CALLS
    table, held = (CALLS, CALLS_HELD_OUT) if calls else (TRAIN, HELD_OUT)
    gold = GOLD_CALLS if calls else GOLD
    wanted = recipe.synthesize
    task: Plain = {"kind": "tools", "tools": wanted.tools} if calls else {"kind": "generate"}
    task |= {"prompt": "{question}", "max_tokens": wanted.max_tokens}
    same: Plain = {"slots": {"question": "question"}, "id": "id"}
    group: Plain = {"group": {"column": "group"}}
    sections: list[tuple[str, Plain]] = [
        (
            f"Made by `aasut synthesize` from the recipe {recipe.name}, of documents under: {_licences(recipe)}.\n"
            f"1. Answers of people, which alone prove anything: aasut gold {name}\n"
            f"2. The student, and whether it may replace the teacher: aasut run {name}\n"
            "Every line may be changed; docs/recipe.md lists all fields.",
            {"name": f"{recipe.name}-{'calls' if calls else 'questions'}", "seed": recipe.seed},
        ),
        (
            "The question alone: the student is to know the field by heart. A prompt that your application sends\n"
            "today goes here, with {question} where the question stands.",
            {"task": task},
        ),
        (
            f"{counts[0]:,} questions of train with the teacher's answers: they are learned as they stand, and the\n"
            f"teacher is not asked. {counts[1]:,} questions of documents that train has not: people answer them, and\n"
            f"their answers go to {gold}; the teacher's, in the column teacher_answer, are read by nothing. All were\n"
            "filtered, so two that are nearly the same are left.",
            {
                "data": {
                    "tables": [
                        {"source": table} | same | (group if grouped else {}) | {"role": "pool", "taught": "answer"},
                        {"source": held} | same | group | {"role": "gold"},
                    ],
                    "gold": gold,
                    "split": {"pool": 0, "tune": 10, "calibrate": 20, "test": 70},
                    "near_duplicates": 1,
                    "overlap": "drop",
                }
            },
        ),
        (
            "The model that wrote the answers. In the evaluation it is asked the question alone, as the student is.",
            {"teacher": _teacher(recipe, base, folder)},
        ),
        (
            "The model that learns. After `aasut adapt` one that has read the documents: address: file:adapted.",
            {"student": _student(recipe, base, folder)},
        ),
        (
            "How much worse than the teacher the student may be. Fix it before you see a result.",
            {"evaluate": {"margin": MARGIN}},
        ),
    ]
    parts = ["".join(f"# {line}\n" for line in said.split("\n")) + file.as_yaml(plain) for said, plain in sections]
    return "\n".join(parts)


def _licences(recipe: FieldRecipe) -> str:
    every = dict.fromkeys(" ".join(one.licence.split()) for one in recipe.documents)
    return "".join(character if character.isprintable() else "?" for character in ", ".join(every))


def _teacher(recipe: FieldRecipe, base: Path, folder: Path) -> Plain:
    plain: Plain = recipe.teacher.model_dump(mode="json", exclude_unset=True, by_alias=True)
    file.move_model(plain.get("model"), base, folder)
    return plain


def _student(recipe: FieldRecipe, base: Path, folder: Path) -> Plain:
    model = recipe.student.model if recipe.student is not None and recipe.student.model is not None else SMALL_MODEL
    plain: Plain = model.model_dump(mode="json", exclude_unset=True)
    file.move_model(plain, base, folder)
    return {"initialise": "pretrained", "model": plain, "prompt": "Question: {question}\nAnswer:"}
