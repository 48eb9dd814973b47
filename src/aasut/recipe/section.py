"""What all sections of the recipe share."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[int, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Timeout = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Prompt = str | list[dict[str, str]]


class Section(BaseModel):
    """A part of the recipe. Unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, serialize_by_alias=True)
