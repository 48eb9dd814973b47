from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from aasut import recipe as recipes
from aasut.errors import RecipeError
from aasut.recipe import Recipe, Section, load, parse
from aasut.tasks import Classify, Extract, Generate, Tools
from refusals import untested
from small_run import recipe as small

HASH = "a" * 64
MODEL = {"address": "pypi:some-model==1.0#*.gguf", "sha256": HASH}
OTHER = {"scripted": {"": "positive"}, "family": "b"}
OTHERS = [OTHER, {"scripted": {"": "negative"}, "family": "c"}]
MODEL_TEACHER = {"model": MODEL}
ENDPOINT = {"base_url": "http://127.0.0.1:1/v1", "model": "m"}
PRETRAINED = {"initialise": "pretrained", "model": MODEL}
PRUNED = {"initialise": "pruned", "model": MODEL}
RANDOM = {"initialise": "random", "model": MODEL, "frozen_embeddings": False}
HEAL = {"texts": [{"source": "general"}]}
SCHEMA = {"type": "object", "properties": {"what": {"type": "string"}}}
GENERATE = {"kind": "generate", "prompt": "Text: {text}"}
EXTRACT = {"kind": "extract", "prompt": "Text: {text}", "schema": SCHEMA}
POOLED = {"source": "a.csv", "slots": {"text": "text"}, "role": "pool", "taught": "answer"}

