from __future__ import annotations

from pathlib import Path

import pytest

from aasut.errors import TeacherError
from aasut.recipe import Endpoint, ModelAddress
from aasut.recipe import Teacher as Settings
from aasut.teacher import base
from aasut.teacher.local import LocalTeacher
from aasut.teacher.openai import OpenAiTeacher
from aasut.teacher.scripted import ScriptedTeacher


def test_each_kind_is_made_from_its_section(tiny_llama: Path) -> None:
    endpoint = Endpoint(base_url="http://127.0.0.1:1/v1/", model="m", revision="2024", api_key_env="")
    remote = base.create("endpoint", Settings(endpoint=endpoint, max_usd=2), None, "")
    assert isinstance(remote, OpenAiTeacher)
    assert remote.budget.max_usd == 2
    scripted = base.create("scripted", Settings(scripted={"good": "yes"}), None, "")
    assert isinstance(scripted, ScriptedTeacher)
    assert scripted.rules == {"good": "yes"}
    settings = Settings(model=ModelAddress(address=f"file:{tiny_llama}"), engine="torch", precision="float32")
    local = base.create("model", settings, tiny_llama, "abc")
    assert isinstance(local, LocalTeacher)
    assert local.identity == "local:torch-float32:abc"
    local.close()


def test_a_section_without_an_endpoint_is_refused() -> None:
    with pytest.raises(TeacherError, match="declares no endpoint"):
        base.create("endpoint", Settings(scripted={"": "a"}), None, "")
