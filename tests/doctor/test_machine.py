from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from aasut.doctor import machine
from aasut.doctor.finding import Finding
from examined import faults, problems


def system(folder: Path, files: Mapping[str, str]) -> Path:
    """proc and sys of another machine."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_an_older_processor_is_slower_and_works(tmp_path: Path) -> None:
    cpu = "processor : 0\nmodel name : Old One\nflags : fpu avx avx2\n\nprocessor : 1\nmodel name : Old One\n"
    memory = "MemTotal:       16000000 kB\nMemAvailable:    9000000 kB\n"
    old = system(tmp_path, {"proc/cpuinfo": cpu, "proc/meminfo": memory})
    found = {finding.name: finding for finding in machine.examine(old)}
    assert found["processor"].value.startswith("Old One, ")
    assert found["instructions"].value == "AVX2, no AVX-512, no bfloat16, no AMX"
    assert found["instructions"].level == "note"
    assert "float32, about half as fast; nothing is broken" in found["instructions"].problem
    assert found["memory"] == Finding("memory", "16.4 GB, 9.2 GB of it free")


@pytest.mark.parametrize(
    "files",
    [
        {"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "50000 100000\n"},
        {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"},
        {
            "proc/self/cgroup": "3:cpu,cpuacct:/docker/x\n",
            "sys/fs/cgroup/cpu/docker/x/cpu.cfs_quota_us": "50000",
            "sys/fs/cgroup/cpu/docker/x/cpu.cfs_period_us": "100000",
        },
    ],
)
def test_a_container_that_gives_half_a_core(tmp_path: Path, files: dict[str, str]) -> None:
    found = {finding.name: finding for finding in machine.examine(system(tmp_path, files))}
    assert "A limit of this container leaves 0.5 of" in found["limit of cores"].problem


def test_containers_without_limits(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "max 100000\n"}
    files |= {"sys/fs/cgroup/a/memory.max": "max\n", "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1"}
    assert "limit of cores" not in {finding.name for finding in machine.examine(system(tmp_path, files))}


def test_too_little_memory(tmp_path: Path) -> None:
    memory = "MemTotal:       16000000 kB\nMemAvailable:   15000000 kB\n"
    files = {"proc/meminfo": memory, "proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "1000000000\n"}
    (fault,) = faults(machine.examine(system(tmp_path, files)))
    assert fault.startswith("1.0 GB of memory are too few to train a student")
    (tmp_path / "sys/fs/cgroup/a/memory.max").write_text("3000000000")
    assert faults(machine.examine(tmp_path)) == []
    assert any("takes about 3 GB of memory" in problem for problem in problems(machine.examine(tmp_path)))


def test_a_machine_that_says_nothing(tmp_path: Path) -> None:
    found = {finding.name: finding.value for finding in machine.examine(tmp_path)}
    assert (found["instructions"], found["memory"]) == ("unknown", "unknown")


def test_threads_that_are_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = machine.usable_cores()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert "OMP_NUM_THREADS" not in {finding.name for finding in machine.examine()}
    monkeypatch.setenv("OMP_NUM_THREADS", str(cores))
    assert not [f for f in machine.examine() if f.name == "OMP_NUM_THREADS" and f.problem]
    monkeypatch.setenv("OMP_NUM_THREADS", "0")
    assert "is no number of threads" in " ".join(problems(machine.examine()))


def test_a_process_that_may_use_one_core_says_so() -> None:
    code = "from aasut.doctor import machine; print([f.value for f in machine.examine() if f.name == 'cores'])"
    core = min(os.sched_getaffinity(0))
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, preexec_fn=lambda: os.sched_setaffinity(0, {core})
    )
    assert ran.stdout == "['1']\n", ran.stderr
