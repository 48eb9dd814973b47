from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from aasut.engine.base import Engine, Piece, Prompt, Scores, load, write
from aasut.engine.scripted import ScriptedEngine
from aasut.errors import ModelError
from aasut.teacher.local import LocalTeacher, plain_text
from aasut.types import Completion, Message, Request

CHOICES = ("negative", "positive")


class Watched(ScriptedEngine):
    """Notes what it is asked."""

    def __init__(self) -> None:
        super().__init__({"good": "positive", "bad": "negative"})
        self.asked: list[tuple[str, list[str], list[str]]] = []

    def score(self, prompts: Sequence[str], answers: Sequence[str], *, prefix: str = "") -> Scores:
        self.asked.append((prefix, list(prompts), list(answers)))
        return super().score(prompts, answers, prefix=prefix)


def request(question: str, *shots: tuple[str, str], choices: tuple[str, ...] = CHOICES) -> Request:
    turns = [m for q, a in shots for m in (Message("user", q), Message("assistant", a))]
    return Request((*turns, Message("user", question)), choices=choices)


@pytest.fixture(scope="module")
def engine(tiny_llama: Path) -> Iterator[Engine]:
    loaded = load("torch", tiny_llama, precision="float32")
    yield loaded
    loaded.close()


@pytest.mark.parametrize(
    ("messages", "before", "question"),
    [
        ([("user", "Q: a\nA:")], "", "Q: a\nA:"),
        ([("system", "Sort."), ("user", "Q: a")], "Sort.\n\n", "Q: a"),
        ([("user", "Q: a\nA:"), ("assistant", "yes"), ("user", "Q: b\nA:")], "Q: a\nA: yes\n\n", "Q: b\nA:"),
        ([("user", "Q: a\nA: "), ("assistant", "yes"), ("user", "Q: b")], "Q: a\nA: yes\n\n", "Q: b"),
        (
            [("system", "S"), ("user", "a"), ("assistant", "1"), ("user", "b"), ("assistant", "2"), ("user", "c")],
            "S\n\na 1\n\nb 2\n\n",
            "c",
        ),
    ],
)
def test_a_conversation_becomes_what_a_base_model_continues(
    messages: list[tuple[str, str]], before: str, question: str
) -> None:
    typed = [Message(role, text) for role, text in messages]  # type: ignore[arg-type]
    assert plain_text(typed) == (before, question)


def test_requests_with_the_same_shots_go_out_together() -> None:
    engine = Watched()
    shots = [("good one =", "positive"), ("bad one =", "negative")]
    asked = [
        request("good =", shots[0]),
        request("bad =", shots[1]),
        request("a bad =", shots[0]),
        request("good", shots[0], choices=("positive", "negative")),
    ]
    found = LocalTeacher(engine, "r").complete(asked)
    first, second = "good one = positive\n\n", "bad one = negative\n\n"
    assert engine.asked == [
        (first, [first + "good =", first + "a bad ="], [" negative", " positive"]),
        (second, [second + "bad ="], [" negative", " positive"]),
        (first, [first + "good"], [" positive", " negative"]),
    ]
    assert [answer.text for answer in found][1] == "negative"
    assert found[3].choice_logprobs == pytest.approx((math.log(10 / 11), math.log(1 / 11)))


def test_the_space_before_an_answer_follows_its_own_question() -> None:
    engine = Watched()
    LocalTeacher(engine, "r").complete([request("good "), request("good"), request("bad\n")])
    assert [(prompts, answers[0]) for _, prompts, answers in engine.asked] == [
        (["good ", "bad\n"], "negative"),
        (["good"], " negative"),
    ]


