# SPDX-License-Identifier: GPL-2.0-or-later
"""What a worker does for each action: one method under the name of its row in `vm/events/vocabulary.py`.

A method returns "" when the event is done, or the reason why it cannot be.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import TypeAlias

from allstop.vcpu_worker.context import VcpuContext
from allstop.vcpu_worker.engine import Exit
from allstop.vcpu_worker.events.remap import Remap
from allstop.vcpu_worker.last_words import say_last_words
from allstop.vm.arm import psr
from allstop.vm.control.control import TLB_FLUSH
from allstop.vm.events.performers import Performers, rows_of
from allstop.vm.events.vocabulary import WORKER, Event
from allstop.vm.journal.recorder import Recorder

NO_INDEX = 0xFFFF
"""The number of an event that is not of the scenario."""
_LATE, _DROPPED, _DOUBLED = 1, 2, 3  # INVALIDATION_* of the engine
_NAP_S = 0.05

_Action: TypeAlias = Callable[["Actions", Event, Exit | None], str]
performs: Performers[_Action] = Performers(rows_of(WORKER))


class Actions:
    """The actions of one vCPU's worker."""

    def __init__(self, context: VcpuContext) -> None:
        self._context = context
        self._vcpu = context.vcpu
        self._number = context.number
        self._ipi = context.config.tlb == "ipi"
        self._remap = Remap(context.vcpu)

    def perform(self, wanted: Event, leave: Exit | None) -> str:
        """Do it, at this exit if it has a trigger on this vCPU; "" or the reason why it cannot be done."""
        return performs[wanted.action](self, wanted, leave)

    @performs("swap-out")
    def _swap_out(self, wanted: Event, leave: Exit | None) -> str:
        ipa = self._page_of(wanted, leave)
        return ipa if isinstance(ipa, str) else self._vcpu.swap_out(ipa, wanted.fill, self._ipi)

    @performs("swap-in")
    def _swap_in(self, wanted: Event, leave: Exit | None) -> str:
        ipa = self._page_of(wanted, leave)
        return ipa if isinstance(ipa, str) else self._vcpu.swap_in(ipa)

    @performs("remap")
    def _remap_page(self, wanted: Event, leave: Exit | None) -> str:
        gva = wanted.page
        if gva == "pc":
            if leave is None:
                return "it is on no instruction"
            gva = leave.pc
        return self._remap.perform(int(gva or 0), wanted.to or 0, wanted.fill, self._ipi)

    @performs("flush-tlb")
    def _flush_tlb(self, wanted: Event, leave: Exit | None) -> str:
        vcpus = (
            range(self._context.config.vcpus)
            if wanted.target == "all"
            else (self._number if wanted.target == "self" else int(wanted.target),)
        )
        for vcpu in vcpus:
            self._context.control_page.post(vcpu, TLB_FLUSH)
        return ""

    @performs("invalidate-late")
    def _invalidate_late(self, wanted: Event, leave: Exit | None) -> str:
        self._vcpu.spoil_invalidation(_LATE)
        return ""

    @performs("invalidate-dropped")
    def _invalidate_dropped(self, wanted: Event, leave: Exit | None) -> str:
        self._vcpu.spoil_invalidation(_DROPPED)
        return ""

    @performs("invalidate-doubled")
    def _invalidate_doubled(self, wanted: Event, leave: Exit | None) -> str:
        self._vcpu.spoil_invalidation(_DOUBLED)
        return ""

    @performs("stall")
    def _stall(self, wanted: Event, leave: Exit | None) -> str:
        end_s = time.monotonic() + wanted.for_ms / 1000
        while (left_s := end_s - time.monotonic()) > 0:
            self._context.liveness.beat()
            time.sleep(min(left_s, _NAP_S))
        return ""

    @performs("kill")
    def _kill(self, wanted: Event, leave: Exit | None) -> str:
        self._context.telemetry.note(Recorder.EVENT_DONE, self._number, NO_INDEX, text=wanted.name)
        say_last_words(f"killed by event {wanted.name}")
        os.kill(os.getpid(), signal.SIGKILL)
        return ""

    def _page_of(self, wanted: Event, leave: Exit | None) -> int | str:
        """The physical address that the event names, or why there is none."""
        gva, privileged = wanted.page, True
        if gva is None:
            return wanted.ipa or 0
        if gva == "pc":
            if leave is None:
                return "it is on no instruction"
            gva, privileged = leave.pc, psr.privileged(leave.cpsr)
        ipa = self._vcpu.translate(int(gva), False, privileged)
        return f"vCPU {self._number} has no translation for {gva:#010x}" if ipa is None else ipa
