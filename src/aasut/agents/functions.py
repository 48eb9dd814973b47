"""Tools from a Python file: its public functions, with their type hints and docstrings, as OpenAI's functions.

    DANGEROUS = {"unlock"}              # names of those that a person has to approve

    def unlock(door: str) -> str:
        '''Unlock a door.

        Args:
            door: Which door.
        '''

    def state() -> str:                 # no tool: what the screen shows after the calls
        ...

The file imports nothing of aasut. What a tool prints goes to standard error.
"""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import json
import os
import sys
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NotRequired, Required

from aasut import tools
from aasut.agents import docstrings
from aasut.errors import ToolError

STATE, DANGEROUS = "state", "DANGEROUS"
_NAMED = ("properties", "$defs")  # of a schema: what is in them has names of its own
_VALUES = ("const", "default", "enum", "examples")  # and what in it is data


@dataclass(frozen=True, slots=True)
class Result:
    """What a call gave, as text; `failed`: the tool was not called, or raised, and the text says why."""

    text: str
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Function:
    """One tool: OpenAI's definition of it, and what checks arguments and calls it."""

    definition: dict[str, Any]
    check: Any  # pydantic's TypeAdapter of the arguments
    call: Callable[..., Any]


class Toolbox:
    """The tools of one file. Calls come one at a time: what the file keeps between them is kept."""

    def __init__(self, path: Path, functions: list[Function], dangerous: frozenset[str], state: Any = None) -> None:
        self.path, self.dangerous = path, dangerous
        self._functions = {function.definition["function"]["name"]: function for function in functions}
        self._state = state

    @classmethod
    def load(cls, path: Path) -> Toolbox:
        """Raises ToolError where the file is no Python, or its functions are no tools."""
        module = _module(path)
        found = {
            name: value
            for name, value in vars(module).items()
            if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
        }
        state = found.pop(STATE, None)
        if state is not None and inspect.signature(state).parameters:
            raise ToolError(f"{path}: {STATE} takes parameters.", "It shows the state, and is called without any.")
        if not found:
            raise ToolError(f"{path} has no public functions.", "Each tool is a function with type hints.")
        if len(found) > tools.MOST:
            raise ToolError(f"{path} has {len(found)} functions.", f"A request takes {tools.MOST} at most.")
        dangerous = getattr(module, DANGEROUS, ())
        if not isinstance(dangerous, set | frozenset | list | tuple):
            raise ToolError(f"{path}: {DANGEROUS} is no set of names.", f'Write {DANGEROUS} = {{"name"}}.')
        strange = [name for name in dangerous if not isinstance(name, str) or name not in found]
        if strange:
            raise ToolError(f"{path}: {DANGEROUS} names {strange[0]!r}, which is no tool.", "Take it out, or name one.")
        return cls(path, [_function(path, each) for each in found.values()], frozenset(dangerous), state)

    @property
    def definitions(self) -> list[dict[str, Any]]:
        """The tools, as requests and recipes define them."""
        return [function.definition for function in self._functions.values()]

    def call(self, name: str, arguments: str | Mapping[str, Any]) -> Result:
        """Call a tool with arguments, which may be JSON text. Whatever is wrong comes as the result's text."""
        from pydantic import ValidationError

        function = self._functions.get(name)
        if function is None:
            return Result(f"There is no tool {name!r}. There are: {', '.join(self._functions)}.", failed=True)
        try:
            given = arguments if isinstance(arguments, str) else json.dumps(arguments, allow_nan=False)
            checked = function.check.validate_json(given.strip() or "{}")
        except ValidationError as error:
            return Result(f"The arguments do not fit: {_reasons(error)}.", failed=True)
        except (TypeError, ValueError, RecursionError) as error:
            return Result(f"The arguments are no JSON: {error}.", failed=True)
        return _called(function.call, checked)

    def state(self) -> str | None:
        """What the file's `state` says, None where it has none."""
        return None if self._state is None else _called(self._state, {}).text


def _module(path: Path) -> ModuleType:
    """The file, run. Its folder is searched for what it imports."""
    if not path.is_file():
        raise ToolError(f"There is no file {path}.", "Name a Python file of functions.")
    name = f"aasut_tools_{path.stem}"
    spec = importlib.util.spec_from_loader(name, None, origin=str(path))
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    module.__file__ = str(path)
    if str(path.parent.resolve()) not in sys.path:
        sys.path.append(str(path.parent.resolve()))
    sys.modules[name] = module  # where dataclasses look for the names of their hints
    try:
        with _printing_aside():
            exec(compile(path.read_bytes(), str(path), "exec", dont_inherit=True), vars(module))
    except (Exception, SystemExit) as error:
        raise ToolError(f"{path} cannot be run: {_told(error)}.", "Mend it; it must be Python that imports.") from None
    return module


