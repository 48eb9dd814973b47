"""Environment variables that matter, without their values, and the way to the package index."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from aasut.doctor.finding import Finding

KEYS = (
    "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "AZURE_OPENAI_API_KEY", "DEEPSEEK_API_KEY", "FIREWORKS_API_KEY",
    "GEMINI_API_KEY", "GROQ_API_KEY", "MISTRAL_API_KEY", "OPENROUTER_API_KEY", "TOGETHER_API_KEY", "XAI_API_KEY",
    "HF_TOKEN",
)  # fmt: skip
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
NETWORK_SECONDS = 3.0


def examine() -> Iterator[Finding]:
    """Which keys and proxies are set. A key's value is never shown, nor is a proxy's password."""
    there = [name for name in KEYS if name in os.environ]
    yield Finding("API keys", ", ".join(there) or f"none of {KEYS[0]}, {KEYS[1]}, ... is set")
    for name in there:
        value = os.environ[name]
        if not value.strip():
            yield Finding(name, "empty", "note", f"{name} is set and empty: put the key into it, or unset it.")
        elif value != value.strip() or not value.isascii() or any(c.isspace() for c in value):
            problem = f"{name} holds white space or letters that no key has, and will be refused: set it again."
            yield Finding(name, "malformed", "fault", problem)
    for name in PROXIES:
        for form in (name.lower(), name):
            address = os.environ.get(form)
            if address:
                yield _proxy(form, address)
                break


def _proxy(name: str, value: str) -> Finding:
    if name.upper() == "NO_PROXY":
        return Finding(name, "set")
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        host = f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname
    except ValueError:
        host = None
    if not host:
        problem = f"{name} is no address of a proxy: write http://host:port, or unset it."
        return Finding(name, "malformed", "fault", problem)
    return Finding(name, host)


def network() -> Iterator[Finding]:
    """Can the package indexes of this environment's pip be reached?"""
    from aasut.sources import fetch

    indexes = fetch._pip_settings().indexes
    if not indexes:
        yield Finding("package index", "pip is told to use none", "note", "pip is told to use no index (no-index).")
    for index in indexes:
        parts = urlsplit(index)
        if parts.scheme in ("", "file"):
            yield _local_index(Path(unquote(parts.path)))
            continue
        host = parts.hostname or "an address without a host"  # the rest may hold a password
        try:
            request = urllib.request.Request(index, method="HEAD", headers={"User-Agent": "aasut"})
            with urllib.request.urlopen(request, timeout=NETWORK_SECONDS):
                pass
        except urllib.error.HTTPError:
            pass  # it answers
        except (OSError, ValueError) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
            problem = f"The package index {host} cannot be reached ({reason}): check the network, the proxy and pip."
            yield Finding("package index", f"{host} cannot be reached", "fault", problem)
            continue
        yield Finding("package index", f"{host} answers")


def _local_index(folder: Path) -> Finding:
    if folder.is_dir():
        return Finding("package index", f"{folder} is there")
    problem = f"The package index {folder} is not there: check pip's settings (pip config list)."
    return Finding("package index", f"{folder} is not there", "fault", problem)
