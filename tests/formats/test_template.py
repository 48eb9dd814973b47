"""Chat templates: the same text as transformers, nothing that can run or change."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from aasut.errors import ModelError
from aasut.formats.template import PLAIN, render
from aasut.types import Message

CHAT = [
    Message("system", "Be <brief> & {{ kind }}."),
    Message("user", "हाँ?\n"),
    Message("assistant", "Ja."),
    Message("user", "x"),
]
BLOCKS = """
{%- for m in messages %}
    {% if m.role == 'system' %}
        {% continue %}
    {% endif %}
    {{ m | tojson }}{% if m.role == 'assistant' %}{% generation %}!{{ m.content }}{% endgeneration %}{% endif %}
{% endfor %}
{% if add_generation_prompt %}go{% endif %}
"""


def test_plain_is_the_text_itself() -> None:
    text = "  {{ not a slot }} {% no tag %} <&>\r\n\n"
    assert render(PLAIN, [Message("user", text)]) == text


@pytest.mark.parametrize("prompt", [True, False])
@pytest.mark.parametrize("own", [True, False])
def test_the_same_as_transformers(own: bool, prompt: bool, smollm2: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    template = (smollm2 / "chat_template.jinja").read_text() if own else BLOCKS
    messages = [{"role": m.role, "content": m.content} for m in CHAT]
    expected = tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=prompt, chat_template=template
    )
    assert render(template, CHAT, prompt) == expected
    assert ("assistant\n" if own else "go") in expected or not prompt


@pytest.mark.parametrize(
    "template",
    [
        "{% for %}",
        "{{ raise_exception('only users\nmay speak') }}",
        "{{ messages.append(1) }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages[9].content + 1 }}",
        "{{ 'a' + 1 }}",
        "{{ strftime_now('%Y') }}",
    ],
)
def test_broken_refusing_and_escaping_templates_are_one_line(template: str) -> None:
    with pytest.raises(ModelError) as caught:
        render(template, CHAT)
    assert "\n" not in str(caught.value)
