# SPDX-License-Identifier: GPL-2.0-or-later
"""An Arm PrimeCell's identification: the registers at 0xfe0 to 0xffc, by which Linux finds its driver."""

from __future__ import annotations

PERIPH_ID = 0xFE0  # four words of one byte each, then four of the cell's identification
CELL_ID = bytes((0x0D, 0xF0, 0x05, 0xB1))


def identification(periph_id: bytes, offset: int) -> int | None:
    """The identification word at `offset`, or None if `offset` is not that of one. `periph_id` is four bytes
    long."""
    if offset < PERIPH_ID or offset & 3:
        return None
    return (periph_id + CELL_ID)[(offset - PERIPH_ID) // 4]
