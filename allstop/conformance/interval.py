# SPDX-License-Identifier: GPL-2.0-or-later
"""Confidence intervals of counted rates."""

from __future__ import annotations

import math

_Z95 = 1.959964


def wilson_interval(count: int, of: int) -> tuple[float, float]:
    """95 % confidence interval of the rate `count` in `of` (Wilson's score interval); 0 to 1 if nothing was tried."""
    if not of:
        return 0.0, 1.0
    rate = count / of
    middle = (rate + _Z95**2 / (2 * of)) / (1 + _Z95**2 / of)
    half = _Z95 / (1 + _Z95**2 / of) * math.sqrt(rate * (1 - rate) / of + _Z95**2 / (4 * of * of))
    return max(0.0, middle - half), min(1.0, middle + half)
