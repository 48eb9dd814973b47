"""A recipe at another scale: small slices of everything, for a first try and for CI."""

from __future__ import annotations

from aasut.errors import RecipeError
from aasut.recipe.field import FieldRecipe
from aasut.recipe.mixture import MixtureRecipe
from aasut.recipe.recipe import Recipe

CI = {"limit": 24, "candidates": 2, "committee": 2, "epochs": 1, "timing_requests": 4, "round_trip": 4}
CI_TEXT = CI | {"limit": 16, "candidates": 1, "timing_requests": 2}  # texts are slow to write
CI_PREFERENCE = {"inputs": 16, "samples": 4, "pairs": 3, "epochs": 1}
CI_CHUNKS = 6  # that are asked about
CI_LEARNED = {"tokens": 2048, "measured": 8000}
CI_WRITTEN = {"questions": 2, "held_out": 3}


def scaled(recipe: Recipe, scale: str) -> Recipe:
    """The recipe at a scale: `full`, or `ci` for small slices of everything under another name."""
    if scale == "full":
        return recipe
    if scale != "ci":
        raise RecipeError(f"There is no scale {scale!r}.", "Choose full or ci.")
    small = CI if recipe.task.kind == "classify" else CI_TEXT
    plain = recipe.model_dump(exclude_unset=True)
    plain["name"] += "-ci"
    plain["data"]["limit"] = min(plain["data"].get("limit") or small["limit"], small["limit"])
    if recipe.teacher.shots:
        for key in ("candidates", "committee"):
            plain["teacher"][key] = min(getattr(recipe.teacher, key), small[key])
    if recipe.student.initialise != "linear":
        plain["student"] |= {"epochs": small["epochs"], "checks": 1, "patience": 0}
    if recipe.student.preference is not None:
        few = {name: min(getattr(recipe.student.preference, name), most) for name, most in CI_PREFERENCE.items()}
        plain["student"]["preference"] |= few
    if recipe.student.heal is not None:
        plain["student"]["heal"]["tokens"] = min(recipe.student.heal.tokens, CI_LEARNED["tokens"])
    for judge in plain.get("judges", []):
        judge["unlabelled"] = min(judge.get("unlabelled", 0), small["round_trip"])
    if not any(judge.get("unlabelled") for judge in plain.get("judges", [])):
        plain.get("evaluate", {}).pop("strata", None)
    plain.setdefault("evaluate", {})["timing_requests"] = small["timing_requests"]
    plain.setdefault("export", {})["round_trip"] = small["round_trip"]
    return Recipe.model_validate(plain)


def scaled_field(recipe: FieldRecipe, scale: str) -> FieldRecipe:
    """The recipe of a field at a scale: `full`, or `ci` for a few chunks, and little of each kind."""
    if scale == "full":
        return recipe
    if scale != "ci":
        raise RecipeError(f"There is no scale {scale!r}.", "Choose full or ci.")
    plain = recipe.model_dump(exclude_unset=True)
    plain["name"] += "-ci"
    wanted = recipe.synthesize
    small: dict[str, int] = {name: min(getattr(wanted, name), most) for name, most in CI_WRITTEN.items()}
    small["chunks"] = min(wanted.chunks or CI_CHUNKS, CI_CHUNKS)
    for kind, option, least in (("relations", "pairs", 1), ("reading", "strategies", 1), ("conversations", "turns", 2)):
        if kind in wanted.kinds:
            small[option] = least
    plain["synthesize"] = plain.get("synthesize", {}) | small
    if recipe.adapt is not None:
        plain["adapt"] |= {name: min(getattr(recipe.adapt, name) or most, most) for name, most in CI_LEARNED.items()}
        plain["student"] |= {"epochs": 1, "checks": 1, "patience": 0}
    return FieldRecipe.model_validate(plain)


def scaled_mixture(recipe: MixtureRecipe, scale: str) -> MixtureRecipe:
    """The recipe of a mixture at a scale: `full`, or `ci` for little text of each of its fields."""
    if scale == "full":
        return recipe
    if scale != "ci":
        raise RecipeError(f"There is no scale {scale!r}.", "Choose full or ci.")
    plain = recipe.model_dump(exclude_unset=True)
    plain["name"] += "-ci"
    tokens = min(recipe.train.tokens or CI_LEARNED["tokens"], CI_LEARNED["tokens"])
    plain["train"] = plain.get("train", {}) | {"tokens": tokens, "epochs": 1, "checks": 1}
    plain["measured"] = min(recipe.measured, CI_LEARNED["measured"])
    return MixtureRecipe.model_validate(plain)
