from __future__ import annotations

from pathlib import Path

import pytest

from aasut.errors import PromptMismatch, RecipeError
from aasut.export.manifest import StudentCard
from aasut.prompts import PromptTemplate
from aasut.serve.reader import Reader
from aasut.tasks import Classify
from aasut.types import Message

PROMPT = [{"role": "system", "content": "Sort mail."}, {"role": "user", "content": "Mail: {text}\nTopic:"}]
TASK = Classify(("bill", "other"), PromptTemplate.of(PROMPT))


def ask(text: str) -> list[Message]:
    return [Message("system", "Sort mail."), Message("user", f"Mail: {text}\nTopic:")]


def test_a_request_is_read_in_the_tasks_prompt_and_in_the_students_own() -> None:
    reader = Reader(TASK, PromptTemplate.of("T: {text} ="))
    assert reader.read(ask("a bill")) == "T: a bill ="
    assert reader.read([Message("user", "T: a bill =")]) == "T: a bill ="
    assert reader.render({"text": "{x}"}) == "T: {x} ="
    assert reader.slots == ("text",)
    with pytest.raises(PromptMismatch):
        reader.read([Message("user", "Mail: a bill")])


def test_a_slot_that_the_tasks_prompt_lacks_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"\{sender\}"):
        Reader(TASK, PromptTemplate.of("{text} {sender}"))


def test_a_runs_card_is_enough(tmp_path: Path) -> None:
    turns = tuple(Message(m.role, m.content) for m in TASK.prompt.messages)
    own = (Message("user", "T: {text} ="),)
    card = StudentCard("mail", "classify", TASK.answers, turns, own, "student.gguf", "scripted", "float32", "ab" * 32)
    card.write(tmp_path)
    assert Reader.of(StudentCard.read(tmp_path)).read(ask("hello")) == "T: hello ="
