# SPDX-License-Identifier: GPL-2.0-or-later
"""The actions of a vCont packet. Source: GDB manual, appendix E.2."""

from __future__ import annotations

from typing import Literal, TypeAlias

Action: TypeAlias = Literal["c", "s"]
_ACTIONS: dict[bytes, Action] = {b"c": "c", b"C": "c", b"s": "s", b"S": "s"}


def parse_vcont(text: bytes, vcpus: int) -> dict[int, Action]:
    """What each vCPU has to do, from `c;s:2;...`: the first action that names it counts. vCPUs without one stay
    stopped. Raises ValueError."""
    found: dict[int, Action] = {}
    for part in text.split(b";"):
        action, _, thread = part.partition(b":")
        wanted = _ACTIONS.get(action[:1])
        if wanted is None or len(action) not in ((1,) if action[:1] in b"cs" else (3,)):
            raise ValueError(f"{part!r} is no action")
        if thread in (b"", b"-1"):
            chosen = range(vcpus)
        else:
            number = int(thread, 16)
            if not 0 <= number <= vcpus:
                raise ValueError(f"{thread!r} is no thread")
            chosen = range(max(number - 1, 0), max(number, 1))
        for vcpu in chosen:
            found.setdefault(vcpu, wanted)
    return found
