# SPDX-License-Identifier: GPL-2.0-or-later
"""Which pages moved between hosts, between which ones, and what was accessed in them: it shows false sharing."""

from __future__ import annotations

import bisect
import contextlib
from collections.abc import Iterable, Sequence
from typing import Any

_TOLD = 8


def bounces(raw: Iterable[Any], hosts: Sequence[str], symbols: dict[str, int]) -> list[dict[str, Any]]:
    """The pages that moved most, most first, of what all hosts' directories wrote; `hosts` are the hosts' names.

    An access is named by the symbol that precedes it, as far as the guest's addresses are physical.
    """
    names = sorted((value, name) for name, value in symbols.items() if not name.startswith("$"))
    told = []
    for bounce in raw:
        with contextlib.suppress(TypeError, ValueError, IndexError):  # another host can send anything
            told.append(_told(bounce, names, hosts))
    return sorted(told, key=lambda bounce: -bounce["moves"])[:_TOLD]


def _told(bounce: Any, names: list[tuple[int, str]], hosts: Sequence[str]) -> dict[str, Any]:
    page, moves, between, touched = bounce
    return {
        "ipa": int(page) << 12,
        "moves": int(moves),
        "between": [[hosts[a], hosts[b], int(n)] for a, b, n in between],
        "touched": [[hosts[a], _name((page << 12) + int(offset), names), int(n)] for a, offset, n in touched],
    }


def _name(ipa: int, names: list[tuple[int, str]]) -> str:
    place = bisect.bisect_right(names, (ipa, "\U0010ffff")) - 1
    if place < 0 or ipa - names[place][0] >= 1 << 16:
        return f"{ipa:#010x}"
    value, name = names[place]
    return f"{name}+{ipa - value:#x}" if ipa > value else name
