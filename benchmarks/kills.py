"""Runs that are killed with `kill -9` and disturbed in other ways, then resumed: do they end in the same hashes?

Kills fall at random moments of labelling, training, export and evaluation; a run is killed once to four
times. A transformer learns from a local model in one run, SmolLM2 with all but two layers dropped from a
scripted teacher in the other. Other faults: SIGINT, SIGTERM, a full disk, lost permission, deleted files,
damaged databases; each must end in one clear line before the run goes on. The last line is one JSON object.
Filling and freezing a disk needs the right to mount; without it, file sizes are limited instead.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import small

from aasut.store import Store

PHASES = {  # name: what the progress says when it begins
    "labelling": '"data ',
    "training": '"label ',
    "export": '"train ',
    "evaluation": '"export ',
}
MEASURED = ("report.json", "report.html", "timings.json")  # they hold times
RECIPE = "recipe.yaml"  # it names its tables by the way to them, which depends on where the run stands


class World:
    """A recipe and what an unbroken run of it gave."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self.begins = PHASES | ({"export": '"linear '} if name == "words" else {})
        student = {
            "initialise": "pruned",
            "shape": {"layers": 2},
            "batch_examples": 16,
            "checkpoint_s": 0.2,
            "checks": 3,
        }
        if name == "llama":
            model = {"address": f"file:{small.tiny_llama(folder / 'llama')}"}
            student |= {"model": model, "epochs": 6, "learning_rate": 1e-3}
            teacher: dict[str, Any] = {"model": model, "calibration": "prior", "shots": 2, "candidates": 2}
            plain, rows = small.recipe(student=student, teacher=teacher), 1200
        elif name == "smollm2":
            student |= {"model": small.SMOLLM2, "epochs": 2, "checkpoint_s": 1}
            plain, rows = small.recipe(student=student, export={"q8_0": True, "round_trip": 8}), 300
        else:
            plain, rows = small.recipe(), 300
        self.recipe = small.write(folder, plain, rows)
        command = self.start(folder / "whole")
        ended = command.end()
        if ended.code != 0:
            raise SystemExit(f"The unbroken run failed: {ended.err[-2000:]}")
        self.expected = hashes(folder / "whole")
        # How long each phase took, from what it said when.
        said = [*self.begins.values(), '"evaluate ']
        times = [next(at for at, line in command.lines if words in line) for words in said]
        self.seconds = {phase: times[i + 1] - times[i] for i, phase in enumerate(PHASES)}

    def start(self, root: Path, **more: Any) -> small.Command:
        return small.Command(["run", str(self.recipe), "--root", str(root)], **more)

    def same(self, root: Path) -> tuple[bool, str]:
        """Run to the end. Does it end as the unbroken run did? If not, how."""
        ended = self.start(root).end()
        if ended.code != 0:
            return False, f"exit code {ended.code}: {' '.join(ended.said)[-600:]}"
        found = hashes(root)
        differ = sorted(key for key in self.expected.keys() | found.keys() if self.expected.get(key) != found.get(key))
        return not differ, f"other: {', '.join(differ)}" if differ else ""


def hashes(root: Path) -> dict[str, Any]:
    """Content hashes of all stages, of the published files, and what must be the same in the report."""
    folder = root / "small"
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    found: dict[str, Any] = {f"stage {s['stage']}": s["content"] for s in report["lineage"]}
    for part in ("verdict", "conservation", "data", "task"):
        found[f"report {part}"] = report[part]
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in (*MEASURED, RECIPE)):
        found[f"file {path.relative_to(folder)}"] = hashlib.sha256(path.read_bytes()).hexdigest()
    store = root / ".store"
    with Store(store) as opened:
        found["damaged"] = opened.verify()
    found["left over"] = [str(p) for p in [*root.rglob("*.partial"), *(store / "work").iterdir()]]
    return found


class Tally:
    """Runs and those that ended in the same hashes, by kind; moments of the kills."""

    def __init__(self) -> None:
        self.by_kind: dict[str, list[int]] = {}
        self.kills = dict.fromkeys([*PHASES, "elsewhere"], 0)
        self.resumed_trainings = 0
        self.unclear = 0

    def add(self, kind: str, *, same: bool, why: str) -> None:
        count = self.by_kind.setdefault(kind, [0, 0])
        count[0] += same
        count[1] += 1
        print(f"{time.strftime('%H:%M:%S')} {kind}: {'same' if same else 'NOT THE SAME, ' + why}", flush=True)

    def expect(self, kind: str, ended: small.Ended, codes: tuple[int, ...], words: str = "") -> bool:
        """Did a disturbed command end with one clear line?"""
        good = ended.code in codes and ended.clear and words in ended.err
        if not good:
            self.unclear += 1
            print(f"UNCLEAR {kind}: exit code {ended.code}: {ended.said[-12:]}", flush=True)
        return good


