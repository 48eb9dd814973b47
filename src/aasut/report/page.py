"""What the pages of reports are made by: their templates, in which every text is escaped and nothing may be missing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Template


def template(name: str, filters: Mapping[str, Any], **more: Any) -> Template:
    """The template of that file name, with filters beside Jinja's own; `more`: settings of its environment."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, **more,
    )  # fmt: skip
    environment.filters |= filters
    return environment.get_template(name)
