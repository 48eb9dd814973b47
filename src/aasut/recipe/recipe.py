"""The whole recipe, and its sections about what comes after training."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from aasut.prompts import PromptTemplate
from aasut.recipe.data import Data
from aasut.recipe.economics import Economics
from aasut.recipe.models import Student, Teacher
from aasut.recipe.section import Positive, Section
from aasut.recipe.task import AnyTask


class Export(Section):
    """What is written out."""

    q8_0: bool = False
    """Write `student-q8_0.gguf` too, with a verdict of its own."""
    serve: Literal["gguf", "safetensors"] = "gguf"
    """The file that is evaluated, timed and served."""
    engine: Literal["auto", "openvino", "torch"] = "auto"
    """Engine that evaluates and serves it."""
    precision: Literal["auto", "bfloat16", "float32"] = "auto"
    """Arithmetic of serving; `auto` is bfloat16 where the processor has it."""
    round_trip: Positive = 32
    """Inputs on which the written forms must give the same tokens and the same greedy answers."""

    @model_validator(mode="after")
    def _engine_reads_the_file(self) -> Export:
        if self.engine == "torch" and self.serve == "gguf":
            raise ValueError("engine: torch reads no GGUF: set serve: safetensors, or another engine")
        if self.engine == "torch" and self.q8_0:
            raise ValueError("engine: torch reads no GGUF, and q8_0 is one: take another engine, or leave q8_0 out")
        if self.engine == "openvino" and self.serve == "safetensors":
            raise ValueError("engine: openvino reads GGUF: set serve: gguf, or another engine")
        return self


class Evaluate(Section):
    """The verdict."""

    margin: float = Field(default=0.03, gt=0, lt=1)
    """How much less accurate than the teacher the student may be."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Confidence of the one-sided bound; two-sided intervals are at the same confidence."""
    timing_requests: Positive = 128
    """Test inputs used for measuring speed; fewer are used without the prefix cache."""


class Recipe(Section):
    """A whole run."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Results stand in runs/<name>/."""
    seed: int = 7
    """Seed of everything drawn."""
    task: AnyTask
    """What is asked: `kind` is classify (where not given), generate or extract."""
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

    @model_validator(mode="after")
    def _prompts_and_labels(self) -> Recipe:
        task = self.task.build()
        templates = {"task.prompt": task.prompt}
        if self.teacher.prompt is not None:
            templates["teacher.prompt"] = PromptTemplate.of(self.teacher.prompt)
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
        if kind == "classify":
            drawn = [name for name in ("samples", "temperature") if name in teacher.model_fields_set]
            if drawn:
                raise ValueError(f"teacher.{drawn[0]} is for free text: a classify task has a list of labels")
            learned = [name for name in ("method", "loss") if name in self.student.model_fields_set]
            if learned:
                raise ValueError(f"student.{learned[0]} is for free text: a classify task's student learns its labels")
            return self
        if self.student.initialise == "linear":
            raise ValueError(f"a linear student cannot answer a task of kind {kind}: give student.model")
        if teacher.committee > 1 or teacher.calibration != "none":
            name = "committee" if teacher.committee > 1 else "calibration"
            raise ValueError(f"teacher.{name} is for labels: a task of kind {kind} has free text")
        if teacher.samples > 1 and not teacher.temperature:
            raise ValueError("teacher.samples draws the same answer each time at teacher.temperature 0: raise it")
        return self

    def student_template(self) -> PromptTemplate:
        """The student's own prompt; a linear student sees the slots alone."""
        if self.student.prompt is not None:
            return PromptTemplate.of(self.student.prompt)
        task = self.task.build()
        if self.student.initialise == "linear":
            return PromptTemplate.of("\n".join(f"{{{name}}}" for name in task.prompt.slots))
        return PromptTemplate([task.prompt.messages[-1]])

    def teacher_template(self) -> PromptTemplate:
        """The prompt that the teacher is asked with."""
        return self.task.build().prompt if self.teacher.prompt is None else PromptTemplate.of(self.teacher.prompt)
