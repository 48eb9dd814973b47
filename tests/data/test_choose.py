from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import small_run
from aasut import recipe as recipes
from aasut.data import choose
from aasut.data.panel import Panel, draw_shots
from aasut.engine.base import Scores
from aasut.engine.scripted import ScriptedEngine
from aasut.errors import DataError
from aasut.progress import Progress
from aasut.recipe import Recipe
from aasut.teacher.base import Keep
from aasut.teacher.ledger import Ledger
from aasut.teacher.local import LocalTeacher
from aasut.teacher.openai import OpenAiTeacher
from aasut.teacher.server import ScriptedServer
from aasut.types import Completion, Example, Message, Request, Usage

ANSWERS = ("negative", "positive")
MODEL = {"model": {"address": "file:nowhere"}}
QUIET = Progress(quiet=True)


def recipe(**teacher: Any) -> Recipe:
    return recipes.parse(small_run.recipe(teacher=MODEL | teacher), "recipe")


def tune(count: int = 60) -> list[Example]:
    """Numbered inputs; the right answer is the number's parity."""
    return [Example(f"0:{i}", {"text": f"number {i}"}, f"g{i}", ANSWERS[i % 2]) for i in range(count)]


def number(message: Message) -> int:
    return int(message.content.split()[-1])


def shots_of(request: Request) -> list[int]:
    return [number(m) for m in request.messages[:-1] if m.role == "user"]


class Planted:
    """Knows the right answer, and is as sure of it as `quality(numbers of the shots)` says: 0 knows nothing."""

    def __init__(self, quality: Callable[[list[int]], float], *, text_only: bool = False) -> None:
        self.quality, self.text_only = quality, text_only
        self.identity = "planted"
        self.asked: list[Request] = []

    def complete(self, requests: Sequence[Request], keep: Keep | None = None) -> list[Completion]:
        self.asked += requests
        answers = [self.answer(request) for request in requests]
        if keep is not None:
            keep(list(zip(requests, answers, strict=True)))
        return answers

    def answer(self, request: Request) -> Completion:
        asked, sure = number(request.messages[-1]), self.quality(shots_of(request))
        if sure < 0:
            return Completion("", failure="broken")
        noise = math.sin(asked * 12.9898) * 2  # the same for every set of shots
        right = sure * (1 if asked % 2 else -1) + noise
        text = ANSWERS[int(right > 0)]
        if self.text_only:
            return Completion(text, Usage(5, 1))
        positive = 1 / (1 + math.exp(-right))
        return Completion(text, Usage(5, 1), (math.log(1 - positive), math.log(positive)))

    def price(self, usage: Usage) -> float:
        return 0.0

    def charge(self, usd: float) -> None:
        """There is no cap."""

    def close(self) -> None:
        """Nothing is held."""


def chosen(teacher: Any, wanted: Recipe, folder: Path, examples: list[Example]) -> tuple[Panel, dict[str, Any]]:
    ledger = Ledger(teacher, folder / "ledger.db")
    facts = choose.build(wanted, examples, ledger, folder, QUIET)
    ledger.close()
    return Panel.from_json((folder / "panel.json").read_text()), facts


def candidate_numbers(wanted: Recipe, candidate: int) -> list[int]:
    shots = draw_shots(tune(), ANSWERS, wanted.teacher.shots, wanted.seed * 1000 + candidate)
    return [int(shot.slots["text"].split()[-1]) for shot in shots]


def panel_numbers(panel: Panel) -> list[list[int]]:
    return [[int(shot.slots["text"].split()[-1]) for shot in member] for member in panel.members]


@pytest.mark.parametrize("text_only", [False, True], ids=["logprobs", "text"])
@pytest.mark.parametrize("best", [0, 3, 5])
def test_the_best_candidates_are_chosen_in_order(tmp_path: Path, best: int, text_only: bool) -> None:
    wanted = recipe(shots=4, candidates=6, committee=2)
    sets = [candidate_numbers(wanted, candidate) for candidate in range(6)]
    second = (best + 2) % 6

    def quality(shots: list[int]) -> float:
        return 3.0 if shots == sets[best] else 1.2 if shots == sets[second] else 0.2

    panel, facts = chosen(Planted(quality, text_only=text_only), wanted, tmp_path, tune())
    assert panel_numbers(panel) == [sets[best], sets[second]]
    assert [c["seed"] for c in facts["candidates"] if c["chosen"]] == sorted([best, second])
    losses = [c["loss_on_tune"] for c in facts["candidates"]]
    assert sorted(range(6), key=lambda c: losses[c])[:2] == [best, second]
    assert panel == Panel.plain(panel.members, 2)  # calibration comes later