FUNCTION = {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
TOOLS = {"kind": "tools", "prompt": "Text: {text}", "tools": [{"type": "function", "function": FUNCTION}]}


def tools(**changes: Any) -> dict[str, Any]:
    """A task with one function, changed."""
    return TOOLS | {"tools": [{"type": "function", "function": FUNCTION | changes}]}


def changed(place: str, value: Any) -> dict[str, Any]:
    """A valid recipe with one field set; `place` is its dotted path, numbers go into lists."""
    plain: Any = small()
    *sections, field = place.split(".")
    inner = plain
    for section in sections:
        inner = inner[int(section)] if section.isdigit() else inner.setdefault(section, {})
    inner[int(field) if field.isdigit() else field] = value
    return dict(plain)


def message(plain: dict[str, Any]) -> str:
    """Why a recipe is refused; each refusal is one line with a remedy."""
    with pytest.raises(RecipeError) as caught:
        parse(plain, "recipe.yaml")
    text = str(caught.value)
    assert text.splitlines() == [text]
    assert caught.value.remedy
    return text


@pytest.mark.parametrize(
    "place",
    ["colour", "task.colour", "data.colour", "data.split.colour", "data.tables.0.colour", "data.tables.0.label.colour",
     "data.tables.0.group.colour", "teacher.colour", "student.colour", "export.colour", "evaluate.colour",
     "economics.colour", "economics.ranges.colour"],
)  # fmt: skip
def test_an_unknown_field_is_named(place: str) -> None:
    assert f"{place}: there is no such field (given: 'red')" in message(changed(place, "red"))


def test_the_verdicts_own_score_is_always_among_the_metrics() -> None:
    def named(task: dict[str, Any], **evaluate: Any) -> tuple[str, ...]:
        student = {} if task["kind"] == "classify" else {"student": PRETRAINED}
        return parse(small() | {"task": task, "evaluate": evaluate} | student, "recipe").metrics()

    classify = {"kind": "classify", **small()["task"]}
    assert named(classify) == ("accuracy", "macro_f1")
    assert named(classify, metrics=[]) == ("accuracy",)
    assert named(GENERATE) == ("exact", "token_f1")
    assert named(GENERATE, metrics=["tool_names", "tool_calls"]) == ("exact", "tool_calls", "tool_names")
    assert named(TOOLS) == ("exact", "tool_calls")
    assert named(TOOLS, metrics=["tool_names"]) == ("exact", "tool_names")
    assert named(EXTRACT) == named(EXTRACT, metrics=["fields", "exact"]) == ("exact", "fields")


@pytest.mark.parametrize(
    "place", ["task", "data", "teacher", "student", "name", "task.labels", "task.prompt", "data.tables"]
)
def test_a_missing_field_is_named(place: str) -> None:
    plain = small()
    inner = plain
    *sections, field = place.split(".")
    for section in sections:
        inner = inner[section]
    del inner[field]
    assert f"{place}: is required" in message(plain)


REFUSED: list[tuple[str, Any, str]] = [
    ("judges", [{"rubric": "Be right."}], "give exactly one of model, endpoint, scripted"),
    ("judges", [{"rubric": "", "scripted": {"": "A"}}], "judges.0.rubric"),
    ("judges", [{"rubric": "x", "scripted": {"": "A"}, "unlabelled": -1}], "judges.0.unlabelled"),
    ("evaluate.strata", "text", "evaluate.strata is for judges with unlabelled inputs"),
    ("student.preference", {"rubric": ""}, "student.preference.rubric"),
    ("student.preference", {"rubric": "x", "samples": 1}, "student.preference.samples"),
    ("student.preference", {"rubric": "x", "beta": 0}, "student.preference.beta"),
    ("student.preference", {"rubric": "x"}, "a linear student has no use for preference"),
    ("student", {**PRETRAINED, "preference": {"rubric": "x"}}, "student.preference is for free text: a classify task"),
    ("name", "../escape", "name: "),
    ("name", "a/b", "name: "),
    ("name", "", "name: "),
    ("seed", "seven", "seed: "),
    ("task.kind", "poetry", "task.kind: unknown, choose classify, generate, extract or tools (given: 'poetry')"),
    ("task.labels", ["one"], "at least 2"),
    ("task.labels", [f"label {i}" for i in range(101)], "at most 100"),
    ("task.labels", ["yes", "no", "yes"], "'yes' stands there twice"),
    ("task.labels", ["yes", "no", "YES"], "twice (case does not count)"),
    ("task.labels", ["yes", "  no"], "'  no' is empty or has space around it"),
    ("task.labels", ["yes", ""], "'' is empty"),
    ("task.labels", [True, False], "(given: True)"),
    ("task.prompt", "no slot", "no slot"),
    ("task.prompt", "{other}", "task.prompt uses {other}, which data.tables[0].slots does not fill"),
    ("task.prompt", [{"content": "{text}"}], "role and content"),
    ("data.tables", [], "at least 1"),
    ("data.tables.0.slots", {}, "declare at least one slot"),
    ("data.tables.0.format", "chat", "format chat reads the slots with task.prompt: leave slots out"),
    ("data.tables.0.delimiter", ";;", "data.tables.0.delimiter: "),
    ("data.tables.0.delimiter", '"', "data.tables.0.delimiter: "),
    ("data.tables.0.label", None, "role 'both' needs human answers"),
    ("data.tables.0", {"source": "a.csv", "slots": {"text": "t"}, "role": "gold"}, "role 'gold' needs human answers"),
    ("data.tables.0.label", {}, "give column, or fields for an extract task, and not both"),
    ("data.tables.0.label.fields", {"a": ["b"]}, "give column, or fields for an extract task, and not both"),
    ("data.tables.0.label.strip", ",", "strip goes with fields"),
    ("data.tables.0.label", {"fields": {"a": ["b"]}, "ranges": [{"label": "positive"}]}, "ranges go with column"),
    ("data.tables.0.label", {"fields": {"a": ["b"]}}, "label.fields are for a task of kind extract"),
    ("data.tables.0.label.ranges", [{"label": "neutral", "at_least": 0}], "ranges: 'neutral' is not in task.labels"),
    ("data.tables.0.taught", "text", "taught answers are learned and prove nothing: set role: pool"),
    ("data.tables.0", POOLED | {"label": {"column": "x"}}, "taught answers are the teacher's, and label has people's"),
    ("data.tables.0", POOLED | {"format": "chat", "slots": {}}, "taught names a column, and format chat has none"),
    ("data.tables.0", POOLED | {"taught": ""}, "data.tables.0.taught: "),
    ("data.tables", [POOLED], "data.tables[].taught is for free text: a classify task's student learns probabilities"),
    ("data", {"tables": [POOLED], "asked": "a.jsonl"}, "asked chooses what the teacher answers, and taught has its"),
    ("data.tables.0.group.pattern", "(", "is no regular expression"),
    ("data.tables.0.group.pattern", "[0-9]+", "needs one group"),
    ("data.tables.0.format", "xls", "data.tables.0.format: "),
    ("data.tables.0.role", "spare", "data.tables.0.role: "),
    ("data.split.tune", -1, "data.split.tune: "),
    ("data.split.tune", float("nan"), "data.split.tune: "),
    ("data.near_duplicates", 0, "data.near_duplicates: "),
    ("data.near_duplicates", 1.01, "data.near_duplicates: "),
    ("data.limit", 0, "data.limit: "),
    ("data.max_failed", 1, "data.max_failed: "),
    ("data.overlap", "ignore", "data.overlap: "),
    ("teacher", {}, "exactly one of model, endpoint, scripted (given: none)"),
    ("teacher.endpoint", ENDPOINT, "(given: endpoint, scripted)"),
    ("teacher", {"model": MODEL, "endpoint": ENDPOINT}, "(given: model, endpoint)"),
    ("teacher", {"model": MODEL, "shots": 4, "candidates": 2, "committee": 3}, "committee (3) cannot be larger"),
    ("teacher", {"model": MODEL, "candidates": 2}, "candidates differ by their shots"),
    ("teacher.engine", "torch", "engine and precision are for a local model"),
    ("teacher.precision", "float32", "engine and precision are for a local model"),
    ("teacher.max_usd", 5, "max_usd is for an endpoint"),
    ("teacher", {"model": MODEL, "max_usd": 5}, "max_usd is for an endpoint"),
    ("teacher.calibration", "prior", "a scripted teacher gives no probabilities"),
    ("teacher", {"endpoint": ENDPOINT, "calibration": "contextual"}, "set endpoint.logprobs"),
    ("teacher.prompt", "{other}", "teacher.prompt uses {other}"),
    ("teacher", {"model": MODEL | {"sha256": "A" * 64}}, "64 lowercase hexadecimal digits"),
    ("teacher", {"model": MODEL | {"sha256": "a" * 63}}, "64 lowercase hexadecimal digits"),
    ("teacher", {"endpoint": ENDPOINT | {"concurrency": 0}}, "teacher.endpoint.concurrency: "),
    ("teacher", {"endpoint": ENDPOINT | {"timeout_s": 0}}, "teacher.endpoint.timeout_s: "),
    ("teacher.max_failed", 1, "teacher.max_failed: "),
    ("student", {"initialise": "teleport"}, "student.initialise: "),
    ("student", {"initialise": "pretrained"}, "initialise: pretrained needs a model"),
    ("student", {"initialise": "pruned", "shape": {"layers": 4}}, "initialise: pruned needs a model"),
    ("student", {"initialise": "pruned", "model": MODEL}, "initialise: pruned needs a shape"),
    ("student", PRETRAINED | {"shape": {"layers": 4}}, "shape goes with initialise: pruned or random"),
    ("student", PRUNED | {"shape": {}}, "shape changes nothing: give layers, heads, neurons or channels"),
    ("student", PRUNED | {"shape": {"heads": 2, "choose": "block"}}, "choose goes with layers"),
    ("student", PRUNED | {"shape": {"layers": 2, "choose": "best"}}, "student.shape.choose: "),
    ("student", PRUNED | {"shape": {"layers": 0}}, "student.shape.layers: "),
    ("student", PRUNED | {"shape": {"heads": -1}}, "student.shape.heads: "),
    ("student", PRUNED | {"shape": {"neurons": 1.5}}, "student.shape.neurons: "),
    ("student", PRUNED | {"shape": {"channels": "half"}}, "student.shape.channels: "),
    ("student", {"initialise": "random"}, "initialise: random needs a model"),
    ("student", RANDOM | {"frozen_embeddings": True}, "initialise: random trains every weight: set frozen_embeddings"),
    ("student", RANDOM | {"frozen_layers": 2}, "initialise: random trains every weight"),
    ("student", RANDOM | {"lora": {}}, "initialise: random trains every weight"),
    ("student.shape", {"layers": 4}, "a linear student has no use for shape"),
    ("student", PRETRAINED | {"heal": HEAL}, "heal goes with initialise: pruned or random: a model as it is has"),
    ("student", {"initialise": "linear", "heal": HEAL}, "a linear student has no use for heal"),
    ("student.heal", {"texts": []}, "student.heal.texts: "),
    ("student.heal", HEAL | {"tokens": 0}, "student.heal.tokens: "),
    ("student.heal", HEAL | {"context": 63}, "student.heal.context: "),
    ("student.heal", HEAL | {"learning_rate": 0}, "student.heal.learning_rate: "),
    ("student.heal", {"texts": [{"source": "pypi:x==1"}]}, "has no sha256: pin the package's file"),
    ("student.epochs", 3, "a linear student has no use for epochs"),
    ("student.model", MODEL, "a linear student has no use for model"),
    ("student.prompt", "{text}", "a linear student has no use for prompt"),
    ("student.lora", {"rank": 4}, "a linear student has no use for lora"),
    ("student.vocabulary", {}, "a linear student has no use for vocabulary"),
    ("student", PRETRAINED | {"vocabulary": {"tokens": 0}}, "student.vocabulary.tokens: "),
    ("student", PRETRAINED | {"vocabulary": {"least": 3}}, "student.vocabulary.least: there is no such field"),
    ("student.loss", "jsd", "a linear student has no use for loss"),
    ("student", PRETRAINED | {"prompt": "{other}"}, "student.prompt uses {other}"),
    ("student", PRETRAINED | {"decay": 0.3}, "decay goes with schedule: wsd"),
    ("student", PRETRAINED | {"schedule": "wsd", "decay": 0}, "student.decay: "),
    ("student", PRETRAINED | {"beta": 0.3}, "beta goes with loss: jsd"),
    ("student", PRETRAINED | {"alpha": 0.3, "loss": "jsd"}, "alpha goes with loss: skewed_kl"),
    ("student", PRETRAINED | {"lora": {}, "frozen_embeddings": False}, "lora trains adapters in the layers alone"),
    ("student", PRETRAINED | {"lora": {}, "processes": 2}, "lora trains in one process"),
    ("student", PRETRAINED | {"method": "live_kd", "processes": 2}, "live_kd trains in one process"),
    ("student", PRETRAINED | {"on_policy": {}, "processes": 2}, "on_policy trains in one process"),
    ("student", PRETRAINED | {"on_policy": {}, "method": "cached_kd"}, "on_policy learns from a teacher alongside"),
    ("student", PRETRAINED | {"on_policy": {"start": 0.5, "rise": 0.5}}, "start (0.5) and rise (0.5) leave no steps"),
    ("student", PRETRAINED | {"on_policy": {"share": 0}}, "student.on_policy.share: "),
    ("student", PRETRAINED | {"on_policy": {"refresh": 0}}, "student.on_policy.refresh: "),
    ("student", PRETRAINED | {"on_policy": {}}, "student.on_policy is for free text"),
    ("student", PRETRAINED | {"lora": {"rank": 0}}, "student.lora.rank: "),
    ("student", PRETRAINED | {"experts": {"count": 1}}, "student.experts.count: "),
    ("student", PRETRAINED | {"experts": {"count": 3, "active": 4}}, "active (4) must be at most count (3)"),
    ("student", PRETRAINED | {"experts": {"active": 1}}, "active: 1 gives the router no gradient"),
    ("student", PRETRAINED | {"experts": {"redrawn": 0.3}}, "redrawn goes with start: drop"),
    ("student", PRETRAINED | {"experts": {"bias_rate": 0, "settled": 0.5}}, "settled goes with a bias_rate above 0"),
    ("student", PRETRAINED | {"experts": {}, "frozen_layers": 1}, "experts are trained in all layers"),
    ("student", PRETRAINED | {"experts": {}, "lora": {}}, "experts are trained in all layers"),
    ("student", PRETRAINED | {"lora": {"targets": []}}, "student.lora.targets"),
    ("student", PRETRAINED | {"patience": 6}, "patience (6) must be less than checks (6)"),
    ("student", PRETRAINED | {"loss": "forward_kl"}, "student.loss is for free text: a classify task's student"),
    ("student", PRETRAINED | {"method": "live_kd"}, "student.method is for free text"),
    ("student", PRETRAINED | {"most_spikes": -1}, "student.most_spikes: "),
    ("student", PRETRAINED | {"micro_tokens": 0}, "student.micro_tokens: "),
    ("student", PRETRAINED | {"epochs": 0}, "student.epochs: "),
    ("student", PRETRAINED | {"validation": 0.5}, "student.validation: "),
    ("export.serve", "onnx", "export.serve: "),
    ("export", {"engine": "openvino", "serve": "safetensors"}, "engine: openvino reads GGUF: set serve: gguf"),
    ("evaluate.margin", 0, "evaluate.margin: "),
    ("evaluate.confidence", 0.5, "evaluate.confidence: "),
    ("evaluate.metrics", ["bleu"], "evaluate.metrics.0: "),
    (
        "evaluate.metrics",
        ["macro_f1", "fields"],
        "fields is not for a task of kind classify: choose from accuracy, macro",
    ),
    ("economics.utilisation", 0, "economics.utilisation: "),
    ("economics.usd_per_correct_answer", 0.1, "is weighed at a volume: give requests_per_month"),
    ("economics", {"requests_per_month": 9, "ranges": {"months": [2, 1]}}, "the low value comes first, and is lower"),
    ("economics.api", {"name": "api"}, "economics.api.usd_per_million_input_tokens: is required"),
    ("teacher.others", [OTHER], "weighing votes takes 3 model families, and the teachers are of 2 (b, scripted)"),
    ("teacher.others", [{"scripted": {"": "x"}}], "and the teachers are of 1 (scripted)"),
    ("teacher.others", [OTHER, OTHER | {"family": "c"}], "others[1] is others[0] again: it would say the same"),
    ("teacher.others", [OTHER | {"shots": 2}], "teacher.others.0.shots: there is no such field"),
    ("teacher.others", [OTHER | {"engine": "torch"}], "engine and precision are for a local model"),
    ("teacher.samples", 2, "teacher.samples is for free text: a classify task has a list of labels"),
    ("teacher.temperature", 0.5, "teacher.temperature is for free text"),
    ("teacher.temperature", 2.1, "teacher.temperature: "),
    ("teacher.samples", 0, "teacher.samples: "),
    ("task.kind", 3, "task.kind: unknown"),
    ("task.schema", SCHEMA, "task.schema: there is no such field"),
    ("task.max_tokens", 9, "task.max_tokens: there is no such field (given: 9)"),
    ("task", "positive or negative", "task: "),
    ("task", GENERATE, "a linear student cannot answer a task of kind generate: give student.model"),
    ("task", EXTRACT, "a linear student cannot answer a task of kind extract"),
    ("task", GENERATE | {"labels": ["a", "b"]}, "task.labels: there is no such field"),
    ("task", GENERATE | {"schema": SCHEMA}, "task.schema: there is no such field"),
    ("task", GENERATE | {"max_tokens": 0}, "task.max_tokens: "),
    ("task", {"kind": "generate"}, "task.prompt: is required"),
    ("task", {"kind": "extract", "prompt": "{text}"}, "task.schema: is required"),
    ("task", EXTRACT | {"schema": "a string"}, "task.schema: "),
    ("task", EXTRACT | {"schema": {}}, "task.schema: must have type: object and properties"),
    ("task", EXTRACT | {"schema": {"type": "object"}}, "must have type: object and properties"),
    ("task", EXTRACT | {"schema": {"type": "object", "properties": {}}}, "must have type: object and properties"),
    ("task", EXTRACT | {"schema": SCHEMA | {"type": "array"}}, "must have type: object and properties"),
    ("task", EXTRACT | {"schema": SCHEMA | {"type": "thing"}}, "task.schema: is no JSON Schema: 'thing' is not valid"),
    ("task", EXTRACT | {"schema": SCHEMA | {"required": "what"}}, "is no JSON Schema: "),
    ("task", EXTRACT | {"schema": SCHEMA | {"default": date(2020, 1, 1)}}, "task.schema: holds what JSON has not: "),
    ("task", EXTRACT | {"schema": SCHEMA | {"default": float("nan")}}, "holds what JSON has not: "),
    ("task", TOOLS, "a linear student cannot answer a task of kind tools"),
    ("task", {"kind": "tools", "prompt": "{text}"}, "task.tools: is required"),
    ("task", TOOLS | {"tools": []}, "task.tools: are no function definitions: give a list of 1 to 128 functions"),
    ("task", TOOLS | {"tools": [FUNCTION]}, "are no function definitions: [0]: must be {type: function"),
    ("task", tools(name="a b"), "[0]: function.name must be 1 to 64 letters"),
    ("task", tools(parameters={"type": "string"}), "function.parameters must be a JSON Schema of type object"),
    ("task", tools(parameters={"type": "object", "required": 1}), "[0]: function.parameters: 1 is not of type 'array'"),
    ("task", tools(parameters={"type": "object", "default": date(2020, 1, 1)}), "parameters: holds what JSON has not"),
    ("task", TOOLS | {"schema": SCHEMA}, "task.schema: there is no such field"),
]

FREE: list[tuple[dict[str, Any], str]] = [
    (MODEL_TEACHER | {"others": OTHERS}, "teacher.others vote on labels: a task of kind"),
    (MODEL_TEACHER | {"shots": 2, "candidates": 2, "committee": 2}, "teacher.committee is for labels: a task of kind"),
    (MODEL_TEACHER | {"calibration": "contextual"}, "teacher.calibration is for labels: a task of kind"),
    (MODEL_TEACHER | {"samples": 2}, "teacher.samples draws the same answer each time at teacher.temperature 0"),
    (MODEL_TEACHER | {"samples": 2, "temperature": 0}, "teacher.samples draws the same answer each time"),
]
UNFAIR = "judges[].unlabelled wants a fair sample of the inputs, and data.asked chooses them: leave one out"


@pytest.mark.parametrize("task", [GENERATE, EXTRACT, TOOLS], ids=["generate", "extract", "tools"])
@pytest.mark.parametrize(("teacher", "says"), FREE, ids=range(len(FREE)))
def test_what_is_for_labels_is_refused_for_free_text(task: dict[str, Any], teacher: dict[str, Any], says: str) -> None:
    assert says in message(small(task=task, teacher=teacher, student=PRETRAINED))


def test_ranges_name_labels_and_free_text_has_none() -> None:
    plain = changed("data.tables.0.label.ranges", [{"label": "neutral"}]) | {"task": GENERATE, "student": PRETRAINED}
    assert "ranges: 'neutral' is not in task.labels" in message(plain)


@pytest.mark.parametrize("task", [GENERATE, EXTRACT, TOOLS], ids=["generate", "extract", "tools"])
def test_free_text_can_be_drawn_several_times(task: dict[str, Any]) -> None:
    drawn = MODEL_TEACHER | {"samples": 3, "temperature": 0.7, "shots": 2, "candidates": 2}
    found = parse(small(task=task, teacher=drawn, student=PRETRAINED), "recipe")
    assert (found.teacher.samples, found.teacher.temperature) == (3, 0.7)
    plain = found.model_dump(exclude_unset=True)
    assert plain["task"] == task
    assert parse(plain, "recipe") == found


@pytest.mark.parametrize("task", [GENERATE, EXTRACT, TOOLS], ids=["generate", "extract", "tools"])
def test_free_text_can_be_taught_and_people_asked_for_gold_without_a_label(task: dict[str, Any]) -> None:
    asked = {"source": "b.csv", "slots": {"text": "text"}, "role": "gold"}
    plain = small(task=task, student=PRETRAINED) | {"data": {"tables": [POOLED, asked], "gold": "gold.jsonl"}}
    found = parse(plain, "recipe").data
    assert [table.taught for table in found.tables] == ["answer", None]
    del plain["data"]["gold"]
    assert "role 'gold' needs human answers" in message(plain)


def test_each_kind_builds_its_own_task() -> None:
    made = {
        kind: parse(small(task=task, student=PRETRAINED), "recipe").task.build()
        for kind, task in (
            ("generate", GENERATE), ("extract", EXTRACT), ("tools", TOOLS), ("short", GENERATE | {"max_tokens": 7})
        )
    }  # fmt: skip
    assert isinstance(made["generate"], Generate)
    assert isinstance(made["extract"], Extract)
    assert isinstance(made["tools"], Tools)
    assert json.loads(made["tools"].tools) == TOOLS["tools"]
    assert [task.max_tokens for task in made.values()] == [128, 256, 256, 7]
    assert json.loads(made["extract"].schema) == SCHEMA
    assert all(task.answers == () for task in made.values())
    unsaid = changed("name", "words")
    del unsaid["task"]["kind"]
    assert isinstance(parse(unsaid, "recipe").task.build(), Classify)


@pytest.mark.parametrize(("place", "value", "says"), REFUSED)
def test_bad_and_contradictory_values_are_refused(place: str, value: Any, says: str) -> None:
    assert says in message(changed(place, value))


def test_a_slot_that_the_application_does_not_send_is_refused() -> None:
    plain = changed("data.tables.0.slots", {"text": "text", "title": "title"})
    plain["teacher"] = {"scripted": {"": "negative"}, "prompt": "{title} {text}"}
    assert "teacher.prompt uses a slot that task.prompt does not have" in message(plain)


def test_strata_are_a_slot_of_every_table() -> None:
    judges = [{"rubric": "x", "scripted": {"": "A"}, "unlabelled": 5}]
    plain = changed("judges", judges)
    plain["evaluate"]["strata"] = "kind"
    assert "evaluate.strata names 'kind', which data.tables[0].slots does not fill" in message(plain)
    plain["data"]["tables"][0]["slots"]["kind"] = "kind"
    assert parse(plain, "recipe").evaluate.strata == "kind"


def test_all_mistakes_are_told_at_once() -> None:
    plain = changed("colour", "red") | {"seed": "x"}
    plain["evaluate"]["margin"] = 2
    text = message(plain)
    for field in ("colour: ", "seed: ", "evaluate.margin: "):
        assert field in text


def test_judges_get_no_chosen_inputs() -> None:
    plain = small() | {"judges": [{"rubric": "x", "scripted": {"": "A"}, "unlabelled": 5}]}
    plain["data"]["asked"] = "asked.jsonl"
    assert UNFAIR in message(plain)
    plain["judges"][0]["unlabelled"] = 0
    assert parse(plain, "recipe").data.asked == "asked.jsonl"


def test_recorded_answers_are_those_of_an_endpoint_in_a_log_of_chat() -> None:
    chat = {"source": "log.jsonl", "format": "chat", "role": "pool", "recorded": True}
    assert WHOSE in message(changed("data.tables", [*small()["data"]["tables"], chat]))
    assert LOGS in message(changed("data.tables.0.recorded", True))


WHOSE = "data.tables[].recorded has answers of teacher.endpoint"
LOGS = "recorded is for format chat"


def test_every_validator_of_the_recipe_is_tested_above() -> None:
    """The sentences that validators raise, found in their source, each stand among REFUSED's words."""
    tested = [says for *_, says in [*REFUSED, *FREE]] + [
        "uses a slot that task.prompt does not have",
        "which data.tables",
        UNFAIR,
        WHOSE,
        LOGS,
    ]
    others = ("field.py", "documents.py", "mixture.py", "agent.py")
    modules = [path for path in Path(recipes.__file__).parent.glob("*.py") if path.name not in others]
    assert untested(modules, tested) == []


def sections(section: type[Section] = Section) -> Iterator[type[Section]]:
    for child in section.__subclasses__():
        yield child
        yield from sections(child)


@pytest.mark.parametrize("section", sections(), ids=lambda section: section.__name__)
def test_every_field_of_every_section_is_described(section: type[Section]) -> None:
    assert section.__doc__
    assert section.model_fields
    for name, field in section.model_fields.items():
        assert field.description, name
        assert len(field.description) > 3, name
    assert section.model_config["extra"] == "forbid"
    assert section.model_config["frozen"]


def test_the_sections_are_found() -> None:
    names = {section.__name__ for section in sections()}
    assert names >= {"Recipe", "Teacher", "Student", "Data", "Table", "Endpoint", "Evaluate", "Economics", "Export"}


def write(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_defaults_then_recipe_then_flags(tmp_path: Path) -> None:
    path = write(tmp_path, yaml.safe_dump(small() | {"student": PRETRAINED | {"epochs": 5}}))
    assert load(path).student.epochs == 5
    assert load(path).student.warmup == 0.1
    flagged = load(path, ["student.epochs=2", "export.q8_0=true", "data.limit=9", "teacher.scripted={great: positive}"])
    assert (flagged.student.epochs, flagged.export.q8_0, flagged.data.limit) == (2, True, 9)
    assert flagged.teacher.scripted == {"great": "positive"}
    assert load(path, ["student.epochs=2", "student.epochs=4"]).student.epochs == 4


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        ("student.epochs", "this is not section.field=value"),
        ("=3", "this is not section.field=value"),
        ("", "this is not section.field=value"),
        ("student.colour=red", "student.colour: there is no such field"),
        ("nowhere.colour=red", "nowhere: there is no such field"),
        ("name.first=a", "name is no section"),
        ("data.tables.0.role=pool", "tables is no section"),
        ("evaluate.margin=[", "the value cannot be read"),
        ("evaluate.margin=wide", "evaluate.margin: "),
        ("evaluate.margin=", "evaluate.margin: "),
        ("teacher.calibration=prior", "a scripted teacher gives no probabilities"),
        ("student.epochs=2", "a linear student has no use for epochs"),
        (".=1", "there is no such field"),
    ],
)
def test_nonsense_in_flags_is_refused(tmp_path: Path, flag: str, says: str) -> None:
    path = write(tmp_path, yaml.safe_dump(small()))
    with pytest.raises(RecipeError, match=re.escape(says)) as caught:
        load(path, [flag])
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "holds no settings"),
        ("- a\n- b\n", "holds no settings"),
        ("just words", "holds no settings"),
        ("name: [1, 2\n", "is no YAML"),
        ("name:\n\t- tab\n", "is no YAML"),
        ("name: !!python/object:os.system {}\n", "is no YAML"),
        (b"name: caf\xe9\n", "is no YAML"),
        (b"name: a\x00b\n", "is no YAML"),
        ("name: a\nname: b\n", "'name' stands there twice"),
        ("a:\n  b: {c: 1, c: 2}\n", "'c' stands there twice"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path, content: str | bytes, says: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(RecipeError, match=says) as caught:
        load(path)
    text = str(caught.value)
    assert text.splitlines() == [text]
    assert str(path) in text
    assert caught.value.remedy


def test_a_missing_recipe_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="There is no recipe"):
        load(tmp_path / "recipe.yaml")
    with pytest.raises(RecipeError, match=re.escape(f"{tmp_path} is a folder. Give the recipe in it")):
        load(tmp_path)


