"""How a Mixture of Experts is used: heat maps of loads by layer, and by what the texts belong to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from aasut.report.drawing import COLOURS, chart, svg
from aasut.report.table import Facts

PALEST, SHADE = 0.05, 0.8  # of a cell without load, and more at twice its even share or above
MOST_LETTERS = 40  # of experts' names side by side
MOST_NAMED = 16  # layers up to which each has its number


def loads(facts: Facts) -> Markup:
    """Each expert's share of its layer's tokens."""
    used = facts["training"].get("experts")
    if not used:
        return Markup("")
    layers = [str(number) for number in range(len(used["shares"]))]
    return _drawn(layers, used["shares"], "layer", "experts-layers", used.get("names", ()))


def groups(facts: Facts) -> Markup:
    """Each expert's share of the tokens of a group, such as a field, as the mean over layers."""
    used = facts["training"].get("experts") or {}
    of_groups = used.get("groups")
    if not of_groups:
        return Markup("")
    means = [[sum(column) / len(shares) for column in zip(*shares, strict=True)] for shares in of_groups.values()]
    return _drawn(list(of_groups), means, "", "experts-groups", used.get("names", ()))


def _drawn(
    names: Sequence[str], shares: Sequence[Sequence[float]], what: str, name: str, experts: Sequence[str] = ()
) -> Markup:
    """`experts`: their names, where they have any."""
    from matplotlib.patches import Rectangle

    even = 1 / len(shares[0])
    with chart(0.6 + min(0.22 * len(names), 3.0)) as (figure, axes):
        for row, values in enumerate(shares):
            for expert, share in enumerate(values):
                box = Rectangle((expert - 0.5, row - 0.5), 1, 1, linewidth=0)
                axes.add_patch(box)
                dark = min(share / even / 2, 1.0)
                box.set(facecolor=COLOURS["student"], alpha=round(PALEST + SHADE * dark, 3))
        axes.set_xlim(-0.5, len(shares[0]) - 0.5)
        axes.set_ylim(len(names) - 0.5, -0.5)
        each = -(-len(names) // MOST_NAMED) or 1
        axes.set_yticks(range(0, len(names), each), names[::each])
        axes.set_xticks(range(len(shares[0])), experts or [str(number) for number in range(len(shares[0]))])
        if sum(map(len, experts)) > MOST_LETTERS:
            axes.tick_params(axis="x", labelrotation=40)
        axes.set(xlabel="expert", ylabel=what)
        return svg(figure, name, f"Share of tokens of each expert by {what or 'what the texts belong to'}")


def rows(training: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(what, said) of the experts' use on validation; nothing for a dense student."""
    used = training.get("experts")
    if not used:
        return []
    start = (training.get("initialise") or {}).get("experts") or {}
    said = [("Load of the experts", f"deviation over mean {used['cv']:.2f}, on the mean over layers")]
    said.append(("Dead experts", f"{used['dead']:,} of {sum(map(len, used['shares'])):,}"))
    if start:
        active, whole = start["active_parameters"], start["parameters"][1]
        said.insert(0, ("Weights that a token uses", f"{active:,} of {whole:,} ({active / whole:.0%})"))
    return said
