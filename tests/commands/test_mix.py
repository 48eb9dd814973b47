"""What `aasut mix` prints, and its mistakes in one line."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mixture_facts import facts
from rich.console import Console

from aasut.commands import mix


def test_a_row_a_set_and_a_column_a_model() -> None:
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(mix.render(facts(), Path("runs/works")))
    lines = [" ".join(line.split()) for line in console.export_text().splitlines()]
    assert lines[1] == "bits per byte documents before own student mixture mixture / own"
    assert "pumps 1,234 1.400 ± 0.100 0.900 ± 0.100 0.950 ± 0.100 1.056 ± 0.020" in lines
    assert "general 5 1.000 ± 0.100 – 1.010 ± 0.100 –" in lines
    assert "3 experts: pumps, ledger, chess. A token goes through 2 of them: 700 of 1,000 weights." in lines
    assert lines[-1] == "runs/works/ mixture.html · report.json · mixture/"


def test_a_mistake_is_one_line(aasut: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    path = tmp_path / "works.yaml"
    path.write_text(json.dumps({"name": "works", "fields": ["a.yaml", "b.yaml"]}), encoding="utf-8")
    said: list[tuple[tuple[Any, ...], str]] = [
        ((tmp_path / "gone.yaml",), "There is no recipe"),
        ((path,), "There is no recipe"),
        ((path, "--set", "fields=[a.yaml]"), "fields: "),
        ((path, "--scale", "huge"), "There is no scale 'huge'"),
    ]
    for words, why in said:
        code, out, err = aasut("mix", *words, "--root", tmp_path / "runs")
        assert (code, out) == (1, "")
        assert why in err
        assert err.count("\n") == 1
    assert aasut("mix", path, "--processes", "0")[0] == 2
