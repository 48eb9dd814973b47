"""A student as the model of an agent, on a real socket."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from aasut.agents import start
from aasut.agents import student as students
from aasut.agents.functions import Toolbox
from aasut.agents.loop import Outcome
from aasut.engine import base
from aasut.engine.scripted import ScriptedEngine
from aasut.errors import ToolError
from aasut.prompts import PromptTemplate
from aasut.recipe.agent import AgentRecipe
from aasut.serve.student import ServedStudent
from aasut.tasks import Classify, Tools
from agent_server import TOOLS

TWO = "From {sender}: {text} ="
LIGHT = '''
from typing import Literal


def light(room: Literal["hall"]) -> str:
    """Light a room."""
    return f"{room} is lit"
'''


def student(file: Path, prompt: str = "Post: {text} =", engine: base.Engine | None = None) -> ServedStudent:
    template = PromptTemplate.of(prompt)
    task = Tools(template, 60, json.dumps(Toolbox.load(file).definitions))
    engine = engine or ScriptedEngine({"read": '[{"name": "read", "arguments": {"box": "1"}}]', "hi": "Hello."})
    return ServedStudent(task, template, engine, "post", "0" * 64)


def do(folder: Path, served: ServedStudent, *tasks: str) -> list[Outcome]:
    plain = {"name": "post", "model": {"run": "post"}, "answer": "tools", "tools": [{"python": "post.py"}]}
    recipe = AgentRecipe.model_validate(plain)

    async def main() -> list[Outcome]:
        async with start.AsyncExitStack() as stack:
            found = await start.gather(recipe, folder, stack)
            with students.serving(served) as endpoint:
                ready = start.Ready(recipe, folder / "runs", found, endpoint, served)
                done = []
                for task in tasks:
                    done.append(await ready.session(None, lambda _: None).run(*ready.task(task)))
                await ready.model.close()
                return done

    return asyncio.run(main())


def test_its_calls_are_made_and_their_results_are_the_answer(tmp_path: Path) -> None:
    (tmp_path / "post.py").write_text(TOOLS)
    first, second = do(tmp_path, student(tmp_path / "post.py"), "read it", "hi")
    assert (first.reason, first.answer, first.steps) == ("answered", "Dear all, come at nine.", 1)
    assert (second.answer, second.calls) == ("Hello.", [])


def test_a_real_model_of_random_weights_is_bound_to_its_tools(tmp_path: Path, tiny_llama: Path) -> None:
    (tmp_path / "post.py").write_text(LIGHT)
    engine = base.load("torch", tiny_llama, precision="float32")
    served = student(tmp_path / "post.py", engine=engine)
    (done,) = do(tmp_path, served, "light the hall")
    served.close()
    assert done.reason in ("answered", "answer_tokens")  # what it says is chance; that it is asked and read is not
    assert all(call.result.text == "hall is lit" for call in done.calls)
    assert done.input_tokens > 0


def test_slots_are_given_as_json_where_there_are_several(tmp_path: Path) -> None:
    (tmp_path / "post.py").write_text(TOOLS)
    served = student(tmp_path / "post.py", TWO)
    assert students.asked(served, '{"sender": "Jo", "text": "read"}') == [
        {"role": "user", "content": "From Jo: read ="},
    ]
    for bad in ("read", "[]", '{"text": "x"}', '{"sender": 1, "text": "x"}'):
        with pytest.raises(ToolError, match="does not give the slots"):
            students.asked(served, bad)


def test_a_student_of_other_tools_is_refused(tmp_path: Path) -> None:
    (tmp_path / "post.py").write_text(TOOLS)
    served = student(tmp_path / "post.py")
    students.check(served, Toolbox.load(tmp_path / "post.py").definitions)
    with pytest.raises(ToolError, match=r"calls read, pay, and there are no such tool"):
        students.check(served, [])
    labels = Classify(("a", "b"), PromptTemplate.of("{text}"))
    other = ServedStudent(labels, labels.prompt, ScriptedEngine({}), "labels", "0" * 64)
    with pytest.raises(ToolError, match="The student labels calls no tools"):
        students.check(other, [])
