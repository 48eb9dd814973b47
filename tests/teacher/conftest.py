from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aasut.recipe import Endpoint
from aasut.teacher.openai import OpenAiTeacher

Make = Callable[..., OpenAiTeacher]


@pytest.fixture
def endpoint() -> Iterator[Make]:
    """Makes teachers behind an address, with short pauses, and closes them."""
    made: list[OpenAiTeacher] = []

    def make(url: str, max_usd: float | None = None, pause_s: float = 0.01, **settings: Any) -> OpenAiTeacher:
        plain = {"base_url": url, "model": "big", "api_key_env": "", "concurrency": 4} | settings
        made.append(OpenAiTeacher(Endpoint(**plain), max_usd, pause_s=pause_s))
        return made[-1]

    yield make
    for teacher in made:
        teacher.close()
