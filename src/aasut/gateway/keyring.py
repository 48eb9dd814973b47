"""Changing the virtual keys of a gateway's folder; a gateway that runs takes the change up by itself."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from aasut import lock
from aasut.errors import AasutError, StoreError
from aasut.files import disk_errors
from aasut.gateway.keys import FILE, ID_LENGTH, PREFIX, Key, KeyFile, Secret, hashed, read

_WAIT_S = 10.0  # for another command that changes the file


def add(folder: Path, name: str, now: float, **limits: Any) -> tuple[str, Key]:
    """A new key and its secret, which is kept nowhere. `limits` are fields of Key; None ones are left out.

    Raises AasutError where the name is taken or a limit is none, StoreError where the file cannot be changed.
    """
    clear, secret = new_secret()
    given = {field: value for field, value in limits.items() if value is not None}
    try:
        key = Key.model_validate({"name": name, "secrets": [secret], "created": now, **given})
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        flag = str(problem["loc"][0]).replace("_", "-")
        what = "The name" if flag == "name" else f"--{flag}"
        raise AasutError(f"{what} {problem['input']!r} cannot be: {problem['msg']}.", "Give another one.") from None
    with changed(folder) as keys:
        if (there := next((one for one in keys if one.name == name), None)) is not None:
            state = there.state(now)
            raise AasutError(
                f"There is a key {name} already{'' if state == 'active' else f', {state}'}.",
                "Choose another name, or give it a new secret with rotate." if state == "active" else "Choose another.",
            )
        keys.append(key)
    return clear, key


def revoke(folder: Path, name: str) -> Key:
    """Close a key for good. It stays in the file, so that its name and its spending are not taken by another."""
    with changed(folder) as keys:
        at = _place(keys, name)
        keys[at] = keys[at].model_copy(update={"disabled": True})
        return keys[at]


def rotate(folder: Path, name: str, now: float, keep_s: float = 0.0) -> tuple[str, Key]:
    """A new secret for a key; the one before opens for `keep_s` seconds more. Raises AasutError for a closed key."""
    clear, secret = new_secret()
    with changed(folder) as keys:
        at = _place(keys, name)
        if (state := keys[at].state(now)) != "active":
            raise AasutError(f"The key {name} is {state}.", "Add a new one.")
        # No earlier secret outlives the one before: a rotation that keeps nothing closes them all.
        until = now + keep_s
        ends = [until if one.until is None else min(one.until, until) for one in keys[at].secrets]
        kept = zip(keys[at].secrets, ends, strict=True)
        still = [one.model_copy(update={"until": end}) for one, end in kept if end > now]
        keys[at] = keys[at].model_copy(update={"secrets": (*still, secret)})
        return clear, keys[at]


def listed(folder: Path) -> tuple[Key, ...]:
    """The keys of a folder, in the order of their making. Raises StoreError where the file is damaged."""
    try:
        return read(folder / FILE).keys
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise StoreError(f"{folder / FILE} cannot be read: {error.strerror}.", "Check its permissions.") from None


def _place(keys: list[Key], name: str) -> int:
    names = [key.name for key in keys]
    if name not in names:
        raise AasutError(f"There is no key {name!r}.", f"There are: {', '.join(names)}." if names else "Add one first.")
    return names.index(name)


def new_secret() -> tuple[str, Secret]:
    """A fresh secret in clear, to be shown once, and what is kept of it."""
    id_ = secrets.token_hex(ID_LENGTH // 2)
    clear = f"{PREFIX}{id_}{secrets.token_urlsafe(32)}"
    return clear, Secret(id=id_, sha256=hashed(clear))


@contextmanager
def changed(folder: Path) -> Iterator[list[Key]]:
    """The keys of `folder` as a list to change, written back in the end; one process at a time.

    The file is whole at any moment, and only its owner may read it. Raises StoreError where it is damaged or cannot
    be written.
    """
    path = folder / FILE
    with disk_errors(path):
        folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder / "keys.lock"):
        keys = list(listed(folder))
        yield keys
        _write(path, keys)


def _write(path: Path, keys: Iterable[Key]) -> None:
    data = KeyFile(keys=tuple(keys)).model_dump_json(indent=1, exclude_none=True).encode()
    partial = path.with_name(path.name + ".partial")
    with disk_errors(path):
        partial.unlink(missing_ok=True)  # its mode would stay
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data + b"\n")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # a revocation must not come undone
        finally:
            os.close(folder)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    deadline = time.monotonic() + _WAIT_S
    while (held := lock.take(path)) is None:
        if time.monotonic() > deadline:
            raise StoreError(
                f"{lock.holder(path) or 'Another process'} is changing the keys.", "Try again in a moment."
            )
    with held:
        yield