def test_anchors_and_merged_keys_are_plain_yaml(tmp_path: Path) -> None:
    text = yaml.safe_dump(small() | {"student": {}}).replace("student: {}", "")
    path = write(tmp_path, text + "\nexport: &e {q8_0: true}\nstudent: {initialise: linear}\n")
    assert load(path).export.q8_0
    merged = text + "\nexport: {<<: {q8_0: true, round_trip: 3}, round_trip: 4}\nstudent: {initialise: linear}\n"
    assert (load(write(tmp_path, merged)).export.q8_0, load(path).export.round_trip) == (True, 4)


def test_the_prompts_of_the_three_readers() -> None:
    prompt = [{"role": "system", "content": "Sort."}, {"role": "user", "content": "Text: {text}"}]
    plain = changed("task.prompt", prompt)
    linear = parse(plain, "recipe")
    assert linear.teacher_template().plain() == [["system", "Sort."], ["user", "Text: {text}"]]
    assert linear.student_template().plain() == [["user", "{text}"]]
    plain["student"] = PRETRAINED
    assert parse(plain, "recipe").student_template().plain() == [["user", "Text: {text}"]]
    plain["student"] = PRETRAINED | {"prompt": "{text} ="}
    plain["teacher"]["prompt"] = "Q: {text}"
    own = parse(plain, "recipe")
    assert own.student_template().plain() == [["user", "{text} ="]]
    assert own.teacher_template().plain() == [["user", "Q: {text}"]]
    task = own.task.build()
    assert isinstance(task, Classify)
    assert task.answers == ("negative", "positive")
    assert task.prompt.plain() == [["system", "Sort."], ["user", "Text: {text}"]]


