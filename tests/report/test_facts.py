"""What a finished run says of itself, held against the files that it left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

import pytest

import small_run
from aasut import pipeline
from aasut import recipe as recipes
from aasut.economics.returns import Difference
from aasut.export.manifest import StudentCard, content_hash
from aasut.progress import Progress
from aasut.report import facts as gathering

Facts = dict[str, Any]

TOP = {
    "name", "scale", "task", "data", "teacher", "student", "baselines", "verdict", "against_linear", "recommendation",
    "training", "panel", "conservation", "ledger", "test_opened", "licences", "lineage", "disagreements", "metrics",
    "margin_recorded", "certificate", "risk_coverage", "learning_curve", "judged", "round_trip", "seconds", "economics",
}  # fmt: skip
MODEL = {
    "name", "accuracy", "ci95", "design_effect", "macro_f1", "per_class", "confusion", "calibration_error",
    "reliability", "requests_per_s", "requests_per_s_no_prefix_cache", "tokens_per_request",
    "tokens_per_request_computed",
    "parameters_total", "parameters_active", "usd_per_million_requests",
}  # fmt: skip
VERDICT = {"result", "margin", "difference", "lower_bound", "upper_bound", "more_examples_needed", "sentence"}
ECONOMICS = {
    "usd_per_machine_hour", "utilisation", "cheaper_than_teacher", "cheaper_than_teacher_no_prefix_cache",
    "labelling_usd", "training_usd", "sentence", "break_even", "machines", "deferred_share", "human_answers_usd",
    "return", "tornado", "tornado_of", "hangs_on",
}  # fmt: skip


def no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def read(folder: Path) -> Facts:
    """report.json; numbers that are not finite, which JSON does not have, are refused."""
    return dict(json.loads((folder / "report.json").read_text(), parse_constant=no_number))


def token_recipe(model: Path) -> Facts:
    """A local teacher with shots and calibration, a student of the same random model, both on PyTorch."""
    address = {"address": f"file:{model}", "licence": "gemma"}
    local = {"engine": "torch", "precision": "float32"}
    teacher = local | {"model": address, "shots": 2, "candidates": 2, "committee": 2, "calibration": "prior"}
    student = {
        "model": {"address": f"file:{model}", "licence": "mit"}, "prompt": "Review: {text}\nSentiment:",
        "epochs": 2, "precision": "float32",
    }  # fmt: skip
    api = {"name": "an API", "usd_per_million_input_tokens": 1.0, "usd_per_million_output_tokens": 2.0}
    return small_run.recipe(
        teacher=teacher,
        student=student,
        export={"q8_0": False, "serve": "safetensors", "round_trip": 4} | local,
        economics={
            "api": api,
            "usd_per_machine_hour": 0.2,
            "utilisation": 0.25,
            "usd_per_human_answer": 0.01,
            "requests_per_month": 5_000_000,
            "usd_per_correct_answer": 1e-6,
            "ranges": {"months": [6, 24]},
        },
    )


@pytest.fixture(scope="module")
def folders(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two runs at CI scale: a student with tokens, and a linear one."""
    found = {}
    for kind, plain in (("tokens", token_recipe(tiny_llama)), ("linear", None)):
        base = tmp_path_factory.mktemp(kind)
        recipe = recipes.load(small_run.write_recipe(base, plain, rows=240))
        found[kind] = pipeline.run(recipe, base, base / "runs", Progress(quiet=True), "ci").folder
    return found


