"""`aasut gateway status` and `aasut gateway export`, as they are called."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from aasut.commands import gateway_status
from aasut.errors import DataError
from gateway_traffic import asked, store

app = typer.Typer()
app.command("status")(gateway_status.status)
app.command("export")(gateway_status.export)


def call(*words: object) -> str:
    """What the command says."""
    ran = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    return ran.output


def test_status_is_text_or_one_object(tmp_path: Path) -> None:
    store(tmp_path, [asked()])
    assert "Requests 1 (upstream 1)" in call("status", "--store", tmp_path)
    assert json.loads(call("status", "--store", tmp_path, "--json"))["requests"] == 1
    with pytest.raises(DataError, match="There is no traffic"):
        call("status", "--store", tmp_path / "other")


def test_live_status_needs_a_terminal_or_json(tmp_path: Path) -> None:
    store(tmp_path, [asked()])
    ran = CliRunner().invoke(app, ["status", "--store", str(tmp_path), "--watch"])
    assert ran.exit_code == 2
    code = "import sys; from aasut.commands.gateway_status import *; status(Path(sys.argv[1]), True, True)"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert process.stdout is not None
    assert [json.loads(process.stdout.readline())["requests"] for _ in range(2)] == [1, 1]
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)


def test_export_says_what_it_wrote_and_what_it_left_out(tmp_path: Path) -> None:
    store(tmp_path, [asked(), asked(at=5.0), asked(path="/v1/embeddings"), asked(request=b"")])
    file = tmp_path / "a.jsonl"
    said = call("export", file, "--store", tmp_path)
    assert said == f"2 exchanges in {file}; left out: 1 no chat completions, 1 without a request\n"
    assert len(file.read_text().splitlines()) == 2
    found = json.loads(call("export", file, "--store", tmp_path, "--since", "1d", "--json"))
    assert found == {"file": str(file), "exported": 1, "other_paths": 1, "refused": 0, "no_request": 1}


def test_moments_are_dates_times_and_how_long_ago() -> None:
    now = time.time()
    for text, ago in (("90m", 5400), ("12h", 43200), ("7d", 604800), ("2 w", 1209600), ("1.5h", 5400)):
        assert now - ago <= gateway_status.moment(text) <= time.time() - ago
    assert gateway_status.moment("2026-01-31T08:00:00Z") == 1769846400.0
    assert gateway_status.moment("2026-01-31") == datetime(2026, 1, 31).timestamp()
    for text in ("yesterday", "12", "-3d", "", "2026-13-01"):
        with pytest.raises(typer.BadParameter, match=r"is no time\. Write 2026-01-31"):
            gateway_status.moment(text)
