from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from pathlib import Path

import pytest

from aasut.errors import AasutError
from aasut.gateway import keyring
from aasut.gateway.keys import Keys
from aasut.gateway.net import check_public, is_loopback, tls
from aasut.gateway.settings import Listen


def openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a.crt and a.key, b.crt and b.key, and a.key under a password as locked.key."""
    folder = tmp_path_factory.mktemp("pem")
    for name in "ab":
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                "-keyout", f"{folder}/{name}.key", "-out", f"{folder}/{name}.crt", "-subj", "/CN=localhost",
                "-addext", "subjectAltName=DNS:localhost")  # fmt: skip
    openssl("pkey", "-in", f"{folder}/a.key", "-aes256", "-passout", "pass:x", "-out", f"{folder}/locked.key")
    return folder


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost", "::ffff:127.0.0.1"])
def test_this_machine_alone_needs_no_key(tmp_path: Path, host: str) -> None:
    assert is_loopback(host)
    check_public(host, Keys.load(tmp_path))


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "", "192.168.1.2", "8.8.8.8", "::ffff:10.0.0.1", "no.such.name.invalid", "a" * 300]
)
def test_another_address_needs_a_key(tmp_path: Path, host: str) -> None:
    with pytest.raises(AasutError, match="holds no key") as caught:
        check_public(host, Keys.load(tmp_path))
    assert "\n" not in str(caught.value)
    assert "aasut gateway keys add" in str(caught.value)
    keyring.add(tmp_path, "shop", 0.0)
    check_public(host, Keys.load(tmp_path))


def test_without_files_there_is_no_tls() -> None:
    assert tls(Listen()) is None


def test_the_files_serve_https(pem: Path) -> None:
    context = tls(Listen(tls_certificate=str(pem / "a.crt"), tls_key=str(pem / "a.key")))
    assert context is not None
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            plain, _ = listener.accept()
            with context.wrap_socket(plain, server_side=True) as one:
                one.sendall(one.recv(100))

        thread = threading.Thread(target=serve)
        thread.start()
        client = ssl.create_default_context(cafile=str(pem / "a.crt"))
        with (
            socket.create_connection(listener.getsockname()) as plain,
            client.wrap_socket(plain, server_hostname="localhost") as one,
        ):
            one.sendall(b"hello")
            assert one.recv(100) == b"hello"
            assert one.version() in ("TLSv1.2", "TLSv1.3")
        thread.join()


@pytest.mark.parametrize(
    ("certificate", "key", "said"),
    [
        ("none.crt", "a.key", "listen.tls_certificate: there is no file"),
        ("a.crt", "none.key", "listen.tls_key: there is no file"),
        ("a.crt", ".", "listen.tls_key: .* cannot be read: Is a directory"),
        ("a.crt", "b.key", "b.key is not the key of listen.tls_certificate"),
        ("a.key", "a.crt", "listen.tls_certificate: .* holds no PEM block of a certificate"),
        ("a.crt", "a.crt", "listen.tls_key: .* holds no PEM block of a private key"),
        ("a.crt", "locked.key", "locked.key is encrypted"),
        ("cut.crt", "a.key", "cannot be used"),
        ("binary", "a.key", "holds no PEM block"),
    ],
)
def test_files_that_do_not_serve_are_one_clear_line(pem: Path, certificate: str, key: str, said: str) -> None:
    shutil.copy(pem / "a.crt", pem / "cut.crt")
    text = (pem / "cut.crt").read_text()
    (pem / "cut.crt").write_text(text[: len(text) // 2] + "\n-----END CERTIFICATE-----\n")
    (pem / "binary").write_bytes(bytes(range(256)))
    with pytest.raises(AasutError, match=said) as caught:
        tls(Listen(tls_certificate=str(pem / certificate), tls_key=str(pem / key)))
    assert "\n" not in str(caught.value)
