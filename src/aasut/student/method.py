"""The method chooser: what the teacher offers decides how the student learns a text, and the recipe may overrule it.

    answers only                                     fine_tune   the teacher's texts are the right answers
    an API that lists alternatives to each token     sparse_kd   what it lists of its distribution, token by token
    a local model with the student's tokenizer       cached_kd   its distribution, written once to a logit cache
        and a loss that sparse targets would bend    live_kd     its distribution, from the model running alongside
    a local model with another tokenizer             text_kd     its texts (sequence-level KD, Kim & Rush 2016)
        or whose answers stand in a table

The student's own answers (`on_policy`) are unknown until it writes them, so only a teacher alongside can say
something of them: `live_kd`.

An answer in a table may have been given with a document in view. What the teacher says without it, token by token,
is another distribution, which would unteach the answer: so it is learned only where the recipe asks for it.

A student with a trimmed vocabulary learns the distribution over the tokens that stay (`student/renumbered.py`).

Where answers are labels there is nothing to choose: the student learns the distribution over the labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from aasut.errors import RecipeError
from aasut.recipe import Recipe

if TYPE_CHECKING:
    from aasut.formats.tokenizer import Tokenizer

VERSION = 1
LABELS = "labels"
METHODS = ("fine_tune", "sparse_kd", "cached_kd", "live_kd", "text_kd")
CACHED = ("sparse_kd", "cached_kd")  # methods that learn from a logit cache
ON_TEXT = ("cross_entropy", "forward_kl")  # losses that the one right token has; there they are the same
SAME = "the student's tokenizer"
LEAST_MATCHED = 0.5  # of an API's answers, whose tokens must be the student's, for its alternatives to be learned


@dataclass(frozen=True)
class Offer:
    """What a teacher gives beside its answers.

    alternatives  how many an API lists to each token; 0 for none
    obstacle      why a local model's distribution is none over the student's tokens; "" where it is one
    taught        whether answers of its stand in tables, so that it need not be asked
    trimmed       whether the student will keep some of its tokens alone
    """

    source: Literal["scripted", "endpoint", "model"]
    alternatives: int = 0
    obstacle: str = ""
    taught: bool = False
    trimmed: bool = False

    @property
    def name(self) -> str:
        """The best method for what is offered, dense losses aside."""
        if self.source == "model":
            return "text_kd" if self.obstacle else "cached_kd"
        return "sparse_kd" if self.alternatives else "fine_tune"

    @property
    def said(self) -> str:
        """What is offered, as a sentence without its full stop."""
        if self.source == "model":
            same = f"{SAME}, and is asked for those that stay in it" if self.trimmed else SAME
            return f"the local teacher has {'other tokens: ' + self.obstacle if self.obstacle else same}"
        if self.alternatives:
            return f"the endpoint lists {self.alternatives} alternatives to each token of its answers"
        return f"the {'endpoint is asked for' if self.source == 'endpoint' else 'scripted teacher gives'} answers alone"


@dataclass(frozen=True)
class Method:
    """How the student learns, and why; `chosen` is false where the recipe overruled the choice."""

    name: str
    reason: str
    chosen: bool = True

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Method:
        """From the facts of the stage `method`."""
        return cls(facts["name"], facts["reason"], facts["chosen"])

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


def labels() -> Method:
    """The method of a task whose answers are labels."""
    return Method(LABELS, "answers are labels, so the student learns the teacher's distribution over them")


def build(recipe: Recipe, teacher: Path | None, student: Path | None) -> dict[str, Any]:
    """Stage `method`: how the student will learn text, from the models' folders, None for what is not here.

    Gives the facts of `Method`, and `tokenizer` (the student's, as `same_tokens.identity`) and `vocabulary` (token
    ids that both have). Raises RecipeError for a wish that the teacher cannot fulfil.
    """
    from aasut.formats.same_tokens import identity
    from aasut.formats.tokenizer import Tokenizer
    from aasut.student import losses

    wanted = recipe.student
    own = None if student is None else Tokenizer.load(student)
    other = None if teacher is None else Tokenizer.load(teacher)
    offer = replace(offer_of(recipe, other, own), taught=any(table.taught for table in recipe.data.tables))
    bent = partial(losses.refusal, sparse=True)
    found = choose(wanted.method, wanted.loss, offer, bent, on_policy=wanted.on_policy is not None)
    sizes = [tokenizer.size for tokenizer in (own, other) if tokenizer is not None]
    return found.as_dict() | {"tokenizer": identity(own) if own else "", "vocabulary": min(sizes, default=0)}


def offer_of(recipe: Recipe, teacher: Tokenizer | None, student: Tokenizer | None) -> Offer:
    """What a recipe's teacher offers; a tokenizer that is not here yet is taken to be like the other."""
    from aasut.formats.same_tokens import difference
    from aasut.student.asked import ends_alike

    wanted = recipe.teacher
    if wanted.endpoint is not None:
        return Offer("endpoint", wanted.endpoint.top_logprobs if wanted.endpoint.logprobs else 0)
    if wanted.model is None:
        return Offer("scripted")
    if not ends_alike(recipe):
        return Offer("model", obstacle="one of its prompt and the student's ends with white space, so answers differ")
    if teacher is None or student is None:
        return Offer("model")
    trimmed, obstacle = recipe.student.vocabulary is not None, difference(teacher, student)
    if trimmed and not obstacle and teacher.size < student.size:
        obstacle = "it lacks control tokens of the student, which student.vocabulary keeps"
    return Offer("model", obstacle=obstacle, trimmed=trimmed)


