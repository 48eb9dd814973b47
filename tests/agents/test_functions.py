from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aasut import tools
from aasut.agents.functions import Toolbox
from aasut.errors import ToolError

HOUSE = '''
from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum
from typing import Literal

DANGEROUS = {"unlock"}
lights: dict[str, int] = {}


class Scene(Enum):
    """What to set."""

    night = "night"
    day = "day"


@dataclass
class Place:
    room: str
    floor: int = 0


def light(room: str, level: int = 100, colour: Literal["red", "white"] | None = None) -> str:
    """Set a light.

    Args:
        room: Which room.
        level: How bright, in percent.
    """
    lights[room] = level
    return f"{room} at {level}"


def unlock(*, door: str) -> None:
    """Unlock a door."""


def scene(scene: Scene, places: list[Place], json: float | None = None) -> dict:
    """Set a scene."""
    return {"scene": scene, "rooms": [place.room for place in places], "at": json}


async def weather() -> str:
    """Tell the weather."""
    return "rain"


def noisy() -> bytes:
    """Print much."""
    print("printed")
    os.system("echo from another program")
    return b"\\xff\\xfe"


def broken(how: str) -> str:
    """Fail."""
    if how == "exit":
        raise SystemExit(3)
    raise ValueError(f"no\\n{how}")


def state() -> str:
    """The house."""
    return " ".join(f"{room}={level}" for room, level in lights.items()) or "all dark"


def _hidden(x):
    pass
'''


@pytest.fixture
def house(tmp_path: Path) -> Toolbox:
    path = tmp_path / "house.py"
    path.write_text(HOUSE)
    return Toolbox.load(path)


def test_public_functions_become_definitions(house: Toolbox) -> None:
    assert tools.fault(house.definitions) == ""
    names = [one["function"]["name"] for one in house.definitions]
    assert names == ["light", "unlock", "scene", "weather", "noisy", "broken"]
    assert house.definitions[0] == {
        "type": "function",
        "function": {
            "name": "light",
            "description": "Set a light.",
            "parameters": {
                "type": "object",
                "properties": {
                    "room": {"type": "string", "description": "Which room."},
                    "level": {"type": "integer", "description": "How bright, in percent.", "default": 100},
                    "colour": {
                        "anyOf": [{"enum": ["red", "white"], "type": "string"}, {"type": "null"}],
                        "default": None,
                    },
                },
                "required": ["room"],
                "additionalProperties": False,
            },
        },
    }  # fmt: skip
    assert house.definitions[3]["function"]["parameters"]["properties"] == {}
    assert house.dangerous == {"unlock"}


@pytest.mark.parametrize(
    ("name", "arguments", "text"),
    [
        ("light", '{"room": "hall"}', "hall at 100"),
        ("light", {"room": "hall", "level": 5}, "hall at 5"),
        ("unlock", {"door": "front"}, "done"),
        (
            "scene",
            {"scene": "night", "places": [{"room": "hall"}]},
            '{"scene":"night","rooms":["hall"],"at":null}',
        ),
        ("weather", "", "rain"),
        ("noisy", {}, "2 bytes that are no text"),
    ],
)
def test_a_call_gives_text(house: Toolbox, name: str, arguments: Any, text: str) -> None:
    made = house.call(name, arguments)
    assert (made.text, made.failed) == (text, False)


@pytest.mark.parametrize(
    ("name", "arguments", "text"),
    [
        ("light", {"level": 5}, "The arguments do not fit: room: Field required."),
        ("light", {"room": "hall", "level": "5"}, "The arguments do not fit: level: Input should be a valid integer."),
        ("light", {"room": "hall", "lvl": 5}, "The arguments do not fit: lvl: Extra inputs are not permitted."),
        ("light", "[1]", "The arguments do not fit: arguments: "),
        ("light", "{room", "The arguments do not fit: arguments: Invalid JSON"),
        ("light", {"room": float("nan")}, "The arguments are no JSON"),
        ("light", {"room": "\ud800"}, "The arguments "),
        ("scene", {"scene": "dusk", "places": []}, "The arguments do not fit: scene: Input should be 'night' or"),
        ("lihgt", {}, "There is no tool 'lihgt'. There are: light, unlock, "),
        ("state", {}, "There is no tool 'state'."),
        ("_hidden", {"x": 1}, "There is no tool '_hidden'."),
        ("broken", {"how": "way"}, "The tool failed: ValueError: no way."),
        ("broken", {"how": "exit"}, "The tool failed: SystemExit: 3."),
    ],
)  # fmt: skip
def test_what_is_wrong_comes_as_text(house: Toolbox, name: str, arguments: Any, text: str) -> None:
    made = house.call(name, arguments)
    assert made.failed
    assert made.text.startswith(text)


