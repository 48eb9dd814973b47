"""After a first meeting: is a model, a linear classifier, plain code or the API of today the right thing?

The first row that fits decides; `notes` say what else was seen.

    | what was said                                                        | use    |
    |----------------------------------------------------------------------|--------|
    | a programmer could write the rule down                               | code   |
    | a label or text for each of at most FEW_INPUTS different inputs      | code (a table of answers) |
    | no task with one right answer a request (a conversation, tools)      | api    |
    | inputs may not leave, or an answer is wanted in under API_MS         | linear or model, whatever it costs |
    | the volume is below the break-even, or owning never pays             | api    |
    | the human answers to be had cannot show the widest margin bearable   | api    |
    | labels that hang on single words, at most MOST_LABELS of them        | linear |
    | anything else                                                        | model  |

The margin wanted is MARGIN, and up to WIDEST is borne. Where a wrong answer costs something, neither is more
than what the saving of a request pays for: more wrong answers than that would eat it up. Nothing here was measured. The
student's speed is that of a 135M model on two processor cores (2,509 prompt and 1,030 answer
tokens/s), on whole machines at the utilisation and price of ASSUMED; a linear classifier needs no
machine of its own. Labels and training are made anew whenever the task changes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from aasut.economics.breakeven import BreakEven, Owning, break_even
from aasut.economics.cost import MILLION, api_usd_per_million_requests, monthly_capacity, usd, usd_per_million_requests
from aasut.evaluate.paired import points
from aasut.evaluate.power import examples_needed, margin_shown
from aasut.recipe import Split

Use = Literal["code", "linear", "model", "api"]
FEW_INPUTS = 2_000  # answers that a person can check in a day or two
API_MS = 200  # less than this no API over the internet promises
MOST_LABELS = 100
MARGIN, WIDEST, LEAST_MARGIN = 0.03, 0.05, 0.001
PROMPT_TOKENS_PER_S, ANSWER_TOKENS_PER_S = 2509.0, 1030.0
LINEAR_PER_S = 10_000.0
TEACHER_ANSWERS, TRAINING_HOURS = 3_000, {"classify": 1.0, "extract": 6.0, "generate": 12.0, "other": 12.0}
CHANGES = {"never": 24.0, "yearly": 12.0, "quarterly": 3.0, "monthly": 1.0, "weekly": 0.25, "daily": 1 / 30}
USD_PER_MACHINE_HOUR, UTILISATION = 0.10, 0.5
ASSUMED = (
    f"{usd(USD_PER_MACHINE_HOUR)} a machine hour, {UTILISATION * 100:.0f} % of it used",
    f"{TEACHER_ANSWERS:,} answers of the API to learn from",
    "the speed of a 135M model on two processor cores",
)


@dataclass(frozen=True, slots=True)
class Situation:
    """What was said. Money in USD, tokens of one request, latency in ms; usd_per_request 0 asks the token prices."""

    task: str
    requests_per_month: float
    usd_per_request: float
    input_tokens: float
    output_tokens: float
    usd_per_million_input_tokens: float
    usd_per_million_output_tokens: float
    different_inputs: float
    labels: int
    rule: str
    single_words: bool
    human_answers: int
    more_human_answers: int
    usd_per_human_answer: float
    usd_per_wrong_answer: float
    latency_ms: float
    may_leave: bool
    changes: str

    @property
    def price(self) -> float:
        """USD for a million requests today."""
        if self.usd_per_request:
            return self.usd_per_request * MILLION
        return api_usd_per_million_requests(
            self.input_tokens,
            self.output_tokens,
            self.usd_per_million_input_tokens,
            self.usd_per_million_output_tokens,
        )

    @property
    def months(self) -> float:
        """Over which what is learned is of use."""
        return CHANGES[self.changes]


@dataclass(frozen=True, slots=True)
class Proof:
    """The human answers that a margin wants, in all and for the verdict; what can be had; what can be borne."""

    margin: float
    widest: float
    answers: int
    test: int
    at_hand: int

    @property
    def shown(self) -> float:
        """The smallest margin that the answers at hand can be expected to show."""
        test = math.floor(self.at_hand * self.test / self.answers)
        return margin_shown(test) if test else 1.0


def proof(said: Situation, saved_per_request: float) -> Proof:
    """Answers wanted for the margin; beyond the verdict's own, as many as a recipe's split keeps for tuning."""
    paid_for = 1.0
    if said.usd_per_wrong_answer > 0 and saved_per_request > 0:
        paid_for = max(LEAST_MARGIN, saved_per_request / said.usd_per_wrong_answer)
    margin = min(MARGIN, paid_for)
    test, split = examples_needed(margin), Split()
    everything = math.ceil(test * (split.tune + split.calibrate + split.test) / split.test)
    return Proof(margin, min(WIDEST, paid_for), everything, test, said.human_answers + said.more_human_answers)


def estimate(said: Situation, linear: bool, answers: int) -> BreakEven:
    """Break-even of a linear classifier or a small model against today's price, from guesses of speed and effort."""
    seconds = said.input_tokens / PROMPT_TOKENS_PER_S + said.output_tokens / ANSWER_TOKENS_PER_S
    rate = LINEAR_PER_S if linear else 1 / max(seconds, 1e-4)
    new_answers = max(0, min(answers, said.human_answers + said.more_human_answers) - said.human_answers)
    one_off = TEACHER_ANSWERS * said.price / MILLION + new_answers * said.usd_per_human_answer
    one_off += 0.0 if linear else TRAINING_HOURS[said.task] * USD_PER_MACHINE_HOUR
    owning = Owning(
        usd_per_million_requests(USD_PER_MACHINE_HOUR, rate, UTILISATION),
        0.0,
        one_off,
        said.months,
        monthly_capacity(rate, UTILISATION),
        dedicated=not linear,
    )
    return break_even("what is paid today", said.price, owning)


