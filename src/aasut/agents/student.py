"""A finished run's student as the model of an agent: served on a free port of this machine, for as long as it lasts."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aasut import tools as functions
from aasut.agents.wire import Message
from aasut.errors import ToolError
from aasut.recipe import Endpoint
from aasut.serve.student import ServedStudent


@contextmanager
def serving(student: ServedStudent) -> Iterator[Endpoint]:
    """The student's address."""
    import uvicorn

    from aasut.serve import api
    from aasut.serve.server import listen

    with listen("127.0.0.1", 0) as listener:
        server = uvicorn.Server(uvicorn.Config(api.build(student), log_config=None, log_level="error", lifespan="on"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        try:
            yield Endpoint(base_url=url, model=student.name, api_key_env="", retries=0)
        finally:
            server.should_exit = True
            thread.join(10)


def load(run: str, root: Path, definitions: list[dict[str, Any]]) -> ServedStudent:
    """The student of a run, a name below `root` or a folder.

    Raises ToolError where it does not call tools, or some that are not defined.
    """
    named = root / run
    student = ServedStudent.load(named if named.is_dir() or "/" not in run else Path(run))
    try:
        check(student, definitions)
    except ToolError:
        student.close()
        raise
    return student


def check(student: ServedStudent, definitions: list[dict[str, Any]]) -> None:
    """Raises ToolError where the student calls other tools than these.

    Names count alone: what is wrong with its arguments is told when they come.
    """
    if not student.task.tools:
        raise ToolError(f"The student {student.name} calls no tools.", "Take one whose task is of kind tools.")
    there = [definition["function"]["name"] for definition in definitions]
    missing = [name for name in functions.names(student.task.tools) if name not in there]
    if missing:
        raise ToolError(
            f"The student {student.name} calls {', '.join(missing)}, and there {_is(missing)} no such tool.",
            f"Give the tools that it learned; these are: {', '.join(there)}.",
        )


def _is(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are"


def asked(student: ServedStudent, task: str) -> list[Message]:
    """A task in the prompt of the application that the student was made for.

    A prompt of several slots takes a JSON object. Raises ToolError where it is none.
    """
    slots = student.task.prompt.slots
    given: Any = {slots[0]: task}
    if len(slots) > 1:
        try:
            given = json.loads(task)
        except (ValueError, RecursionError):
            given = None
        if not isinstance(given, dict) or sorted(given) != sorted(slots) or not all(map(_is_text, given.values())):
            example = json.dumps(dict.fromkeys(slots, "…"), ensure_ascii=False)
            raise ToolError("The task does not give the slots of the student's prompt.", f"Write it like {example}.")
    return [{"role": one.role, "content": one.content} for one in student.task.prompt.render(given)]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)