def test_together_or_alone_a_real_model_says_the_same(engine: Engine) -> None:
    teacher = LocalTeacher(engine, "abc")
    shots = [("Review: great\nSentiment:", "positive")]
    texts = ["the battery", "नमस्ते, the remote works", "x", "nothing " * 9, "great"]
    asked = [request(f"Review: {text}\nSentiment:", *shots[: i % 2]) for i, text in enumerate(texts)]
    kept: list[tuple[Request, Completion]] = []
    found = teacher.complete(asked, kept.extend)
    for one, answer in zip(asked, found, strict=True):
        (alone,) = teacher.complete([one])
        assert alone.choice_logprobs is not None
        assert answer.choice_logprobs == pytest.approx(alone.choice_logprobs, abs=1e-4)
        assert answer.text == CHOICES[int(np.argmax(alone.choice_logprobs))]
        assert sum(map(math.exp, alone.choice_logprobs)) == pytest.approx(1)
        whole = "".join(plain_text(one.messages))
        scores = engine.score([whole], [" negative", " positive"], prefix=plain_text(one.messages)[0])
        assert scores.logprobs[0] == pytest.approx(alone.choice_logprobs, abs=1e-4)
        assert alone.usage.prompt_tokens == scores.usage.prompt_tokens
        assert alone.usage.completion_tokens == 1
    assert kept == list(zip(asked, found, strict=True))
    assert teacher.identity == "local:torch-float32:abc"
    assert teacher.price(found[0].usage) == 0


def test_a_text_that_is_too_long_fails_its_row_alone(engine: Engine) -> None:
    found = LocalTeacher(engine, "r").complete([request("short"), request("word " * 600), request("brief")])
    assert [answer.failure for answer in found] == ["", "longer than the teacher's context", ""]
    assert found[1].choice_logprobs is None


def test_a_text_is_answered_as_long_as_it_fits_with_the_answers(engine: Engine) -> None:
    """Exactly where the engine itself can: answers that begin alike take room of their own."""
    shared = tuple(f"{'shared ' * 4}{chr(97 + i)}{i} label" for i in range(8))
    for choices in (CHOICES, shared):
        questions = ["é" * length + "x" * (length % 3) for length in range(120, 262)]
        found = LocalTeacher(engine, "r").complete([request(question, choices=choices) for question in questions])
        fits = []
        for question in questions:
            try:
                engine.score([question], [f" {choice}" for choice in choices])
                fits.append(True)
            except ModelError:
                fits.append(False)
        assert [not answer.failure for answer in found] == fits
        assert 0 < sum(fits) < len(fits)
        assert {answer.failure for answer in found} == {"", "longer than the teacher's context"}


def test_free_text_is_generated(engine: Engine) -> None:
    teacher = LocalTeacher(engine, "r")

    def ask(**settings: float) -> Completion:
        return teacher.complete([Request((Message("user", "Review: great"),), **settings)])[0]  # type: ignore[arg-type]

    greedy = ask(max_tokens=6)
    assert greedy == ask(max_tokens=6)
    expected = write(engine, [Prompt("Review: great", 6)])[0].text
    assert greedy.text == expected.strip()
    assert greedy.finish_reason == "length"
    assert greedy.usage.prompt_tokens == engine.count_tokens("Review: great")
    drawn = {ask(max_tokens=6, temperature=1.5, sample=sample).text for sample in range(4)}
    assert len(drawn) > 1
    assert ask(max_tokens=6, temperature=1.5, sample=1) == ask(max_tokens=6, temperature=1.5, sample=1)
    assert ask(max_tokens=600).failure == "longer than the teacher's context"


def asked_in_text(text: str, sample: int = 0, schema: str = "", shot: str = "") -> Request:
    shots = (Message("user", shot), Message("assistant", "good")) if shot else ()
    return Request((*shots, Message("user", text)), max_tokens=14, temperature=1.2, sample=sample, schema=schema)


def test_drawn_text_hangs_on_its_own_text_and_sample_alone(engine: Engine) -> None:
    """Not on the other requests of a call, nor on their order; the same in every run."""
    teacher = LocalTeacher(engine, "r")
    asked = [
        asked_in_text(f"Review: {text}", sample, shot="great" * (number % 2))
        for number, text in enumerate(["great", "the battery", "नमस्ते", "x " * 30])
        for sample in range(3)
    ]
    together = [answer.text for answer in teacher.complete(asked)]
    assert [teacher.complete([one])[0].text for one in asked] == together
    assert [answer.text for answer in teacher.complete(asked[::-1])][::-1] == together
    assert [answer.text for answer in LocalTeacher(engine, "other").complete(asked[4:7])] == together[4:7]
    assert len(set(together)) == len(together)


