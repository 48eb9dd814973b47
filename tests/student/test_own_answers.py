"""A student's own answers: several to each input, drawn by seeds of their own, and each accounted for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import small_run
from aasut.data.preference import accounts
from aasut.engine.base import Written
from aasut.progress import Progress
from aasut.recipe import Recipe
from aasut.student import own_answers
from aasut.student.own_answers import CUT, NO_TEXT, UNFIT, draw, open_engine, prompts
from aasut.types import Example

SCHEMA = {
    "type": "object", "properties": {"a": {"enum": ["x", "y", "z"]}}, "required": ["a"], "additionalProperties": False,
}  # fmt: skip


def recipe(task: dict[str, Any] | None = None, **export: Any) -> Recipe:
    task = task or {"kind": "extract", "schema": SCHEMA, "max_tokens": 24}
    plain = small_run.recipe(task={"prompt": "Text: {text}", **task}, export=export)
    plain["data"]["tables"][0]["label"] = {"column": "sentiment"}
    plain["student"] = {"model": {"address": "file:x"}, "preference": {"rubric": "Be good.", "samples": 4}}
    return Recipe.model_validate(plain)


def examples(count: int) -> list[Example]:
    return [Example(f"0:r{i}", {"text": f"no {i}."}, f"g{i}") for i in range(count)]


def quiet() -> Progress:
    return Progress(quiet=True)


@pytest.mark.parametrize("serve", ["gguf", "safetensors"])
def test_answers_are_drawn_bound_to_the_task_and_equal_ones_count_once(
    tiny_llama: Path, tmp_path: Path, serve: str
) -> None:
    made = recipe(serve=serve, precision="float32")
    pool = [*examples(12), Example("0:long", {"text": "word " * 300}, "long")]
    found = draw(made, tiny_llama, pool, tmp_path, quiet())
    assert {text for own in found for text in own.texts} == {f'{{"a": "{letter}"}}' for letter in "xyz"}
    assert all(len(own.texts) + own.equal + sum(own.failed.values()) == 4 for own in found)
    assert any(own.equal for own in found)
    assert found[-1].failed == {"longer than the student's context": 4}
    assert all(rows.balanced for rows in accounts(found, [], 4).values())
    (tmp_path / "again").mkdir()
    assert draw(made, tiny_llama, pool, tmp_path / "again", quiet()) == found


def test_answers_are_not_written_twice(tiny_llama: Path, tmp_path: Path) -> None:
    found = draw(recipe(), tiny_llama, examples(3), tmp_path, quiet())
    assert draw(recipe(), tmp_path / "no model", examples(3), tmp_path, quiet()) == found


def test_each_answer_has_a_seed_of_its_own() -> None:
    asked = prompts(recipe(), examples(5))
    assert len({prompt.seed for prompt in asked}) == 20
    assert {prompt.temperature for prompt in asked} == {1.0}
    other = recipe().model_copy(update={"seed": 8})
    assert not {prompt.seed for prompt in asked} & {prompt.seed for prompt in prompts(other, examples(5))}
    assert asked[4:8] == prompts(recipe(), examples(5)[1:2])  # whatever else is asked


def test_what_never_ends_or_does_not_fit_is_no_answer(tmp_path: Path) -> None:
    said = [Written('{"a": "x"}', 9, "stop"), Written('{"a":"x"}', 9, "stop"), Written('{"a', 24, "length"),
            Written("x", 2, "stop"), Written("x\ufffd", 2, "stop")]  # fmt: skip
    kept = [[{"text": one.text, "tokens": one.tokens, "finish": one.finish} for one in said]]
    (tmp_path / own_answers.KEPT).write_text(json.dumps(kept))
    (own,) = draw(recipe(), tmp_path, examples(1), tmp_path, quiet())
    assert own.texts == ('{"a": "x"}',)
    assert own.equal == 1
    assert own.failed == {CUT: 1, UNFIT: 2}
    (own,) = draw(recipe({"kind": "generate", "max_tokens": 24}), tmp_path, examples(1), tmp_path, quiet())
    assert own.failed == {CUT: 1, NO_TEXT: 1}


def test_it_answers_on_the_engine_that_will_serve_it(tiny_llama: Path) -> None:
    for export, name in (({}, "openvino"), ({"serve": "safetensors"}, "torch")):
        engine = open_engine(recipe(**export), tiny_llama)
        assert engine.name.startswith(name)
        engine.close()
