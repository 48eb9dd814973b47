from __future__ import annotations

import base64
import struct
from typing import Any

import openai
import pytest

from aasut.teacher.chat import Refused
from aasut.teacher.embeddings import WIDTH, embed, vector
from aasut.teacher.server import ScriptedServer


def test_the_same_text_has_the_same_vector_of_length_one() -> None:
    found = embed({"input": ["a", "b", "a"], "model": "e"})
    first, other, again = (one["embedding"] for one in found["data"])
    assert first == again != other
    assert len(first) == WIDTH
    assert sum(x * x for x in first) == pytest.approx(1)
    assert found["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    assert found["model"] == "e"


def test_numbers_may_be_bytes_and_their_count_is_the_callers() -> None:
    (coded,) = embed({"input": "a", "encoding_format": "base64", "dimensions": 5})["data"]
    assert list(struct.unpack("<5f", base64.b64decode(coded["embedding"]))) == vector("a", 5)


def test_the_official_client_reads_them() -> None:
    with ScriptedServer({"": "x"}) as server, openai.OpenAI(base_url=server.url, api_key="k", max_retries=0) as client:
        found = client.embeddings.create(model="e", input=["a", "b"])
        assert [one.embedding for one in found.data] == [vector("a"), vector("b")]
        assert client.embeddings.create(model="e", input=[[1, 2], [3]]).usage.prompt_tokens == 3
        with pytest.raises(openai.BadRequestError, match="input"):
            client.embeddings.create(model="e", input=[])


@pytest.mark.parametrize(
    "body",
    [[], {}, {"input": 3}, {"input": [[]]}, {"input": "a", "dimensions": 0}, {"input": "a", "encoding_format": "int"}],
)
def test_what_is_not_honoured_is_refused(body: Any) -> None:
    with pytest.raises(Refused):
        embed(body)
