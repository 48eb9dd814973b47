"""The shared nouns: small frozen values that stages hand to one another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation, as chat APIs have it."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Example:
    """One input of the task.

    `slots` fill the task's prompt; `group` names the source that the example must not be parted
    from (a review, a customer); `answer` is the human answer, None where there is none; `taught` is what the teacher
    answered before, None where it is to be asked.
    """

    id: str
    slots: Mapping[str, str]
    group: str
    answer: str | None = None
    taught: str | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one or several requests. `cached_tokens` of the prompt were not computed again."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
        )


@dataclass(frozen=True, slots=True)
class Request:
    """What a teacher is asked: a conversation that ends with the user's turn.

    `choices` lists the only answers allowed, empty for free text. `schema`, a JSON Schema as text, says
    what JSON the answer must be; empty for none. `tools`, OpenAI's function definitions as JSON text, may be
    called in it; empty for none. `sample` tells repeated draws of the same request apart.
    """

    messages: tuple[Message, ...]
    choices: tuple[str, ...] = ()
    max_tokens: int = 64
    temperature: float = 0.0
    sample: int = 0
    schema: str = ""
    tools: str = ""

    def body(self) -> dict[str, Any]:
        """The request as plain data; its hash is the request's identity in the ledger."""
        return {
            "messages": [[m.role, m.content] for m in self.messages],
            "choices": list(self.choices),
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "sample": self.sample,
        } | {name: text for name, text in (("schema", self.schema), ("tools", self.tools)) if text}


@dataclass(frozen=True, slots=True)
class Completion:
    """What a teacher answered.

    `choice_logprobs` holds one log-probability per choice of the request (natural log, normalised
    over the choices), or is None where the teacher gives text only. `token_logprobs` holds, for free
    text, the likeliest alternatives to each token as `teacher.logprobs` packs them, or is None where an
    API gives none that can be used. `failure` is empty, or the reason why this row cannot be used.
    """

    text: str
    usage: Usage = field(default_factory=Usage)
    choice_logprobs: tuple[float, ...] | None = None
    finish_reason: str = "stop"
    failure: str = ""
    token_logprobs: bytes | None = None


@dataclass(frozen=True, slots=True)
class Label:
    """A teacher's answer to one example.

    `probabilities` over the task's answers, summing to 1; or, where a task has no list of answers,
    `texts`: one or several drawn answers.
    """

    id: str
    probabilities: tuple[float, ...] = ()
    texts: tuple[str, ...] = ()

    @property
    def confidence(self) -> float:
        """Probability of the likeliest answer."""
        return max(self.probabilities)


@dataclass(frozen=True, slots=True)
class Conservation:
    """Row accounting of a stage: rows_in = kept + dropped + failed, the last two by reason."""

    rows_in: int
    kept: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    failed: Mapping[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {"in": self.rows_in, "kept": self.kept, "dropped": dict(self.dropped), "failed": dict(self.failed)}

    @property
    def balanced(self) -> bool:
        return self.rows_in == self.kept + sum(self.dropped.values()) + sum(self.failed.values())


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a document: characters `start` to `end` of its text, and where a reader finds it in the file.

    `page` counts from 1, None where the file has no pages; `headings` are those above it, outermost first.
    """

    document: str
    start: int
    end: int
    page: int | None = None
    headings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Document:
    """A file, or one record of a file: what is dealt to a split as a whole.

    `id` is unique in a corpus: the file's path in its source, with `#` and the record's number or name after it.
    `group` names what is never parted from it; `language` is a code of ISO 639-1, "" where none was told.
    `characters` counts its text, which is the texts of its chunks end to end.
    """

    id: str
    file: str
    group: str
    language: str
    characters: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of one document's text, in Markdown, that fits into a prompt. A document's chunks do not overlap."""

    id: str
    text: str
    span: Span
    language: str = ""