def advise(said: Situation) -> dict[str, Any]:
    """What to use and why: {"use", "sentence", "notes", "human_answers", "break_even", "assumed", "next"}."""
    linear = said.task == "classify" and said.single_words and said.labels <= MOST_LABELS
    first = estimate(said, linear, 0)
    saved = (said.price - first.owning.usd_per_million_requests) / MILLION
    wanted = proof(said, saved)
    found = estimate(said, linear, wanted.answers)
    use, reason = _decide(said, linear, wanted, found)
    return {
        "use": use,
        "sentence": f"{_TITLES[use]}: {reason}",
        "notes": _notes(said, use, wanted),
        "usd_per_million_requests_today": said.price,
        "usd_per_month_today": said.price * said.requests_per_month / MILLION,
        "human_answers": {
            "margin": wanted.margin,
            "wanted": wanted.answers,
            "of_these_for_the_verdict": wanted.test,
            "at_hand": wanted.at_hand,
        },
        "break_even": {key: value for key, value in found.as_dict().items() if key != "curve"},
        "assumed": list(ASSUMED),
        "next": _NEXT[use],
    }


_TITLES: dict[Use, str] = {
    "code": "Plain code",
    "linear": "A linear classifier",
    "model": "A small model",
    "api": "Keep paying the API",
}
_NEXT: dict[Use, str] = {
    "code": "aasut gold recipe.yaml   (human answers, to test the code against)",
    "linear": "aasut init FILE   (a log of requests or a table; then set student.initialise: linear)",
    "model": "aasut init FILE   (a log of requests or a table)",
    "api": "aasut plan --screen   (again, when volume or price has changed)",
}


def _decide(said: Situation, linear: bool, wanted: Proof, found: BreakEven) -> tuple[Use, str]:
    """The decision table, row by row."""
    own: Use = "linear" if linear else "model"
    if said.rule == "yes":
        return "code", "a rule that can be written down needs no model, costs next to nothing, and can be read."
    if said.different_inputs <= FEW_INPUTS and said.task != "other":
        return "code", (
            f"there are only about {said.different_inputs:,.0f} different inputs: have each answered once, let a "
            "person check the answers, and look them up."
        )
    if said.task == "other":
        return "api", "without one right answer to a request, no student can be held against people's answers."
    if not said.may_leave:
        return own, "the inputs may not leave, so an API is no choice; the teacher must run in your own house too."
    if said.latency_ms < API_MS:
        return own, f"an answer within {said.latency_ms:g} ms is more than an API over the internet promises."
    if found.requests_per_month is None:
        return "api", str(found.as_dict()["sentence"])
    saved = float(found.other.usd_per_month(said.requests_per_month) - found.owning_usd(said.requests_per_month))
    if saved <= 0:
        return "api", f"{said.requests_per_month:,.0f} requests a month are too few. {found.as_dict()['sentence']}"
    if wanted.shown > wanted.widest:
        return "api", (
            f"at most {points(wanted.widest)} less accurate can be borne; the {wanted.at_hand:,} human answers that "
            f"can be had show {_shown(wanted)}. Without the proof a change is a gamble."
        )
    if linear:
        return own, f"the labels hang on single words, which it reads well; it would save about {usd(saved)} a month."
    return own, f"the answers hang on the sense of the text; it would save about {usd(saved)} a month."


def _notes(said: Situation, use: Use, wanted: Proof) -> list[str]:
    """What else was seen."""
    notes = []
    if said.rule == "partly" and use != "code":
        notes.append("Write the part of the rule that is known as code first: what it answers need not be learned.")
    if use in ("linear", "model") and wanted.at_hand < wanted.answers:
        notes.append(
            f"{wanted.answers:,} human answers are wanted for a margin of {points(wanted.margin)}; the "
            f"{wanted.at_hand:,} that can be had show {_shown(wanted)}."
        )
    if wanted.margin < MARGIN:
        notes.append(
            f"A wrong answer costs {usd(said.usd_per_wrong_answer)}: more than {points(wanted.margin)} less accurate "
            "would eat the saving up. Let `aasut certify` hand what the student is unsure of to the teacher."
        )
    if said.months <= 1:
        notes.append(f"The task changes {said.changes}: labels, training and proof are made anew each time.")
    if use == "model" and said.task == "classify":
        notes.append("A linear classifier is made beside the model; where it is as good, the report says so first.")
    return notes


def _shown(wanted: Proof) -> str:
    return f"{points(wanted.shown)} at best" if wanted.shown < 0.5 else "nothing"
