"""The one renderer of chat templates: messages to text, as transformers renders them, but the same every day."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NoReturn

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

from aasut.errors import ModelError
from aasut.types import Message

# A student sees the message's text as it is.
PLAIN = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def render(
    chat_template: str, messages: Sequence[Message], add_generation_prompt: bool = True, *, bos_token: str = ""
) -> str:
    """The conversation as one text.

    `bos_token` is empty because engines put that token first themselves. The clock (`strftime_now`)
    is kept from templates, so that the same messages give the same text; templates that look for
    it have a date of their own to fall back on. Raises ModelError where the template is broken or
    refuses the conversation.
    """
    plain = [{"role": m.role, "content": m.content} for m in messages]
    try:
        template = _compile(chat_template)
        return template.render(
            messages=plain, add_generation_prompt=add_generation_prompt, bos_token=bos_token, eos_token=""
        )
    except jinja2.TemplateError as error:
        raise ModelError(
            f"The chat template cannot render this conversation: {' '.join(str(error).split())}.",
            "Use the roles that the model knows, or mend the template.",
        ) from error
    except (TypeError, ValueError, ArithmeticError, LookupError, RecursionError) as error:
        raise ModelError(f"The chat template fails: {error}.", "Mend the template.") from error


@lru_cache(maxsize=16)
def _compile(chat_template: str) -> jinja2.Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _refuse
    return environment.from_string(chat_template)


class _Generation(jinja2.ext.Extension):
    """`{% generation %}` marks what the assistant says; the text inside is rendered as it is."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 declares it so

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _tojson(value: Any, indent: int | None = None) -> str:
    # jinja2's own filter escapes HTML characters, which models were not trained on.
    return json.dumps(value, ensure_ascii=False, indent=indent)
