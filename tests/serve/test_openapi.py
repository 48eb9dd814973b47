"""The description is true: schemathesis draws requests from it, and each answer of a real server is as described."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from aasut.engine.scripted import ScriptedEngine
from aasut.prompts import PromptTemplate
from aasut.serve import openapi
from aasut.serve.student import ServedStudent
from aasut.tasks import Classify, Generate, Task, Tools
from served import serving

PROMPT = PromptTemplate.of("{text}")
WEATHER = {"type": "function", "function": {"name": "weather"}}
TASKS: dict[str, Task] = {
    "sorter": Classify(("no", "yes"), PROMPT),
    "writer": Generate(PROMPT, 9),
    "caller": Tools(PROMPT, 30, json.dumps([WEATHER])),
}
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


@pytest.fixture(scope="module", params=TASKS)
def served(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    engine = ScriptedEngine({"": '[{"name": "weather", "arguments": {}}]'}, context=60)
    with serving(ServedStudent(TASKS[request.param], PROMPT, engine, request.param, "0" * 64)) as port:
        yield request.param, port


def send(port: int, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path, None if body is None else json.dumps(body))
    response = connection.getresponse()
    found = json.loads(response.read())
    connection.close()
    return response.status, found


def test_requests_drawn_from_the_description_are_answered_as_it_says(served: tuple[str, int], tmp_path: Path) -> None:
    name, port = served
    _, plain = send(port, "GET", "/openapi.json")
    asked = plain["components"]["schemas"]["ChatRequest"]
    asked["properties"]["model"] = {"const": name}  # of any other value all would be refused
    asked["properties"]["messages"]["maxItems"] = 1
    if name == "caller":
        asked["properties"]["tools"] = {"const": [WEATHER]}
        asked["required"].append("tools")
    file = tmp_path / "openapi.json"
    file.write_text(json.dumps(plain))
    words = ["run", str(file), "--url", f"http://127.0.0.1:{port}", "--checks", CHECKS, "--max-examples", "25"]
    words += ["--phases", "coverage,fuzzing" if name == "caller" else "fuzzing"]
    words += ["--seed", "7", "--suppress-health-check", "all", "--no-color"]
    main = "from schemathesis.cli import schemathesis; schemathesis()"
    ran = subprocess.run([sys.executable, "-c", main, *words], capture_output=True, text=True, cwd=tmp_path)
    assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-2000:]
    assert "5 selected" in ran.stdout


def test_an_answer_fits_its_schema(served: tuple[str, int]) -> None:
    name, port = served
    body: dict[str, Any] = {"model": name, "messages": [{"role": "user", "content": "x"}], "n": 2, "logprobs": True}
    body |= {"tools": [WEATHER]} if name == "caller" else {}
    status, made = send(port, "POST", "/v1/chat/completions", body)
    assert status == 200
    plain = openapi.student()
    valid(plain, "ChatRequest", body)
    valid(plain, "ChatCompletion", made)
    status, error = send(port, "POST", "/v1/chat/completions", body | {"n": 0})
    assert status == 400
    valid(plain, "Error", error)
    with pytest.raises(jsonschema.ValidationError):
        valid(plain, "ChatRequest", body | {"n": 0})


def valid(plain: Any, name: str, value: Any) -> None:
    schema = {"$ref": f"#/components/schemas/{name}", "components": plain["components"]}
    jsonschema.Draft202012Validator(schema).validate(value)


def test_the_description_names_its_parts() -> None:
    plain = openapi.student()
    names = set(plain["components"]["schemas"])
    referred = {part.split('"')[0] for part in json.dumps(plain).split("#/components/schemas/")[1:]}
    assert referred <= names
    for schema in plain["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    assert plain["components"]["schemas"]["ChatRequest"]["properties"]["store"] == {"enum": [False, None]}
    assert plain["components"]["schemas"]["ChatRequest"]["properties"]["audio"] == {"enum": [None]}


def test_another_server_describes_itself_with_the_same_parts() -> None:
    paths = {"/v1/x": {"post": openapi.operation("X.", {"application/json": openapi.ref("Own")}, (401, 502), body={})}}
    plain = openapi.describe("gateway", paths, {"Own": {"type": "object"}}, keyed=True)
    assert plain["security"] == [{"key": []}]
    assert set(plain["paths"]["/v1/x"]["post"]["responses"]) == {"200", "401", "502"}
    assert {"Own", "Error"} <= set(plain["components"]["schemas"])
