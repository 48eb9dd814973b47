"""Tests of serve.server: addresses that can and cannot be had. Serving and signals are tested with the API."""

from __future__ import annotations

import pytest

from aasut.errors import AasutError
from aasut.serve.server import listen


def test_a_free_port_is_taken_and_a_taken_one_refused() -> None:
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        assert port > 0
        with pytest.raises(AasutError, match=f"Port {port} on 127.0.0.1 is taken. Stop what listens there"):
            listen("127.0.0.1", port)


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_that_does_not_exist(port: int) -> None:
    with pytest.raises(AasutError, match=f"There is no port {port}"):
        listen("127.0.0.1", port)


def test_an_address_of_another_machine() -> None:
    with pytest.raises(AasutError, match=r"Cannot listen on 192\.0\.2\.1"):
        listen("192.0.2.1", 0)
