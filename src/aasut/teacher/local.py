"""A teacher on a local engine: the conversation becomes plain text, the choices are scored, or text is written.

Worked examples before the question are shared by many requests; the engine computes them once.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aasut.engine.base import Engine, Prompt, load, write
from aasut.errors import ModelError
from aasut.recipe import Teacher as TeacherSettings
from aasut.store import digest
from aasut.tasks import answer_text
from aasut.teacher.base import Keep
from aasut.tools import schema
from aasut.types import Completion, Message, Request, Usage

SEPARATOR = "\n\n"  # between worked examples
TOO_LONG = "longer than the teacher's context"


def plain_text(messages: Sequence[Message], tools: str = "") -> tuple[str, str]:
    """What a base model continues: (text before the last message, the last message). `tools` come first."""
    before = tools + SEPARATOR if tools else ""
    for message in messages[:-1]:
        if message.role == "assistant":
            before += answer_text(before, message.content) + SEPARATOR
        else:
            before += message.content if message.role == "user" else message.content + SEPARATOR
    return before, messages[-1].content


def ends(messages: Sequence[Message]) -> tuple[str, ...]:
    """Texts before which an answer ends.

    After worked examples a blank line begins the next one, unless their answers have blank lines themselves.
    """
    worked = [message.content for message in messages if message.role == "assistant"]
    return (SEPARATOR,) if worked and not any(SEPARATOR in answer for answer in worked) else ()


def _seed(text: str, sample: int) -> int:
    """Draws differ from text to text, and are the same in every run."""
    return int(digest([text, sample])[:15], 16)


class LocalTeacher:
    """See `teacher.base.Teacher`. `revision` is the hash of the model's file."""

    def __init__(self, engine: Engine, revision: str) -> None:
        self.engine = engine
        self.identity = f"local:{engine.name}:{revision}"
        self._lengths: dict[tuple[str, ...], int] = {}

    def complete(self, requests: Sequence[Request], keep: Keep | None = None) -> list[Completion]:
        done: dict[int, Completion] = {}
        groups: dict[tuple[str, tuple[str, ...], tuple[str, ...]], list[int]] = {}
        texts = [plain_text(request.messages, request.tools) for request in requests]
        for number, request in enumerate(requests):
            answers = tuple(answer_text("".join(texts[number]), choice) for choice in request.choices)
            most = self._tokens_of(answers) if answers else request.max_tokens
            spare = self._spare(texts[number], most)
            if spare > most or (spare == most and not answers):
                groups.setdefault((texts[number][0], request.choices, answers), []).append(number)
            elif spare >= 0 and answers:
                done[number] = self._tight(texts[number], request.choices, answers)
            else:
                done[number] = Completion("", failure=TOO_LONG)
        for (prefix, choices, answers), members in groups.items():
            if answers:
                found = self._bound(prefix, choices, answers, [texts[m][1] for m in members])
            else:
                found = self._free(prefix, [requests[m] for m in members], [texts[m][1] for m in members])
            done |= zip(members, found, strict=True)
        completions = [done[number] for number in range(len(requests))]
        if keep is not None:
            keep(list(zip(requests, completions, strict=True)))
        return completions

    def _spare(self, text: tuple[str, str], enough: int) -> int:
        """Tokens of the context that a text leaves free, or less where that is more than `enough` anyway."""
        least = self.engine.context - sum(len(part.encode("utf-8", "replace")) for part in text) - 2
        if least > enough:
            return least  # a token is a byte at least, and a model puts one token of its own before each part
        return self.engine.context - sum(self.engine.count_tokens(part) for part in text)

    def _tight(self, text: tuple[str, str], choices: tuple[str, ...], answers: tuple[str, ...]) -> Completion:
        """One text that fits by itself, and may not together with the answers: the engine knows."""
        try:
            return self._bound(text[0], choices, answers, [text[1]])[0]
        except ModelError:
            return Completion("", failure=TOO_LONG)

    def _tokens_of(self, answers: tuple[str, ...]) -> int:
        """Tokens that the answers take at most; engines need fewer where answers share a beginning."""
        if answers not in self._lengths:
            self._lengths[answers] = sum(self.engine.count_tokens(answer) for answer in answers)
        return self._lengths[answers]

    def _bound(
        self, prefix: str, choices: tuple[str, ...], answers: tuple[str, ...], questions: list[str]
    ) -> list[Completion]:
        scores = self.engine.score([prefix + question for question in questions], answers, prefix=prefix)
        usage = scores.usage
        each = Usage(usage.prompt_tokens // len(questions), 1, usage.cached_tokens // len(questions))
        return [
            Completion(choices[int(row.argmax())], each, tuple(float(value) for value in row))
            for row in scores.logprobs
        ]

    def _free(self, prefix: str, requests: Sequence[Request], questions: Sequence[str]) -> list[Completion]:
        prompts = [
            Prompt(
                prefix + question,
                request.max_tokens,
                temperature=request.temperature,
                seed=_seed(prefix + question, request.sample),
                stop=ends(request.messages),
                schema=schema(request.tools) if request.tools else request.schema,
                plain=bool(request.tools),
            )
            for request, question in zip(requests, questions, strict=True)
        ]
        count = self.engine.count_tokens
        cached = count(prefix) if prefix and self.engine.prefix_cache else 0
        return [
            Completion(
                answer.text.strip(),
                Usage(count(prompt.text), answer.tokens, cached),
                finish_reason=answer.finish,
            )
            for prompt, answer in zip(prompts, write(self.engine, prompts, prefix=prefix), strict=True)
        ]

    def price(self, usage: Usage) -> float:
        return 0.0

    def charge(self, usd: float) -> None:
        """There is no cap."""

    def close(self) -> None:
        self.engine.close()


def create(settings: TeacherSettings, path: Path, revision: str) -> LocalTeacher:
    """From a recipe's section and the model's folder or file."""
    return LocalTeacher(load(settings.engine, path, precision=settings.precision), revision)
