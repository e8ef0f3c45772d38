# SPDX-License-Identifier: GPL-2.0-or-later
"""Which pages went from host to host, between whom, and what was accessed in them: how false sharing is seen."""

from __future__ import annotations

import bisect
import contextlib
import json
import os
from typing import Any

from allstop.deploy.hosts.agents import Agents

_TOLD = 8


def bounces(agents: Agents, pages_fd: int, symbols: dict[str, int]) -> list[dict[str, Any]]:
    """The pages that moved most, of all hosts' directories, most first; `pages_fd` has those of this host's node. An
    access is named by the symbol that it is behind, as far as the guest's addresses are physical."""
    raw: list[Any] = list(agents.bounces)
    with contextlib.suppress(ValueError, OSError):
        raw += json.loads(os.pread(pages_fd, os.fstat(pages_fd).st_size, 0) or b"[]")
    names = sorted((value, name) for name, value in symbols.items() if not name.startswith("$"))
    told = []
    for bounce in raw:
        with contextlib.suppress(TypeError, ValueError, IndexError):  # another host can tell anything
            told.append(_told(bounce, names, agents.names))
    return sorted(told, key=lambda bounce: -bounce["moves"])[:_TOLD]


def _told(bounce: Any, names: list[tuple[int, str]], hosts: tuple[str, ...]) -> dict[str, Any]:
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
