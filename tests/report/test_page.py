"""Templates of pages: what they are given is escaped, and nothing that they name may be missing."""

from __future__ import annotations

import pytest
from jinja2 import UndefinedError

from aasut.report.page import template


def test_text_is_escaped_and_filters_are_there() -> None:
    text = template("head.html", {}).render(title="<b>name</b>")
    assert "<title>&lt;b&gt;name&lt;/b&gt;</title>" in text
    assert "<style>" in text
    assert template("head.html", {}, finalize=lambda value: f"{value}!").render(title="name").count("name!") == 1
    made = template("head.html", {"twice": lambda value: value * 2})
    assert made.environment.from_string("{{ title | twice }}").render(title="&") == "&amp;&amp;"


def test_what_is_missing_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        template("head.html", {}).render()
