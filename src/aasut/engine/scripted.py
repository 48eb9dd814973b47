"""An engine without a model, for tests of what stands on engines: fixed words decide fixed answers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from aasut.engine.base import Piece, Prompt, Scores, Token
from aasut.errors import EngineError, ModelError
from aasut.types import Usage

RULES = "rules.json"
_WEIGHT = 9.0  # mass of a word that occurs, where every answer starts with 1


class ScriptedEngine:
    """`rules` maps words to answers; case and the space around an answer do not count.

    An answer's probability is (1 + 9 * its words that occur in the prompt), divided by the sum over
    the answers; where no word occurs, all answers are equally likely. A token is a word between
    spaces. Its text is sure: it has no alternatives to a token.
    """

    alternatives = 0

    def __init__(self, rules: Mapping[str, str], context: int = 4096) -> None:
        self.name = "scripted"
        self.prefix_cache = True
        self.parameters = 0
        self.context = context
        self.rules = dict(rules)

    def score(self, prompts: Sequence[str], answers: Sequence[str], *, prefix: str = "") -> Scores:
        """Logprobs [prompts, answers]; see Engine.score. `prefix` counts as cached from the second prompt on.

        Raises ModelError where a prompt does not begin with `prefix`, or is longer than the context.
        """
        for prompt in prompts:
            if not prompt.startswith(prefix):
                raise ModelError("A prompt does not begin with the shared prefix.", "Give the prefix that all share.")
            self._check_length(prompt, 0)
        names = [answer.strip().casefold() for answer in answers]
        weights = np.ones((len(prompts), len(answers)))
        for row, prompt in enumerate(prompts):
            for answer in self._matches(prompt):
                weights[row] += [_WEIGHT * (name == answer.strip().casefold()) for name in names]
        logprobs = np.log(weights / weights.sum(axis=1, keepdims=True))
        usage = Usage(
            prompt_tokens=sum(self.count_tokens(prompt) for prompt in prompts),
            completion_tokens=len(prompts) * sum(self.count_tokens(answer) for answer in answers),
            cached_tokens=self.count_tokens(prefix) * max(len(prompts) - 1, 0),
        )
        return Scores(logprobs, usage)

    def generate(self, prompts: Sequence[Prompt], *, prefix: str = "") -> Iterator[Piece]:
        """The answer of the first rule whose word occurs, word by word; nothing where none does.

        The text is the same at every temperature and seed, and whatever `schema` and `plain` say. Raises
        EngineError where alternatives are asked for.
        """
        for row, prompt in enumerate(prompts):
            if not prompt.text.startswith(prefix):
                raise ModelError("A prompt does not begin with the shared prefix.", "Give the prefix that all share.")
            self._check_length(prompt.text, prompt.max_tokens)
            text = next(iter(self._matches(prompt.text)), "")
            for sequence in prompt.stop:
                text = text.split(sequence, 1)[0]
            words = text.split()
            made = words[: prompt.max_tokens]
            if prompt.top_logprobs:
                raise EngineError("The engine scripted lists no alternatives to a token.", "Set top_logprobs to 0.")
            for number, word in enumerate(made):
                shown = word if number == 0 else " " + word
                said = (Token(shown, shown.encode(), 0.0),) if prompt.logprobs else ()
                yield Piece(row, shown, number + 1, said=said)
            sure = (0.0,) * len(made) if prompt.logprobs else ()
            yield Piece(row, "", len(made), "stop" if len(made) == len(words) else "length", sure)

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def close(self) -> None:
        pass

    def _check_length(self, prompt: str, answer: int) -> None:
        length = self.count_tokens(prompt) + answer
        if length > self.context:
            raise ModelError(f"A prompt has {length} tokens; the context has {self.context}.", "Shorten the input.")

    def _matches(self, prompt: str) -> list[str]:
        folded = prompt.casefold()
        return [answer for word, answer in self.rules.items() if word.casefold() in folded]


def load(path: Path, *, precision: str = "auto", prefix_cache: bool = True) -> ScriptedEngine:
    """Read the rules, one JSON object of words to answers, from a file or from `rules.json` in a folder.

    There is nothing for `precision` and `prefix_cache` to change. Raises ModelError.
    """
    del precision, prefix_cache
    file = path / RULES if path.is_dir() else path
    try:
        rules = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} holds no rules: {error}.", "Write a JSON object of words to answers.") from None
    if not isinstance(rules, dict) or not all(isinstance(answer, str) for answer in rules.values()):
        raise ModelError(f"{file} holds no rules.", 'Write a JSON object of words to answers: {"great": "positive"}.')
    return ScriptedEngine(rules)
