"""Stage `logits`: the teacher's distribution at each token of its answers, in a logit cache."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aasut.data.ask import ask
from aasut.files import write_atomically
from aasut.formats.tokenizer import Tokenizer, read_json
from aasut.progress import Progress
from aasut.student import asked, train
from aasut.student.lessons import Given
from aasut.tasks import answer_text
from aasut.types import Conservation

if TYPE_CHECKING:
    from aasut.student.api_logits import Listed
    from aasut.student.objective import Row
    from aasut.student.thinning import Entries

VERSION = 1
ALONE = "alone.json"  # texts that the cache has nothing for, by key, with the reason


def build(given: Given, folder: Path, progress: Progress) -> dict[str, Any]:
    """Fill the cache in `folder`, or go on where a kill stopped that; gives facts.

    Every text has its distributions in the cache, or, where an endpoint's tokens are not the student's, is listed as
    to be learned alone. The fact `matched` is the share of the former.
    """
    student = Tokenizer.load(given.student)
    if given.method == "cached_kd":
        return _of_model(given, student, folder, progress)
    return _of_endpoint(given, student, folder, progress)


def alone(folder: Path) -> dict[str, str]:
    """Texts that the cache has nothing for, by key, with the reason."""
    found: dict[str, str] = json.loads((folder / ALONE).read_text(encoding="utf-8"))
    return found


def _of_model(given: Given, student: Tokenizer, folder: Path, progress: Progress) -> dict[str, Any]:
    from aasut.student import score_logits

    model, tokenizer = given.model()
    texts = []
    prompts = asked.prompts(given.recipe, given.panel, tokenizer, given.examples)
    for prompt, rows in zip(prompts, _rows(given, student), strict=True):
        for row in rows:
            answer = row.ids[len(row.ids) - row.answer : len(row.ids) - row.own]
            texts.append(score_logits.Asked(row.key, prompt, answer))
    written = score_logits.write(model, texts, folder, given.binding(student), progress)
    return _facts(written, {}, folder)


def _of_endpoint(given: Given, student: Tokenizer, folder: Path, progress: Progress) -> dict[str, Any]:
    """From the alternatives that an endpoint listed to its answers, which the ledger has; the cache is biased."""
    from aasut.student import score_logits
    from aasut.student.logit_cache import Writer

    found, left = _listed(given, student, progress)
    shards = score_logits.cut([score_logits.Asked(key, (), listed.answer_ids) for key, listed in found.items()])
    writer = Writer(folder, given.binding(student), [[(text.key, text.answer) for text in shard] for shard in shards])
    for number in writer.missing()[0]:
        writer.write(number, [_entries(found[text.key], given.recipe.seed, text.key) for text in shards[number]])
    tokens = sum(len(listed.answer_ids) for listed in found.values())
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    known = sum(float((1 - listed.rest).sum()) for listed in found.values())
    written = {"texts": len(found), "tokens": tokens, "shards": len(shards), "biased": True}
    per_token = {"bytes_per_token": size / tokens, "mass_known": known / tokens} if tokens else {}
    return _facts(written | per_token, left, folder)


def _listed(given: Given, student: Tokenizer, progress: Progress) -> tuple[dict[str, Listed], dict[str, str]]:
    """(what is known of each text's tokens, by key; the other texts, with the reason)."""
    from aasut.student.api_logits import ApiLogits

    recipe, reader, examples = given.recipe, ApiLogits(student), given.examples
    task, before = recipe.task.build(), recipe.student_template().messages[-1].content
    asked_for = [example for example in examples if example.taught is None]
    again = iter(ask(recipe, given.panel, asked_for, given.ledger(), progress, "answers are read again"))
    completions = [next(again) if example.taught is None else [] for example in examples]
    texts = {label.id: label.texts for label in given.labels}
    found: dict[str, Listed] = {}
    left: dict[str, str] = {}
    for example, rows, told in zip(examples, _rows(given, student), completions, strict=True):
        said = dict(reversed(given.panel.answered(task, told)[0]))  # of equal texts the first
        for row in rows:
            text = texts[example.id][int(row.key.rsplit("#", 1)[1])]
            listed, reason = reader.listed(
                answer_text(before, text), said[text].token_logprobs if text in said else None
            )
            if listed is None:
                left[row.key] = reason
            else:
                found[row.key] = listed
    return found, left


def _rows(given: Given, student: Tokenizer) -> list[list[Row]]:
    """The rows of each example, just as the stage `train` makes them."""
    context = int(read_json(given.student / "config.json").get("max_position_embeddings", 1 << 30))
    by_id = {label.id: label for label in given.labels}
    return train.rows_of(given.recipe, context, student, given.examples, by_id)[1]


def _entries(listed: Listed, seed: int, key: str) -> Entries:
    from aasut.student.thinning import known, uniform

    start = hashlib.sha256(f"{seed} {key}".encode("utf-8", "surrogatepass")).digest()
    return known(listed.ids, listed.mass, uniform(len(listed.ids), start)[:, 0])


def _facts(written: Mapping[str, Any], left: Mapping[str, str], folder: Path) -> dict[str, Any]:
    write_atomically(folder / ALONE, json.dumps(left, indent=1, ensure_ascii=False) + "\n")
    every = written["texts"] + len(left)
    plain = {name: value for name, value in written.items() if name != "shards_kept"}  # equal after any kill
    rows = Conservation(every, written["texts"], failed=dict(Counter(left.values())))
    return {**plain, "matched": written["texts"] / max(every, 1), "conservation": {"logits": rows}}
