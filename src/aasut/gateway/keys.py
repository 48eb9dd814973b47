"""Virtual keys: who may use the gateway, and how much. Hashes stand in `keys.json`, secrets nowhere.

A secret is `aasut-`, 12 hexadecimal digits that name it, and 43 letters that hold 256 random bits. The digits find the
one hash that a secret is compared with, in constant time; a secret whose digits are unknown is hashed and compared all
the same. So time tells nothing about the random part. SHA-256 is enough at rest: a slow hash protects passwords, which
can be guessed; 256 random bits cannot, and each request pays for the hash.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from aasut.errors import AasutError, StoreError
from aasut.recipe.section import NonNegative, Positive, Section
from aasut.serve.protocol import Refusal

FILE = "keys.json"
PREFIX = "aasut-"
SECRET = re.compile(r"aasut-[0-9a-f]{12}[A-Za-z0-9_-]{43}")
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
ID_LENGTH, LENGTH = 12, 61  # characters
_NOBODY = "0" * 64  # the hash that secrets with an unknown id are compared with

Moment = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Usd = Annotated[NonNegative, Field(allow_inf_nan=False)]


class Secret(Section):
    """One secret of a key: its id, the SHA-256 of the whole of it, and until when it opens, seconds since 1970."""

    id: str = Field(pattern=r"^[0-9a-f]{12}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    until: Moment | None = None


class Key(Section):
    """A virtual key. Moments are seconds since 1970; a limit of None is none. Days and months are of UTC."""

    name: str = Field(pattern=NAME)
    secrets: tuple[Secret, ...] = Field(min_length=1)
    created: Moment
    expires: Moment | None = None
    models: tuple[Annotated[str, Field(min_length=1)], ...] = Field(default=("*",), min_length=1)
    requests_per_minute: Positive | None = None
    tokens_per_minute: Positive | None = None
    usd_per_day: Usd | None = None
    usd_per_month: Usd | None = None
    concurrency: Positive | None = None
    disabled: bool = False

    def state(self, now: float) -> Literal["active", "revoked", "expired"]:
        if self.disabled:
            return "revoked"
        return "expired" if self.expires is not None and now >= self.expires else "active"

    def allows(self, model: str) -> bool:
        """Whether the key may use a model; `*` and `?` in its patterns stand for any text and any character."""
        return any(fnmatchcase(model, pattern) for pattern in self.models)


class KeyFile(Section):
    """What keys.json holds."""

    version: Literal[1] = 1
    keys: tuple[Key, ...] = ()

    @model_validator(mode="after")
    def _once(self) -> KeyFile:
        for what in ([key.name for key in self.keys], [one.id for key in self.keys for one in key.secrets]):
            if len(set(what)) < len(what):
                raise ValueError("two keys have one name or one id")
        return self


class Keys:
    """The keys of a gateway's folder, for a running gateway. `wanted`: requests need one.

    Once there was a key, requests need one for as long as the gateway runs: a file that is damaged, empty or gone
    changes nothing, and `trouble` says so.
    """

    def __init__(self, path: Path, now: Callable[[], float] = time.time) -> None:
        self.path, self.now = path, now
        self.keys: tuple[Key, ...] = ()
        self.trouble = ""
        self._by_id: dict[str, tuple[str, float | None, Key]] = {}
        self._seen: tuple[int, int, int] | None = None

    @classmethod
    def load(cls, folder: Path, now: Callable[[], float] = time.time) -> Keys:
        """The keys in `folder`, none where it has no file of them. Raises StoreError where that is damaged."""
        keys = cls(folder / FILE, now)
        keys.refresh()
        if keys.trouble:
            raise StoreError(keys.trouble, "Put it right, or move it away and add the keys anew.")
        return keys

    @property
    def wanted(self) -> bool:
        return bool(self.keys)

    def refresh(self) -> bool:
        """Take up a changed file; True where it changed the keys. Call it each second: it costs one look at the file.

        Never raises: what is wrong stands in `trouble`, "" where all is well, and the keys stay as they were.
        """
        try:
            status = self.path.stat()
            seen: tuple[int, int, int] | None = (status.st_ino, status.st_mtime_ns, status.st_size)
            if seen == self._seen:
                return False
            found = read(self.path).keys
        except FileNotFoundError:
            seen, found = None, ()
        except (AasutError, OSError) as error:
            self.trouble = error.message if isinstance(error, AasutError) else f"{self.path}: {error.strerror}."
            return False  # not taken as seen, so that it is looked at again
        self._seen = seen
        if self.keys and not found:
            self.trouble = f"{self.path} holds no key any more; the keys that were in it stay in force."
            return False
        self.trouble = ""
        changed = found != self.keys
        self.keys = found
        self._by_id = {one.id: (one.sha256, one.until, key) for key in found for one in key.secrets}
        return changed

    def find(self, authorization: str | None, api_key: str | None = None) -> Key | None:
        """The key whose secret a request's headers give, in constant time with respect to the secret, else None.

        `authorization` is that header, of the form `Bearer SECRET`; `api_key` is `api-key` or `x-api-key`, read where
        there is no bearer. Says nothing of whether the key has expired or was revoked.
        """
        secret = presented(authorization, api_key)
        if len(secret) != LENGTH:  # the length is no secret
            return None
        sha256, until, key = self._by_id.get(secret[len(PREFIX) : len(PREFIX) + ID_LENGTH], (_NOBODY, None, None))
        same = hmac.compare_digest(hashed(secret), sha256)
        return key if same and (until is None or self.now() < until) else None

    def identify(self, authorization: str | None, api_key: str | None = None) -> Key | None:
        """The key of a request, None where the gateway has no keys. Raises Refusal 401 where it gives no good one."""
        if not self.keys:
            return None
        key = self.find(authorization, api_key)
        if key is None and not presented(authorization, api_key):
            raise _unknown("You didn't provide an API key. Give it as 'Authorization: Bearer KEY'.")
        if key is None:
            raise _unknown("Incorrect API key provided.")
        if (refusal := closed(key, self.now())) is not None:
            raise refusal
        return key


def presented(authorization: str | None, api_key: str | None = None) -> str:
    """The secret in a request's headers, "" where there is none."""
    scheme, _, value = (authorization or "").strip().partition(" ")
    return value.strip() if scheme.lower() == "bearer" else (api_key or "").strip()


def closed(key: Key, now: float) -> Refusal | None:
    """A refusal 401 for a key that has expired or was revoked, else None."""
    state = key.state(now)
    if state == "active":
        return None
    return _unknown(f"This API key has {'expired' if state == 'expired' else 'been revoked'}.")


def _unknown(message: str) -> Refusal:
    return Refusal(message, status=401, code="invalid_api_key")


def hashed(secret: str) -> str:
    """SHA-256 of a secret, in hexadecimal digits."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def read(path: Path) -> KeyFile:
    """The keys of a file. Raises StoreError where it is damaged, OSError where it cannot be read."""
    try:
        return KeyFile.model_validate_json(path.read_bytes())
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, problem["loc"]))
        raise StoreError(f"{path} is damaged: {f'{where}: ' if where else ''}{problem['msg']}.") from None
