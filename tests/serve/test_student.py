from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import small_run
from aasut import recipe as recipes
from aasut.engine.base import Scores
from aasut.engine.scripted import ScriptedEngine
from aasut.errors import AmbiguousPrompt, EngineError, ModelError, PromptMismatch, RecipeError
from aasut.export.manifest import StudentCard
from aasut.prompts import PromptTemplate
from aasut.serve.student import Answer, ServedStudent, draw
from aasut.store import file_hash
from aasut.student import train
from aasut.tasks import Classify
from aasut.types import Example, Message, Usage

LABELS = ("billing_refund", "billing_dispute", "other")
RULES = {"money back": "billing_refund", "wrong charge": "billing_dispute", "hello": "other"}
PROMPT = [{"role": "system", "content": "Sort mail."}, {"role": "user", "content": "Mail: {text}\nTopic:"}]


class Watched(ScriptedEngine):
    """Notes what it is asked, and fails on a poisoned prompt with all that came beside it."""

    def __init__(self, rules: dict[str, str]) -> None:
        super().__init__(rules)
        self.calls: list[tuple[list[str], list[str]]] = []

    def score(self, prompts: Sequence[str], answers: Sequence[str], *, prefix: str = "") -> Scores:
        self.calls.append((list(prompts), list(answers)))
        if any("poison" in prompt for prompt in prompts):
            raise ValueError("poison")
        scores = super().score(prompts, answers, prefix=prefix)
        for row, prompt in enumerate(prompts):
            if "not a number" in prompt:
                scores.logprobs[row, 1] = np.nan
        return scores


def student(prompt: str = "T: {text} =", engine: ScriptedEngine | None = None) -> ServedStudent:
    task = Classify(LABELS, PromptTemplate.of(PROMPT))
    return ServedStudent(task, PromptTemplate.of(prompt), engine or Watched(RULES), "mail", "ab" * 32)


def ask(text: str) -> list[Message]:
    return [Message("system", "Sort mail."), Message("user", f"Mail: {text}\nTopic:")]


def test_a_request_in_the_tasks_prompt_is_asked_in_the_students_own() -> None:
    engine = Watched(RULES)
    answer = student(engine=engine).answer(ask("I want my money back"))
    assert engine.calls == [(["T: I want my money back ="], [" billing_refund", " billing_dispute", " other"])]
    assert answer.label == "billing_refund"
    assert list(answer.logprobs) == ["billing_refund", "billing_dispute", "other"]
    assert [math.exp(x) for x in answer.logprobs.values()] == pytest.approx([10 / 12, 1 / 12, 1 / 12])
    assert answer.usage == Usage(prompt_tokens=7, completion_tokens=1)


def test_logprobs_are_sorted_and_keep_their_labels() -> None:
    answer = student().answer(ask("hello, a wrong charge"))
    assert list(answer.logprobs) == ["billing_dispute", "other", "billing_refund"]
    assert [math.exp(x) for x in answer.logprobs.values()] == pytest.approx([10 / 21, 10 / 21, 1 / 21])
    assert answer.label == "billing_dispute"


def test_a_request_in_the_students_own_prompt_is_read_too() -> None:
    assert student().answer([Message("user", "T: a wrong charge =")]).label == "billing_dispute"


@pytest.mark.parametrize(
    "messages",
    [
        [Message("user", "hello")],
        [Message("user", "Mail: hello\nTopic:")],
        [Message("system", "Sort letters."), Message("user", "Mail: hello\nTopic:")],
        [],
    ],
)
def test_what_is_in_neither_prompt_is_refused(messages: list[Message]) -> None:
    with pytest.raises(PromptMismatch):
        student().answer(messages)


@pytest.mark.parametrize("prompt", ["{text}", "{text}\nTopic:", " {text} ="])
def test_a_prompt_that_begins_with_a_slot_does_not_swallow_a_mistyped_production_prompt(prompt: str) -> None:
    bare = student(prompt)
    assert bare.answer(ask("hello")).label == "other"
    with pytest.raises(PromptMismatch):
        bare.answer([Message("user", "Male: hello\nTopic:")])


def test_a_request_that_can_be_read_in_two_ways_is_refused_and_not_read_in_another_prompt() -> None:
    task = Classify(LABELS, PromptTemplate.of("Mail: {text} from {sender}"))
    both = ServedStudent(task, PromptTemplate.of("Mail: {text}"), Watched(RULES), "mail", "ab" * 32)
    assert both.read([Message("user", "Mail: hello from Jo")]) == "Mail: hello"
    with pytest.raises(AmbiguousPrompt):
        both.read([Message("user", "Mail: a parcel from Rome from Jo")])
    assert both.read([Message("user", "Mail: hello")]) == "Mail: hello"


@pytest.mark.parametrize(("prompt", "answer"), [("Mail: {text}", " other"), ("Mail: {text} Topic: ", "other")])
def test_the_answers_follow_the_prompt_as_in_training_whatever_an_input_ends_with(prompt: str, answer: str) -> None:
    engine = Watched(RULES)
    mixed = student(prompt, engine)
    prompts = [mixed.render({"text": text}) for text in ("hello", "money back ", "wrong charge\n")]
    assert [r.label for r in mixed.score(prompts) if answered(r)] == ["other", "billing_refund", "billing_dispute"]
    assert [(len(prompts), answers[2]) for prompts, answers in engine.calls] == [(3, answer)]


