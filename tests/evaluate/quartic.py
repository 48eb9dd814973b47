"""Tango's interval in closed form, to test by."""

from __future__ import annotations

import numpy as np


def quartic(b: float, c: float, n: float, z: float) -> list[float]:
    """Real roots of Tango's equation as a polynomial (Yang, Sun & Hardin 2013, Statistics in Medicine 32)."""
    g, d, s = z**2, b - c, b + c
    coefficients = [
        n**2 * (n / g + 1) ** 2,
        -n * d * (n / g + 1) * (4 * n / g + 1),
        2 * n * d**2 * (3 * n / g + 2) / g - n**2 * (s / g + 1),
        n * d * (2 * s / g + 1) - d**3 * (4 * n / g + 1) / g,
        d**2 * (d**2 / g - s) / g,
    ]
    roots = np.roots(coefficients)
    return sorted(float(r.real) for r in roots if abs(r.imag) < 1e-7 and -1 <= r.real <= 1)
