"""Everything that aasut raises on purpose.

    AasutError                    exit code 1; the message says what, where and how to mend it
    ├── RecipeError               the recipe, or a flag over it, is wrong or contradicts itself
    ├── DataError                 a table, its columns, its text or its splits
    ├── ModelError                a model or tokenizer that cannot be read or does not fit
    │   └── HashMismatch          a file is not the one that was pinned
    ├── TeacherError              a run fault of the teacher: no access, cap reached, too many failures
    ├── ToolError                 a file of tools, or a server of them, that cannot be used
    ├── EngineError               an engine that is unknown, missing, or cannot run this model
    ├── StoreError                the run store is locked, damaged, or the disk is full
    ├── ConservationError         rows went missing between the way in and the way out of a stage
    ├── RoundTripError            two written forms of one student disagree
    └── PromptMismatch            a request does not match the prompt that the student was made for
        └── AmbiguousPrompt       it does, in more than one way

Row faults are not exceptions: stages count them as `failed`, by reason.
"""

from __future__ import annotations


class AasutError(Exception):
    """Base of all errors a user can mend. `remedy` is printed after the message."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()


class RecipeError(AasutError):
    """The recipe, or a flag over it, is wrong or contradicts itself."""


class DataError(AasutError):
    """A table, its columns, its text or its splits cannot be used."""


class ModelError(AasutError):
    """A model or tokenizer cannot be read, fetched or fitted."""


class HashMismatch(ModelError):
    """A file's SHA-256 is not the pinned one."""

    def __init__(self, what: str, expected: str, found: str) -> None:
        super().__init__(
            f"{what}: SHA-256 is {found}, the recipe pins {expected}.",
            "Put the right hash into the recipe if you trust this file; otherwise delete it and fetch again.",
        )


class TeacherError(AasutError):
    """The teacher cannot go on; answers received so far are kept in the ledger."""


class ToolError(AasutError):
    """A file of tools, or a server of them, cannot be used."""


class EngineError(AasutError):
    """An engine is unknown, not installed, or cannot run this model."""


class StoreError(AasutError):
    """The run store is locked, damaged, or out of space."""


class ConservationError(AasutError):
    """A stage's rows do not add up: in != kept + dropped + failed."""


class RoundTripError(AasutError):
    """Two written forms of one student give different tokens or answers."""


class PromptMismatch(AasutError):
    """A request's text does not match the declared prompt template."""


class AmbiguousPrompt(PromptMismatch):
    """A request's text can be read out of the declared prompt template in more than one way."""
