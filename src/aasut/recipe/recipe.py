"""The whole recipe, and its sections about what comes after training."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from aasut.prompts import PromptTemplate
from aasut.recipe.data import Data
from aasut.recipe.economics import Economics
from aasut.recipe.models import Judge, Teacher
from aasut.recipe.section import Positive, Section
from aasut.recipe.student import Student
from aasut.recipe.task import AnyTask

Metric = Literal["accuracy", "exact", "macro_f1", "token_f1", "fields", "tool_calls", "tool_names"]
METRICS: dict[str, tuple[Metric, ...]] = {
    "classify": ("accuracy", "macro_f1"),
    "generate": ("exact", "token_f1", "tool_calls", "tool_names"),
    "extract": ("exact", "fields", "tool_calls", "tool_names"),
    "tools": ("exact", "tool_calls", "tool_names"),
}  # by kind of task: first the one that the verdict is about; the first two where a recipe names none


class Export(Section):
    """What is written out."""

    q8_0: bool = False
    """Write `student-q8_0.gguf` too, with a verdict of its own."""
    serve: Literal["gguf", "safetensors"] = "gguf"
    """The file that is evaluated, timed and served."""
    engine: Literal["auto", "openvino", "torch", "vllm"] = "auto"
    """Engine that evaluates and serves it."""
    precision: Literal["auto", "bfloat16", "float32"] = "auto"
    """Arithmetic of serving; `auto` is bfloat16 where the processor has it."""
    round_trip: Positive = 32
    """Inputs on which the written forms must give the same tokens and the same greedy answers."""

    @model_validator(mode="after")
    def _engine_reads_the_file(self) -> Export:
        if self.engine == "openvino" and self.serve == "safetensors":
            raise ValueError("engine: openvino reads GGUF: set serve: gguf, or another engine")
        return self


class Evaluate(Section):
    """The verdict."""

    margin: float = Field(default=0.03, gt=0, lt=1)
    """How much less accurate than the teacher the student may be."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Confidence of the one-sided bound; two-sided intervals are at the same confidence."""
    metrics: list[Metric] | None = None
    """Scores on which student and teacher are compared at the same margin beside the verdict's own, adjusted together
    by Holm's procedure. classify: `macro_f1`, where not given; generate: `token_f1`, where not given, `tool_calls`,
    `tool_names`; extract: `fields`, where not given, `tool_calls`, `tool_names`; tools: `tool_calls`, where not
    given, `tool_names`. The verdict's own, `accuracy` of labels and `exact` match of text, is always among them.
    Margin, confidence and metrics stand fast once `test` was opened."""
    timing_requests: Positive = 128
    """Test inputs used for measuring speed; fewer are used without the prefix cache."""
    strata: str | None = None
    """Slot whose values part the inputs into strata, each with 20 human answers in `test`, for the estimate that
    judges' verdicts on unlabelled inputs help (`judges[].unlabelled`)."""


