"""Answers that the teacher gave before, as a gateway recorded them: taken in place of calls, where the question is one.

An answer is taken for a request of the recipe where the recorded request is the same: its endpoint and model, its
messages, and all settings that shape an answer. These differ without harm: the limit of tokens, where the answer ended
by itself and within the recipe's; and the temperature, where the recipe asks at 0: production's draw is then what the
teacher said. A recipe that wants log-probabilities takes answers that have as many alternatives as it asks for.

Of several answers to one request of a task with labels the commonest is taken, the earliest of two that are as
common; of free text as many as the recipe draws, the earliest first.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from aasut.data.panel import Panel
from aasut.errors import PromptMismatch
from aasut.progress import Progress
from aasut.recipe import Recipe
from aasut.sources import logs, tables
from aasut.sources.rows import RowFault, rows
from aasut.teacher.answer import CUT, parse
from aasut.teacher.ledger import Recorded
from aasut.types import Completion, Conservation, Message, Request

AGAIN, CUT_SHORT, LONGER = "another answer to the same request", "cut short", "longer than task.max_tokens"
PROMPT, EXAMPLES, NO_ENDPOINT = "asked with another prompt", "asked without worked examples", "the teacher is no API"
MODEL, ENDPOINT = "of another model", "of another endpoint"
TEMPERATURE, NO_LOGPROBS = "drawn at another temperature", "without the log-probabilities that are asked for"
NO_FIT = "does not fit the task"

# Fields of a request that do not shape its answer, or are looked at here.
_KNOWN = frozenset(
    (
        *("model", "messages", "stream", "stream_options", "user", "metadata", "store", "service_tier", "seed"),
        *("max_tokens", "max_completion_tokens", "temperature", "logprobs", "top_logprobs", "response_format"),
        *("safety_identifier", "prompt_cache_key", "prompt_cache_retention", "parallel_tool_calls", "tool_choice"),
    )
)
_NEUTRAL: Mapping[str, Any] = {"n": 1, "top_p": 1, "presence_penalty": 0, "frequency_penalty": 0}


@dataclass(frozen=True)
class Answers:
    """What was recorded, as entries of the ledger.

    By request, see `key_of`: `held` has how many answers of it can be learned from, `why` the reason why others
    cannot. `drawn` counts answers that were drawn at a temperature, where the recipe asks at 0.
    """

    answers: list[Recorded] = field(default_factory=list)
    held: Mapping[str, int] = field(default_factory=dict)
    why: Mapping[str, str] = field(default_factory=dict)
    drawn: int = 0
    conservation: Conservation = field(default_factory=lambda: Conservation(0, 0))


class Questions:
    """What a recipe asks of its teacher about one input, held against what a log has."""

    def __init__(self, recipe: Recipe) -> None:
        self.endpoint, self.task = recipe.teacher.endpoint, recipe.task.build()
        self.send_schema = bool(self.endpoint and self.endpoint.send_schema and self.task.schema)
        self.template = recipe.teacher_template()
        self.panel = replace(
            Panel.plain([()] * recipe.teacher.samples, len(self.task.answers)), sampling=recipe.teacher.temperature
        )
        self.known = _KNOWN | ({"tools"} if self.task.tools else set())  # which `logs` holds against the task's
        self.free = self.endpoint is None  # to ask
        self.never = ""
        if self.endpoint is None:
            self.never = NO_ENDPOINT
        elif recipe.teacher.shots:
            self.never = EXAMPLES
        elif self.template.plain() != self.task.prompt.plain():
            self.never = PROMPT

    def slots(self, messages: Sequence[Message]) -> dict[str, str]:
        """The slots of a logged request. Raises RowFault where it was written with another prompt."""
        try:
            return self.task.prompt.read(messages)
        except PromptMismatch as mismatch:
            raise logs.unread(mismatch) from None

    def entry(self, line: Mapping[str, Any], asked: logs.Logged) -> Recorded:
        """A line's answer as that to the recipe's request. Raises RowFault: why it is none."""
        if self.never:
            raise RowFault(self.never)
        request = self.panel.request(self.template, self.task, self.slots(asked.messages), 0)
        if request.messages != asked.messages:
            raise RowFault(PROMPT)
        body, response = line.get("request"), line.get("response")
        if not isinstance(body, dict) or not isinstance(response, dict):
            raise RowFault("no request and response of the API")
        self._same_teacher(asked, response)
        self._same_settings(body, request)
        completion = self._completion(response, request)
        return Recorded(request, completion, _number(line.get("usd")), _number(line.get("at")))

    def _same_teacher(self, asked: logs.Logged, response: Mapping[str, Any]) -> None:
        assert self.endpoint is not None
        if asked.base_url and asked.base_url.rstrip("/") != self.endpoint.base_url.rstrip("/"):
            raise RowFault(ENDPOINT)
        if asked.model != self.endpoint.model:
            raise RowFault(MODEL)
        if self.endpoint.revision and response.get("model") != self.endpoint.revision:
            raise RowFault(MODEL)

    def _same_settings(self, body: Mapping[str, Any], request: Request) -> None:
        for name, value in body.items():
            if name not in self.known and value not in (None, [], {}, "") and _NEUTRAL.get(name) != value:
                raise RowFault(f"asked with {name}")
        if request.temperature and _temperature(body) != request.temperature:
            raise RowFault(TEMPERATURE)
        shape = body.get("response_format")
        if isinstance(shape, dict) and shape.get("type") != "text":
            wrapped = shape.get("json_schema")
            schema = wrapped.get("schema") if isinstance(wrapped, dict) else None
            if not self.send_schema or schema != json.loads(request.schema):
                raise RowFault("asked with response_format")

    def _completion(self, response: Mapping[str, Any], request: Request) -> Completion:
        assert self.endpoint is not None
        found, counted = parse(json.dumps(response).encode(), request)
        if found.failure:
            raise RowFault(CUT_SHORT if found.failure == CUT["length"] else found.failure)
        if not request.choices and counted and found.usage.completion_tokens - _thought(response) > request.max_tokens:
            raise RowFault(LONGER)
        if not self.endpoint.logprobs:  # what the recipe did not ask for it shall not have of some rows alone
            return replace(found, choice_logprobs=None, token_logprobs=None)
        told = found.choice_logprobs if request.choices else found.token_logprobs
        if told is None or _alternatives(response) < self.endpoint.top_logprobs:
            raise RowFault(NO_LOGPROBS)
        return found


def key_of(messages: Sequence[Message]) -> str:
    """What tells the requests of a log apart."""
    return json.dumps([[message.role, message.content] for message in messages])


def of(recipe: Recipe, lines: Iterable[Mapping[str, Any]]) -> Answers:
    """The answers in a log's lines; rows of the conservation are lines that have one."""
    questions, failed = Questions(recipe), Counter[str]()
    found: dict[str, list[_Drawn]] = {}
    why: dict[str, str] = {}
    total = 0
    for line in lines:
        if line.get("response") is None:
            continue
        total += 1
        key = ""
        try:
            asked = logs.logged(line, questions.task.tools)
            key = key_of(asked.messages)
            one = questions.entry(line, asked)
        except RowFault as fault:
            failed[str(fault)] += 1
            why[key] = str(fault)
            continue
        fits = questions.task.parse(one.completion.text) is not None
        found.setdefault(key, []).append(_Drawn(one, _temperature(line["request"]), fits))
        if not fits:
            why[key] = NO_FIT
    chosen = {key: _chosen(questions, several) for key, several in found.items()}
    taken = [one for several in chosen.values() for one in several]
    again = total - len(taken) - failed.total()
    return Answers(
        [one.entry for one in taken],
        {key: sum(one.fits for one in several) for key, several in chosen.items()},
        why,
        sum(bool(one.temperature) for one in taken if not one.entry.request.temperature),
        Conservation(total, len(taken), {AGAIN: again} if again else {}, dict(sorted(failed.items()))),
    )