def answered(result: Answer | Exception) -> bool:
    return isinstance(result, Answer)


def test_a_bad_prompt_spoils_no_other() -> None:
    results = student().score(["hello", "poison", "money back", "not a number", "wrong charge"])
    assert [r.label if isinstance(r, Answer) else type(r) for r in results] == [
        "other",
        ValueError,
        "billing_refund",
        EngineError,
        "billing_dispute",
    ]


def test_a_text_longer_than_the_context_is_refused() -> None:
    with pytest.raises(ModelError, match="Shorten the input"):
        student(engine=ScriptedEngine(RULES, context=8)).answer(ask("one two three four five six seven"))


def test_a_student_prompt_that_cannot_be_served_is_refused_at_once() -> None:
    with pytest.raises(RecipeError, match="sender"):
        student("{sender}: {text}")


def test_a_student_prompt_of_several_messages_is_their_texts() -> None:
    engine = Watched(RULES)
    template = PromptTemplate.of(PROMPT)
    ServedStudent(Classify(LABELS, template), template, engine, "mail", "").answer(ask("hello"))
    assert engine.calls[0][0] == ["Sort mail.Mail: hello\nTopic:"]


@pytest.mark.parametrize("prompt", ["{text}", " {text} = ", "Mail: {text}\n"])
def test_the_prompt_is_to_the_last_space_the_one_that_was_trained_on(prompt: str) -> None:
    wanted = recipes.parse(small_run.recipe(student={"model": {"address": "file:m"}, "prompt": prompt}), "test")
    served = ServedStudent(wanted.task.build(), wanted.student_template(), Watched(RULES), "mail", "")
    for text in ("hello", " hello ", "hello\n"):
        (trained,) = train.prompts_of(wanted, [Example("1", {"text": text}, "g")])
        assert served.render({"text": text}) == trained == prompt.replace("{text}", text)


def test_draw_follows_temperature_and_top_p() -> None:
    answer = Answer("a", {"a": math.log(0.6), "b": math.log(0.3), "c": math.log(0.1), "d": -math.inf}, Usage())

    def shares(temperature: float, top_p: float) -> dict[str, float]:
        drawn = Counter(draw(answer, temperature=temperature, top_p=top_p, key=str(n)) for n in range(6000))
        return {label: drawn[label] / 6000 for label in "abcd"}

    assert shares(0.0, 1.0) == {"a": 1.0, "b": 0.0, "c": 0.0, "d": 0.0}
    assert shares(1.0, 1.0) == pytest.approx({"a": 0.6, "b": 0.3, "c": 0.1, "d": 0.0}, abs=0.03)
    squares = {"a": 0.36 / 0.46, "b": 0.09 / 0.46, "c": 0.01 / 0.46, "d": 0.0}
    assert shares(0.5, 1.0) == pytest.approx(squares, abs=0.03)
    assert shares(1.0, 0.6) == {"a": 1.0, "b": 0.0, "c": 0.0, "d": 0.0}
    assert shares(1.0, 0.7) == pytest.approx({"a": 2 / 3, "b": 1 / 3, "c": 0.0, "d": 0.0}, abs=0.03)
    assert {draw(answer, temperature=2.0, top_p=1.0, key="k") for _ in range(20)} in ({"a"}, {"b"}, {"c"})
    assert len({draw(answer, temperature=2.0, top_p=1.0, key=None) for _ in range(200)}) == 3


def write_run(folder: Path, engine: str = "scripted") -> Path:
    folder.mkdir(parents=True)
    (folder / "student.gguf").write_text(json.dumps(RULES))
    StudentCard(
        name="mail",
        kind="classify",
        answers=LABELS,
        task_prompt=tuple(PromptTemplate.of(PROMPT).messages),
        student_prompt=(Message("user", "T: {text} ="),),
        file="student.gguf",
        engine=engine,
        precision="auto",
        sha256=file_hash(folder / "student.gguf"),
    ).write(folder)
    return folder


def test_load_serves_a_run(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "runs" / "mail")
    loaded = ServedStudent.load(folder)
    assert loaded.answer(ask("a wrong charge")).label == "billing_dispute"
    assert (loaded.name, loaded.slots) == ("mail", ("text",))
    assert loaded.file_sha256 == file_hash(folder / "student.gguf")
    loaded.close()


def test_load_refuses_a_changed_file_and_an_unknown_run(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "runs" / "mail")
    (folder / "student.gguf").write_text(json.dumps({"hello": "billing_refund"}))
    with pytest.raises(ModelError, match="not the measured file"):
        ServedStudent.load(folder)
    with pytest.raises(ModelError) as caught:
        ServedStudent.load(tmp_path / "runs" / "male")
    assert str(caught.value).endswith("runs: mail.")


def test_load_refuses_an_unknown_engine(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="Choose one of"):
        ServedStudent.load(write_run(tmp_path / "mail", engine="steam"))
