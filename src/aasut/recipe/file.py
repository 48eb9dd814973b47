"""Reading and writing recipe files: YAML, and flags over it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from aasut.errors import RecipeError
from aasut.recipe.recipe import Recipe
from aasut.recipe.section import Section

LONGEST = 1 << 20  # bytes of a recipe
MOST_SHOWN = 10  # mistakes in one message

S = TypeVar("S", bound=Section)


def load(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file; `overrides` are flags of the form `section.field=value`.

    Raises RecipeError with one line a mistake.
    """
    return parse(_with_tools(read(path, overrides), path), str(path))


def _with_tools(plain: dict[str, Any], path: Path) -> dict[str, Any]:
    """A recipe's settings with the functions themselves where task.tools names a file of them."""
    task = plain.get("task")
    if not isinstance(task, dict) or not isinstance(task.get("tools"), str):
        return plain
    file = path.parent / Path(task["tools"]).expanduser()
    named = f"{path}: task.tools names {file}, which"
    try:
        if not file.is_file() or file.stat().st_size > LONGEST:
            raise RecipeError(f"{named} is no file of at most {LONGEST:,} bytes.", "Give a JSON file of functions.")
        tools = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{named} cannot be read: {error.strerror}.", "Check the path and its permissions.") from None
    except (ValueError, RecursionError):
        raise RecipeError(f"{named} is no JSON.", "Give a JSON file of functions.") from None
    return plain | {"task": task | {"tools": tools}}


def read(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """A file of settings as plain data, with flags over it. Raises RecipeError where it is none."""
    try:
        plain = _yaml(_text(path))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise RecipeError(f"{path} is no YAML: {reason}.", "Mend the line it names.") from None
    if not isinstance(plain, dict):
        raise RecipeError(f"{path} holds no settings.", "See docs/recipe.md for what a recipe says.")
    return over(plain, overrides)


def over(plain: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Settings with flags of the form `section.field=value` over them. Raises RecipeError for one that is not."""
    for override in overrides:
        _override(plain, override)
    return plain


def _text(path: Path) -> str:
    """The file's text. Raises RecipeError where there is no plain file of a recipe's size, ValueError for no UTF-8."""
    try:
        if path.is_dir():
            raise RecipeError(f"{path} is a folder.", f"Give the recipe in it, for example {path}/recipe.yaml.")
        size = path.stat().st_size
        if not path.is_file():  # reading a pipe or a device may never end
            raise RecipeError(f"{path} is no plain file.", "Give the path of a recipe.yaml.")
        if size > LONGEST:
            raise RecipeError(f"{path} has {size:,} bytes; a recipe has at most {LONGEST:,}.", "Is it another file?")
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise RecipeError(f"There is no recipe {path}.", "Give the path of a recipe.yaml.") from None
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror}.", "Check the path and its permissions.") from None


def parse(plain: Mapping[str, Any], where: str) -> Recipe:
    """A recipe from plain data; `where` names it in error messages."""
    if "documents" in plain and "task" not in plain:
        raise RecipeError(
            f"{where} is the recipe of a field: it has documents, and no task.",
            "Give it to aasut synthesize or aasut adapt.",
        )
    if "fields" in plain and "task" not in plain:
        raise RecipeError(f"{where} is the recipe of a mixture: it has fields, and no task.", "Give it to aasut mix.")
    return validated(Recipe, plain, where, "docs/recipe.md lists every field.")


def validated(kind: type[S], plain: Mapping[str, Any], where: str, remedy: str) -> S:
    """A section from plain data. Raises RecipeError with one line a mistake."""
    try:
        return kind.model_validate(plain)
    except ValidationError as error:
        lines = [_explain(problem) for problem in error.errors()]
        if len(lines) > MOST_SHOWN:
            lines[MOST_SHOWN:] = [f"and {len(lines) - MOST_SHOWN} more mistakes"]
        raise RecipeError(f"{where}: " + "; ".join(lines) + ".", remedy) from None


def text_at(recipe: Recipe, base: Path, folder: Path) -> str:
    """The recipe as YAML for a file in `folder`: paths that were relative to `base` lead from there."""
    plain = recipe.model_dump(mode="json", exclude_unset=True, by_alias=True)
    for table in plain["data"]["tables"]:
        if not table["source"].startswith("pypi-sdist:"):
            table["source"] = moved(table["source"], base, folder)
    for kept in ("gold", "asked"):
        if plain["data"].get(kept):
            plain["data"][kept] = moved(plain["data"][kept], base, folder)
    healed = (plain["student"].get("heal") or {}).get("texts", [])
    for text, found in zip(healed, recipe.student.heal.texts if recipe.student.heal else (), strict=True):
        if not found.packaged:
            text["source"] = moved(text["source"], base, folder)
    asking = [plain["teacher"], *plain["teacher"].get("others", []), *plain.get("judges", [])]
    for section in (*asking, plain["student"]):
        move_model(section.get("model"), base, folder)
    return as_yaml(plain)


def moved(path: str, base: Path, folder: Path) -> str:
    """A path that was relative to `base`, as it leads from `folder`."""
    if path.startswith("~") or Path(path).is_absolute():
        return path
    return Path(os.path.relpath(base.resolve() / path, folder.resolve())).as_posix()


def move_model(model: dict[str, Any] | None, base: Path, folder: Path) -> None:
    """Do so with a model's address, where it is a path."""
    if model and model["address"].startswith("file:"):
        model["address"] = "file:" + moved(model["address"].removeprefix("file:"), base, folder)


def as_yaml(plain: Mapping[str, Any]) -> str:
    """Plain data as the text of a recipe."""
    return yaml.safe_dump(dict(plain), sort_keys=False, allow_unicode=True, width=120)


class _Loader(yaml.SafeLoader):
    """YAML in which no key stands twice: of two values, one would be ignored."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"{key.value!r} stands there twice", problem_mark=key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
        return node


def _yaml(text: str) -> Any:
    return yaml.load(text, _Loader)


def _explain(problem: Any) -> str:
    if problem["type"] == "union_tag_invalid":
        *first, last = (tag.strip(" '") for tag in problem["ctx"]["expected_tags"].split(","))
        return f"task.kind: unknown, choose {', '.join(first)} or {last} (given: {problem['ctx']['tag']!r})"
    parts = [str(part) for part in problem["loc"] if not str(part).startswith("function-")]
    if parts[:1] == ["task"] and parts[1:2] and parts[1] in ("classify", "generate", "extract", "tools"):
        del parts[1]  # the kind is no field
    field = ".".join(parts)
    given = problem.get("input")
    shown = f" (given: {_brief(repr(given))})" if isinstance(given, (str, int, float, bool)) else ""
    text = {"extra_forbidden": "there is no such field", "missing": "is required"}.get(problem["type"], problem["msg"])
    return f"{_brief(field) or 'recipe'}: {text.removeprefix('Value error, ')}{shown}"


def _brief(text: str) -> str:
    return text if len(text) <= 100 else text[:99] + "…"


def _override(plain: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise RecipeError(f"--set {override}: this is not section.field=value.", "For example --set student.epochs=2")
    *sections, field = path.split(".")
    place = plain
    for section in sections:
        place = place.setdefault(section, {})
        if not isinstance(place, dict):
            raise RecipeError(f"--set {override}: {section} is no section.", "docs/recipe.md lists every field.")
    try:
        place[field] = _yaml(text) if text else ""  # a shell takes the quotes of '' away
    except (yaml.YAMLError, ValueError, RecursionError):
        raise RecipeError(f"--set {_brief(override)}: the value cannot be read.", "Write it as in YAML.") from None