def test_requests_of_one_text_that_differ_in_settings_keep_their_own(engine: Engine) -> None:
    teacher = LocalTeacher(engine, "r")
    text = (Message("user", "Review: great"),)
    asked = [Request(text, max_tokens=3), Request(text, max_tokens=9), Request(text, max_tokens=9, temperature=1.5)]
    found = teacher.complete(asked)
    assert found == [teacher.complete([one])[0] for one in asked]
    assert [answer.usage.completion_tokens for answer in found[:2]] == [3, 9]
    assert found[1].text.startswith(found[0].text)
    assert found[2].text != found[1].text
    assert {answer.choice_logprobs for answer in found} == {None}


SCHEMA = (
    '{"type": "object", "properties": {"n": {"enum": [1, 22, 333]}}, "required": ["n"], "additionalProperties": false}'
)


def test_text_that_is_bound_to_a_schema_fits_it(engine: Engine) -> None:
    teacher = LocalTeacher(engine, "r")
    asked = [asked_in_text(f"Review: {text}", sample, SCHEMA) for text in ("great", "bad one") for sample in range(8)]
    free = [asked_in_text(f"Review: {text}") for text in ("great", "bad one")]
    found = teacher.complete([free[0], *asked, free[1]])
    assert {answer.text for answer in found[1:-1]} == {'{"n": 1}', '{"n": 22}', '{"n": 333}'}
    assert {answer.finish_reason for answer in found[1:-1]} == {"stop"}
    assert [found[0], found[-1]] == teacher.complete(free)  # a schema binds its own row alone
    assert not any(answer.text.startswith("{") for answer in (found[0], found[-1]))


def test_a_cut_answer_says_so_and_one_that_just_fits_the_context_is_given(engine: Engine) -> None:
    teacher = LocalTeacher(engine, "r")
    room = engine.context - engine.count_tokens("Review: great")
    (whole,) = teacher.complete([Request((Message("user", "Review: great"),), max_tokens=room)])
    assert whole.failure == ""
    (over,) = teacher.complete([Request((Message("user", "Review: great"),), max_tokens=room + 1)])
    assert over.failure == "longer than the teacher's context"
    (cut,) = teacher.complete([Request((Message("user", "Review: great"),), max_tokens=5, schema=SCHEMA)])
    assert cut.finish_reason == "length"


def test_after_worked_examples_a_blank_line_ends_an_answer_unless_they_have_one(tiny_llama: Path) -> None:
    """The random model writes blank lines in no place, so that the prompts that it is given are looked at."""

    class Noted(ScriptedEngine):
        stops: ClassVar[list[tuple[str, ...]]] = []

        def generate(self, prompts: Sequence[Prompt], *, prefix: str = "") -> Iterator[Piece]:
            self.stops.extend(prompt.stop for prompt in prompts)
            return super().generate(prompts, prefix=prefix)

    engine = Noted({"": "One.\n\nTwo."})
    for shot in ((), ("one line",), ("first\n\nsecond",)):
        turns = [Message("user", "Q: a"), *(Message("assistant", answer) for answer in shot), Message("user", "Q: b")]
        LocalTeacher(engine, "r").complete([Request(tuple(turns if shot else turns[:1]), max_tokens=9)])
    assert engine.stops == [(), ("\n\n",), ()]


def test_tools_stand_before_all_else_and_bind_the_answer(engine: Engine) -> None:
    tools = json.dumps([{"type": "function", "function": {"name": "stop"}}])
    assert plain_text([Message("user", "Q: a")], tools) == (f"{tools}\n\n", "Q: a")
    asked = Request((Message("user", "Q: a"),), max_tokens=30, tools=tools, temperature=1.5)
    for sample in range(5):
        (answer,) = LocalTeacher(engine, "r").complete([replace(asked, sample=sample)])
        assert not answer.text.startswith("{")
        assert not answer.text.startswith("[") or answer.text.startswith('[{"name": "stop"'[: len(answer.text)])
