"""Write the pages of recipes and of the gateway's settings from their models; with --check, say if they are stale."""

from __future__ import annotations

import sys
import types
import typing
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from aasut.gateway.settings import Settings
from aasut.recipe import FieldRecipe, MixtureRecipe, Recipe
from aasut.recipe.agent import AgentRecipe

HEAD = """# The recipe

One YAML file describes a whole run. Defaults < recipe < command-line flags (`--set section.field=value`).
Unknown fields are refused. This page is made from `src/aasut/recipe/` by `make docs`.
"""
GATEWAY, FIELD, MIXTURE, AGENT = (
    Path(__file__).with_name(f"{name}.head.md") for name in ("gateway", "field", "mixture", "agent")
)


def sections(model: type[BaseModel], name: str) -> list[str]:
    """A table of this section's fields, then the sections in it."""
    lines = [
        f"## {name or 'Top level'}{kind(model)}",
        "",
        (model.__doc__ or "").strip(),
        "",
        "| field | values | default | |",
        "|---|---|---|---|",
    ]
    inner: list[str] = []
    for field, info in model.model_fields.items():
        field = info.alias or field
        path = f"{name}.{field}" if name else field
        lines.append(f"| `{field}` | {values(info.annotation)} | {default(info)} | {text(info)} |")
        for child in models(info.annotation):
            inner += ["", *sections(child, path + ("[]" if is_list(info.annotation) else ""))]
    return lines + inner


def kind(model: type[BaseModel]) -> str:
    """For one of several sections that may stand in a place: which `kind` it is."""
    field = model.model_fields.get("kind")
    return "" if field is None else f", kind: {field.default}"


def text(info: FieldInfo) -> str:
    return " ".join((info.description or "").split()).replace("|", "\\|")


def default(info: FieldInfo) -> str:
    if info.default is PydanticUndefined and info.default_factory is None:
        return "required"
    value = info.get_default(call_default_factory=True)
    return "see below" if isinstance(value, BaseModel) else f"`{'none' if value is None else value}`"


def values(annotation: object) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " \\| ".join(f"`{a}`" for a in arguments)
    if origin is typing.Annotated:
        return values(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(values(a) for a in arguments if a is not type(None)))
    if origin is list:
        return f"list of {values(arguments[0])}"
    if origin is dict:
        return f"{values(arguments[0])} → {values(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    return {"str": "text", "int": "integer", "float": "number", "bool": "true \\| false", "Any": "anything"}.get(
        getattr(annotation, "__name__", ""), ""
    )


def models(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in typing.get_args(annotation) for model in models(argument)]


def is_list(annotation: object) -> bool:
    return typing.get_origin(annotation) is list


def main() -> int:
    stale = False
    for name, head, model in (
        ("recipe.md", HEAD, Recipe),
        ("field.md", FIELD.read_text(encoding="utf-8"), FieldRecipe),
        ("mixture.md", MIXTURE.read_text(encoding="utf-8"), MixtureRecipe),
        ("agent.md", AGENT.read_text(encoding="utf-8"), AgentRecipe),
        ("gateway.md", GATEWAY.read_text(encoding="utf-8"), Settings),
    ):
        target = Path(__file__).with_name(name)
        page = head + "\n" + "\n".join(sections(model, "")) + "\n"
        if "--check" not in sys.argv:
            target.write_text(page, encoding="utf-8")
        elif not target.exists() or target.read_text(encoding="utf-8") != page:
            print(f"{name} is out of date: run make docs", file=sys.stderr)
            stale = True
    return int(stale)


if __name__ == "__main__":
    sys.exit(main())
