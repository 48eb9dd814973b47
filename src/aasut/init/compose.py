"""The recipe of what was found, as YAML with a comment on every choice."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from pathlib import Path

from aasut.init.findings import Findings
from aasut.init.yamltext import block, flow, inline, plain, quoted, scalar
from aasut.recipe import Data
from aasut.recipe.models import SMALL_MODEL

_ENDPOINT = "https://api.openai.com/v1"
_MODEL = "name-of-your-model"


def recipe(found: Findings, out: Path) -> str:
    """The recipe's text; `out` is where it will stand, to which the table's path is relative."""
    sections = [_head(found), _task(found), _data(found, out), _teacher(found), _student(found), _evaluate(found)]
    return "\n".join("\n".join(section) + "\n" for section in sections)


def name_of(path: Path) -> str:
    """A run's name out of a file's."""
    stem = path.name.split(".", 1)[0]
    return re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-_.") or "my-task"


def max_failed(found: Findings) -> float:
    """Share of rows that may fail: the default where that will do, else a little more than was seen."""
    default = float(Data.model_fields["max_failed"].default)
    seen = sum(found.faults.values()) / max(_looked_at(found), 1)
    return default if seen <= 0.75 * default else min(math.ceil(seen * 120 + 1) / 100, 0.99)


def looked_at(found: Findings) -> str:
    """How much of the file was looked at, in words."""
    what = "requests" if found.log is not None else "rows"
    count = _looked_at(found)
    if found.sample.whole:
        return f"all {count:,} {what}"
    if found.sample.spread:
        return f"{count:,} of about {found.sample.total:,} {what}, from all over the file"
    return f"the first {count:,} of about {found.sample.total:,} {what}"


def _looked_at(found: Findings) -> int:
    return len(found.sample.rows) + sum(found.sample.faults.values())


def _head(found: Findings) -> list[str]:
    return [
        f"# Made by `aasut init` from {plain(found.path.name)}: it looked at {looked_at(found)}.",
        "# Every line may be changed; docs/recipe.md lists all fields.",
        f"name: {scalar(name_of(found.path))}",
    ]


def _task(found: Findings) -> list[str]:
    lines = ["task:"]
    kind = found.kind or ("generate" if found.log is not None else "classify")
    if not found.kind and found.log is not None:
        lines.append(
            "  # EDIT: the log has too few answers to tell the kind of task; for labels: kind: classify, and labels."
        )
    if not found.kind and found.log is None:
        lines.append("  # EDIT: no column of the table tells the labels; these two stand for yours.")
    lines.append(f"  kind: {kind}")
    if kind == "classify":
        lines += _labels(found)
    if kind == "extract":
        whose = "requests ask for" if found.said_by else "answers that were seen have in common"
        lines.append(f"  # The shape that the {whose}.")
        lines.append(f"  schema: {flow(found.schema)}")
    if found.log is None:
        lines.append(
            "  # EDIT: put the prompt here that your application sends today, and leave the slot where the input goes."
        )
    else:
        lines += [f"  # {line}" for line in prompt_notes(found)]
    lines += _prompt(found.prompt)
    if kind != "classify" and found.longest_answer:
        tokens = max(16, 2 ** math.ceil(math.log2(found.longest_answer / 2 + 1)))
        lines.append(f"  # The longest answer that was seen has {found.longest_answer:,} characters.")
        lines.append(f"  max_tokens: {tokens}")
    return lines


def _labels(found: Findings) -> list[str]:
    if not found.labels:
        return ["  labels: ['yes', 'no']"]
    lines = []
    shown = ", ".join(f"{plain(label)} {count:,}" for label, count in list(found.counts.items())[:20])
    if found.table is not None and found.table.ranges:
        lines.append("  # The answers are numbers; label.ranges below says which mean which label.")
    elif found.table is not None and found.table.answer is not None:
        lines.append(f"  # The values of the column {plain(found.table.answer.name)}: {shown}.")
    elif found.answered is not None:
        rare = f"; {found.answered.rare:,} answers were none of these" if found.answered.rare else ""
        lines.append(f"  # What the model answered, in {found.answered.count:,} answers: {shown}{rare}.")
    return [*lines, f"  labels: {flow(list(found.labels))}"]


def prompt_notes(found: Findings) -> list[str]:
    """What is to be said about a prompt that was inferred from a log."""
    log = found.log
    if log is None:
        return []
    slots = ", ".join(f"{{{name}}} ({count:,} different texts)" for name, count in log.values.items())
    notes = [f"The text that the requests share, read back from {log.read:,} of {log.requests:,}. Slots: {slots}."]
    if log.other_prompt or log.other_roles:
        notes.append(
            f"{log.other_prompt + log.other_roles:,} requests were written with other prompts"
            + (f" ({log.other_roles:,} of them with other roles)" if log.other_roles else "")
            + " and are left out."
        )
    if log.ambiguous:
        notes.append(
            f"{log.ambiguous:,} requests could be read in more than one way, since an input holds the text between "
            "two slots; they are left out, and the server refuses such requests."
        )
    notes += [
        f"The text {scalar(piece)} stands in the inputs of {count:,} requests too: what is around it is one slot."
        for piece, count in log.merged.items()
    ]
    return notes


def _prompt(messages: Sequence[tuple[str, str]]) -> list[str]:
    if len(messages) == 1:
        return block("prompt", messages[0][1], 2)
    lines = ["  prompt:"]
    for role, text in messages:
        lines += [f"    - role: {role}", *block("content", text, 6)]
    return lines


def _data(found: Findings, out: Path) -> list[str]:
    sample, table = found.sample, found.table
    source = os.path.relpath(found.path.resolve(), out.resolve().parent)
    lines = ["data:", "  tables:", f"    - source: {scalar(source)}", f"      format: {sample.kind}"]
    if sample.kind != "parquet":
        lines.append(
            f"      encoding: {sample.encoding}{'' if sample.encoding == 'utf-8' else ' # guessed from the bytes'}"
        )
    if sample.delimiter != "," and sample.kind == "csv":
        lines.append(f"      delimiter: {scalar(sample.delimiter)}")
    if not sample.header and sample.columns is not None:
        lines.append("      # The first line is data; these names are made up.")
        lines.append(f"      columns: {flow(list(sample.columns))}")
    if table is not None:
        lines += _columns(found)
    else:
        lines.append("      # task.prompt reads the slots out of each request.")
        if found.row_id:
            lines.append(f"      id: {found.row_id} # every request has one of its own")
        lines.append("      role: pool # what a model answered is no human answer")
        lines += ["      recorded: true # the teacher's own answers are taken as they are"] if found.recorded else []
    if table is None or table.answer is None:
        lines += [
            "  # The proof needs human answers: `aasut gold` asks you for them, and writes them to this file.",
            "  gold: gold.jsonl",
        ]
    most = max_failed(found)
    if found.faults:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(found.faults.items()))
        lines.append(f"  # Rows that cannot be used: {reasons}.")
    if most != Data.model_fields["max_failed"].default:
        lines.append(f"  max_failed: {most:g}")
    return lines


def _columns(found: Findings) -> list[str]:
    table = found.table
    assert table is not None
    text = table.text
    lines = [
        f"      # Filled in {text.filled:,} of {text.rows:,} rows, {text.characters:.0f} characters on average, "
        f"{text.distinct:,} different texts.",
    ]
    if table.other_texts:
        lines.append(f"      # More text stands in: {plain(', '.join(table.other_texts[:8]))}.")
    lines.append(f"      slots: {flow({found.slot: text.name})}")
    if table.duplicates:
        also = f", {table.conflicts:,} texts with different answers" if table.conflicts else ""
        lines.append(f"      # {table.duplicates:,} rows repeat the text of another{also}; of each one stays.")
    if table.id is not None:
        lines += ["      # A different value in every row.", f"      id: {scalar(table.id.name)}"]
    if table.group is not None:
        lines.append(f"      # {table.groups:,} groups; the rows of one stay together, on one side of every split.")
        pattern = f", pattern: {scalar(table.group_pattern)}" if table.group_pattern else ""
        lines.append(f"      group: {{column: {inline(table.group.name)}{pattern}}}")
    else:
        lines.append("      # No column tells which rows come from one source; if one does: group: {column: NAME}")
    if table.answer is None:
        return [*lines, "      role: pool # no column holds human answers"]
    if table.other_labels:
        lines.append(f"      # The labels could also be in: {plain(', '.join(table.other_labels[:8]))}.")
    missing = table.answer.rows - table.answer.filled
    if missing:
        lines.append(f"      # {missing:,} rows have no answer and become inputs for the teacher.")
    lines += ["      label:", f"        column: {scalar(table.answer.name)}"]
    if table.ranges:
        numbers = [float(value) for value in table.answer.counts]
        lines.append(
            f"        # EDIT: numbers from {min(numbers):g} to {max(numbers):g}; those in the middle are no answer."
        )
        lines.append("        ranges:")
        for label, low, high in table.ranges:
            bound = f"at_most: {high:g}" if low is None else f"at_least: {low:g}"
            lines.append(f"          - {{label: {inline(label)}, {bound}}}")
    return lines


def _teacher(found: Findings) -> list[str]:
    model = found.model or _MODEL
    why = "the log names it" if found.model else "EDIT: the name by which the API knows it"
    return [
        "teacher:",
        "  # The model that answers today, behind any API that speaks OpenAI's protocol. A server on this machine",
        "  # needs no account: set its base_url, and api_key_env: ''. A local model goes under teacher.model instead.",
        "  endpoint:",
        f"    base_url: {scalar(found.base_url or _ENDPOINT)}",
        f"    model: {scalar(model)} # {why}",
        "    api_key_env: OPENAI_API_KEY # this environment variable holds the key; the recipe never does",
        "    # EDIT: dollars per million tokens, to count what is spent. At 0 nothing is counted.",
        "    usd_per_million_input_tokens: 0",
        "    usd_per_million_output_tokens: 0",
        "  # max_usd: 10 # stops before this is passed; needs the prices",
    ]


def _student(found: Findings) -> list[str]:
    slots = re.findall(r"(?<!\{)\{(\w+)\}", "".join(text for _, text in found.prompt))
    linear = found.kind == "classify" or (not found.kind and found.log is None)
    short = (
        "\n".join(f"{name.replace('_', ' ').capitalize()}: {{{name}}}" for name in dict.fromkeys(slots)) + "\nAnswer:"
    )
    pretrained = [
        "initialise: pretrained",
        "model:",
        f"  address: {SMALL_MODEL.address}",
        f"  sha256: {SMALL_MODEL.sha256}",
        "# The student's own prompt is short: it has learned the task.",
        f"prompt: {quoted(short)}",
    ]
    if not linear:
        return [
            "student:",
            "  # SmolLM2-135M, fine-tuned on the teacher's answers.",
            *(f"  {line}" for line in pretrained),
        ]
    return [
        "student:",
        "  # TF-IDF and logistic regression: trains in seconds, so it is the first thing to try.",
        "  initialise: linear",
        "  # SmolLM2-135M, fine-tuned, instead:",
        *(f"  # {line.removeprefix('# ')}" for line in pretrained if not line.startswith("#")),
    ]


def _evaluate(found: Findings) -> list[str]:
    return [
        "evaluate:",
        "  # How much worse than the teacher the student may be. Fix it before you see a result.",
        "  margin: 0.03",
    ]
