"""Several fields become one model: mixed, trained, added to, taken from, measured; a second time nothing is done."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import mixed
from aasut import field
from aasut.cli import app
from aasut.errors import AasutError, RecipeError
from aasut.formats import safetensors
from aasut.mixture import stages
from aasut.progress import Progress
from aasut.recipe import MixtureRecipe
from aasut.recipe import field as fields

QUIET = Progress(quiet=True)


class Heard(Progress):
    """Keeps what is said."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    def made(self) -> list[str]:
        """Stages that were done, not reused."""
        return [line.partition(" done in ")[0].strip() for line in self.lines if " done in " in line]


def recipe(**more: Any) -> MixtureRecipe:
    return MixtureRecipe.model_validate(mixed.plain(**more))


def build(base: Path, progress: Progress = QUIET, **more: Any) -> field.Made:
    return stages.build(recipe(**more), base, base / "runs", progress)


@pytest.fixture(scope="module")
def learned(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which all fields were learned, each by itself."""
    base = mixed.make(tmp_path_factory.mktemp("mixture") / "works", tiny_llama)
    for name in ("pumps", "ledger", "chess"):
        field.adapt(fields.load(base / f"{name}.yaml"), base, base / "runs", QUIET)
    return base


@pytest.fixture
def base(learned: Path, tmp_path: Path) -> Path:
    shutil.copytree(learned, tmp_path / "works")
    return tmp_path / "works"


def weights(made: field.Made) -> dict[str, torch.Tensor]:
    return safetensors.load(made.folder / "mixture")


def expert(number: int) -> str:
    return f".experts.{number}."


def test_fields_are_mixed_trained_added_removed_and_what_is_there_is_kept(base: Path) -> None:
    heard = Heard()
    first = build(base, heard)
    before = weights(first)
    assert not any(line.startswith(("pumps:", "ledger:")) for line in heard.lines), "both were learned before"
    facts = first.facts["mixture"]
    assert first.facts["kind"] == "mixture"
    assert facts["experts"] == {"names": ["pumps", "ledger"], "active": 2}
    assert json.loads((first.folder / "mixture" / "experts.json").read_text()) == {"experts": ["pumps", "ledger"]}
    config = json.loads((first.folder / "mixture" / "config.json").read_text())
    assert (config["architectures"], config["num_local_experts"]) == (["MixtralForCausalLM"], 2)
    assert set(facts["sets"]) == {"pumps", "ledger", "general"}
    for name in ("pumps", "ledger"):
        cost = {role: of["bits_per_byte"]["value"] for role, of in facts["sets"][name]["models"].items()}
        assert cost["branch"] < cost["before"]
        assert cost["mixture"] < cost["before"]
    assert set(facts["sets"]["general"]["models"]) == {"before", "mixture"}
    assert facts["train"]["all"]["tokens_learned"]["pumps"] > 1000
    assert (first.folder / "mixture.html").is_file()

    again = Heard()
    build(base, again)
    assert again.made() == []

    heard = Heard()
    more = build(base, heard, added=["chess.yaml"])
    assert {"mix", "mixture", "pumps before", "pumps branch", "ledger before"}.isdisjoint(heard.made())
    assert {"come chess", "mixture with chess", "pumps after", "chess before"} <= set(heard.made())
    assert more.facts["mixture"]["experts"]["names"] == ["pumps", "ledger", "chess"]
    after = weights(more)
    for name, tensor in before.items():
        same = after[name][:2] if ".gate." in name else after[name]
        assert torch.equal(same, tensor), name
    theirs = safetensors.load(base / "runs" / "chess" / "adapted")
    ours = after["model.layers.0.block_sparse_moe.experts.2.w1.weight"]
    assert not torch.equal(ours, theirs["model.layers.0.mlp.gate_proj.weight"]), "it was trained"
    cost = {role: of["bits_per_byte"]["value"] for role, of in more.facts["mixture"]["sets"]["chess"]["models"].items()}
    assert cost["mixture"] < cost["before"]

    heard = Heard()
    less = build(base, heard, added=["chess.yaml"], removed=["pumps"])
    assert "mixture without pumps" in heard.made()
    assert "mixture with chess" not in heard.made()
    assert less.facts["mixture"]["experts"]["names"] == ["ledger", "chess"]
    left = weights(less)
    for name, tensor in left.items():
        if expert(1) in name:
            assert torch.equal(tensor, after[name.replace(expert(1), expert(2))])
    assert "pumps" in less.facts["mixture"]["sets"]


def test_what_a_router_does_is_told_by_field_and_layer(base: Path) -> None:
    used = build(base, added=["chess.yaml"]).facts["mixture"]["router"]
    assert used["names"] == ["pumps", "ledger", "chess"]
    assert list(used["groups"]) == ["pumps", "ledger", "chess", "general"]
    assert [len(layer) for layer in used["shares"]] == [3, 3]
    for number, name in enumerate(used["names"]):
        shares = [layer[number] for layer in used["groups"][name]]
        others = [
            layer[number] for other in ("pumps", "ledger", "chess") if other != name for layer in used["groups"][other]
        ]
        assert sum(shares) / len(shares) > sum(others) / len(others), f"{name}'s expert is for {name}"


def test_the_texts_are_learned_as_the_recipe_says(base: Path) -> None:
    plain = mixed.plain()["train"]
    by_branches = weights(build(base))
    found = {}
    for how in ("documents", "teacher"):
        more: dict[str, Any] = {"train": plain | {"teach": how}}
        if how == "teacher":
            more["teacher"] = {"model": {"address": "file:model"}}
        found[how] = weights(build(base, **more))
    half = weights(build(base, train=plain | {"distil": 0.5}))
    name = "model.layers.1.block_sparse_moe.experts.0.w2.weight"
    each = [by_branches[name], found["documents"][name], found["teacher"][name], half[name]]
    assert all(not torch.equal(one, other) for i, one in enumerate(each) for other in each[:i])


def test_a_training_that_was_killed_goes_on_to_the_same_weights(base: Path, tmp_path: Path) -> None:
    often = mixed.plain()["train"] | {"checkpoint_s": 0}
    shutil.copytree(base, tmp_path / "other")
    with pytest.raises(KeyboardInterrupt):
        build(base, mixed.Interrupted(6), train=often)
    heard = Heard()
    gone_on = build(base, heard, train=often)
    assert "mix" not in heard.made()
    whole = build(tmp_path / "other", train=often)
    assert weights(gone_on).keys() == weights(whole).keys()
    for name, tensor in weights(whole).items():
        assert torch.equal(weights(gone_on)[name], tensor), name


def test_a_field_that_was_not_learned_is_in_a_process_of_its_own(base: Path) -> None:
    mixed.write(base, "rooks.yaml", mixed.field("chess") | {"name": "rooks", "seed": 3})
    heard = Heard()
    made = build(base, heard, name="rooked", fields=["pumps.yaml", "rooks.yaml"])
    assert any(line.startswith("rooks: adapt ") for line in heard.lines)
    assert made.facts["mixture"]["experts"]["names"] == ["pumps", "rooks"]
    assert (base / "runs" / "rooks" / "adaptation.html").is_file()
    assert not (base / "runs" / ".store" / "locks").exists()


def test_a_field_that_cannot_be_learned_is_one_line(base: Path) -> None:
    said = {"gone": r"^The documents .*texts/gone cannot be found", "bare": r"^ledger: .* What is done is kept: mend"}
    mixed.write_texts(base / "texts" / "bare", mixed.WORDS["ledger"], count=1)
    for texts, words in said.items():
        mixed.write(base, "ledger.yaml", mixed.field("ledger") | {"documents": [{"source": f"texts/{texts}"}]})
        with pytest.raises(AasutError, match=words) as caught:
            build(base)
        assert "\n" not in str(caught.value)


def test_a_teacher_with_other_tokens_and_a_cap_over_processes_are_refused(base: Path) -> None:
    from tiny_llama import make_llama

    make_llama(base / "other")
    train = mixed.plain()["train"] | {"teach": "teacher"}
    with pytest.raises(RecipeError, match="The teacher has other tokens than the students: token "):
        build(base, train=train, teacher={"model": {"address": "file:other"}})
    endpoint = {"endpoint": {"base_url": "http://localhost:1/v1", "model": "x"}, "max_usd": 1}
    mixed.write(base, "ledger.yaml", mixed.field("ledger") | {"teacher": endpoint, "seed": 4})
    with pytest.raises(RecipeError, match=r"ledger has teacher.max_usd, .* Leave --processes 1"):
        stages.build(recipe(), base, base / "runs", QUIET, at_once=2)


def test_its_runs_are_listed_shown_and_kept(base: Path) -> None:
    made = build(base, added=["chess.yaml"])
    root = ["--root", str(base / "runs")]
    assert "works" in CliRunner().invoke(app, ["runs", "list", *root]).output
    shown = CliRunner().invoke(app, ["runs", "show", "works", *root])
    assert shown.exit_code == 0, shown.output
    assert "3 experts: pumps, ledger, chess." in shown.output
    checked = CliRunner().invoke(app, ["runs", "verify", "works", *root])
    assert checked.exit_code == 0, checked.output
    (made.folder / "mixture" / "model.safetensors").write_bytes(b"changed")
    assert CliRunner().invoke(app, ["runs", "verify", "works", *root]).exit_code == 1
