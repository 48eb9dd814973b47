"""Requests that are not answered, as OpenAI's API says it."""

from __future__ import annotations


class Refusal(Exception):
    """A request that is not answered, with what OpenAI's error object says of it."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        param: str | None = None,
        code: str | None = None,
        kind: str = "invalid_request_error",
    ) -> None:
        super().__init__(message)
        self.status, self.code = status, code
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


UNKNOWN = "unsupported_parameter"  # a field that is not honoured at any value
UNSUPPORTED = "unsupported_value"


def failed() -> Refusal:
    """What a client learns of a fault of the server's own: only that it happened."""
    return Refusal("The server failed on this request.", status=500, kind="server_error", code="internal_error")
