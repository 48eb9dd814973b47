"""What all charts of the report share: the page's colours, an empty chart, and its way to a small SVG."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Drawn in these colours, which no chart uses otherwise; the page's own take their place afterwards.
COLOURS = {
    name: f"#0100{i:02x}"
    for i, name in enumerate(("ink", "muted", "line", "surface", "teacher", "student", "linear", "other", "bad"), 1)
}
WIDTH = 3.9  # inches; 281 units in the drawing, shown at up to 1.5 times that in pixels
SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "aasut",
    "font.size": 8,
    "font.family": "DejaVu Sans",
    "text.parse_math": False,
    "text.color": COLOURS["ink"],
    "axes.labelcolor": COLOURS["muted"],
    "axes.edgecolor": COLOURS["line"],
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "figure.facecolor": "none",
    "grid.color": COLOURS["line"],
    "grid.linewidth": 0.6,
    "xtick.color": COLOURS["line"],
    "ytick.color": COLOURS["line"],
    "xtick.labelcolor": COLOURS["muted"],
    "ytick.labelcolor": COLOURS["ink"],
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "legend.frameon": False,
    "legend.labelcolor": COLOURS["ink"],
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
}


@contextmanager
def chart(height: float) -> Iterator[tuple[Figure, Axes]]:
    """An empty chart of `height` inches, under settings that a user's own do not touch."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # letters that the measuring font lacks: the page's font draws them
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(SETTINGS)
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        yield figure, figure.subplots()


def svg(figure: Figure, name: str, label: str) -> Markup:
    """The drawing as an SVG element: page colours and font, unique ids, nothing that a page does not need."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    text = buffer.getvalue()
    text = text[text.index("<svg") :].strip()
    for waste in (r"<metadata>.*?</metadata>", r"<!--.*?-->", r"<defs>\s*<style.*?</style>\s*</defs>"):
        text = re.sub(waste, "", text, flags=re.DOTALL)
    width, height = (f"{inches * 72:.6g}" for inches in figure.get_size_inches())
    opening = f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">'
    text = opening + text[text.index(">") + 1 :]
    text = text.replace("xlink:href", "href")
    text = re.sub(
        r"font: (?:\w+ )?([\d.]+px) [^;\"]+|font-family: [^;\"]+; ?",
        lambda m: f"font-size: {m[1]}" if m[1] else "",
        text,
    )
    text = re.sub(r' transform="rotate\(-0 [^"]*"', "", text)
    for colour, value in COLOURS.items():
        text = text.replace(value, f"var(--{colour})")
    used = dict.fromkeys(re.findall(r'(?:url\(#|href="#)([\w-]+)', text))
    text = re.sub(r' id="([\w.-]+)"', lambda m: m.group(0) if m.group(1) in used else "", text)
    for place, old in enumerate(used):
        text = re.sub(rf'(id="|url\(#|href="#){re.escape(old)}\b', rf"\g<1>{name}-{place}", text)
    return Markup(re.sub(r"\n\s*", "\n", text))


def thinned(number: int, most: int) -> list[int]:
    """Places of at most `most` of `number` points, evenly spread, the first and the last among them."""
    if number <= most:
        return list(range(number))
    return sorted({round(i * (number - 1) / (most - 1)) for i in range(most)})


def round_count(value: float) -> str:
    """A round number on an axis: 200000 is "200k"."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def plain_log(axis: Any, words: Callable[[float], str]) -> None:
    """Name the powers of ten of a log axis in words; name more of them where there are under two."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    low, high = axis.get_view_interval()
    steps: Sequence[float] = (1.0,) if high / low >= 100 else (1.0, 2.0, 5.0)
    axis.set_major_locator(LogLocator(subs=steps, numticks=8))
    axis.set_major_formatter(FuncFormatter(lambda value, _: words(value)))
    axis.set_minor_locator(NullLocator())
