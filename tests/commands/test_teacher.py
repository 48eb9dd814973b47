from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.mark.parametrize(
    ("rules", "plan"),
    [("[1, 2]", None), ("{great: positive, '': negative}", "{faults: [{fault: nonsense, share: 1}]}")],
)
def test_what_cannot_be_served_is_one_line(tmp_path: Path, aasut: Any, rules: str, plan: str | None) -> None:
    (tmp_path / "rules.yaml").write_text(rules)
    flags = []
    if plan is not None:
        (tmp_path / "plan.yaml").write_text(plan)
        flags = ["--faults", tmp_path / "plan.yaml"]
    code, out, err = aasut("teacher", tmp_path / "rules.yaml", "--port", "0", *flags)
    assert (code, out) == (1, "")
    assert err.startswith("aasut: ")
    assert len(err.splitlines()) == 1


def test_a_python_file_without_the_function_is_one_line(tmp_path: Path, aasut: Any) -> None:
    (tmp_path / "wrong.py").write_text("answer = 1")
    code, out, err = aasut("teacher", tmp_path / "wrong.py", "--port", "0")
    assert (code, out) == (1, "")
    assert "has no function answer(text)" in err
    assert len(err.splitlines()) == 1
