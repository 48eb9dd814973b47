from __future__ import annotations

from aasut.serve.refusal import Refusal, failed


def test_a_refusal_is_openais_error_object() -> None:
    refusal = Refusal("No.", param="n", code="invalid_value")
    error = {"message": "No.", "type": "invalid_request_error", "param": "n", "code": "invalid_value"}
    assert (refusal.body, refusal.status, refusal.code, str(refusal)) == ({"error": error}, 400, "invalid_value", "No.")
    assert (failed().status, failed().body["error"]["type"]) == (500, "server_error")
