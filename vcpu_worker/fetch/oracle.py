# SPDX-License-Identifier: GPL-2.0-or-later
"""The fetch oracle: what was fetched for emulation is the instruction that the engine executed when it trapped.

The engine keeps what its translator read, block by block, so the truth does not depend on what memory holds now. A
difference that is about to be emulated, or refused, is a violation: the hypervisor decoded the wrong bytes.
"""

from __future__ import annotations

from allstop.vcpu_worker.engine import Exit
from allstop.vcpu_worker.links import Links
from allstop.vm.arm import psr
from allstop.vm.arm.decoder import decode
from allstop.vm.arm.instruction import UndecodableError
from allstop.vm.control.control import COUNT_FETCH_WRONG, ControlPage
from allstop.vm.wire.messages import Violated


class Oracle:
    """Watches the fetches of one vCPU. It ends the run at the first violation, or, to `keep_going`, only counts."""

    def __init__(self, number: int, page: ControlPage, links: Links, keep_going: bool) -> None:
        self._number = number
        self._page = page
        self._links = links
        self._journal = links.journal
        self._keep_going = keep_going

    def look(self, trap: Exit, word: int, begun: int) -> None:
        """Compare what is going to be emulated with what was executed; `begun` counts invalidations now."""
        if trap.length == 0 or word == trap.instruction:
            return
        self._page.count(self._number, COUNT_FETCH_WRONG)
        if (journal := self._journal) is not None:
            journal.event(
                journal.VIOLATION,
                self._number,
                trap.pc,
                trap.instruction,
                word,
                trap.hdfar,
                begun - trap.epoch,
                bool(trap.cpsr & psr.T),
            )
            journal.text(self._story(trap, word, begun))
        if not self._keep_going:
            self._links.tell(Violated(self._number, self._story(trap, word, begun)))

    def _story(self, trap: Exit, word: int, begun: int) -> str:
        thumb = bool(trap.cpsr & psr.T)
        return (
            f"vCPU {self._number} executed {_text(trap.instruction, thumb)} at {trap.pc:#010x} and trapped on "
            f"{trap.hdfar:#010x}; what it fetched there to emulate it was {_text(word, thumb)}, after "
            f"{begun - trap.epoch} invalidations that had not to wait for it"
        )


def _text(word: int, thumb: bool) -> str:
    try:
        return f"`{decode(word, thumb)}` ({word:#x})"
    except UndecodableError:
        return f"{word:#x}, which is no load or store"
