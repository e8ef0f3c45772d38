# SPDX-License-Identifier: GPL-2.0-or-later
"""Read the instruction that trapped from the guest's memory, and say whether it can have changed since the trap."""

from __future__ import annotations

from allstop.vcpu_worker.context import VcpuContext
from allstop.vcpu_worker.engine import Exit
from allstop.vcpu_worker.events.performer import EventPerformer
from allstop.vm.arm import psr
from allstop.vm.arm.decoder import thumb_is_wide


class InstructionReader:
    """Reads instructions of one vCPU."""

    def __init__(self, context: VcpuContext, performer: EventPerformer) -> None:
        self._vcpu = context.vcpu
        self._control_page = context.control_page
        self._performer = performer

    def read(self, trap: Exit) -> int | None:
        """The word at PC, a wide Thumb instruction as first << 16 | second; None when PC does not translate."""
        privileged = psr.privileged(trap.cpsr)
        if not trap.cpsr & psr.T:
            return self._fetch(trap, trap.pc, 4, privileged)
        first = self._fetch(trap, trap.pc, 2, privileged)
        if first is None or not thumb_is_wide(first):
            return first
        second = self._fetch(trap, trap.pc + 2 & 0xFFFFFFFF, 2, privileged)
        return None if second is None else first << 16 | second

    def is_undisturbed(self, trap: Exit) -> bool:
        """Whether no invalidation was under way when the vCPU left the guest, and none has begun since."""
        _, begun, _ = self._control_page.epochs()
        return trap.settled == 1 and begun == trap.epoch

    def code_writes(self) -> int:
        """How often devices have begun to write to pages with code. See `unless_written`."""
        return self._control_page.code_writes()

    def unless_written(self, writes: int, word: int | None) -> int | None:
        """`word`, or None when a device has begun to write to code since `code_writes` gave `writes`.

        A stopped world does not stop devices: one that works for a vCPU which waits for it may write to this page.
        """
        return word if self._control_page.code_writes() == writes else None

    def _fetch(self, trap: Exit, gva: int, size: int, privileged: bool) -> int | None:
        """What the frame holds that `gva` translates to. A swapped page is brought in first. The frame may be reused
        between the translation and the read: that is the race of this project."""
        ipa = self._vcpu.translate(gva, False, privileged)
        if ipa is None:
            return None
        self._vcpu.bring_in(ipa, size)
        self._performer.step("after-translate", trap)
        self._performer.step("before-read", trap)
        data = self._vcpu.read_frame(ipa, size)
        return None if data is None else int.from_bytes(data, "little")