@pytest.mark.parametrize(
    ("bounds", "inside", "outside"),
    [
        ({"at_least": 0.5}, [0.5, 4], [0.49, -1]),
        ({"at_most": -0.5}, [-0.5, -4], [-0.49, 1]),
        ({"at_least": 1, "at_most": 2}, [1, 1.5, 2], [0.99, 2.01]),
        ({}, [-1e9, 0, 1e9], []),
    ],
)
def test_ranges_hold_their_ends(bounds: dict[str, float], inside: list[float], outside: list[float]) -> None:
    found = recipes.Range(label="x", **bounds)
    assert all(found.holds(number) for number in inside)
    assert not any(found.holds(number) for number in outside)


def test_a_recipe_cannot_be_changed_once_read() -> None:
    recipe = parse(small(), "recipe")
    with pytest.raises(ValueError, match="frozen"):
        recipe.seed = 8


def test_the_environment_is_no_layer(tmp_path: Path) -> None:
    path = write(tmp_path, yaml.safe_dump(small()))
    before = load(path)
    for name in ("SEED", "AASUT_SEED", "NAME", "AASUT_NAME"):
        os.environ[name] = "99"
    try:
        assert load(path) == before
    finally:
        for name in ("SEED", "AASUT_SEED", "NAME", "AASUT_NAME"):
            del os.environ[name]
    assert isinstance(before, Recipe)