def phase_of(world: World, command: small.Command) -> str:
    """The phase that a command was in when it ended, from what it said."""
    begun = [phase for phase, words in world.begins.items() if any(words in line for _, line in command.lines)]
    if not begun or any('"evaluate ' in line for _, line in command.lines):
        return "elsewhere"
    return begun[-1]


def kill_once(world: World, root: Path, phase: str, share: float, tally: Tally) -> bool:
    """Start, and kill at `share` of the phase's usual time after it began. False where the run ended before."""
    command = world.start(root)
    if command.wait_for(world.begins[phase]):
        time.sleep(share * world.seconds[phase])
    command.process.kill()
    if command.end().code != -signal.SIGKILL:
        return False
    tally.kills[phase_of(world, command)] += 1
    for path in (root / ".store" / "work").glob("*/checkpoint.safetensors"):
        tally.resumed_trainings += path.stat().st_size > 0
    return True


def kills(world: World, count: int, draw: random.Random, tally: Tally) -> None:
    """Kill runs until `count` kills have hit, evenly over the phases; resume each to its end."""
    order: list[str] = []
    delivered = number = 0
    while delivered < count:
        while len(order) < 4:
            order += draw.sample(list(PHASES), len(PHASES))
        planned = [order.pop(0) for _ in range(min(draw.randint(1, 4), count - delivered))]
        root = world.folder / f"killed-{number}"
        number += 1
        for phase in sorted(planned, key=list(PHASES).index):
            delivered += kill_once(world, root, phase, 0.7 * draw.random(), tally)
        same, why = world.same(root)
        tally.add(f"kill {world.name}", same=same, why=f"{why} ({', '.join(planned)})")
        shutil.rmtree(root)


def signals(world: World, draw: random.Random, tally: Tally) -> None:
    """SIGINT and SIGTERM in every phase: one line, exit code 130, and the run goes on."""
    for number in (signal.SIGINT, signal.SIGTERM):
        root = world.folder / f"signal-{number}"
        for phase in PHASES:
            command = world.start(root)
            command.wait_for(world.begins[phase])
            time.sleep(draw.random() * world.seconds[phase] * 0.8)
            command.process.send_signal(number)
            tally.expect(f"{number.name} in {phase}", command.end(), (130,), "interrupted")
        same, why = world.same(root)
        tally.add(number.name, same=same, why=why)


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[bool]:
    """A file system of this size at `folder`; False where mounting is not allowed."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    mounted = subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def full_disk(world: World, tally: Tally) -> None:
    """A disk that is full again and again, at another stage each time, the cache of models on it too."""
    disk = world.folder / "disk"
    with small_disk(disk, "40k") as mounted:
        env = {"XDG_CACHE_HOME": str(disk / "cache")}
        stopped = 0
        for size in range(40, 4000, 160):
            if mounted:
                remount(disk, f"size={size}k")
            limit = (
                None if mounted else (lambda most=size * 250: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most)))
            )
            ended = world.start(disk / "runs", env=env, preexec_fn=limit).end()
            if ended.code == 0:
                break
            stopped += 1
            tally.expect(f"full disk of {size} KB", ended, (1,), "No space left")
        if mounted:
            remount(disk, "size=200m")
        same, why = world.same(disk / "runs")
        tally.add("full disk", same=same and stopped > 2, why=f"{why} (stopped {stopped} times)")


def permission(world: World, tally: Tally) -> None:
    """A folder that turns read-only in every phase, files where folders belong, another user's folder."""
    # Permissions do not bind root, so that root lends the run to another user.
    other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    open_to_all = world.folder / "theirs"
    env = {"XDG_CACHE_HOME": str(open_to_all / "cache"), "HOME": str(open_to_all)}
    root = open_to_all / "runs"
    for folder in (*world.folder.parents, world.folder):
        if folder.is_relative_to(tempfile.gettempdir()) and folder != Path(tempfile.gettempdir()):
            folder.chmod(0o755)
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    for phase in PHASES:
        command = world.start(root, before=other, env=env)
        command.wait_for(world.begins[phase])
        folders = [path for path in (root, *root.rglob("*")) if path.is_dir()]
        for path in folders:
            path.chmod(0o555)
        ended = command.end()
        for path in folders:
            if path.exists():
                path.chmod(0o755)
        if ended.code != 0:  # it may have been over
            tally.expect(f"read-only in {phase}", ended, (1,), "Permission denied")
    if os.geteuid() == 0:
        os.chown(root, 0, 0)
        (root / ".store" / "store.db").chmod(0o600)
        os.chown(root / ".store" / "store.db", 0, 0)
        tally.expect("another user's database", world.start(root, before=other, env=env).end(), (1,), "store.db")
    same, why = world.same(root)
    tally.add("read-only", same=same, why=why)
    root = world.folder / "taken"
    root.write_text("a file")
    tally.expect("root is a file", world.start(root).end(), (1,), str(root))
    root.unlink()
    for name in ("work", "artefacts", "store.db", "ledger.db", "lock"):
        way = root / ".store" / name
        shutil.rmtree(root, ignore_errors=True)
        way.parent.mkdir(parents=True)
        way.write_text("a file") if name in ("work", "artefacts") else way.mkdir()
        tally.expect(f"{name} is in the way", world.start(root).end(), (1,), str(root))
        way.unlink() if way.is_file() else way.rmdir()
    (root / "small").write_text("a file")
    tally.expect("the results' folder is a file", world.start(root).end(), (1,), "small")
    (root / "small").unlink()
    same, why = world.same(root)
    tally.add("in the way", same=same, why=why)


