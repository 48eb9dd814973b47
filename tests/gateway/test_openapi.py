"""The description is true: schemathesis draws requests from it, and each answer of a real gateway is as described."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import jsonschema
import openai
import pytest
from asked import passing
from listening import Said, listening
from running import Running, gateway

from aasut.gateway import keyring, openapi
from aasut.teacher.faults import Fault

CHECKS = "status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance"
OURS = CHECKS + ",not_a_server_error"


def described(running: Running) -> Any:
    return running.get("/openapi.json")


def schemathesis(
    running: Running, folder: Path, checks: str, *more: str, examples: int = 0, status: int = 0,
    ranges: tuple[str, ...] = (),
) -> str:  # fmt: skip
    """Requests drawn from the gateway's own description, until an answer is not as it says; what was said of them.

    Without `examples`, only those that the description itself gives. Of the statuses that it names by their range,
    `ranges` stay; so the gateway's own have to be named one by one.
    """
    plain = described(running)
    for path in plain["paths"].values():
        for operation in path.values():
            for name in {"4XX", "5XX"} - set(ranges):
                operation["responses"].pop(name, None)
    file = folder / "openapi.json"
    file.write_text(json.dumps(plain))
    words = ["run", str(file), "--url", running.url.removesuffix("/v1"), "--checks", checks, *more]
    words += ["--phases", "examples,coverage,fuzzing" if examples else "examples", "--seed", "7", "--no-color"]
    words += ["--max-examples", str(examples)] if examples else []
    words += ["--suppress-health-check", "all", "--generation-database", "none"]
    main = "from schemathesis.cli import schemathesis; schemathesis()"
    ran = subprocess.run([sys.executable, "-c", main, *words], capture_output=True, text=True, cwd=folder)
    assert ran.returncode == status, ran.stdout[-6000:] + ran.stderr[-2000:]
    assert "8 selected" in ran.stdout
    return ran.stdout


def test_no_request_fails_through_the_gateways_fault(tmp_path: Path) -> None:
    with passing(tmp_path, flags=("--set", "listen.header_timeout_s=5")) as (running, server):
        schemathesis(running, tmp_path, OURS, examples=25)
        assert server.answered > 20  # not all were refused
        found = running.recorded(100)
        assert all(one.status < 500 and not one.fault.startswith("upstream_") for one in found)
        assert {one.path for one in found} >= {"/v1/chat/completions", "/v1/embeddings", "/v1/responses", "/v1/models"}
        assert "Traceback" not in "".join(running.said)
        assert running.get("/health")["status"] == "ok"


def test_with_keys_each_request_needs_one(tmp_path: Path) -> None:
    secret, _ = keyring.add(tmp_path / "traffic", "shop", 0.0)
    with passing(tmp_path) as (running, server):
        key = f"Authorization: Bearer {secret}"
        schemathesis(running, tmp_path, OURS + ",ignored_auth", "-H", key, examples=8)
        assert server.answered
        before = server.requests
        schemathesis(running, tmp_path, OURS)
        assert server.requests == before
        assert "Traceback" not in "".join(running.said)
    poor, _ = keyring.add(tmp_path / "limited" / "traffic", "poor", 0.0, models=["a*"])
    with passing(tmp_path / "limited") as (running, _):
        schemathesis(running, tmp_path, OURS, "-H", f"Authorization: Bearer {poor}")
        assert {one.status for one in running.recorded(3)} == {403}


def test_an_upstream_that_fails_is_described_too(tmp_path: Path) -> None:
    kinds = ("hang_up", "half", "half_chunked", "garbage", "html", "garbage_event")
    faults = [Fault(fault=kind, share=0.1) for kind in kinds]
    faults += [Fault(fault=429, share=0.1), Fault(fault=503, share=0.1), Fault(fault=401, share=0.1, body="<html>")]
    with passing(tmp_path, *faults) as (running, server):
        schemathesis(running, tmp_path, CHECKS, examples=15, ranges=("4XX",))
        ours = [one for one in running.recorded(50) if one.status >= 500]
        assert {one.fault for one in ours} <= {"", "upstream_cut", "upstream_garbage"}
        assert any(one.fault for one in ours)
        assert len(server.faults) == len(faults)
        assert "Traceback" not in "".join(running.said)


def test_every_refusal_is_openais_error_object(tmp_path: Path) -> None:
    error = {"$ref": "#/components/schemas/Error"}
    with gateway(tmp_path / "traffic", "--upstream", "http://127.0.0.1:9/v1") as running:
        plain = described(running)
        fits = jsonschema.Draft202012Validator(error | {"components": plain["components"]})
        for method, path, body, status in (
            ("GET", "/nowhere", None, 404), ("PUT", "/v1/models", None, 405), ("POST", "/health", None, 405),
            ("POST", "/v1/chat/completions", b"{", 400), ("POST", "/v1/chat/completions", b"{}", 502),
            ("GET", "/v1/models", None, 502),
        ):  # fmt: skip
            asked = urllib.request.Request(running.url.removesuffix("/v1") + path, body, method=method)
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(asked)
            assert caught.value.code == status
            fits.validate(json.load(caught.value))


def test_a_wrong_description_would_be_found(tmp_path: Path) -> None:
    with listening() as upstream, gateway(tmp_path / "traffic", "--upstream", upstream.url) as running:
        upstream.says = Said(501, body=b'{"error": {"message": "", "type": "", "param": null, "code": null}}')
        assert "501" in schemathesis(running, tmp_path, CHECKS, status=1)


def test_the_description_names_its_parts_and_openais_fields() -> None:
    for keyed in (False, True):
        plain = openapi.gateway(keyed=keyed)
        schemas = plain["components"]["schemas"]
        referred = {part.split('"')[0] for part in json.dumps(plain).split("#/components/schemas/")[1:]}
        assert referred <= set(schemas)
        for schema in schemas.values():
            jsonschema.Draft202012Validator.check_schema(schema)
        chat = plain["paths"]["/v1/chat/completions"]["post"]
        assert ("401" in chat["responses"], "security" in plain) == (keyed, keyed)
        assert plain["paths"]["/health"]["get"]["security"] == []
    sent = openai.types.chat.completion_create_params.CompletionCreateParamsBase.__annotations__
    assert set(sent) <= set(schemas["ChatRequest"]["properties"])
    sent = openai.types.responses.response_create_params.ResponseCreateParamsBase.__annotations__
    assert set(sent) >= set(schemas["ResponseRequest"]["properties"]) - {"stream"}
