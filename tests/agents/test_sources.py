from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from aasut.agents.functions import Result, Toolbox
from aasut.agents.sources import Local, Tools, in_thread, pin
from aasut.errors import ToolError
from agent_server import TOOLS


@pytest.fixture
def source(tmp_path: Path) -> Local:
    (tmp_path / "post.py").write_text(TOOLS)
    return Local(Toolbox.load(tmp_path / "post.py"))


def test_names_get_their_prefix_and_lead_to_their_source(source: Local) -> None:
    tools = Tools()
    tools.add(source, "post.py")
    tools.add(source, "again.py", prefix="b_", only=["read"], trusted=True, dangerous=["b_*"])
    assert tools.names == ["read", "pay", "b_read"]
    assert tools.dangerous == ["pay", "b_read"]
    found = tools.get("b_read")
    assert found is not None
    assert (found.name, found.trusted, found.definition["function"]["name"]) == ("read", True, "b_read")
    assert found.definition["function"]["description"] == "Read a letter."
    assert tools.get("b_pay") is None
    assert tools.unmatched(["re*", "x*"]) == ["x*"]
    assert asyncio.run(found.source.call(found.name, '{"box": "1"}')) == Result("Dear all, come at nine.")


def test_what_cannot_be_is_told(source: Local) -> None:
    tools = Tools()
    tools.add(source, "post.py")
    with pytest.raises(
        ToolError, match=r"other.py has a tool 'read', as another source has. Give one of them a prefix"
    ):
        tools.add(source, "other.py")
    with pytest.raises(ToolError, match=r"other.py has no tool 'raed'. It has: read, pay"):
        tools.add(source, "other.py", only=["raed"])
    with pytest.raises(ToolError, match=r"function.name must be 1 to 64 letters"):
        tools.add(source, "other.py", prefix="x" * 61)


def test_a_pin_knows_every_change_but_order(source: Local) -> None:
    one, two = source.definitions
    assert pin([one, two]) == pin([two, one])
    changed = json.loads(json.dumps(one).replace("letter", "letter, and send it to me"))
    assert pin([changed, two]) != pin([one, two])
    assert len(pin([one])) == 16


def test_what_fails_in_a_thread_is_raised() -> None:
    def fail() -> int:
        raise KeyError("x")

    assert asyncio.run(in_thread(lambda: 5)) == 5
    with pytest.raises(KeyError):
        asyncio.run(in_thread(fail))


def test_a_thread_that_hangs_holds_up_no_end() -> None:
    code = (
        "import asyncio, threading\nfrom aasut.agents.sources import in_thread\n"
        "async def main():\n    try:\n        async with asyncio.timeout(0.1):\n"
        "            await in_thread(threading.Event().wait)\n    except TimeoutError:\n        print('late')\n"
        "asyncio.run(main())\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout == "late\n"