@pytest.fixture(params=["tokens", "linear"])
def run(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Path:
    return folders[str(request.param)]


def artefact(run: Path, stage: str) -> Path:
    """Where the store keeps a stage's files."""
    entry = next(entry for entry in read(run)["lineage"] if entry["stage"] == stage)
    return run.parent / ".store" / "artefacts" / str(entry["fingerprint"])


def test_everything_is_there_and_finite(run: Path) -> None:
    facts = read(run)
    assert set(facts) == TOP
    for model in (facts["teacher"], facts["student"], *facts["baselines"].values()):
        assert set(model) >= MODEL
    assert set(facts["verdict"]) >= VERDICT
    assert set(facts["economics"]) == ECONOMICS
    assert (facts["name"], facts["scale"], facts["test_opened"]) == ("words-ci", "ci", 1)


def test_baselines_are_always_shown(folders: dict[str, Path]) -> None:
    assert set(read(folders["tokens"])["baselines"]) == {"linear", "untrained", "majority"}
    assert set(read(folders["linear"])["baselines"]) == {"majority"}
    assert read(folders["tokens"])["against_linear"]["ci"][0] <= read(folders["tokens"])["against_linear"]["ci"][1]
    assert read(folders["linear"])["against_linear"] is None


def test_figures_are_those_of_the_predictions(run: Path) -> None:
    facts = read(run)
    predictions = json.loads((artefact(run, "evaluate") / "predictions.json").read_text())
    with (artefact(run, "data") / "test.jsonl").open() as file:
        human = {row["id"]: row["answer"] for row in map(json.loads, file)}
    labels = facts["task"]["answers"]
    models = {"teacher": facts["teacher"], "student": facts["student"], **facts["baselines"]}
    assert set(models) == set(predictions["probabilities"])
    right = {}
    for name, rows in predictions["probabilities"].items():
        guesses = [labels[row.index(max(row))] for row in rows]
        right[name] = [g == human[i] for g, i in zip(guesses, predictions["ids"], strict=True)]
        assert models[name]["accuracy"] == pytest.approx(sum(right[name]) / len(right[name]))
        assert sum(map(sum, models[name]["confusion"])) == len(rows)
    difference = (sum(right["student"]) - sum(right["teacher"])) / len(right["student"])
    assert facts["verdict"]["difference"] == pytest.approx(difference)
    assert facts["verdict"]["margin"] == 0.03


def test_the_student_is_the_file_that_lies_there(run: Path) -> None:
    student = read(run)["student"]
    assert student["file_sha256"] == content_hash(run / student["file"])
    card = StudentCard.read(run)
    assert (card.file, card.sha256) == (student["file"], student["file_sha256"])


def test_sizes_licences_and_prompts(folders: dict[str, Path]) -> None:
    facts = read(folders["tokens"])
    assert facts["student"]["parameters_total"] == facts["teacher"]["parameters_total"] > 10_000
    assert facts["student"]["engine"] == "torch-float32"
    assert facts["student"]["format"] == "safetensors"
    assert facts["student"]["student_prompt"] == "Review: {text}\nSentiment:"
    assert facts["teacher"]["licence"] == facts["student"]["licence"] == "gemma"
    assert [entry["licence"] for entry in facts["licences"]] == ["gemma", "mit"]
    assert facts["task"]["prompt"] == "Text: {text}"
    assert facts["round_trip"]["greedy_answers_equal"] is True


def test_rows_are_accounted_for_from_the_table_to_the_verdict(run: Path) -> None:
    facts = read(run)
    for rows in facts["conservation"].values():
        assert rows["in"] == rows["kept"] + sum(rows["dropped"].values()) + sum(rows["failed"].values())
    assert {"label", "evaluate", "train linear"} <= set(facts["conservation"])
    assert facts["conservation"]["label"]["in"] == facts["data"]["counts"]["pool"]
    assert facts["conservation"]["evaluate"]["in"] == facts["data"]["counts"]["test"]
    assert facts["verdict"]["n"] == facts["conservation"]["evaluate"]["kept"]
    answers = facts["data"]["answers"]
    assert sum(n for what, n in answers.items() if what.endswith("in test")) == facts["data"]["counts"]["test"]


def test_the_ledger_counts_every_stages_calls(folders: dict[str, Path]) -> None:
    facts = read(folders["linear"])
    counts = facts["data"]["counts"]
    assert facts["ledger"]["calls_made"] == counts["pool"] + counts["test"]
    assert facts["ledger"]["usd_spent"] == 0.0
    facts = read(folders["tokens"])
    assert facts["ledger"]["calls_made"] > 2 * (facts["data"]["counts"]["pool"] + facts["data"]["counts"]["test"])


def test_money_follows_from_speed_and_price(folders: dict[str, Path]) -> None:
    facts = read(folders["tokens"])
    economics, teacher, student = facts["economics"], facts["teacher"], facts["student"]
    for model in (teacher, student, facts["baselines"]["linear"]):
        hours = 1e6 / model["requests_per_s"] / 3600
        assert model["usd_per_million_requests"] == pytest.approx(0.2 * hours / 0.25)
    ratio = teacher["usd_per_million_requests"] / student["usd_per_million_requests"]
    assert economics["cheaper_than_teacher"] == pytest.approx(ratio)
    slow = student["requests_per_s_no_prefix_cache"] / teacher["requests_per_s_no_prefix_cache"]
    assert economics["cheaper_than_teacher_no_prefix_cache"] == pytest.approx(slow)
    assert len(economics["break_even"]) == 2
    counts = facts["data"]["counts"]
    assert economics["human_answers_usd"] == pytest.approx(
        0.01 * (counts["tune"] + counts["calibrate"] + counts["test"])
    )


def test_return_and_tornado_are_of_the_declared_volume(folders: dict[str, Path]) -> None:
    facts = read(folders["tokens"])
    economics, back = facts["economics"], facts["economics"]["return"]
    teacher, student = (facts[side]["usd_per_million_requests"] for side in ("teacher", "student"))
    one_off = economics["labelling_usd"] + economics["training_usd"]
    worth = 5e6 * 1e-6 * facts["verdict"]["difference"]
    gain = 5 * (teacher - student) + worth - one_off / 12
    assert back["net_usd_per_month"] == pytest.approx(gain)
    assert back["roi"] == pytest.approx(gain / (5 * student + one_off / 12))
    assert back["ci"][0] <= back["roi"] <= back["ci"][1]
    assert back["difference_ci"] == facts["verdict"]["ci"]
    assert back["uncertain"] == ["accuracy difference", "speeds"]
    assert len(student_speeds := facts["student"]["requests_per_s_repetitions"]) == 2
    assert min(student_speeds) <= facts["student"]["requests_per_s"] <= max(student_speeds)
    assert economics["tornado_of"]["base"] == pytest.approx(gain)
    declared = [bar for bar in economics["tornado"] if bar["basis"] == "declared"]
    assert [(bar["what"], bar["low_value"], bar["high_value"]) for bar in declared] == [("months of use", "6", "24")]
    assert read(folders["linear"])["economics"]["return"] is None
    assert read(folders["linear"])["economics"]["tornado"] == []


def test_a_declared_share_goes_before_a_certified_one(folders: dict[str, Path], tiny_llama: Path) -> None:
    plain, facts = token_recipe(tiny_llama), read(folders["tokens"])
    certified = (0.3, Difference(-0.001, -0.01, 0.01, 0.95))
    found = gathering.economics(recipes.parse(plain, "test"), facts, 20.0, certified)
    assert found["deferred_share"] == 0.3
    assert found["return"]["difference"] == -0.001
    plain["economics"] |= {"deferred_share": 0.2, "machines": "dedicated"}
    found = gathering.economics(recipes.parse(plain, "test"), facts, 20.0, certified)
    assert (found["deferred_share"], found["break_even"][0]["deferred_share"]) == (0.2, 0.2)
    assert found["machines"] == "dedicated"
    assert facts["baselines"]["untrained"]["requests_per_s"] is None  # it is not timed


def test_labels_and_training_cost_machine_time_or_what_was_paid(folders: dict[str, Path], tiny_llama: Path) -> None:
    recipe = recipes.parse(token_recipe(tiny_llama), "test")
    facts = read(folders["tokens"])
    facts["seconds"] |= {"label": 7200.0, "choose": 1800.0, "train": 3600.0}
    own = gathering.economics(recipe, facts, 20.0)
    assert (own["labelling_usd"], own["training_usd"]) == (
        pytest.approx(0.2 * 2.5 + own["human_answers_usd"]),
        pytest.approx(0.2),
    )
    people = own["human_answers_usd"]
    facts["ledger"] |= {"usd_spent": 3.0, "usd_reused": 4.0}
    paid = gathering.economics(recipe, facts, 20.0)
    assert (paid["labelling_usd"], paid["training_usd"]) == (pytest.approx(7.0 + people), pytest.approx(0.2))


def test_a_teacher_without_a_speed_of_ours_costs_its_price(folders: dict[str, Path]) -> None:
    facts = read(folders["linear"])
    assert facts["teacher"]["requests_per_s"] is None
    assert facts["teacher"]["usd_per_million_requests"] == 0.0
    assert facts["teacher"]["tokens_per_request"] > 5
    assert facts["economics"]["cheaper_than_teacher_no_prefix_cache"] is None


def test_lineage_goes_from_the_data_to_the_evaluation(folders: dict[str, Path]) -> None:
    lineage = read(folders["tokens"])["lineage"]
    stages = [entry["stage"] for entry in lineage]
    assert stages[0] == "data"
    assert stages[-1] == "evaluate"
    assert {"choose", "label", "linear", "initialise", "train", "export"} < set(stages)
    place = {entry["fingerprint"]: number for number, entry in enumerate(lineage)}
    assert all(place[parent] < place[entry["fingerprint"]] for entry in lineage for parent in entry["parents"])


def test_training_and_panel_are_told(folders: dict[str, Path]) -> None:
    facts = read(folders["tokens"])
    training = facts["training"]
    assert training["initialise"]["initialise"] == "pretrained"
    assert training["best_loss"] == min(point["validation_loss"] for point in training["curve"])
    assert training["best_loss"] >= training["floor"]
    assert sum(facts["panel"]["answers"].values()) == facts["conservation"]["label"]["kept"]
    assert read(folders["linear"])["training"]["features"] > 10


def test_disagreements_are_of_student_and_teacher_and_can_be_read(run: Path) -> None:
    facts = read(run)
    assert len(facts["disagreements"]) <= 20
    for row in facts["disagreements"]:
        assert row["student"] != row["teacher"]
        assert row["text"]
    wrong = [row["student"] != row["human"] for row in facts["disagreements"]]
    assert wrong == sorted(wrong, reverse=True)
