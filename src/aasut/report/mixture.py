"""What a mixture of fields is worth on each field's texts, and which experts these go through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aasut.files import write_atomically
from aasut.report import router
from aasut.report.adaptation import bits, bits_per_byte, quotient
from aasut.report.page import template

Facts = Mapping[str, Any]
PAGE = "mixture.html"
ROLES = {"before": "muted", "branch": "teacher", "mixture": "student"}  # models, and their colours
HEADS = {"before": "before", "branch": "own student", "mixture": "mixture"}
TEACH = {
    "branches": "Each text was learned from the distribution of its own field's student.",
    "documents": "Texts were learned as they stand.",
    "teacher": "Texts were learned from the teacher's distribution.",
}


def write(name: str, facts: Facts, folder: Path) -> None:
    """Write mixture.html; equal facts give equal bytes. `facts`: those of `mixture.MixtureStages`."""
    write_atomically(folder / PAGE, html(name, facts))


def html(name: str, facts: Facts) -> str:
    """The page of these facts; every text in them is escaped."""
    filters = {
        "number": lambda value: f"{value:,}",
        "bits": bits_per_byte,
        "over": over,
        "share": lambda value: f"{100 * value:.0f} %",
    }
    used = {"training": {"experts": facts["router"]}}
    return template(PAGE, filters).render(
        name=name, facts=facts, roles=HEADS, chart=bits(facts["sets"], ROLES), sentences=sentences(facts),
        layers=router.loads(used), groups=router.groups(used), means=means(facts["router"]),
    )  # fmt: skip


def means(used: Facts) -> dict[str, list[float]]:
    """Of the tokens of each group, the share of each expert, as the mean over layers."""
    return {
        name: [sum(column) / len(shares) for column in zip(*shares, strict=True)]
        for name, shares in used["groups"].items()
    }


def over(found: Facts, role: str) -> str:
    """The mixture's bits over those of another model, with half the interval."""
    value = found["mixture_over"].get(role)
    return "\N{EN DASH}" if value is None else quotient(value)


def sentences(facts: Facts) -> list[str]:
    """What the mixture is, how it was learned, and how its experts are used."""
    names, size, used = facts["experts"]["names"], facts["parameters"], facts["router"]
    said = [
        f"{len(names)} experts: {_listed(names)}. A token goes through {facts['experts']['active']} of them: "
        f"{size['active']:,} of {size['all']:,} weights."
    ]
    learned: dict[str, int] = facts["train"]["all"]["tokens_learned"]
    said.append(
        f"An epoch of all had {sum(learned.values()):,} tokens: "
        + ", ".join(f"{count:,} of {name}" for name, count in learned.items())
        + f". {TEACH[facts['teach']]}"
    )
    for name in facts["added"]:
        tokens = facts["train"][name]["tokens_learned"][name]
        said.append(f"{name} came later: its expert alone was trained, on {tokens:,} tokens.")
    if facts["removed"]:
        said.append(f"Taken out again: {_listed(facts['removed'])}.")
    cells = sum(map(len, used["shares"]))
    said.append(
        f"Loads deviate by {used['cv']:.2f} of their mean, on the mean over layers; {used['dead']} of {cells} experts "
        "of all layers are dead."
    )
    active, own = facts["experts"]["active"], means(used)
    to_own = [f"{100 * active * own[name][number]:.0f} % in {name}" for number, name in enumerate(names) if name in own]
    said.append(
        f"Of a field's tokens, so many go through its own expert: {_listed(to_own)}; by chance it were "
        f"{100 * active / len(names):.0f} %."
    )
    return said


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
