"""`aasut plan` of a mixture: all arms are measured, dense ones trained when that is asked for, and nothing twice."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

import mixed
from aasut.economics.operations import Weights
from aasut.errors import StoreError
from aasut.mixture import alternatives, stages
from aasut.progress import Progress
from aasut.recipe import MixtureRecipe
from aasut.report import serving
from aasut.store import Store
from command_line import command

QUIET = Progress(quiet=True)


@pytest.fixture
def root(mixed_fields: Path, tmp_path: Path) -> Path:
    shutil.copytree(mixed_fields, tmp_path / "works")
    return tmp_path / "works" / "runs"


def made(errors: str) -> set[str]:
    """Stages that were done, not reused."""
    said = [json.loads(line).get("message", "") for line in errors.splitlines() if line.startswith("{")]
    return {line.partition(" done in ")[0].strip() for line in said if " done in " in line}


def test_a_mixture_is_held_against_its_students_and_dense_models(root: Path) -> None:
    with Store(root / ".store", read_only=True) as store:
        opened = store.database.execute("SELECT COUNT(*) FROM opening").fetchone()
    code, out, err = command("plan", "works", "--root", root, "--json")
    assert code == 0, err
    first = json.loads(out)
    sets = ("pumps", "ledger", "chess", "general")
    stages = {f"{name} on tune, {arm}" for name in sets for arm in ("mixture", "students")}
    assert made(err) == {*stages, "2 times as wide", "3 times as wide", "writing", "choices"}
    arms = first["arms"]
    assert list(arms) == ["mixture", "students", "dense_active", "dense_total"]
    for arm in ("dense_active", "dense_total"):
        assert "bits_per_byte" not in arms[arm]
        assert arms[arm]["tokens_s"]["16"] > 0 < arms[arm]["tokens_s"]["1"]
    engines = {arm: of["engine"] for arm, of in arms.items()}
    dense = "torch" if torch.cuda.is_available() else "openvino"
    assert engines == {"mixture": "torch", "students": dense, "dense_active": dense, "dense_total": dense}
    for of in arms.values():
        assert of["megabytes"] == pytest.approx(of["weights"] * 4 / 1e6)
    routers = 2 * 3 * 64
    assert arms["dense_active"]["weights"] == arms["mixture"]["active"] - routers
    assert arms["dense_total"]["weights"] == arms["mixture"]["weights"] - routers
    assert arms["students"]["weights"] == 3 * arms["students"]["active"]
    assert arms["mixture"]["bits_per_byte"]["value"] == pytest.approx(
        sum(arms["mixture"]["sets"][name]["bits_per_byte"]["value"] for name in sets[:3]) / 3
    )
    assert "aasut plan works --dense" in first["verdict"]["sentences"][-1]

    code, out, err = command("plan", root / "works", "--json")
    assert (code, made(err)) == (0, set())
    assert json.loads(out) == first
    page = (root / "works" / "serving.html").read_text()
    assert serving.html(first) == page

    code, out, err = command("plan", "works", "--root", root, "--dense", "--json")
    assert code == 0, err
    wider = {f"{name} on tune, {arm}" for name in sets for arm in ("dense_active", "dense_total")}
    assert made(err) == {"dense_active", "dense_total", *wider}
    whole = json.loads(out)
    for arm in ("mixture", "students"):
        assert whole["arms"][arm] == first["arms"][arm]
    assert "Not trained" not in " ".join(whole["verdict"]["sentences"])
    for arm in ("dense_active", "dense_total"):
        of = whole["arms"][arm]
        assert of["tokens_s"] == first["arms"][arm]["tokens_s"]
        assert of["operations"] == whole["operations"]
        size = Weights.of({"vocab_size": 300, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
                           "tie_word_embeddings": True}, of["weights"])  # fmt: skip
        assert of["tokens"] * size.training(size.trained(frozen_embeddings=True)) == pytest.approx(
            whole["operations"], rel=0.05
        )
        assert of["over_mixture"]["value"] == pytest.approx(
            of["bits_per_byte"]["value"] - whole["arms"]["mixture"]["bits_per_byte"]["value"]
        )

    code, out, err = command("plan", "works", "--root", root, "--dense")
    assert (code, made(err)) == (0, set())
    assert "not trained" not in out
    assert whole["verdict"]["sentences"][0].split(":")[0] in " ".join(out.split())
    with Store(root / ".store", read_only=True) as store:
        assert store.database.execute("SELECT COUNT(*) FROM opening").fetchone() == opened


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--target", "0.9"), "--target goes with the run of a task, and works is a mixture"),
        (("--linear",), "--linear goes with the run of a task, and works is a mixture"),
        (("--processes",), "--processes goes with the run of a task, and works is a mixture"),
    ],
)
def test_what_goes_with_tasks_alone_is_refused(mixed_fields: Path, words: tuple[str, ...], why: str) -> None:
    code, out, err = command("plan", "works", "--root", mixed_fields / "runs", *words)
    assert (code, out) == (1, "")
    assert why in err
    assert err.count("\n") == 1


def test_what_is_no_mixture_or_changed_since_is_one_line(root: Path) -> None:
    code, _, err = command("plan", "pumps", "--root", root, "--dense")
    assert (code, err.count("\n")) == (1, 1)
    assert "--dense goes with a mixture, and pumps is none" in err
    (root.parent / "texts" / "pumps" / "0.txt").write_text("Something else stands here. " * 20)
    with pytest.raises(StoreError, match="What pumps reads changed since works was made"):
        alternatives.compare(root / "works", QUIET, dense=False)
    (root / "works" / "recipe.yaml").unlink()
    with pytest.raises(StoreError, match="The recipe of works is not in"):
        alternatives.compare(root / "works", QUIET, dense=False)
    (root / "works" / "report.json").write_text("{")
    with pytest.raises(StoreError, match=r"report\.json is damaged"):
        alternatives.folder_of("works", root)


def test_what_was_removed_serves_no_more_and_where_all_experts_are_active_there_is_one_dense_model(root: Path) -> None:
    (root / "works" / "serving.html").write_text("of the mixture before")
    recipe = MixtureRecipe.model_validate(mixed.plain(added=["chess.yaml"], removed=["pumps"]))
    stages.build(recipe, root.parent, root, QUIET)
    assert not (root / "works" / "serving.html").exists()
    found = alternatives.compare(root / "works", QUIET, dense=False)
    assert found["fields"] == ["ledger", "chess"]
    assert list(found["documents"]) == ["ledger", "chess", "general"]
    assert list(found["arms"]) == ["mixture", "students", "dense_active"]
    assert found["arms"]["students"]["weights"] == 2 * found["arms"]["students"]["active"]