def test_a_constant_lean_does_not_hide_the_better_shots(tmp_path: Path) -> None:
    """Shots that tell the answers apart but lean to one of them win over unbiased ones that know little."""
    wanted = recipe(shots=4, candidates=3)
    sets = [candidate_numbers(wanted, candidate) for candidate in range(3)]

    class Leaning(Planted):
        def answer(self, request: Request) -> Completion:
            right = super().answer(request).choice_logprobs
            assert right is not None
            lean = 8.0 if shots_of(request) == sets[1] else 0.0
            score = right[1] - right[0] + lean
            positive = 1 / (1 + math.exp(-score))
            return Completion("positive", Usage(), (math.log(max(1 - positive, 1e-12)), math.log(positive)))

    panel, _ = chosen(Leaning(lambda shots: 3.0 if shots == sets[1] else 0.5), wanted, tmp_path, tune())
    assert panel_numbers(panel) == [sets[1]]


def test_no_shot_is_a_question_of_the_choice(tmp_path: Path) -> None:
    wanted = recipe(shots=4, candidates=5)
    teacher = Planted(lambda _: 1.0)
    _, facts = chosen(teacher, wanted, tmp_path, tune())
    used = {n for candidate in range(5) for n in candidate_numbers(wanted, candidate)}
    questions = [number(request.messages[-1]) for request in teacher.asked]
    assert set(questions) & used == set()
    assert set(questions) | used == set(range(60))
    assert facts["judged_on"] == 60 - len(used)
    assert len(questions) == 5 * facts["judged_on"]


def test_a_candidate_that_breaks_loses(tmp_path: Path) -> None:
    wanted = recipe(shots=4, candidates=3)
    first = candidate_numbers(wanted, 0)
    panel, _ = chosen(Planted(lambda shots: -1 if shots == first else 0.1), wanted, tmp_path, tune())
    assert panel_numbers(panel)[0] != first


def test_the_choice_is_the_same_again_and_costs_nothing(tmp_path: Path) -> None:
    wanted = recipe(shots=4, candidates=4, committee=2)
    (tmp_path / "a").mkdir()
    first = chosen(Planted(lambda shots: sum(shots) % 3), wanted, tmp_path / "a", tune())
    teacher = Planted(lambda shots: sum(shots) % 3)
    assert chosen(teacher, wanted, tmp_path / "a", tune()) == first
    assert teacher.asked == []


def test_without_shots_or_with_one_set_nothing_is_asked(tmp_path: Path) -> None:
    teacher = Planted(lambda _: 1.0)
    panel, facts = chosen(teacher, recipe(), tmp_path, tune())
    assert (panel, facts) == (Panel.plain([()], 2), {"candidates": []})
    wanted = recipe(shots=4)
    panel, _ = chosen(teacher, wanted, tmp_path, tune())
    assert panel_numbers(panel) == [candidate_numbers(wanted, 0)]
    assert teacher.asked == []


def test_too_few_answers_to_judge_by_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"6 sets of 4 shots leave [0-9] to judge them by") as caught:
        chosen(Planted(lambda _: 1.0), recipe(shots=4, candidates=6), tmp_path, tune(24))
    assert "tune" in caught.value.remedy
    assert not (tmp_path / "panel.json").exists()


class Spoiled(ScriptedEngine):
    """Goes by the words of the question alone, and knows nothing after a certain worked example."""

    shot = ""

    def score(self, prompts: Sequence[str], answers: Sequence[str], *, prefix: str = "") -> Scores:
        found = super().score([prompt.removeprefix(prefix) for prompt in prompts], answers)
        return Scores(np.full_like(found.logprobs, -math.log(2)), found.usage) if self.shot in prefix else found


@pytest.mark.parametrize("spoiled", [0, 1])
def test_an_engine_behind_the_local_teacher_is_judged_by_what_it_reads(tmp_path: Path, spoiled: int) -> None:
    wanted = recipe(shots=2, candidates=2)
    examples = [
        Example(f"0:{i}", {"text": f"{'good' if i % 2 else 'poor'} {i}."}, f"g{i}", ANSWERS[i % 2]) for i in range(40)
    ]
    sets = [draw_shots(examples, ANSWERS, 2, wanted.seed * 1000 + candidate) for candidate in range(2)]
    engine = Spoiled({"good": "positive", "poor": "negative"})
    first = sets[spoiled][0]
    engine.shot = f"Text: {first.slots['text']} {first.answer}\n\n"
    panel, facts = chosen(LocalTeacher(engine, "r"), wanted, tmp_path, examples)
    assert panel.members == (sets[1 - spoiled],)
    assert facts["candidates"][spoiled]["loss_on_tune"] == pytest.approx(math.log(2), abs=1e-3)