class Recipe(Section):
    """A whole run."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Results stand in runs/<name>/."""
    seed: int = 7
    """Seed of everything drawn."""
    task: AnyTask
    """What is asked: `kind` is classify (where not given), generate, extract or tools."""
    data: Data
    """Inputs and human answers."""
    teacher: Teacher
    """The model whose answers are learned."""
    student: Student
    """The model that learns."""
    export: Export = Export()
    """What is written out."""
    evaluate: Evaluate = Evaluate()
    """The verdict."""
    economics: Economics = Economics()
    """What things cost."""
    judges: list[Judge] = Field(default_factory=list)
    """Models that judge the student's answers after `evaluate`; from three families on they vote."""

    @model_validator(mode="after")
    def _prompts_and_labels(self) -> Recipe:
        task = self.task.build()
        templates = {"task.prompt": task.prompt}
        if self.teacher.prompt is not None:
            templates["teacher.prompt"] = PromptTemplate.of(self.teacher.prompt)
        for number, other in enumerate(self.teacher.others):
            if other.prompt is not None:
                templates[f"teacher.others[{number}].prompt"] = PromptTemplate.of(other.prompt)
        if self.student.prompt is not None:
            templates["student.prompt"] = PromptTemplate.of(self.student.prompt)
        for number, table in enumerate(self.data.tables):
            for where, template in templates.items():
                missing = set(template.slots) - set(table.slots)
                if missing and table.format != "chat":
                    raise ValueError(
                        f"{where} uses {{{min(missing)}}}, which data.tables[{number}].slots does not fill"
                    )
            if table.label is not None:
                strange = [r.label for r in table.label.ranges if r.label not in task.answers]
                if strange:
                    raise ValueError(f"data.tables[{number}].label.ranges: {strange[0]!r} is not in task.labels")
                if table.label.fields and self.task.kind != "extract":
                    raise ValueError(f"data.tables[{number}].label.fields are for a task of kind extract")
        extra = [name for name, t in templates.items() if not set(t.slots) <= set(task.prompt.slots)]
        if extra:
            raise ValueError(f"{extra[0]} uses a slot that task.prompt does not have: the server could not fill it")
        return self

    @model_validator(mode="after")
    def _fits_the_kind(self) -> Recipe:
        """Refuse what the kind of task has no use for."""
        kind, teacher = self.task.kind, self.teacher
        strange = [name for name in self.evaluate.metrics or () if name not in METRICS[kind]]
        if strange:
            valid = ", ".join(METRICS[kind])
            raise ValueError(f"evaluate.metrics: {strange[0]} is not for a task of kind {kind}: choose from {valid}")
        if kind == "classify":
            drawn = [name for name in ("samples", "temperature") if name in teacher.model_fields_set]
            if drawn:
                raise ValueError(f"teacher.{drawn[0]} is for free text: a classify task has a list of labels")
            learned = [name for name in ("method", "loss", "on_policy") if name in self.student.model_fields_set]
            if learned:
                raise ValueError(f"student.{learned[0]} is for free text: a classify task's student learns its labels")
            if self.student.preference is not None:
                raise ValueError("student.preference is for free text: a classify task's student writes no answers")
            if any(table.taught for table in self.data.tables):
                raise ValueError(
                    "data.tables[].taught is for free text: a classify task's student learns probabilities"
                )
            return self
        if self.student.initialise == "linear":
            raise ValueError(f"a linear student cannot answer a task of kind {kind}: give student.model")
        if teacher.others:
            raise ValueError(f"teacher.others vote on labels: a task of kind {kind} has free text")
        if teacher.committee > 1 or teacher.calibration != "none":
            name = "committee" if teacher.committee > 1 else "calibration"
            raise ValueError(f"teacher.{name} is for labels: a task of kind {kind} has free text")
        if teacher.samples > 1 and not teacher.temperature:
            raise ValueError("teacher.samples draws the same answer each time at teacher.temperature 0: raise it")
        return self

    def metrics(self) -> tuple[Metric, ...]:
        """The scores that student and teacher are compared on, the verdict's own first."""
        own, *others = METRICS[self.task.kind]
        wanted = others[:1] if self.evaluate.metrics is None else self.evaluate.metrics
        return (own, *(name for name in others if name in wanted))

    @model_validator(mode="after")
    def _recorded_of_an_endpoint(self) -> Recipe:
        if self.teacher.endpoint is None and any(table.recorded for table in self.data.tables):
            raise ValueError("data.tables[].recorded has answers of teacher.endpoint: give it, or leave recorded out")
        return self

    @model_validator(mode="after")
    def _kept_aside_fairly(self) -> Recipe:
        if self.data.asked is not None and any(judge.unlabelled for judge in self.judges):
            raise ValueError(
                "judges[].unlabelled wants a fair sample of the inputs, and data.asked chooses them: leave one out"
            )
        return self

    @model_validator(mode="after")
    def _strata_are_used(self) -> Recipe:
        """Refuse strata that no estimate would have, or that a table does not fill."""
        strata = self.evaluate.strata
        if strata is None:
            return self
        if not any(judge.unlabelled for judge in self.judges):
            raise ValueError("evaluate.strata is for judges with unlabelled inputs: set judges[].unlabelled")
        for number, table in enumerate(self.data.tables):
            if strata not in (self.task.build().prompt.slots if table.format == "chat" else table.slots):
                raise ValueError(f"evaluate.strata names {strata!r}, which data.tables[{number}].slots does not fill")
        return self

    def student_template(self) -> PromptTemplate:
        """The student's own prompt; a linear student sees the slots alone."""
        if self.student.prompt is not None:
            return PromptTemplate.of(self.student.prompt)
        task = self.task.build()
        if self.student.initialise == "linear":
            return PromptTemplate.of("\n".join(f"{{{name}}}" for name in task.prompt.slots))
        return PromptTemplate([task.prompt.messages[-1]])

    def teacher_template(self, other: int | None = None) -> PromptTemplate:
        """The prompt that the teacher is asked with, or one of the others."""
        own = None if other is None else self.teacher.others[other].prompt
        prompt = self.teacher.prompt if own is None else own
        return self.task.build().prompt if prompt is None else PromptTemplate.of(prompt)
