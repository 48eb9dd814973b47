"""The recipe's section about a student whose feed-forward networks are Mixtures of Experts."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from aasut.recipe.section import NonNegative, Positive, Section


class Balance(Section):
    """How a Mixture of Experts is kept in even use while it is trained."""

    bias_rate: float = Field(default=0.001, ge=0, lt=1)
    """By how much a step moves each router's biases towards equal load; 0 leaves loads alone."""
    settled: float = Field(default=0.3, gt=0, le=1)
    """Share of the steps, at the end, over which the biases fade: the written model has none."""
    sequence_loss: NonNegative = 0.0
    """Weight of the loss against unequal loads within one micro-batch."""
    z_loss: NonNegative = 0.0
    """Weight of the loss against large router logits (ST-MoE, Zoph et al. 2022)."""

    @model_validator(mode="after")
    def _balances(self) -> Self:
        if "settled" in self.model_fields_set and not self.bias_rate:
            raise ValueError("settled goes with a bias_rate above 0")
        return self


class Experts(Balance):
    """Each feed-forward network becomes several, of which a router chooses some for each token (Mixtral's layout)."""

    count: Annotated[int, Field(ge=2, le=256)] = 4
    """Experts of a layer."""
    active: Positive = 2
    """Experts that a token goes through."""
    start: Literal["copy", "drop"] = "copy"
    """What an expert starts as: a copy of the network (sparse upcycling, Komatsuzaki et al. 2023), or one of which some
    neurons are drawn anew (Drop-Upcycling, Nakamura et al. 2025)."""
    redrawn: float = Field(default=0.5, gt=0, lt=1)
    """Share of an expert's neurons that `drop` draws anew."""
    shared: bool = False
    """One more expert, through which every token goes (Qwen2-MoE's layout)."""

    def start_settings(self) -> dict[str, Any]:
        """Those that decide on the weights before training."""
        return self.model_dump(mode="json", include={"count", "active", "start", "redrawn", "shared"})

    @model_validator(mode="after")
    def _go_together(self) -> Experts:
        if self.active > self.count:
            raise ValueError(f"active ({self.active}) must be at most count ({self.count})")
        if self.active == 1 and not self.shared:
            raise ValueError("active: 1 gives the router no gradient, for one weight is always 1: take 2, or shared")
        if "redrawn" in self.model_fields_set and self.start != "drop":
            raise ValueError("redrawn goes with start: drop")
        return self
