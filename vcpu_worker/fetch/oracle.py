# SPDX-License-Identifier: GPL-2.0-or-later
"""The fetch oracle: the word that was fetched for emulation is the instruction that the engine executed at the trap.

The engine keeps the bytes that its translator read, block by block, so the truth does not depend on what memory holds
now. A wrong word that is about to be emulated, or refused, is a violation: the hypervisor decoded the wrong bytes.
"""

from __future__ import annotations

from allstop.vcpu_worker.context import VcpuContext
from allstop.vcpu_worker.engine import Exit
from allstop.vm.arm import psr
from allstop.vm.arm.decoder import decode
from allstop.vm.arm.instruction import UndecodableError
from allstop.vm.control.control import COUNT_FETCH_WRONG
from allstop.vm.journal.recorder import Recorder
from allstop.vm.wire.messages import Violated


class Oracle:
    """Watches the fetches of one vCPU. It ends the run at the first violation or, to `keep_going`, only counts."""

    def __init__(self, context: VcpuContext) -> None:
        self._number = context.number
        self._coordinator = context.coordinator
        self._telemetry = context.telemetry
        self._keep_going = context.config.keep_going

    def look(self, trap: Exit, word: int, begun: int) -> None:
        """Compare `word`, which is about to be emulated, with what was executed; `begun` counts invalidations."""
        if trap.length == 0 or word == trap.instruction:
            return
        story = self._story(trap, word, begun) if self._telemetry.journal is not None or not self._keep_going else ""
        self._telemetry.note(
            Recorder.VIOLATION,
            self._number,
            trap.pc,
            trap.instruction,
            word,
            trap.hdfar,
            begun - trap.epoch,
            bool(trap.cpsr & psr.T),
            counter=COUNT_FETCH_WRONG,
            text=story,
        )
        if not self._keep_going:
            self._coordinator.tell(Violated(self._number, story))

    def _story(self, trap: Exit, word: int, begun: int) -> str:
        thumb = bool(trap.cpsr & psr.T)
        return (
            f"vCPU {self._number} executed {_text(trap.instruction, thumb)} at {trap.pc:#010x} and trapped on "
            f"{trap.hdfar:#010x}; what it fetched there to emulate it was {_text(word, thumb)}, after "
            f"{begun - trap.epoch} invalidations that did not have to wait for it"
        )


def _text(word: int, thumb: bool) -> str:
    try:
        return f"`{decode(word, thumb)}` ({word:#x})"
    except UndecodableError:
        return f"{word:#x}, which is no load or store"
