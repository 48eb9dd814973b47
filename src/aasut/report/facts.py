"""The content of report.json, gathered from a run's artefacts: plain data and nothing measured here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from aasut.economics import worth
from aasut.economics.breakeven import break_even
from aasut.economics.cost import api_usd_per_million_requests, cost_sentence, usd_per_million_requests
from aasut.economics.returns import Difference
from aasut.evaluate import certified, comparisons, verdict
from aasut.evaluate.paired import recommend
from aasut.recipe import Recipe
from aasut.report import money
from aasut.store import TIMINGS, Artefact
from aasut.student.method import labels
from aasut.types import Example

Plain = dict[str, Any]


def gather(
    recipe: Recipe, scale: str, artefacts: Mapping[str, Artefact], test: list[Example], more: Mapping[str, Any]
) -> Plain:
    """All facts of a finished run. `artefacts` by stage; `more`: lineage, test_opened, margin_recorded, licences,
    and `traffic`, what was taken of a gateway's, None for none."""
    task = recipe.task.build()
    evaluated = artefacts["evaluate"]
    predicted = json.loads((evaluated.path / "predictions.json").read_text(encoding="utf-8"))
    answers = verdict.Answers.of(task, test, predicted)
    confidence = recipe.evaluate.confidence
    speeds = json.loads((evaluated.path / TIMINGS).read_text(encoding="utf-8"))
    names = _names(recipe)
    results = {
        model: verdict.result(answers, model, confidence)
        | _size_and_speed(recipe, evaluated.facts, speeds, model)
        | {"name": names[model]}
        for model in answers.predicted
    }
    licences = list(more["licences"])
    exported = artefacts["export"].facts
    results["teacher"] |= {"licence": licences[0]["licence"]} | _remote(recipe, evaluated.facts["teacher_tokens"])
    results["student"] |= _served(recipe, exported) | {"engine": evaluated.facts["engines"]["student"]}
    found_verdict = verdict.against_teacher(answers, "student", recipe.evaluate.margin, confidence)
    if "student_q8_0" in results:
        q8_0 = verdict.against_teacher(answers, "student_q8_0", recipe.evaluate.margin, confidence)
        results["student_q8_0"]["verdict"] = q8_0.as_dict()
    against_linear = verdict.against_linear(answers, confidence)
    data = artefacts["data"].facts
    facts: Plain = {
        "name": recipe.name,
        "scale": scale,
        "task": _task(recipe),
        "data": {key: data[key] for key in ("counts", "groups")}
        | {"answers": {f"{a} in {s}": n for s, given in data["answers"].items() for a, n in given.items()}},
        "teacher": results.pop("teacher"),
        "student": results.pop("student"),
        "baselines": results,
        "verdict": found_verdict.as_dict(),
        "metrics": comparisons.table(answers, recipe.metrics(), recipe.evaluate.margin, confidence, recipe.seed),
        "against_linear": None if against_linear is None else against_linear.as_dict() | _interval(against_linear),
        "recommendation": recommend(found_verdict, against_linear).as_dict(),
        "training": _training(artefacts),
        "panel": artefacts["choose"].facts | artefacts["label"].facts,
        "conservation": {
            (f"general {what}" if stage == "general" else what): rows
            for stage, artefact in artefacts.items()
            for what, rows in artefact.facts.get("conservation", {}).items()
        }
        | ({"traffic": more["traffic"]["conservation"]} if more.get("traffic") else {}),
        "ledger": _ledger({name: one for name, one in artefacts.items() if name != "judge"}),  # the teacher's
        "judged": _judged(artefacts.get("judge")),
        "test_opened": more["test_opened"],
        "margin_recorded": more["margin_recorded"] and asdict(more["margin_recorded"]),
        "licences": licences,
        "lineage": more["lineage"],
        "disagreements": verdict.disagreements(answers),
        "round_trip": exported.get("round_trip"),
        "seconds": {name: round(artefact.seconds, 1) for name, artefact in artefacts.items()},
    } | certified.shown(answers, predicted, artefacts.get("certify"))
    plan = artefacts.get("plan")
    facts["learning_curve"] = None if plan is None else worth.facts_of(plan, confidence)
    deferred = _deferred(answers, predicted, facts["certificate"])
    facts["economics"] = economics(recipe, facts, evaluated.facts["task_prompt_tokens"], deferred)
    return facts


def _deferred(
    answers: verdict.Answers, predicted: Mapping[str, Any], certificate: Plain | None
) -> tuple[float, Difference] | None:
    """What `economics` takes from a certificate."""
    found = certified.deferring(answers, predicted, certificate)
    if found is None:
        return None
    share, pair = found
    return share, Difference(pair.difference, pair.lower, pair.upper, pair.confidence)


def _served(recipe: Recipe, exported: Plain) -> Plain:
    """What is known of the student's file that is evaluated and served."""
    return {
        "licence": exported["licence"],
        "file": exported["served"],
        "file_sha256": exported["files"][exported["served"]],
        "format": "GGUF, bfloat16" if exported["served"].endswith(".gguf") else "safetensors",
        "student_prompt": "".join(m.content for m in recipe.student_template().messages),
    }


def _task(recipe: Recipe) -> Plain:
    task = recipe.task.build()
    return {
        "kind": recipe.task.kind,
        "answers": list(task.answers),
        "schema": json.loads(task.schema) if task.schema and not task.tools else None,
        "tools": json.loads(task.tools) if task.tools else None,
        "max_tokens": task.max_tokens,
        "prompt": _text(recipe),
    }


