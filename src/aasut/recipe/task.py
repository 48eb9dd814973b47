"""The recipe's section `task`, by kind of task."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator

from aasut import tools as functions
from aasut.prompts import PromptTemplate
from aasut.recipe.section import Positive, Prompt, Section
from aasut.tasks import Classify, Extract, Generate, Task, Tools


class ClassifyTask(Section):
    """One of several labels for each input."""

    kind: Literal["classify"] = "classify"
    """Kind of task."""
    labels: list[str] = Field(min_length=2, max_length=100)
    """The 2 to 100 labels."""
    prompt: Prompt
    """The prompt that the application sends today, with slots such as {text}; text, or a list of role and content."""

    @field_validator("labels")
    @classmethod
    def _labels_differ(cls, labels: list[str]) -> list[str]:
        for label in labels:
            if not label or label != label.strip():
                raise ValueError(f"the label {label!r} is empty or has space around it")
        folded = [label.casefold() for label in labels]
        twice = next((label for label in labels if folded.count(label.casefold()) > 1), None)
        if twice is not None:
            raise ValueError(f"the label {twice!r} stands there twice (case does not count)")
        return labels

    def build(self) -> Task:
        return Classify(tuple(self.labels), PromptTemplate.of(self.prompt))


class GenerateTask(Section):
    """Free text for each input."""

    kind: Literal["generate"] = "generate"
    """Kind of task."""
    prompt: Prompt
    """The prompt that the application sends today, with slots such as {text}; text, or a list of role and content."""
    max_tokens: Positive = 128
    """Tokens that an answer may have; longer answers of the teacher count as failed."""

    def build(self) -> Task:
        return Generate(PromptTemplate.of(self.prompt), self.max_tokens)


class ExtractTask(Section):
    """A JSON object for each input."""

    kind: Literal["extract"] = "extract"
    """Kind of task."""
    schema_: dict[str, Any] = Field(alias="schema")
    """JSON Schema of the answer, an object with `properties`; its fields are scored one by one too."""
    prompt: Prompt
    """The prompt that the application sends today, with slots such as {text}; text, or a list of role and content."""
    max_tokens: Positive = 256
    """Tokens that an answer may have; longer answers of the teacher count as failed."""

    @field_validator("schema_")
    @classmethod
    def _is_an_object(cls, value: dict[str, Any]) -> dict[str, Any]:
        import jsonschema

        try:
            jsonschema.validators.validator_for(value).check_schema(value)
        except jsonschema.SchemaError as error:
            raise ValueError(f"is no JSON Schema: {' '.join(error.message.split())[:200]}") from None
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"holds what JSON has not: {error}") from None
        if value.get("type") != "object" or not value.get("properties"):
            raise ValueError("must have type: object and properties")
        return value

    def build(self) -> Task:
        return Extract(PromptTemplate.of(self.prompt), self.max_tokens, json.dumps(self.schema_, ensure_ascii=False))


class ToolsTask(Section):
    """Calls of functions for each input, or text where none is needed."""

    kind: Literal["tools"] = "tools"
    """Kind of task."""
    tools: list[dict[str, Any]]
    """Functions that may be called, as OpenAI's API takes them: a list of {type: function, function: {name,
    description, parameters}}; or, in a recipe's file, the path, relative to it, of a JSON file that holds the list."""
    prompt: Prompt
    """The prompt that the application sends today, with slots such as {text}; text, or a list of role and content."""
    max_tokens: Positive = 256
    """Tokens that an answer may have; longer answers of the teacher count as failed."""

    @field_validator("tools")
    @classmethod
    def _are_functions(cls, value: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if reason := functions.fault(value):
            raise ValueError(f"are no function definitions: {reason}")
        return value

    def build(self) -> Task:
        return Tools(PromptTemplate.of(self.prompt), self.max_tokens, json.dumps(self.tools, ensure_ascii=False))


def _kind(value: Any) -> str:
    return str(value.get("kind", "classify") if isinstance(value, Mapping) else getattr(value, "kind", "classify"))


AnyTask = Annotated[
    Annotated[ClassifyTask, Tag("classify")]
    | Annotated[GenerateTask, Tag("generate")]
    | Annotated[ExtractTask, Tag("extract")]
    | Annotated[ToolsTask, Tag("tools")],
    Discriminator(_kind),
]