def _function(path: Path, function: Callable[..., Any]) -> Function:
    """The tool that a function is. Raises ToolError where something of it cannot be told to a model."""
    name = function.__name__
    where = f"{path}: {name}"
    parameters = inspect.signature(function).parameters
    if not (function.__doc__ or "").strip():
        raise ToolError(f"{where} has no docstring.", "Say in it what the function does: a model reads it.")
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except Exception as error:
        raise ToolError(f"{where} has a type hint that cannot be read: {_told(error)}.", "Mend it.") from None
    text, told = docstrings.read(function.__doc__ or "", parameters)
    for parameter in parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise ToolError(f"{where} takes {parameter}.", "Give every parameter a name of its own.")
        if parameter.name not in hints:
            raise ToolError(f"{where}: the parameter {parameter.name!r} has no type hint.", "Give it one.")
    try:
        check = _check(name, [(each, hints[each.name], told.get(each.name)) for each in parameters.values()])
        schema = _untitled(check.json_schema())
    except Exception as error:  # a hint can be any object, and pydantic fails at them in many ways
        raise ToolError(f"{where} has a type hint that JSON has not: {_told(error)}.", "Take another type.") from None
    definition = {"type": "function", "function": {"name": name, "description": text, "parameters": schema}}
    if reason := tools.fault([definition]):
        raise ToolError(f"{where} cannot be told to a model: {reason}.", "Change its name or its types.")
    return Function(definition, check, function)


def _check(name: str, parameters: list[tuple[inspect.Parameter, Any, str | None]]) -> Any:
    """pydantic's adapter of arguments: (parameter, its type, its description) each."""
    from pydantic import ConfigDict, Field, TypeAdapter
    from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

    typed: Any = TypedDict
    annotated: Any = typing.Annotated
    fields: dict[str, Any] = {}
    for parameter, hint, description in parameters:
        optional = parameter.default is not parameter.empty
        extra = {"default": parameter.default} if optional and _is_json(parameter.default) else None
        kind = annotated[hint, Field(description=description, json_schema_extra=extra)]
        fields[parameter.name] = NotRequired[kind] if optional else Required[kind]
    arguments = typed(name, fields)
    arguments.__pydantic_config__ = ConfigDict(extra="forbid", strict=True)
    return TypeAdapter(arguments)


def _untitled(schema: Any, *, names: bool = False) -> Any:
    """A schema without the titles that pydantic makes of names: they say nothing new."""
    if isinstance(schema, list):
        return [_untitled(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: value for key, value in schema.items() if names or key != "title"}
    kept = {key: kept[key] for key in sorted(kept, key=lambda key: key == "$defs")}
    if not names and kept.get("type") == "object" and "properties" not in kept and "additionalProperties" in kept:
        kept = {"type": "object", "properties": {}} | kept
    return {
        key: value if key in _VALUES and not names else _untitled(value, names=not names and key in _NAMED)
        for key, value in kept.items()
    }


def _is_json(value: Any) -> bool:
    with suppress(TypeError, ValueError, RecursionError):
        json.dumps(value, allow_nan=False)
        return True
    return False


def _called(function: Callable[..., Any], arguments: Mapping[str, Any]) -> Result:
    try:
        with _printing_aside():
            made = function(**arguments)
            return Result(_text(asyncio.run(made) if inspect.iscoroutine(made) else made))
    except (Exception, SystemExit) as error:
        return Result(f"The tool failed: {_told(error)}.", failed=True)


def _text(value: Any) -> str:
    """What a tool gave, as a model reads it."""
    from pydantic_core import to_json

    if value is None:
        return "done"
    if isinstance(value, bytes | bytearray | memoryview):
        return f"{len(bytes(value))} bytes that are no text"
    return value if isinstance(value, str) else to_json(value, bytes_mode="base64", fallback=repr).decode()


def _told(error: BaseException) -> str:
    """An error in one line, with its kind."""
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said}".rstrip(" :.")


def _reasons(error: Any) -> str:
    """What pydantic found wrong, each with its place."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, one['loc'])) or 'arguments'}: {one['msg'].rstrip('.')}" for one in found[:8])


@contextmanager
def _printing_aside() -> Iterator[None]:
    """What is printed within goes to standard error, what other programs print too: standard output is the answer's."""
    sys.stdout.flush()
    with redirect_stdout(sys.stderr):
        try:
            kept = os.dup(1)
            os.dup2(2, 1)
        except OSError:  # there is no such file: nothing can be printed to it
            yield
            return
        try:
            yield
        finally:
            for stream in (sys.stderr, sys.__stdout__):
                if stream is not None:
                    stream.flush()
            os.dup2(kept, 1)
            os.close(kept)
