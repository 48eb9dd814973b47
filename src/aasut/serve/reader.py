"""A student's prompts without its model: reads a request's slots and renders the student's own plain prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aasut.errors import AmbiguousPrompt, PromptMismatch, RecipeError
from aasut.export.manifest import StudentCard
from aasut.prompts import PromptTemplate
from aasut.tasks import Task
from aasut.types import Message


class Reader:
    """Reads requests written in the task's prompt, or in the student's own.

    Raises RecipeError where the student's prompt has a slot that the task's has not.
    """

    def __init__(self, task: Task, prompt: PromptTemplate) -> None:
        extra = [slot for slot in prompt.slots if slot not in task.prompt.slots]
        if extra:
            raise RecipeError(
                f"The student's prompt uses {{{extra[0]}}}, which the task's prompt does not have.",
                f"Use only: {', '.join(task.prompt.slots)}.",
            )
        self.task, self.prompt = task, prompt
        # A prompt that begins with a slot would take any text for that slot, a mistyped production prompt too.
        self._templates = [task.prompt, prompt] if prompt.begins_fixed else [task.prompt]

    @classmethod
    def of(cls, card: StudentCard) -> Reader:
        """The reader of a finished run's student."""
        return cls(card.task(), PromptTemplate(card.student_prompt))

    @property
    def slots(self) -> tuple[str, ...]:
        """What the student has to be told."""
        return self.prompt.slots

    def render(self, slots: Mapping[str, str]) -> str:
        """The student's plain prompt for these slots: the texts of its messages, as it was trained on."""
        return "".join(message.content for message in self.prompt.render(slots))

    def read(self, messages: Sequence[Message]) -> str:
        """The student's plain prompt for a request.

        Raises PromptMismatch where the request is in neither prompt, AmbiguousPrompt where it can be read in
        several ways.
        """
        mismatch: PromptMismatch | None = None
        for template in self._templates:
            try:
                return self.render(template.read(messages))
            except AmbiguousPrompt:
                raise
            except PromptMismatch as error:
                mismatch = mismatch or error
        raise mismatch or PromptMismatch("No prompt is declared.")
