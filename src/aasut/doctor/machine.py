"""Processor, cores, memory: what there is, and what limits it."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from aasut.doctor.finding import Finding

LEAST_MEMORY, ENOUGH_MEMORY = 2e9, 4e9  # bytes; training a student of 135M parameters peaks near 3 GB
FLAGS = {
    "AVX2": {"avx2"},
    "AVX-512": {"avx512f"},
    "bfloat16": {"avx512_bf16", "amx_bf16", "bf16"},
    "AMX": {"amx_tile"},
}
THREADS = "OMP_NUM_THREADS"


def examine() -> Iterator[Finding]:
    """The machine, as the system describes it."""
    cpu = _cpu()
    yield Finding("processor", f"{cpu.get('model name') or platform.processor() or 'unknown'}, {platform.machine()}")
    yield _instructions(cpu)
    yield from _cores()
    yield _memory()


def _cpu() -> dict[str, str]:
    text = _read(Path("/proc/cpuinfo"))
    lines = [line.partition(":") for line in text.splitlines()]
    return {key.strip().lower(): value.strip() for key, _, value in reversed(lines)}


def _instructions(cpu: Mapping[str, str]) -> Finding:
    have = set((cpu.get("flags") or cpu.get("features") or "").lower().split())
    if not have:
        return Finding("instructions", "unknown")
    named = {name: bool(flags & have) for name, flags in FLAGS.items()}
    text = ", ".join(name if there else f"no {name}" for name, there in named.items())
    if named["bfloat16"]:
        return Finding("instructions", text)
    slower = "The processor has no bfloat16: models run in float32, about half as fast; nothing is broken."
    return Finding("instructions", text, "note", slower)


def usable_cores() -> int:
    """Cores that this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1


def _cores() -> Iterator[Finding]:
    cores, quota, wanted = usable_cores(), _cpu_quota(), os.environ.get(THREADS)
    yield Finding("cores", str(cores))
    if quota is not None and quota < cores - 0.01:
        problem = f"A limit of this container leaves {quota:g} of {cores} cores: set {THREADS}={max(int(quota), 1)}."
        yield Finding("limit of cores", f"{quota:g}", "note", problem)
    if wanted is None:
        return
    if not re.fullmatch(r"[0-9]+", wanted) or int(wanted) == 0:
        problem = f"{THREADS} is {wanted!r}, which is no number of threads: unset it, or set it to {cores}."
        yield Finding(THREADS, repr(wanted), "note", problem)
    elif int(wanted) < min(cores, quota or cores):
        problem = f"{THREADS}={wanted} leaves cores idle: unset it to use all {cores}."
        yield Finding(THREADS, wanted, "note", problem)
    else:
        yield Finding(THREADS, wanted)


def _memory() -> Finding:
    total, free = _meminfo("MemTotal"), _meminfo("MemAvailable")
    limit = _memory_limit()
    if total is None:
        return Finding("memory", "unknown")
    room = min(total, limit or total)
    text = f"{total / 1e9:.1f} GB" + (f", {free / 1e9:.1f} GB of it free" if free is not None else "")
    text += f", of which this container may use {limit / 1e9:.1f} GB" if limit is not None and limit < total else ""
    if room < LEAST_MEMORY:
        problem = f"{room / 1e9:.1f} GB of memory are too few to train a student: use a larger machine."
        return Finding("memory", text, "fault", problem)
    if min(room, free if free is not None else room) < ENOUGH_MEMORY:
        problem = "Training a student of 135M parameters takes about 3 GB of memory: close what else is running."
        return Finding("memory", text, "note", problem)
    return Finding("memory", text)


def _meminfo(field: str) -> float | None:
    match = re.search(rf"^{field}: +([0-9]+) kB$", _read(Path("/proc/meminfo")), re.MULTILINE)
    return float(match[1]) * 1024 if match else None


def _cpu_quota() -> float | None:
    """Cores that the control group allows, None for no limit."""
    for text in _limits("cpu", "cpu.max"):
        quota, _, period = text.partition(" ")
        if quota.isdigit() and period.isdigit():
            return float(quota) / float(period)
    quotas, periods = _limits("cpu", "cpu.cfs_quota_us"), _limits("cpu", "cpu.cfs_period_us")
    for quota, period in zip(quotas, periods, strict=False):
        if quota.isdigit() and period.isdigit():
            return float(quota) / float(period)
    return None


def _memory_limit() -> float | None:
    """Bytes that the control group allows, None for no limit."""
    found = [*_limits("memory", "memory.max"), *_limits("memory", "memory.limit_in_bytes")]
    return min((float(text) for text in found if text.isdigit() and float(text) < 1e15), default=None)


def _limits(controller: str, name: str) -> list[str]:
    """Content of a limit's file, in this process's control group and at the root; both versions' layouts."""
    groups = [line.split(":", 2) for line in _read(Path("/proc/self/cgroup")).splitlines()]
    places = {"/"} | {group[2] for group in groups if len(group) == 3 and controller in (group[1] or controller)}
    tops = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup") / controller)
    texts = [_read(top / place.lstrip("/") / name).strip() for place in sorted(places, reverse=True) for top in tops]
    return [text for text in texts if text]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
