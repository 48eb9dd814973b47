"""The extra packages of agents, loaded where they are used; where they are missing, one line says how to get them."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from aasut.errors import ToolError


def load(name: str) -> Any:
    """A module of an extra package. Raises ToolError where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        missing = (error.name or name).partition(".")[0]
        raise ToolError(
            f"Agents need the package {missing}, which is not installed.", "pip install 'aasut[agents]'"
        ) from None


def there(name: str) -> bool:
    """Is a package installed?"""
    return importlib.util.find_spec(name) is not None