def test_a_recipe_for_another_folder_finds_the_same_files(tmp_path: Path) -> None:
    plain = small()
    plain["data"]["tables"] = [
        plain["data"]["tables"][0] | {"source": source} for source in ("a/t.csv", "/abs/t.csv", "pypi-sdist:a==1#t.csv")
    ]
    plain["data"]["gold"] = "gold.jsonl"
    others = [OTHER, {"model": {"address": "file:models/o"}, "family": "c"}]
    plain["teacher"] = {"model": {"address": "file:models/t.gguf"}, "others": others}
    plain["judges"] = [{"rubric": "x", "model": {"address": "file:models/j"}}]
    moved = yaml.safe_load(recipes.text_at(parse(plain, "t"), tmp_path / "in", tmp_path / "runs" / "x"))
    sources = [table["source"] for table in moved["data"]["tables"]]
    assert sources == ["../../in/a/t.csv", "/abs/t.csv", "pypi-sdist:a==1#t.csv"]
    assert moved["data"]["gold"] == "../../in/gold.jsonl"
    assert moved["teacher"]["model"]["address"] == "file:../../in/models/t.gguf"
    assert moved["teacher"]["others"][1]["model"]["address"] == "file:../../in/models/o"
    assert moved["judges"][0]["model"]["address"] == "file:../../in/models/j"
    assert moved["student"] == plain["student"]
