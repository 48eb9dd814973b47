"""Reads a chart's SVG: its words, and its lines and marks in the units of the axes."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import numpy as np

Point = tuple[float, float]
BELOW = 3.039  # of the middle of a tick's number, its baseline, in units of the drawing
LEGEND = 15.0  # what lies above it in the drawing is the legend
NUMBER = r"\d+(?:\.\d+)?k?"


def words(svg: str) -> list[str]:
    return ["".join(e.itertext()).strip() for e in ElementTree.fromstring(svg).iter("text")]


def lines(svg: str, colour: str, log: bool = False) -> list[list[Point]]:
    """The lines drawn in a colour of the page, each as (x, y) in the axes' units; `log`: of the x axis."""
    paths = re.findall(rf'<path d="([^"]+)"[^>]*style="fill: none;[^"]*stroke: var\(--{colour}\)', svg)
    found = [[(float(x), float(y)) for x, y in re.findall(r"[ML] ([\d.-]+) ([\d.-]+)", path)] for path in paths]
    return _in_units(svg, [line for line in found if min(y for _, y in line) > LEGEND], log)


def marks(svg: str, colour: str, log: bool = False) -> list[Point]:
    """The marks drawn in a colour of the page, in the axes' units, without the one in the legend."""
    found = re.findall(rf'<use href="#[\w-]+" x="([\d.]+)" y="([\d.]+)" style="fill: var\(--{colour}\)', svg)
    return _in_units(svg, [[(float(x), float(y)) for x, y in found if float(y) > LEGEND]], log)[0]


def _in_units(svg: str, found: list[list[Point]], log: bool) -> list[list[Point]]:
    texts = list(ElementTree.fromstring(svg).iter("text"))
    numbered = [(e, "".join(e.itertext())) for e in texts if re.fullmatch(NUMBER, "".join(e.itertext()))]

    def scale(anchor: str, name: str, offset: float, log: bool) -> np.ndarray:
        of_axis = [(e, text) for e, text in numbered if f"text-anchor: {anchor}" in str(e.get("style"))]
        values = [float(text.rstrip("k")) * (1000 if text[-1] == "k" else 1) for _, text in of_axis]
        places = [float(str(e.get(name))) - offset for e, _ in of_axis]
        return np.polyfit(places, np.log10(values) if log else values, 1)

    across, up = scale("middle", "x", 0.0, log), scale("end", "y", BELOW, False)
    return [
        [
            (float(10 ** np.polyval(across, x) if log else np.polyval(across, x)), float(np.polyval(up, y)))
            for x, y in line
        ]
        for line in found
    ]