def test_a_wrong_call_changes_nothing_and_the_state_is_shown(house: Toolbox) -> None:
    house.call("light", {"room": "hall", "level": "5"})
    assert house.state() == "all dark"
    house.call("light", {"room": "hall", "level": 5})
    assert house.state() == "hall=5"


def test_what_a_tool_prints_is_not_on_standard_output(house: Toolbox, capfd: pytest.CaptureFixture[str]) -> None:
    print("before")
    house.call("noisy", {})
    print("after")
    out, err = capfd.readouterr()
    assert out == "before\nafter\n"
    assert err == "printed\nfrom another program\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("def f(:", "cannot be run: SyntaxError"),
        ("import nothing_of_this_name", "cannot be run: ModuleNotFoundError: No module named 'nothing_of_this_name'"),
        ("raise SystemExit(2)", "cannot be run: SystemExit: 2"),
        ("\0", "cannot be run: "),
        ("x = 1\ndef _f(): pass\nfrom os import getcwd", "has no public functions"),
        ("def state() -> str:\n    return ''", "has no public functions"),
        ("def f() -> str:\n    return ''", "f has no docstring"),
        ("def f(x):\n    'F.'", "the parameter 'x' has no type hint"),
        ("def f(*x: int):\n    'F.'", "f takes *x: int"),
        ("def f(**x: int):\n    'F.'", "f takes **x: int"),
        ("def f(x: int, /):\n    'F.'", "f takes x: int"),
        ("def f(x: 'Nowhere'):\n    'F.'", "f has a type hint that cannot be read: NameError"),
        ("def f(x: object()):\n    'F.'", "f has a type hint that "),
        ("from typing import Callable\ndef f(x: Callable[[], int]):\n    'F.'", "f has a type hint that JSON has not"),
        ("class A: pass\ndef f(x: A):\n    'F.'", "f has a type hint that JSON has not"),
        ("def ü():\n    'F.'", "cannot be told to a model: [0]: function.name"),
        ("DANGEROUS = 'f'\ndef f():\n    'F.'", "DANGEROUS is no set of names"),
        ("DANGEROUS = {'g'}\ndef f():\n    'F.'", "DANGEROUS names 'g', which is no tool"),
        ("DANGEROUS = [{}]\ndef f():\n    'F.'", "DANGEROUS names {}, which is no tool"),
        ("def f():\n    'F.'\ndef state(x: int): pass", "state takes parameters"),
        ("def f():\n    'F.'\n" + "\n".join(f"f{i} = lambda: 0" for i in range(200)), "has 201 functions"),
    ],
)
def test_a_file_that_is_no_tools_is_told_in_one_line(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "some.py"
    path.write_text(text)
    with pytest.raises(ToolError) as caught:
        Toolbox.load(path)
    assert reason in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.remedy


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="There is no file"):
        Toolbox.load(tmp_path / "none.py")


def test_what_stands_beside_the_file_can_be_imported(tmp_path: Path) -> None:
    (tmp_path / "rooms_beside.py").write_text("ROOMS = ['hall']")
    (tmp_path / "some.py").write_text(
        "import rooms_beside\ndef rooms() -> list:\n    'Tell.'\n    return rooms_beside.ROOMS"
    )
    assert Toolbox.load(tmp_path / "some.py").call("rooms", {}).text == '["hall"]'


def test_an_interrupt_is_not_held_up(tmp_path: Path) -> None:
    (tmp_path / "some.py").write_text("def stop() -> None:\n    'Stop.'\n    raise KeyboardInterrupt")
    box = Toolbox.load(tmp_path / "some.py")
    with pytest.raises(KeyboardInterrupt):
        box.call("stop", {})


def test_no_extra_package_is_needed(house: Toolbox) -> None:
    code = (
        "import sys; sys.modules['pydantic_ai'] = sys.modules['mcp'] = sys.modules['griffe'] = None\n"
        "from pathlib import Path; from aasut.agents.functions import Toolbox\n"
        f"print(Toolbox.load(Path({str(house.path)!r})).call('light', {{'room': 'hall'}}).text)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "hall at 100\n"


@pytest.mark.parametrize("call", [lambda box: box.definitions, lambda box: box.state()])
def test_looking_changes_nothing(house: Toolbox, call: Callable[[Toolbox], object]) -> None:
    assert call(house) == call(house)
