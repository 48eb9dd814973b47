"""The recipe's section about money: prices are declared, and what is wanted of them is said here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from aasut.recipe.section import NonNegative, Positive, Section, Share

Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Above0 = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Utilisation = Annotated[float, Field(gt=0, le=1)]
Two = Field(min_length=2, max_length=2)


class ApiPrice(Section):
    """Price of an API that would do the same job."""

    name: str
    """What it is called in the report."""
    usd_per_million_input_tokens: NonNegative
    """Price of prompt tokens."""
    usd_per_million_output_tokens: NonNegative
    """Price of answer tokens."""
    input_tokens: Positive | None = None
    """Prompt tokens of a request; the task's prompt, counted by the student's tokenizer, where not given."""
    output_tokens: Positive = 2
    """Answer tokens of a request."""


class Ranges(Section):
    """`[low, high]` of what the answer hangs on, for the tornado chart; not given: half and double, or as measured."""

    requests_per_month: Annotated[list[Above0], Two] | None = None
    """Volume."""
    teacher_usd_per_million_requests: Annotated[list[Above0], Two] | None = None
    """Price of the teacher."""
    utilisation: Annotated[list[Utilisation], Two] | None = None
    """Share of the machine's time spent on requests."""
    requests_per_s: Annotated[list[Above0], Two] | None = None
    """Speed of the student."""
    deferred_share: Annotated[list[Share], Two] | None = None
    """Share of requests that still go to the teacher."""
    labelling_usd: Annotated[list[Amount], Two] | None = None
    """Cost of all labels, the teacher's and people's."""
    months: Annotated[list[Above0], Two] | None = None
    """Months over which labelling and training are spread."""
    usd_per_machine_hour: Annotated[list[Amount], Two] | None = None
    """Price of the machine."""

    @model_validator(mode="after")
    def _low_then_high(self) -> Ranges:
        for name in self.model_fields_set:
            pair = getattr(self, name)
            if pair is not None and pair[0] >= pair[1]:
                raise ValueError(f"{name}: the low value comes first, and is lower")
        return self

    def by_name(self) -> dict[str, list[float] | None]:
        """The ranges as the tornado chart reads them."""
        return {
            "requests_per_month": self.requests_per_month,
            "teacher_usd_per_million_requests": self.teacher_usd_per_million_requests,
            "utilisation": self.utilisation,
            "requests_per_s": self.requests_per_s,
            "deferred_share": self.deferred_share,
            "labelling_usd": self.labelling_usd,
            "months": self.months,
            "usd_per_machine_hour": self.usd_per_machine_hour,
        }


class Economics(Section):
    """What things cost. Prices are declared, speeds are measured."""

    usd_per_machine_hour: NonNegative = 0.10
    """Price of the machine that ran this, for teacher and student alike."""
    utilisation: Utilisation = 0.5
    """Share of the machine's time spent on requests."""
    machines: Literal["shared", "dedicated"] = "shared"
    """How machines are paid: `shared` pays the hours used, at that utilisation; `dedicated` pays whole machines by the
    month, one more at each multiple of what one can do at that utilisation."""
    api: ApiPrice | None = None
    """An API to compare with."""
    fixed_usd_per_month: NonNegative = 0.0
    """What owning the student costs a month whatever the volume, beyond machine hours used."""
    months: Positive = 12
    """Months over which labelling and training are spread."""
    deferred_share: Share | None = None
    """Share of requests that still go to the teacher; the certificate's where not given, or else none."""
    usd_per_human_answer: Amount = 0.0
    """What one human answer cost; all of tune, calibrate and test count."""
    requests_per_month: Positive | None = None
    """How many requests come a month; the tornado chart and the return on investment are for that many."""
    usd_per_correct_answer: Amount | None = None
    """What one more right answer is worth; the return on investment weighs it against the cost."""
    ranges: Ranges = Ranges()
    """How far what the answer hangs on may lie from what is said here."""

    @model_validator(mode="after")
    def _needs_a_volume(self) -> Economics:
        wants = [name for name in ("usd_per_correct_answer", "ranges") if name in self.model_fields_set]
        if wants and self.requests_per_month is None:
            raise ValueError(f"{wants[0]} is weighed at a volume: give requests_per_month")
        return self
