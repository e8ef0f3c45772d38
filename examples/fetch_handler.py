# SPDX-License-Identifier: GPL-2.0-or-later
"""A hypervisor's user space that decodes for itself: `allstop run guest.elf --fetch user --fetch-handler
examples/fetch_handler.py:fetch`.

`fetch` reads the instruction where PC says that it is. It equals `--fetch unprotected`, race included: nothing keeps
another vCPU from changing the page between the trap and the read. The oracle detects that.
"""

from __future__ import annotations

from allstop.vcpu_worker.fetch.fetch_handler import Answer, NoSyndrome

_WIDE = 0xE800  # a halfword from here on begins a Thumb instruction of two (ARM DDI 0406C, A6.1)


def fetch(trap: NoSyndrome) -> Answer:
    """The instruction word at PC; None if PC no longer translates, so that the guest takes its own abort."""
    if not trap.thumb:
        word = trap.read_virtual(trap.pc, 4)
        return None if word is None else int.from_bytes(word, "little")
    half = trap.read_virtual(trap.pc, 2)
    if half is None:
        return None
    first = int.from_bytes(half, "little")
    if first < _WIDE:
        return first
    half = trap.read_virtual(trap.pc + 2, 2)
    return None if half is None else first << 16 | int.from_bytes(half, "little")


def refuse(trap: NoSyndrome) -> Answer:
    """As hypervisors without a decoder do: the guest gets an external data abort."""
    return "abort"
