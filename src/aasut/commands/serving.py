"""What `aasut plan` prints of a mixture: what else could serve its fields, how fast, in how much memory, how well."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aasut.economics.sparse import BATCH, MIXTURE, megabytes
from aasut.report.serving import HEADS, SHORT
from aasut.report.table import columns

Facts = Mapping[str, Any]
UNTRAINED = "not trained (--dense)"


def tables(found: Facts) -> list[Any]:
    """For a terminal: a row an arm, a row a set of texts, and the verdict."""
    from rich.text import Text

    arms = found["arms"]
    first = columns(found["run"], "weights", "a token", "MB", "tokens/s", f"at batch {BATCH}", "bits per byte, mean")
    for name, of in arms.items():
        sizes = [f"{of[size] / 1e6:,.3g} M" for size in ("weights", "active")]
        speeds = [f"{of['tokens_s'][batch]:,.0f}" for batch in ("1", str(BATCH))]
        first.add_row(HEADS[name], *sizes, megabytes(of["megabytes"]), *speeds, _mean(of))
    known = [name for name, of in arms.items() if "sets" in of]
    second = columns("bits per byte", "documents", *(SHORT[name] for name in known))
    for name, documents in found["documents"].items():
        cells = [_cell(arms[arm]["sets"][name], arm) for arm in known]
        second.add_row(Text(name), f"{documents:,}", *cells)
    right = ", ".join(f"{100 * share:.0f} % of {name}" for name, share in found["chosen_right"].items())
    said = [
        "On documents of tune; beside the mixture's, how many more.",
        f"Timed on {found['machine']}, on the engines {_engines(arms)}.",
        f"The classifier gives its own student to {right}, by the whole text.",
        *found["verdict"]["sentences"],
        f"In pictures: {found['page']}",
    ]
    return [first, second, *map(Text, said)]


def _engines(arms: Facts) -> str:
    """What each engine runs."""
    named: dict[str, list[str]] = {}
    for name, of in arms.items():
        named.setdefault(of["engine"], []).append(SHORT[name])
    return "; ".join(f"{engine} ({' · '.join(names)})" for engine, names in named.items())


def _mean(of: Facts) -> str:
    if "bits_per_byte" not in of:
        return UNTRAINED
    return f"{of['bits_per_byte']['value']:.3f}" if of["over_mixture"] is None else _more(of["over_mixture"])


def _cell(of: Facts, arm: str) -> str:
    return f"{of['bits_per_byte']['value']:.3f}" if arm == MIXTURE else _more(of["over_mixture"])


def _more(of: Facts) -> str:
    """A difference, with half its interval."""
    return f"{of['value']:+.3f} \N{PLUS-MINUS SIGN} {(of['upper'] - of['lower']) / 2:.3f}"
