"""What must hold before the gateway listens: no public address without keys, and TLS files that fit."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from pathlib import Path

from aasut.errors import AasutError
from aasut.gateway.keys import Keys
from aasut.gateway.settings import Listen


def check_public(host: str, keys: Keys) -> None:
    """Refuse an address that other machines may reach while there are no keys. Raises AasutError."""
    if not keys.wanted and not is_loopback(host):
        raise AasutError(
            f"Other machines may reach {host or 'an empty host'}, and {keys.path} holds no key: everyone could spend.",
            "Add one with `aasut gateway keys add NAME`, or listen on 127.0.0.1.",
        )


def is_loopback(host: str) -> bool:
    """Whether an address, or every address that a name stands for, is this machine alone."""
    try:
        return _loopback(host)
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host or None, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        return False
    return bool(found) and all(_loopback(str(address[0])) for *_, address in found)


def _loopback(address: str) -> bool:
    """Raises ValueError for what is no address."""
    found = ipaddress.ip_address(address)
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (mapped or found).is_loopback


def tls(listen: Listen) -> ssl.SSLContext | None:
    """The context of https, None where it is not asked for. Raises AasutError for files that do not serve."""
    if listen.tls_certificate is None or listen.tls_key is None:
        return None
    chain = _pem("listen.tls_certificate", Path(listen.tls_certificate), "CERTIFICATE")
    key = _pem("listen.tls_key", Path(listen.tls_key), "PRIVATE KEY")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(chain, key, password=_no_password)
    except _Encrypted:
        raise AasutError(
            f"listen.tls_key {key} is encrypted.", "Take its password off with `openssl pkey`, and guard the file."
        ) from None
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise AasutError(
                f"listen.tls_key {key} is not the key of listen.tls_certificate {chain}.",
                "Give the two files that were made together; the server's own certificate stands first in the chain.",
            ) from None
        raise AasutError(
            f"listen.tls_certificate {chain} or listen.tls_key {key} cannot be used: {error.reason or error}.",
            "Give a PEM file of the chain and one of its private key.",
        ) from None
    return context


class _Encrypted(Exception):
    """A key asks for a password; without this, OpenSSL would ask the terminal."""


def _no_password() -> str:
    raise _Encrypted


def _pem(field: str, path: Path, kind: str) -> Path:
    """The path of a file that holds a PEM block of a kind. Raises AasutError where it does not."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        raise AasutError(f"{field}: there is no file {path}.", "Check the path.") from None
    except OSError as error:
        raise AasutError(f"{field}: {path} cannot be read: {error.strerror}.", "Check its permissions.") from None
    if "-----BEGIN" not in text or f"{kind}-----" not in text:
        raise AasutError(f"{field}: {path} holds no PEM block of a {kind.lower()}.", "Give a PEM file that does.")
    return path
