"""A forecast for a terminal of 100 columns."""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from aasut.economics.cost import usd
from aasut.forecast.forecast import Forecast, Line
from aasut.forecast.pace import DOWNLOAD_BYTES_S

NONE = "\N{EN DASH}"


def render(found: Forecast) -> RenderableType:
    """The stages with their totals, then what the figures rest on."""
    table = Table(box=box.SIMPLE, pad_edge=False, show_footer=True)
    total = found.as_dict()["total"]
    table.add_column(found.name, footer="total")
    footers = (
        f"{total['calls']:,}", f"{total['tokens_in']:,}", f"{total['tokens_out']:,}", usd(total["usd"]),
        minutes(found.seconds), f"{sum(line.gigabytes for line in found.lines):.2f}",
    )  # fmt: skip
    for name, footer in zip(("calls", "tokens in", "tokens out", "dollars", "minutes", "GB"), footers, strict=True):
        table.add_column(name, footer=footer, justify="right")
    for line in found.lines:
        table.add_row(*_cells(line))
    return Group(table, *(Padding(Text(text), (0, 1)) for text in notes(found)))


def _cells(line: Line) -> list[str]:
    if line.reused:
        return [line.stage, *[NONE] * 4, "reused", NONE]
    asks = line.calls or line.held
    held = f" (+{line.held:,} held)" if line.held else ""
    counts = [f"{line.calls:,}{held}", f"{line.tokens_in:,}", f"{line.tokens_out:,}", usd(line.usd)]
    return [line.stage, *(counts if asks else [NONE] * 4), minutes(line.seconds), f"{line.gigabytes:.2f}"]


def minutes(seconds: float) -> str:
    """Minutes with as many decimals as they need: 0.02, 1.5, 12."""
    value = seconds / 60
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def notes(found: Forecast) -> Iterator[str]:
    """Downloads, space, the cap, and how each kind of figure is known."""
    for download in found.downloads:
        if download.bytes is None:
            yield f"To download: {download.address}, of unknown size."
        else:
            spent = minutes(download.bytes / DOWNLOAD_BYTES_S)
            yield f"To download: {download.address}, {download.bytes / 1e9:.2f} GB, about {spent} minutes at 10 MB/s."
    yield (
        f"Memory: {found.memory_gb:.1f} GB at most, {found.memory_free_gb:.1f} GB are free. "
        f"Disk: {found.gigabytes:.2f} GB, {found.disk_free_gb:.1f} GB are free."
    )
    if found.max_usd is not None:
        worst = sum(line.usd_worst for line in found.lines)
        yield (
            f"Cap: {usd(found.max_usd)}, {usd(found.paid_usd)} paid before; this run needs about {usd(found.usd)}, "
            f"at worst {usd(worst)}."
        )
    for what, how in found.how.items():
        yield f"{what.capitalize()}: {how}."
    if found.probe_s >= 1:
        yield f"Trying the models took {found.probe_s:.0f} s."
    yield "Nothing was paid, no endpoint was called and no model was downloaded."