def economics(
    recipe: Recipe, facts: Plain, task_prompt_tokens: float, deferred: tuple[float, Difference] | None = None
) -> Plain:
    """Costs, break-even, return and what they hang on, from measured speeds and declared prices.

    `task_prompt_tokens`: mean length of the application's own prompt, for an API whose recipe does not say.
    `deferred`: share of requests that a certificate defers, and student minus teacher on the others.
    """
    declared = recipe.economics
    teacher, student = facts["teacher"], facts["student"]
    case, difference = money.case(recipe, facts, deferred)
    owning = case.owning()
    found = [case.break_even()]
    if declared.api is not None:
        api = declared.api
        tokens = api.input_tokens or task_prompt_tokens
        price = api_usd_per_million_requests(
            tokens, api.output_tokens, api.usd_per_million_input_tokens, api.usd_per_million_output_tokens
        )
        found.append(break_even(api.name, price, owning))
    own = student["usd_per_million_requests"]
    with_cache = teacher["usd_per_million_requests"] / own if own > 0 else None
    slow_teacher, slow_student = teacher["requests_per_s_no_prefix_cache"], student["requests_per_s_no_prefix_cache"]
    without = slow_student / slow_teacher if slow_teacher and slow_student else None
    return {
        "usd_per_machine_hour": declared.usd_per_machine_hour,
        "utilisation": declared.utilisation,
        "machines": declared.machines,
        "deferred_share": case.deferred_share,
        "cheaper_than_teacher": with_cache,
        "cheaper_than_teacher_no_prefix_cache": without,
        "labelling_usd": case.labelling_usd,
        "human_answers_usd": money.human_answers(facts) * declared.usd_per_human_answer,
        "training_usd": case.training_usd,
        "sentence": cost_sentence(student["usd_per_million_requests"], teacher["usd_per_million_requests"], without),
        "break_even": [one.as_dict() for one in found],
        **money.weighed(recipe, facts, case, difference),
    }


def _size_and_speed(recipe: Recipe, evaluated: Plain, speeds: Plain, model: str) -> Plain:
    parameters = evaluated["parameters"].get(model)
    cached, uncached = speeds["cached"].get(model), speeds["uncached"].get(model)
    declared = recipe.economics
    return {
        "parameters_total": parameters,
        "parameters_active": parameters,
        "requests_per_s": cached and cached["requests_per_s"],
        "requests_per_s_no_prefix_cache": uncached and uncached["requests_per_s"],
        "requests_per_s_repetitions": list(cached.get("repetitions", ())) if cached else [],
        "tokens_per_request": cached and cached["tokens_per_request"],
        "tokens_per_request_computed": cached and cached["computed_per_request"],
        "usd_per_million_requests": cached
        and usd_per_million_requests(declared.usd_per_machine_hour, cached["requests_per_s"], declared.utilisation),
    }


def _remote(recipe: Recipe, tokens: Mapping[str, float]) -> Plain:
    """A teacher behind an API costs its tokens' price; a scripted one costs nothing. Neither has a speed of ours."""
    if recipe.teacher.model is not None:
        return {}
    endpoint = recipe.teacher.endpoint
    prices = (endpoint.usd_per_million_input_tokens, endpoint.usd_per_million_output_tokens) if endpoint else (0.0, 0.0)
    return {
        "tokens_per_request": tokens["prompt"] + tokens["completion"],
        "usd_per_million_requests": api_usd_per_million_requests(tokens["prompt"], tokens["completion"], *prices),
    }


def _names(recipe: Recipe) -> dict[str, str]:
    wanted = recipe.teacher
    source = wanted.model.address if wanted.model else wanted.endpoint.model if wanted.endpoint else "scripted"
    start = recipe.student.model.address if recipe.student.model else "linear"
    return {
        "teacher": _short(source),
        "student": f"{_short(start)}, {recipe.student.initialise}",
        "student_q8_0": f"{_short(start)}, Q8_0",
        "linear": "TF-IDF + logistic regression on the teacher's answers",
        "untrained": f"{_short(start)}, untrained",
        "majority": "always the likeliest answer",
    }


def _short(address: str) -> str:
    return address.split("#")[0].split(",")[0].split(":", 1)[-1]


def _text(recipe: Recipe) -> str:
    return "\n\n".join(message.content for message in recipe.task.build().prompt.messages)


def _interval(pair: Any) -> Plain:
    return {"ci": [pair.lower, pair.upper]}


def _training(artefacts: Mapping[str, Artefact]) -> Plain:
    trained, healed = artefacts["train"], artefacts.get("heal")
    return (
        {"method": labels().as_dict()}
        | {**trained.facts, "seconds": round(trained.seconds, 1)}
        | {
            "initialise": artefacts["initialise"].facts if "initialise" in artefacts else None,
            "logits": artefacts["logits"].facts if "logits" in artefacts else None,
        }
        | _preference(artefacts)
        | ({"heal": healed.facts | {"seconds": round(healed.seconds, 1)}} if healed is not None else {})
    )


def _preference(artefacts: Mapping[str, Artefact]) -> Plain:
    """What a student learned of which of its own answers the teacher prefers."""
    if "prefer" not in artefacts:
        return {}
    ranked = {key: artefacts["rank"].facts[key] for key in ("always_first", "conservation")}
    return {"preference": {**artefacts["prefer"].facts, "ranked": ranked}}


def _judged(judge: Artefact | None) -> Plain | None:
    """What judges said of the student's answers, and what asking them took."""
    return None if judge is None else {**judge.facts["judged"], "ledger": judge.facts["calls"]}


def _ledger(artefacts: Mapping[str, Artefact]) -> Plain:
    total = {"calls_made": 0, "calls_reused": 0, "calls_recorded": 0, "usd_spent": 0.0, "usd_reused": 0.0}
    for artefact in artefacts.values():
        for key, value in artefact.facts.get("calls", {}).items():
            total[key] += value
    return total
