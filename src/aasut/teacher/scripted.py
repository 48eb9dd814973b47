"""A teacher that answers by rule: no model, no cost, always the same. For trying things out, and for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from aasut.recipe import Teacher as TeacherSettings
from aasut.store import digest
from aasut.teacher.base import Keep
from aasut.teacher.python_rules import PythonRules
from aasut.teacher.template import fill
from aasut.types import Completion, Request, Usage


class ScriptedTeacher:
    """Answers with the value of the first rule whose word stands in the last message, case aside.

    The rule "" answers everything else; without it, such requests come back as failed rows. A value may take words
    from that message: see template.py. Rules may be a function too, which gets the last message: see python_rules.py.
    """

    def __init__(self, rules: Mapping[str, str] | PythonRules) -> None:
        self.function = rules.answer if isinstance(rules, PythonRules) else None
        self.rules = {} if isinstance(rules, PythonRules) else dict(rules)
        self.identity = f"scripted:{rules.identity if isinstance(rules, PythonRules) else digest(self.rules)}"

    def complete(self, requests: Sequence[Request], keep: Keep | None = None) -> list[Completion]:
        answers = [self._answer(request) for request in requests]
        if keep is not None:
            keep(list(zip(requests, answers, strict=True)))
        return answers

    def _answer(self, request: Request) -> Completion:
        asked = request.messages[-1].content
        if self.function is not None:
            return self._computed(asked)
        question = asked.casefold()
        for word, answer in self.rules.items():
            if word and word.casefold() in question:
                return Completion(fill(answer, asked), Usage(len(question.split()), 1))
        if "" in self.rules:
            return Completion(fill(self.rules[""], asked), Usage(len(question.split()), 1))
        return Completion("", failure="no rule matches")

    def _computed(self, asked: str) -> Completion:
        """What the function says; a failed row where it raises, or gives no text."""
        assert self.function is not None
        try:
            said = self.function(asked)
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            return Completion("", failure=f"the function of the rules failed: {reason}")
        if not isinstance(said, str):
            return Completion("", failure=f"the function of the rules gave no text, but {type(said).__name__}")
        return Completion(said, Usage(len(asked.split()), 1))

    def price(self, usage: Usage) -> float:
        return 0.0

    def charge(self, usd: float) -> None:
        """There is no cap."""

    def close(self) -> None:
        """Nothing is held."""


def create(settings: TeacherSettings, _path: Path | None, _revision: str) -> ScriptedTeacher:
    """From a recipe's section."""
    return ScriptedTeacher(settings.scripted or {})