def deleted(world: World, tally: Tally) -> None:
    """Folders of the store deleted after kills and while a run is using them."""
    for kind, victim in (("work", "work"), ("artefacts", "artefacts"), ("store", "")):
        root = world.folder / f"deleted-{kind}"
        for phase in ("training", "evaluation"):
            command = world.start(root)
            command.wait_for(world.begins[phase])
            command.process.kill()
            command.end()
            shutil.rmtree(root / ".store" / victim)
        same, why = world.same(root)
        tally.add(f"{kind} deleted after a kill", same=same, why=why)
    root = world.folder / "deleted-under-way"
    for phase in PHASES:
        command = world.start(root)
        command.wait_for(world.begins[phase])
        for path in (root / ".store" / "work").iterdir():
            shutil.rmtree(path, ignore_errors=True)
        ended = command.end()
        if ended.code != 0:  # what was deleted may not have been needed any more
            tally.expect(f"work deleted in {phase}", ended, (1,))
    same, why = world.same(root)
    tally.add("work deleted under way", same=same, why=why)


def databases(world: World, tally: Tally) -> None:
    """Databases cut, emptied, overwritten, and without their write-ahead log."""

    def cut(path: Path) -> None:
        os.truncate(path, path.stat().st_size // 2)

    def scribbled(path: Path) -> None:
        with path.open("r+b") as file:
            file.seek(path.stat().st_size // 3)
            file.write(b"\xa5" * 5000)

    harms: dict[str, Callable[[Path], None]] = {
        "cut": cut,
        "emptied": lambda path: os.truncate(path, 0),
        "scribbled": scribbled,
        "no database": lambda path: path.write_bytes(b"no database" * 1000) and None,
        "wal lost": lambda _path: None,
    }
    for name in ("store.db", "ledger.db"):
        for harm, do in harms.items():
            root = world.folder / "database"
            command = world.start(root)
            command.wait_for(world.begins["export"])
            command.process.kill()
            command.end()
            path = root / ".store" / name
            if harm != "wal lost":
                small.settle(path)
            for ending in ("-wal", "-shm"):
                path.with_name(name + ending).unlink(missing_ok=True)
            do(path)
            ended = world.start(root).end()
            if ended.code != 0:
                tally.expect(f"{name} {harm}", ended, (1,), name)
                path.rename(path.with_name("moved away"))  # as the line says
            same, why = world.same(root)
            tally.add(f"{name} {harm}", same=same, why=why)
            shutil.rmtree(root)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--worlds", default="llama,smollm2", help="llama, smollm2, words: whose runs are killed")
    parser.add_argument("--faults", default="signals,full_disk,permission,deleted,databases", help="empty for none")
    parser.add_argument("--seed", type=int, default=1)
    wanted = parser.parse_args()
    draw, tally, started = random.Random(wanted.seed), Tally(), time.monotonic()
    faults: dict[str, Callable[[World], None]] = {
        "signals": lambda world: signals(world, draw, tally),
        "full_disk": lambda world: full_disk(world, tally),
        "permission": lambda world: permission(world, tally),
        "deleted": lambda world: deleted(world, tally),
        "databases": lambda world: databases(world, tally),
    }
    names = wanted.worlds.split(",")
    with tempfile.TemporaryDirectory() as folder:
        worlds = [World(name, Path(folder) / name) for name in names]
        for i, world in enumerate(worlds):
            kills(world, wanted.kills // len(worlds) + (i < wanted.kills % len(worlds)), draw, tally)
        listed = [fault for fault in wanted.faults.split(",") if fault]
        if listed:
            small_world = next((w for w in worlds if w.name == "words"), None) or World("words", Path(folder) / "words")
        for fault in listed:  # what does not depend on the student meets the quickest run
            faults[fault](worlds[0] if fault in ("signals", "full_disk") else small_world)
    same, runs = (sum(count[i] for count in tally.by_kind.values()) for i in (0, 1))
    print(
        json.dumps(
            {
                "same_hashes": same / max(runs, 1),
                "runs": runs,
                "kills": sum(tally.kills.values()),
                "kills_by_phase": tally.kills,
                "kills_with_checkpoint": tally.resumed_trainings,
                "unclear": tally.unclear,
                "by_kind": {kind: same / runs for kind, (same, runs) in tally.by_kind.items()},
                "seconds": round(time.monotonic() - started, 1),
            }
        )
    )
    sys.exit(0 if same == runs and not tally.unclear else 1)


if __name__ == "__main__":
    main()