def read(recipe: Recipe, base: Path) -> Answers:
    """The answers in the recipe's recorded tables; the files are those that the stage `data` reads."""
    return of(recipe, _lines(recipe, base))


def _lines(recipe: Recipe, base: Path) -> Iterable[Mapping[str, Any]]:
    for table in recipe.data.tables:
        if table.recorded:
            path = tables.locate(table, base=base)
            with Progress(quiet=True).steps("", 0) as step:
                yield from (row.values for row in rows("chat", path, path.name, table, (), step) if not row.fault)


@dataclass(frozen=True, slots=True)
class _Drawn:
    entry: Recorded
    temperature: float
    fits: bool  # the task


def _chosen(questions: Questions, several: Sequence[_Drawn]) -> list[_Drawn]:
    """Of the answers to one request those that are taken, each with the number of its draw."""
    several = sorted(several, key=lambda one: (not one.fits, one.entry.at))
    if not questions.task.answers:
        drawn = several[: len(questions.panel.members)]
        return [
            replace(one, entry=replace(one.entry, request=replace(one.entry.request, sample=number)))
            for number, one in enumerate(drawn)
        ]
    said = [questions.task.parse(one.entry.completion.text) for one in several if one.fits] or [None]
    commonest = Counter(said).most_common(1)[0][0]  # of two that are as common, the one that was said first
    return [several[said.index(commonest)]]


def _temperature(body: Mapping[str, Any]) -> float:
    """An API draws at 1 where it is not told otherwise."""
    given = body.get("temperature")
    return 1.0 if given is None else _number(given)


def _thought(response: Mapping[str, Any]) -> int:
    """Tokens of the answer that stand for thoughts and are not in its text."""
    try:
        return int(response["usage"]["completion_tokens_details"]["reasoning_tokens"] or 0)
    except (LookupError, TypeError, ValueError):
        return 0


def _alternatives(response: Mapping[str, Any]) -> int:
    """How many alternatives to its first token an answer lists."""
    try:
        return len(response["choices"][0]["logprobs"]["content"][0]["top_logprobs"])
    except (LookupError, TypeError):
        return 0


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0
