from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from aasut.errors import RecipeError
from aasut.teacher import python_rules
from aasut.teacher.scripted import ScriptedTeacher
from aasut.teacher.server import ScriptedServer
from aasut.types import Message, Request

RULES = """
from pathlib import Path
from beside import WORDS
DEPENDS = [Path(__file__).parent / "beside.py"]
def answer(text):
    if text == "stop":
        raise ValueError("no\\nmore")
    return WORDS[text] if text in WORDS else None
"""
HOSTILE = {
    "def answer(text) return text": "cannot be run: SyntaxError",
    "import nothing_of_this_name": "cannot be run: ModuleNotFoundError",
    "raise SystemExit(3)": "cannot be run: SystemExit: 3",
    "answers = {}": "has no function answer(text)",
    "answer = 'yes'": "has no function answer(text)",
    "def answer(): return ''": "has no function answer(text)",
    "DEPENDS = 7\ndef answer(text): return text": "DEPENDS is no list of files",
    "DEPENDS = ['nowhere.json']\ndef answer(text): return text": "DEPENDS is no list of files",
    "\0": "cannot be run",
}


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    (tmp_path / "beside.py").write_text("WORDS = {'great': 'positive', 'number': 7}\n")
    (tmp_path / "rules.py").write_text(RULES)
    return tmp_path / "rules.py"


def asked(text: str) -> Request:
    return Request((Message("user", "before"), Message("assistant", "x"), Message("user", text)))


def test_the_function_answers_the_last_message(rules: Path) -> None:
    teacher = ScriptedTeacher(python_rules.load(rules))
    found = teacher.complete([asked("great"), asked("number"), asked("stop"), asked("poor")])
    assert [completion.text for completion in found] == ["positive", "", "", ""]
    assert [completion.failure for completion in found] == [
        "",
        "the function of the rules gave no text, but int",
        "the function of the rules failed: ValueError: no more",
        "the function of the rules gave no text, but NoneType",
    ]


def test_its_identity_is_its_content_and_what_it_depends_on(rules: Path) -> None:
    first, again = python_rules.load(rules).identity, python_rules.load(rules).identity
    (rules.parent / "beside.py").write_text("WORDS = {'great': 'good'}\n")
    depends = python_rules.load(rules).identity
    rules.write_text(RULES + "\n")
    assert first == again
    assert len({first, depends, python_rules.load(rules).identity}) == 3


@pytest.mark.parametrize(("text", "reason"), HOSTILE.items())
def test_what_is_no_function_is_one_line(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "wrong.py").write_text(text)
    with pytest.raises(RecipeError) as caught:
        python_rules.load(tmp_path / "wrong.py")
    assert reason in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot be read"):
        python_rules.load(tmp_path / "nowhere.py")


def test_it_is_served(rules: Path) -> None:
    def post(text: str) -> urllib.request.Request:
        body = json.dumps({"model": "any", "messages": [{"role": "user", "content": text}]}).encode()
        return urllib.request.Request(f"{server.url}/chat/completions", body, {"Content-Type": "application/json"})

    with ScriptedServer(python_rules.load(rules)) as server:
        with urllib.request.urlopen(post("great")) as reply:
            assert json.load(reply)["choices"][0]["message"]["content"] == "positive"
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(post("stop"))
        assert caught.value.code == 422
        assert json.load(caught.value)["error"]["message"] == "the function of the rules failed: ValueError: no more"
