"""GenAI names of operations and providers, as OpenTelemetry's conventions list them."""

from __future__ import annotations

from urllib.parse import urlsplit

_PROVIDERS = {
    "anthropic.com": "anthropic",
    "azure.com": "azure.ai.openai",
    "cohere.ai": "cohere",
    "cohere.com": "cohere",
    "deepseek.com": "deepseek",
    "amazonaws.com": "aws.bedrock",
    "aiplatform.googleapis.com": "gcp.vertex_ai",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "groq.com": "groq",
    "mistral.ai": "mistral_ai",
    "moonshot.ai": "moonshot_ai",
    "perplexity.ai": "perplexity",
    "x.ai": "x_ai",
}
_OPERATIONS = {
    "chat/completions": "chat",
    "responses": "chat",
    "completions": "text_completion",
    "embeddings": "embeddings",
}


def provider_of(base_url: str) -> str:
    """The provider behind an address; `openai` for one that is not listed, since it speaks OpenAI's protocol."""
    parts = (urlsplit(base_url).hostname or "").split(".")
    ends = (".".join(parts[at:]) for at in range(len(parts)))
    return next((_PROVIDERS[end] for end in ends if end in _PROVIDERS), "openai")


def operation_of(path: str) -> str:
    """The operation that a path such as /v1/chat/completions asks for; `other` where it has no name."""
    return _OPERATIONS.get(path.partition("?")[0].strip("/").removeprefix("v1/"), "other")