GENERATE = {"kind": "generate", "prompt": "Text: {text}", "max_tokens": 9}
PRETRAINED = {"model": {"address": "file:nowhere"}}


class Writing(Planted):
    """Says more of the right words the better its shots are."""

    def answer(self, request: Request) -> Completion:
        asked, words = number(request.messages[-1]), int(self.quality(shots_of(request)))
        if words < 0:
            return Completion("", failure="broken")
        right = f"{ANSWERS[asked % 2]} word for {asked} here".split()
        return Completion(" ".join(right[:words] + ["other"] * (5 - words)), Usage(5, 5))


@pytest.mark.parametrize("best", [0, 2, 3])
def test_shots_for_free_text_are_chosen_by_how_near_the_answers_are(tmp_path: Path, best: int) -> None:
    """No answer is equal to the human one, so that equality would not tell the sets apart."""
    plain = small_run.recipe(
        teacher=MODEL | {"shots": 4, "candidates": 4, "samples": 3, "temperature": 0.5}, task=GENERATE
    )
    wanted = recipes.parse(plain | {"student": PRETRAINED}, "recipe")
    examples = [Example(e.id, e.slots, e.group, f"{e.answer} word for {i} here") for i, e in enumerate(tune(60))]
    sets = [draw_shots(examples, (), 4, wanted.seed * 1000 + candidate) for candidate in range(4)]
    numbers = [[int(shot.slots["text"].split()[-1]) for shot in shots] for shots in sets]
    teacher = Writing(lambda shots: 4 if shots == numbers[best] else 2)
    panel, facts = chosen(teacher, wanted, tmp_path, examples)
    assert panel.members == (sets[best],) * 3
    assert (panel.sampling, panel.bias, panel.temperature) == (0.5, (), 1.0)
    losses = [c["loss_on_tune"] for c in facts["candidates"]]
    assert losses == pytest.approx([0.2 if candidate == best else 0.6 for candidate in range(4)])
    assert {request.sample for request in teacher.asked} == {0}
    assert len(teacher.asked) == 4 * facts["judged_on"]  # each set is judged by one draw


def test_free_text_without_shots_is_one_question_drawn_as_often_as_is_wanted(tmp_path: Path) -> None:
    plain = small_run.recipe(teacher=MODEL | {"samples": 2, "temperature": 1.5}, task=GENERATE, student=PRETRAINED)
    panel, facts = chosen(Planted(lambda _: 1.0), recipes.parse(plain, "recipe"), tmp_path, [])
    assert (panel.members, panel.sampling) == (((), ()), 1.5)
    assert facts == {"candidates": []}


def test_a_local_teacher_is_asked_in_the_same_batches_candidate_by_candidate(tmp_path: Path) -> None:
    wanted = recipe(shots=4, candidates=2)
    batches: list[list[tuple[list[int], int]]] = []

    class Batched(Planted):
        def complete(self, requests: Sequence[Request], keep: Keep | None = None) -> list[Completion]:
            batches.append([(shots_of(request), number(request.messages[-1])) for request in requests])
            return super().complete(requests, keep)

    chosen(Batched(lambda _: 1.0), wanted, tmp_path, tune(90))
    shots = [
        [int(shot.slots["text"].split()[-1]) for shot in draw_shots(tune(90), ANSWERS, 4, wanted.seed * 1000 + c)]
        for c in range(2)
    ]
    judges = [n for n in range(90) if n not in shots[0] + shots[1]]
    assert batches == [[(s, n) for n in part] for s in shots for part in (judges[:64], judges[64:])]


def test_an_apis_calls_flow_from_one_candidate_to_the_next(tmp_path: Path) -> None:
    class Flowing(OpenAiTeacher):
        flows = 0

        def complete(self, requests: Iterable[Request], keep: Keep | None = None) -> list[Completion]:
            self.flows += 1
            return super().complete(requests, keep)

    with ScriptedServer({"1": "positive", "": "negative"}) as server:
        endpoint = {"base_url": server.url, "model": "m", "api_key_env": "", "concurrency": 4}
        plain = {"endpoint": endpoint, "shots": 4, "candidates": 3}
        wanted = recipes.parse(small_run.recipe(teacher=plain), "recipe")
        assert wanted.teacher.endpoint is not None
        teacher = Flowing(wanted.teacher.endpoint)
        said = io.StringIO()
        ledger = Ledger(teacher, tmp_path / "ledger.db")
        facts = choose.build(wanted, tune(90), ledger, tmp_path, Progress(said))
        ledger.close()
        assert teacher.flows == 1
        total = 3 * facts["judged_on"]
        assert server.stats()["requests"] == total
        assert f'"done": {total}, "total": {total}' in said.getvalue()
