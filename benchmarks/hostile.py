"""Bad recipes, tables, models, endpoints, requests and commands: each must end in one clear line, or in counted rows.

Every case runs the whole command in a process of its own (forked from one that has the libraries loaded, so
that a thousand cases take minutes) with a time limit. Counted are: tracebacks, hangs, rows lost (results
whose accounting does not add up, or results that were published by a run that was refused), and unclear
ends (an exit code other than 1 or 2, or not exactly one line `aasut: ...` beside the progress). The last
line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import small
from hostile_cases import commands, endpoints, files, models, recipes, requests
from hostile_cases.case import Case

KINDS = {
    "recipes": recipes.cases,
    "files": files.cases,
    "models": models.cases,
    "endpoints": endpoints.cases,
    "commands": commands.cases,
}
MEMORY = 24 << 30  # bytes of address space that a case may take


@dataclass(frozen=True)
class Verdict:
    """What is wrong with how a case ended; empty where nothing is."""

    traceback: bool = False
    hang: bool = False
    rows_lost: str = ""
    unclear: str = ""

    @property
    def good(self) -> bool:
        return not (self.traceback or self.hang or self.rows_lost or self.unclear)


def preload() -> None:
    """Load what most cases need, once, before processes are forked."""
    import openvino  # noqa: F401
    import pyarrow.parquet  # noqa: F401
    import sklearn.linear_model  # noqa: F401
    import transformers.models.auto.modeling_auto
    import transformers.models.llama.modeling_llama  # noqa: F401

    import aasut.cli
    import aasut.data.label
    import aasut.engine.torch
    import aasut.evaluate.evaluate
    import aasut.export.export
    import aasut.pipeline
    import aasut.report.report
    import aasut.serve.api
    import aasut.student.train
    import aasut.teacher.openai  # noqa: F401


def run(case: Case, folder: Path) -> small.Ended:
    """Run the case's command in a fork of this process."""
    words = [word.replace("{root}", str(folder / "runs")) for word in case.make(folder)]
    out, err = folder.with_suffix(".out"), folder.with_suffix(".err")
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        _child(case, words, out, err)
    code: int | None = None
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            break
        if time.monotonic() - started > case.limit_s:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            break
        time.sleep(0.005)
    said = [path.read_text(encoding="utf-8", errors="replace") if path.exists() else "" for path in (out, err)]
    return small.Ended(code, *said)


def _child(case: Case, words: list[str], out: Path, err: Path) -> None:
    """Become the command: never returns."""
    code = 70
    try:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        for number, target in ((1, case.output or str(out)), (2, str(err))):
            os.dup2(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
        os.environ.update(case.env)
        sys.argv = ["aasut", *words]
        from aasut.cli import main

        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stderr.flush()
        sys.stdout.flush()
    finally:
        os._exit(code)


def judge(case: Case, ended: small.Ended, folder: Path) -> Verdict:
    """Hold an end against what the case allows."""
    trace = "Traceback (most recent call last)" in ended.err + ended.out
    if ended.code is None:
        return Verdict(hang=True)
    lost = unclear = ""
    if ended.code == 0:
        if case.may == "refuse":
            unclear = "it was taken"
        reports = sorted(folder.rglob("report.json"))
        lost = _lost(case, json.loads(reports[0].read_text(encoding="utf-8"))) if reports else ""
        if case.rows is not None and not reports:
            lost = "no report"
    else:
        if case.may == "pass":
            unclear = f"it was refused: {ended.said[-1:]}"
        elif ended.code not in (1, 2):
            unclear = f"exit code {ended.code}"
        elif not ended.clear:
            unclear = f"not one clear line: {ended.said[:3]}"
        elif len(ended.said[0]) > 2000:
            unclear = f"a line of {len(ended.said[0])} characters"
        published = [] if case.publishes else [p.name for p in folder.rglob("report.json") if ".store" not in p.parts]
        lost = f"published {published}" if published else ""
    return Verdict(trace, False, lost, unclear)


def _lost(case: Case, report: dict[str, Any]) -> str:
    """What does not add up in a report's accounting of rows."""
    stages = report["conservation"]
    for name, rows in stages.items():
        if rows["in"] != rows["kept"] + sum(rows["dropped"].values()) + sum(rows["failed"].values()):
            return f"{name} does not add up: {rows}"
    data, counts = stages["data"], report["data"]["counts"]
    if case.rows is not None and data["in"] != case.rows:
        return f"{case.rows} rows in the table, {data['in']} came in"
    if case.failed is not None and sum(data["failed"].values()) != case.failed:
        return f"{case.failed} bad rows in the table, counted: {data['failed']}"
    if sum(counts.values()) != data["kept"]:
        return f"{data['kept']} rows kept, {sum(counts.values())} in the splits"
    if stages["label"]["in"] != counts["pool"] or stages["evaluate"]["in"] != counts["test"]:
        return "a split is not the next stage's input"
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", default=",".join([*KINDS, "requests"]), help="which kinds of cases")
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--every", type=int, default=1, help="every n-th case of each kind alone")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--show", action="store_true", help="print what each case said")
    wanted = parser.parse_args()
    started = time.monotonic()
    preload()
    kinds = wanted.kinds.split(",")
    chosen = [c for kind in kinds if kind in KINDS for c in KINDS[kind]()[:: wanted.every] if wanted.only in c.name]
    verdicts: list[tuple[str, Verdict]] = []
    with tempfile.TemporaryDirectory() as top:

        def one(numbered: tuple[int, Case]) -> tuple[str, Verdict]:
            number, case = numbered
            folder = Path(top) / f"{number:04}"
            folder.mkdir()
            begun = time.monotonic()
            ended = run(case, folder)
            verdict = judge(case, ended, folder)
            shutil.rmtree(folder)
            line = ended.said[-1][:300] if ended.said else ""
            if wanted.show or not verdict.good:
                print(f"{case.name!r}: exit code {ended.code}, {time.monotonic() - begun:.1f} s: {line}", flush=True)
            if not verdict.good:
                print(f"    BAD: {verdict}", flush=True)
            return case.name, verdict

        with ThreadPoolExecutor(wanted.workers) as pool:
            verdicts += pool.map(one, enumerate(chosen))
        if "requests" in kinds:
            for name, fault in requests.run(Path(top) / "served"):
                verdicts.append((name, Verdict(**fault)))
                if fault:
                    print(f"{name!r}: BAD: {fault}", flush=True)
    by_kind = Counter(name.split(":")[0] for name, _ in verdicts)
    result = {
        "cases": len(verdicts),
        "tracebacks": sum(v.traceback for _, v in verdicts),
        "hangs": sum(v.hang for _, v in verdicts),
        "rows_lost": sum(bool(v.rows_lost) for _, v in verdicts),
        "unclear": sum(bool(v.unclear) for _, v in verdicts),
        "kinds": len(by_kind),
        "seconds": round(time.monotonic() - started, 1),
    }
    print(json.dumps(result))
    sys.exit(0 if all(v.good for _, v in verdicts) else 1)


if __name__ == "__main__":
    main()
