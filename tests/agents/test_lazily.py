from __future__ import annotations

import pytest

from aasut.agents import lazily
from aasut.errors import ToolError


def test_a_package_that_is_there_is_loaded() -> None:
    assert lazily.load("json").dumps([1]) == "[1]"
    assert lazily.there("json")
    assert not lazily.there("no_such_package_of_ours")


@pytest.mark.parametrize("name", ["no_such_package_of_ours", "no_such_package_of_ours.inner"])
def test_a_missing_package_says_how_to_get_it(name: str) -> None:
    with pytest.raises(ToolError) as caught:
        lazily.load(name)
    assert "no_such_package_of_ours" in caught.value.message
    assert caught.value.remedy == "pip install 'aasut[agents]'"
