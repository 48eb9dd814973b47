"""The teacher's own prompts as tokens: what its distribution over an answer's tokens is asked after."""

from __future__ import annotations

from collections.abc import Sequence

from aasut.data.panel import Panel, worked
from aasut.engine.common import begin
from aasut.formats.tokenizer import Tokenizer
from aasut.recipe import Recipe
from aasut.teacher.local import ends, plain_text
from aasut.types import Example


def prompts(recipe: Recipe, panel: Panel, tokenizer: Tokenizer, examples: Sequence[Example]) -> list[list[int]]:
    """Token ids of each example's question, worked examples before it, as a local teacher's engine makes them."""
    task, template = recipe.task.build(), recipe.teacher_template()
    begun: dict[str, list[int]] = {}
    found = []
    for example in examples:
        before, question = plain_text(panel.request(template, task, example.slots, 0).messages)
        if before not in begun:
            begun[before] = begin(tokenizer, before)
        found.append(begun[before] + tokenizer.encode(question))
    return found


def stop(recipe: Recipe, panel: Panel) -> tuple[str, ...]:
    """Texts before which a local teacher ends its answers."""
    return ends(worked(recipe.teacher_template(), panel.members[0]))


def ends_alike(recipe: Recipe) -> bool:
    """Do answers begin with the same letters behind the teacher's prompt and the student's?

    A space is put before an answer unless the prompt ends with white space; where one of the two prompts
    does, an answer's first tokens are not the same.
    """
    ends = (template.messages[-1].content for template in (recipe.teacher_template(), recipe.student_template()))
    return len({bool(end) and not end[-1].isspace() for end in ends}) == 1
