from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from aasut.gateway.exchange import Audit, By, Decision, Exchange
from aasut.gateway.metrics import MODELS, OTHER, SERIES, Metrics, counted


def values(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample of the page, by its name and labels."""
    page = metrics.render().decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def value(metrics: Metrics, sample: str, **labels: str) -> float:
    return values(metrics)[sample, frozenset(labels.items())]


def answered(model: str = "m", by: By = "upstream", **more: Any) -> Exchange:
    return Exchange("/v1/chat/completions", model=model, by=by, **{"status": 200, "latency_s": 0.3, **more})


def test_a_request_is_counted_in_all_its_respects() -> None:
    metrics = Metrics("mistral_ai")
    one = answered("large", key="shop", prompt_tokens=100, completion_tokens=7, counted=True, usd=0.5,
                   first_byte_s=0.02, decision=Decision(reason="low score"))  # fmt: skip
    for _ in range(2):
        metrics.done(one, "chat", "", "large")
    asked = {"by": "upstream", "status": "200", "model": "large", "reason": "low score"}
    assert value(metrics, "aasut_gateway_requests_total", **asked) == 2
    assert value(metrics, "aasut_gateway_request_duration_seconds_sum", by="upstream") == 0.6
    assert value(metrics, "aasut_gateway_first_byte_seconds_bucket", by="upstream", le="0.02") == 2
    whose = {"by": "upstream", "model": "large", "key": "shop"}
    assert value(metrics, "aasut_gateway_tokens_total", type="prompt", **whose) == 200
    assert value(metrics, "aasut_gateway_tokens_total", type="completion", **whose) == 14
    assert value(metrics, "aasut_gateway_usd_total", model="large", key="shop") == 1.0
    gen_ai = {
        "gen_ai_operation_name": "chat",
        "gen_ai_provider_name": "mistral_ai",
        "gen_ai_request_model": "large",
    }
    assert value(metrics, "gen_ai_client_operation_duration_seconds_count", error_type="", **gen_ai) == 2
    assert value(metrics, "gen_ai_client_token_usage_sum", gen_ai_token_type="input", **gen_ai) == 200
    assert value(metrics, "gen_ai_client_token_usage_sum", gen_ai_token_type="output", **gen_ai) == 14


def test_the_students_answers_and_audits() -> None:
    metrics = Metrics()
    results: tuple[Audit, ...] = ("agreed", "agreed", "differed")
    for result in results:
        one = answered(by="student", saved_usd=0.25, decision=Decision(accepted=True, audit=result))
        metrics.done(one, "chat", "", "m")
    assert value(metrics, "aasut_gateway_audits_total", result="agreed") == 2
    assert value(metrics, "aasut_gateway_audits_total", result="differed") == 1
    assert value(metrics, "aasut_gateway_saved_usd_total", model="m", key="") == 0.75
    assert value(metrics, "aasut_gateway_requests_total", by="student", status="200", model="m", reason="") == 3


def test_what_is_asked_beside_a_request_is_paid_but_no_request() -> None:
    metrics = Metrics()
    metrics.done(answered(by="student"), "chat", "", "m")
    one = answered(beside="req_1", usd=0.5, prompt_tokens=9, counted=True, decision=Decision(audit="differed"))
    metrics.done(one, "chat", "", "m")
    found = values(metrics)
    assert [kept for (name, _), kept in found.items() if name == "aasut_gateway_requests_total"] == [1]
    assert [kept for (name, _), kept in found.items() if name == "aasut_gateway_request_duration_seconds_count"] == [1]
    assert value(metrics, "aasut_gateway_usd_total", model="m", key="") == 0.5
    assert value(metrics, "aasut_gateway_audits_total", result="differed") == 1


def test_faults_and_refusals() -> None:
    metrics = Metrics()
    metrics.done(answered(status=200, fault="client_gone"), "chat", "client_gone", "m")
    metrics.done(answered(by="gateway", status=429), "chat", "429", "m")
    metrics.done(answered(by="gateway", status=0), "chat", "no_answer", "")
    assert value(metrics, "aasut_gateway_faults_total", fault="client_gone") == 1
    assert value(metrics, "aasut_gateway_requests_total", by="gateway", status="429", model=OTHER, reason="") == 1
    assert value(metrics, "aasut_gateway_requests_total", by="gateway", status="none", model="", reason="") == 1


def test_tokens_that_were_only_estimated_are_no_usage() -> None:
    metrics = Metrics()
    metrics.done(answered(prompt_tokens=5), "chat", "", "m")
    assert not any(name.startswith("gen_ai_client_token_usage_") for name, _ in values(metrics))


@pytest.mark.parametrize("status", [400, 404, 200])
def test_names_that_clients_make_up_do_not_multiply_the_series(status: int) -> None:
    metrics = Metrics()
    metrics.done(answered("real"), "chat", "", "real")
    error = str(status) if status >= 400 else ""
    for number in range(5 * MODELS):
        metrics.done(answered(f"made-up-{number}", status=status), "chat", error, f"made-up-{number}")
    metrics.done(answered("real", status=500), "chat", "500", "real")
    models = {dict(labels)["model"] for name, labels in values(metrics) if name == "aasut_gateway_requests_total"}
    assert len(models) == (2 if error else MODELS + 1)
    assert {"real", OTHER} <= models
    assert value(metrics, "aasut_gateway_requests_total", by="upstream", status="500", model="real", reason="") == 1


def test_no_metric_has_more_series_than_its_bound() -> None:
    metrics = Metrics()
    for number in range(2 * SERIES):
        metrics.done(answered(decision=Decision(reason=str(number))), "chat", "", "m")
    found = [kept for (name, _), kept in values(metrics).items() if name == "aasut_gateway_requests_total"]
    assert len(found) == SERIES + 1
    assert sum(found) == 2 * SERIES


def test_totals_that_are_kept_elsewhere() -> None:
    metrics = Metrics()
    before = counted(metrics.recorder_lost, 0, 5)
    before = counted(metrics.recorder_lost, before, 5)
    assert value(metrics, "aasut_gateway_recorder_lost_total") == 5
    assert counted(metrics.recorder_lost, before, 3) == 3  # a new recorder has lost three
    assert value(metrics, "aasut_gateway_recorder_lost_total") == 8
