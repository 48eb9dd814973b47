from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from rich.console import Console

from aasut.doctor import doctor, storage
from aasut.doctor.finding import Finding
from examined import model

Result = subprocess.CompletedProcess[str]


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "aasut", "doctor", *map(str, words)]


def run(*words: object, **changes: str | None) -> Result:
    """The real command with environment variables changed, or unset where None."""
    given = {k: v for k, v in (os.environ | changes).items() if v is not None}
    ran = subprocess.run(command(*words), capture_output=True, text=True, env=given, timeout=120)
    assert "Traceback" not in ran.stdout + ran.stderr, ran.stderr
    return ran


def test_this_machine_works(tmp_path: Path) -> None:
    """The tests run here, so that whatever it names it must not say that a library does not load."""
    ran = run("--root", tmp_path / "runs", XDG_CACHE_HOME=str(tmp_path / "cache"), OPENAI_API_KEY="sk-very-secret")
    assert ran.stderr == ""
    assert max(len(line) for line in ran.stdout.splitlines()) <= 100
    for name in ("torch", "openvino", "the rest"):
        assert any(line.split(maxsplit=1)[0] == name.split()[0] and "loads" in line for line in ran.stdout.splitlines())
    room = shutil.disk_usage(tmp_path).free >= storage.ENOUGH
    if room:
        assert "Everything that aasut needs works." in ran.stdout
    assert ran.returncode == (0 if room else 1)
    assert "OPENAI_API_KEY" in ran.stdout
    assert "very-secret" not in ran.stdout
    assert os.listdir(tmp_path) == []  # looking leaves nothing behind


def test_many_faults_at_once(tmp_path: Path) -> None:
    """Planted: a broken OpenVINO, a file where runs should be, a damaged model, a proxy and a key that are none."""
    (tmp_path / "path" / "openvino").mkdir(parents=True)
    (tmp_path / "path" / "openvino" / "__init__.py").write_text("raise ImportError('libopenvino.so: cannot open')")
    (tmp_path / "runs").write_text("a file")
    model(tmp_path / "cache" / "aasut" / "models" / "abc", {"config.json": "{"})
    ran = run(
        "--root", tmp_path / "runs", "--json",
        PYTHONPATH=f"{tmp_path / 'path'}:{os.environ.get('PYTHONPATH', '')}", XDG_CACHE_HOME=str(tmp_path / "cache"),
        MISTRAL_API_KEY="secret\n", HTTPS_PROXY="http://user:password@proxy.example:3128", https_proxy=None,
        http_proxy="http://[broken", HTTP_PROXY=None,
    )  # fmt: skip
    found = json.loads(ran.stdout)
    assert (ran.returncode, found["works"], len(ran.stdout.splitlines())) == (1, False, 1)
    for says in (
        "openvino does not load: ImportError: libopenvino.so: cannot open.",
        f"{tmp_path}/runs is a file, where runs should have a folder",
        "The cached model pypi:tiny==1 is damaged: config.json is no JSON.",
        "MISTRAL_API_KEY holds white space",
        "http_proxy is no address of a proxy",
    ):
        assert [fault for fault in found["faults"] if says in fault], says
    assert "torch" not in " ".join(found["faults"])
    assert "secret" not in ran.stdout
    assert "password" not in ran.stdout
    assert {"name": "HTTPS_PROXY", "value": "proxy.example:3128", "level": "ok", "problem": ""} in (
        found["sections"]["Environment"]
    )


def test_nonsense_in_the_environment_does_not_stop_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    nonsense = {"PATH": "/nowhere", "HOME": str(tmp_path / "file"), "XDG_CACHE_HOME": None, "OMP_NUM_THREADS": "many"}
    ran = run("--json", "--root", tmp_path, **nonsense)
    found = json.loads(ran.stdout)
    assert ran.returncode == 1
    assert [fault for fault in found["faults"] if f"{tmp_path}/file is a file, where cache should have" in fault]
    assert "OMP_NUM_THREADS is 'many', which is no number of threads" in " ".join(found["notes"])


def test_every_fault_is_a_line_and_decides_the_result() -> None:
    found = {"A": [Finding("a", "1"), Finding("b", "2", "note", "b is slow.")]}
    assert doctor.plain(found)["works"]
    found["B"] = [Finding("c", "3", "fault", "c is gone: fetch it.")]
    said = doctor.plain(found)
    assert (said["works"], said["faults"], said["notes"]) == (False, ["c is gone: fetch it."], ["b is slow."])
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(doctor.render(found))
    lines = [line.rstrip() for line in console.export_text().splitlines()]
    assert lines[-2:] == ["note: b is slow.", "will not work: c is gone: fetch it."]
