from __future__ import annotations

import pytest

from aasut.gateway.providers import operation_of, provider_of


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://api.openai.com/v1", "openai"),
        ("https://x.openai.azure.com/openai/v1", "azure.ai.openai"),
        ("https://api.mistral.ai/v1", "mistral_ai"),
        ("https://api.x.ai/v1", "x_ai"),
        ("https://api.notx.ai/v1", "openai"),
        ("https://generativelanguage.googleapis.com/v1beta/openai", "gcp.gemini"),
        ("https://bedrock-runtime.eu-west-1.amazonaws.com/openai/v1", "aws.bedrock"),
        ("http://127.0.0.1:8001/v1", "openai"),
    ],
)
def test_providers(url: str, name: str) -> None:
    assert provider_of(url) == name


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/chat/completions", "chat"),
        ("/chat/completions/?x=1", "chat"),
        ("/v1/responses", "chat"),
        ("/v1/completions", "text_completion"),
        ("/v1/embeddings", "embeddings"),
        ("/v1/whatever/a-client-says", "other"),
    ],
)
def test_operations(path: str, name: str) -> None:
    assert operation_of(path) == name
