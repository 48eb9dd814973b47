"""`aasut runs tree`: what a run was made from, as a tree in which every part stands once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.text import Text
from rich.tree import Tree

from aasut.report.report import duration
from aasut.runs.catalogue import Catalogue, amount, open_at, size

Plain = dict[str, Any]
STAGE, INDENT = 10, 4  # columns: longest name of a stage, and what rich puts before each level


def gather(root: Path, word: str) -> Plain:
    """The run's report with what it was made from under `from`, nested.

    A part made from two others, of which one was made from the other, hangs below the later one;
    `made_from` names all. A part that stands in the tree already is named there with `shown_above`.
    """
    store, root, word = open_at(root, word)
    with store:
        catalogue = Catalogue(root, store)
        run = catalogue.find(word)
        return {"run": catalogue.label(run), **_node(catalogue, run.report, set())}


def _node(catalogue: Catalogue, fingerprint: str, shown: set[str]) -> Plain:
    entry = catalogue.entries.get(fingerprint)
    if entry is None:
        return {"stage": None, "fingerprint": fingerprint, "gone": True, "from": []}
    plain: Plain = {"stage": entry.stage, "fingerprint": fingerprint}
    if fingerprint in shown:
        return {**plain, "shown_above": True, "from": []}
    shown.add(fingerprint)
    direct = [p for p in entry.parents if not _behind_another(catalogue, p, entry.parents)]
    folder = catalogue.path(fingerprint)
    return {
        **plain,
        "seconds": entry.seconds,
        "bytes": size(folder) if folder.is_dir() else None,
        "shared": fingerprint in catalogue.shared,
        "made_from": list(entry.parents),
        "from": [_node(catalogue, parent, shown) for parent in reversed(direct)],
    }


def _behind_another(catalogue: Catalogue, parent: str, parents: tuple[str, ...]) -> bool:
    """Was another one of these parents made from this one?"""
    return any(parent in catalogue.ancestry([other]) for other in parents if other != parent)


def render(found: Plain) -> Tree:
    """The tree for a terminal."""
    deepest = _depth(found)
    tree = Tree(_line(found, deepest))
    _hang(tree, found, deepest - 1)
    return tree


def _depth(node: Plain) -> int:
    return max((1 + _depth(parent) for parent in node["from"]), default=0)


def _hang(tree: Tree, node: Plain, below: int) -> None:
    for parent in node["from"]:
        _hang(tree.add(_line(parent, below)), parent, below - 1)


def _line(node: Plain, below: int) -> Text:
    """A part; names are padded by the levels below, so that what follows stands in columns."""
    name = Text(f"{node['stage'] or '?':<{STAGE + below * INDENT}} ")
    name += Text(node["fingerprint"], style="dim")
    if node.get("gone"):
        return name + Text("  there is no record of it", style="red")
    if node.get("shown_above"):
        return name + Text("  see above", style="dim")
    room = amount(node["bytes"]) if node["bytes"] is not None else "its folder is gone"
    shared = Text("  shared with other runs", style="cyan") if node["shared"] else Text("")
    return name + Text(f"  {room:>8}  {duration(node['seconds']):>8}") + shared