def choose(wanted: str, loss: str, offer: Offer, refusal: Callable[[str], str], *, on_policy: bool = False) -> Method:
    """How a student learns text. `wanted` is the recipe's `student.method`, auto or one of METHODS.

    `refusal(loss)` says why a loss cannot be taken on sparse targets, "" where it can (`losses.refusal`).
    `on_policy`: it learns from its own answers too.
    Raises RecipeError where the recipe asks for what the teacher does not offer.
    """
    if wanted not in ("auto", *METHODS):
        raise RecipeError(f"There is no method {wanted!r}.", f"Choose one of: auto, {', '.join(METHODS)}.")
    bent = refusal(loss)
    if on_policy and offer.name != "cached_kd":
        raise RecipeError(
            f"student.on_policy needs a local teacher with {SAME}, and {offer.said}.",
            "Leave student.on_policy out, or give such a teacher.model.",
        )
    if wanted == "auto" and on_policy:
        found = Method("live_kd", f"{offer.said}, and student.on_policy asks it about the student's own answers")
    elif wanted == "auto":
        found = _automatic(loss, offer, bent)
    else:
        _check(wanted, offer)
        found = Method(wanted, f"the recipe says so ({offer.said})", chosen=False)
    if found.name in CACHED and bent:
        raise RecipeError(
            f"student.loss: {loss} cannot be taken on a logit cache: {bent}.",
            "Set student.loss: forward_kl"
            + (", or student.method: live_kd." if offer.name == "cached_kd" else "; this teacher offers no more."),
        )
    if found.name in ("fine_tune", "text_kd") and loss not in ON_TEXT:
        raise RecipeError(
            f"student.loss: {loss} needs the teacher's distribution over tokens, and {found.name} has texts alone "
            f"({offer.said}).",
            "Set student.loss: cross_entropy.",
        )
    return found


def settle(method: Method, matched: float) -> Method:
    """`sparse_kd` once the answers are there: the share `matched` of them has the student's own tokens.

    Too few: the answers alone are learned. Raises RecipeError where the recipe insists on `sparse_kd`.
    """
    if method.name != "sparse_kd" or matched >= LEAST_MATCHED:
        return method
    found = f"only {matched:.0%} of the endpoint's answers have the student's tokens"
    if not method.chosen:
        raise RecipeError(
            f"student.method: sparse_kd learns token by token, and {found}.",
            "Set student.method: fine_tune, or take a student with the endpoint's tokenizer; the answers are kept.",
        )
    return replace(method, name="fine_tune", reason=f"{found}, so the texts alone are learned")


def _automatic(loss: str, offer: Offer, bent: str) -> Method:
    if offer.taught and offer.source == "model" and loss in ON_TEXT:
        return Method("text_kd", "the teacher's answers stand in a table, and may have been given with more in view")
    if offer.name == "cached_kd" and bent:
        return Method("live_kd", f"{offer.said}, and student.loss: {loss} needs it whole: {bent}")
    return Method(offer.name, offer.said)


def _check(wanted: str, offer: Offer) -> None:
    """Raise RecipeError where the teacher does not offer what a method needs."""
    if wanted in ("cached_kd", "live_kd") and offer.name != "cached_kd":
        needs = f"a local teacher with {SAME}"
    elif wanted == "sparse_kd" and offer.name != "sparse_kd":
        needs = "an endpoint with logprobs: true"
    elif wanted == "text_kd" and offer.source != "model":
        needs = "a local teacher"
    else:
        return
    raise RecipeError(
        f"student.method: {wanted} needs {needs}, and {offer.said}.", f"Set student.method: auto, or {offer.name}."
    )
