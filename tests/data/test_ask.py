from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

import small_run
from aasut import recipe as recipes
from aasut.data.ask import ask
from aasut.data.panel import Panel
from aasut.errors import TeacherError
from aasut.progress import Progress
from aasut.teacher.faults import Fault, Plan
from aasut.teacher.ledger import Ledger
from aasut.teacher.openai import OpenAiTeacher
from aasut.teacher.server import ScriptedServer
from aasut.types import Completion, Example


def asked(folder: Path, server: ScriptedServer, count: int, members: int = 1, **teacher: Any) -> tuple[Any, str]:
    """Answers, and what was said on the way."""
    endpoint = {"base_url": server.url, "model": "m", "api_key_env": "", "concurrency": 4}
    recipe = recipes.parse(small_run.recipe(teacher={"endpoint": endpoint} | teacher), "recipe")
    assert recipe.teacher.endpoint is not None
    said = io.StringIO()
    ledger = Ledger(OpenAiTeacher(recipe.teacher.endpoint, pause_s=0.01), folder / "ledger.db")
    examples = [Example(f"{i}", {"text": f"text {i} {'great' if i % 3 else ''}"}, "g") for i in range(count)]
    panel = Panel.plain([()] * members, 2)
    try:
        return ask(recipe, panel, examples, ledger, Progress(said), "asking"), said.getvalue()
    finally:
        ledger.close()


def texts(answers: list[list[Completion]]) -> list[list[str]]:
    return [[completion.text for completion in row] for row in answers]


def test_an_apis_answers_come_to_their_examples(tmp_path: Path) -> None:
    with ScriptedServer(small_run.RULES) as server:
        for calls in (150, 150):  # the second time from the ledger
            answers, said = asked(tmp_path, server, 150, members=2)
            assert texts(answers) == [["positive" if i % 3 else "negative"] * 2 for i in range(150)]
            assert server.stats()["requests"] == calls
            assert '"done": 300, "total": 300' in said


def test_too_many_unusable_answers_stop_the_asking_early(tmp_path: Path) -> None:
    with ScriptedServer(small_run.RULES, Plan(faults=(Fault(fault="garbage", first=10),))) as server:
        with pytest.raises(TeacherError, match=r"of the first \d+ answers are unusable \(\d+ × the answer is no chat"):
            asked(tmp_path, server, 500)
        assert 30 < server.stats()["requests"] < 120


def test_a_few_unusable_answers_stop_nothing(tmp_path: Path) -> None:
    with ScriptedServer(small_run.RULES, Plan(faults=(Fault(fault="garbage", last=9),))) as server:
        answers, _ = asked(tmp_path, server, 30)
    assert sum(bool(row[0].failure) for row in answers) == 10


def test_what_the_user_should_know_is_said(tmp_path: Path) -> None:
    with ScriptedServer(small_run.RULES, Plan(faults=(Fault(fault="no_usage", at=(1, 2)),))) as server:
        _, said = asked(tmp_path, server, 10)
    assert "2 answers without token counts, taken at their worst case" in said
