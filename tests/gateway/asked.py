"""What the tests of clients ask: an upstream's rules, functions and a form of answer, and gateways in front of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from running import Running, gateway

from aasut.teacher.faults import Fault, Plan
from aasut.teacher.server import ScriptedServer


class Person(BaseModel):
    """A person."""

    name: str
    age: int


ADA = Person(name="Ada", age=36)
CITIES = ("Paris", "Rome")
CALLS = [{"name": "temperature", "arguments": {"city": city}} for city in CITIES]
SAID = "Hello there, and a good morning to you."
WARM = "It is 18 degrees in both."
RULES = {
    "how warm": json.dumps(CALLS),
    "18 degrees": WARM,
    "who by final_result": json.dumps([{"name": "final_result", "arguments": ADA.model_dump()}]),
    "who by person": json.dumps([{"name": "Person", "arguments": ADA.model_dump()}]),
    "who": ADA.model_dump_json(),
    "hello": SAID,
    "": "negative",
}
TEMPERATURE: Any = {
    "type": "function",
    "function": {
        "name": "temperature",
        "description": "The temperature in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def user(text: str) -> Any:
    return [{"role": "user", "content": text}]


@contextmanager
def passing(folder: Path, *faults: Fault, flags: tuple[object, ...] = ()) -> Iterator[tuple[Running, ScriptedServer]]:
    """A gateway in front of a scripted upstream that fails as planned."""
    with ExitStack() as stack:
        server = stack.enter_context(ScriptedServer(RULES, Plan(faults=faults)))
        yield stack.enter_context(gateway(folder / "traffic", "--upstream", server.url, *flags)), server


@contextmanager
def cascading(folder: Path, root: Path) -> Iterator[tuple[Running, ScriptedServer]]:
    """A gateway whose student `words` of `root` answers all that it may, without audits."""
    flags = ("--student", "words", "--root", root, "--set", "student.audit_share=0", "--set", "student.timeout_s=60")
    with passing(folder, flags=flags) as found:
        yield found
