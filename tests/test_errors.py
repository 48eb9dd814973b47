from __future__ import annotations

import inspect
import re

import pytest

from aasut import errors
from aasut.errors import AasutError, HashMismatch, ModelError


def drawn() -> dict[str, str]:
    """Error to parent, as the module's text draws them."""
    tree: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"    ([│├└─ ]*)([A-Z]\w+) {2,}\S", line)
        if found:
            depth = len(found[1]) // 4
            path[depth:] = [found[2]]
            tree[found[2]] = path[depth - 1] if depth else "Exception"
    return tree


def test_the_drawn_tree_is_the_real_one() -> None:
    classes = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, Exception)]
    assert drawn() == {c.__name__: c.__bases__[0].__name__ for c in classes}
    assert len(classes) > 8


def test_message_and_remedy_are_one_line() -> None:
    assert str(AasutError("The table is not there.", "Mend the path.")) == "The table is not there. Mend the path."
    assert str(AasutError("The table is not there.")) == "The table is not there."


def test_a_hash_mismatch_names_file_and_both_hashes() -> None:
    with pytest.raises(ModelError) as caught:
        raise HashMismatch("model.gguf", "a" * 64, "b" * 64)
    assert str(caught.value).startswith(f"model.gguf: SHA-256 is {'b' * 64}, the recipe pins {'a' * 64}.")
    assert caught.value.remedy
