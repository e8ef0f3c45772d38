# SPDX-License-Identifier: GPL-2.0-or-later
"""Events on one vCPU: which of a scenario's triggers fire here, and what a worker performs.

The worker stands in for an actor that runs beside its vCPU: another vCPU's kernel, or the host's swapper. So it does
what that actor could have done at this moment, and no more:

* in the middle of an exit, under `ipi`: the actor's invalidation would wait for this vCPU. It comes when the exit is
  over.
* while this vCPU holds the world: the actor is stopped. It goes on when the exit, and so the stop, is over.
* in a world that somebody else holds: the actor waits for the end of that (engine/swap.c).
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from allstop.vcpu_worker.debug.breakpoints import Breakpoints
from allstop.vcpu_worker.engine import (
    EXIT_BREAKPOINT,
    EXIT_CP15,
    EXIT_FETCH,
    EXIT_HVC,
    EXIT_MMIO,
    EXIT_NISV,
    EXIT_SMC,
    EXIT_WALK,
    Exit,
    Vcpu,
)
from allstop.vcpu_worker.events.remap import Remap
from allstop.vcpu_worker.links import Links, say_last_words
from allstop.vm.config.machine import MachineConfig
from allstop.vm.control.control import TLB_FLUSH, ControlPage
from allstop.vm.events.scenario import Scenario
from allstop.vm.events.selector import Selector
from allstop.vm.events.vocabulary import WORKER, Event, event
from allstop.vm.wire.messages import EventPerformed, EventTriggered, PerformEvent

_EXITS = {
    EXIT_MMIO: "mmio",
    EXIT_NISV: "nisv",
    EXIT_HVC: "hvc",
    EXIT_SMC: "smc",
    EXIT_CP15: "cp15",
    EXIT_FETCH: "fetch",
    EXIT_WALK: "walk",
}
_SPOILED = {"invalidate-late": 1, "invalidate-dropped": 2, "invalidate-doubled": 3}
_NO_INDEX = 0xFFFF
_USER = 0x10
_NAP_S = 0.05

_Entry: TypeAlias = tuple[int, Event, Selector]


@dataclass
class _Counted:
    """An event that comes after so many instructions more."""

    entry: _Entry
    left: int


class EventPerformer:
    """The events of one vCPU. `world_is_ours` is to be true while this vCPU's worker holds the stopped world."""

    def __init__(self, config: MachineConfig, vcpu: Vcpu, number: int, page: ControlPage, links: Links) -> None:
        self._vcpu = vcpu
        self._number = number
        self._page = page
        self._links = links
        self._journal = links.journal
        self._vcpus = config.vcpus
        self._ipi = config.tlb == "ipi"
        self._remap = Remap(vcpu)
        self.world_is_ours = False
        self._in_exit = False
        self._deferred: list[Callable[[], None]] = []
        self._complained: set[int] = set()
        scenario = Scenario.from_json(config.scenario)
        seed = config.seed if scenario.seed is None else scenario.seed
        ours = [
            (index, found, Selector(found, seed, index, number))
            for index, found in enumerate(scenario.events)
            if found.vcpu in (None, number)
        ]
        self._exits = [entry for entry in ours if entry[1].exit]
        self._steps: dict[str, list[_Entry]] = {}
        for entry in ours:
            if entry[1].step and entry[1].step != "before-reply":
                self._steps.setdefault(entry[1].step, []).append(entry)
        self._counted = [_Counted(entry, left) for entry in ours if (left := entry[1].instructions)]
        self._executed: dict[int, list[_Entry]] = {}
        for entry in ours:
            if isinstance(entry[1].executes, int):
                self._executed.setdefault(entry[1].executes & ~1, []).append(entry)
        self.breakpoints = Breakpoints(vcpu)
        if self._executed:
            self.breakpoints.set_events(self._executed)
        links.perform = self.obey

    @property
    def budget(self) -> int:
        """How many instructions the vCPU may execute before it is asked again; 0 without limit."""
        return min((counted.left for counted in self._counted if not counted.entry[2].is_over), default=0)

    def left(self, leave: Exit) -> None:
        """The vCPU has left the guest."""
        self._in_exit = True
        for counted in self._counted:
            counted.left -= leave.executed
            if counted.left <= 0:
                counted.left = counted.entry[1].instructions or 0
                self._occasion(counted.entry, leave)
        if leave.kind == EXIT_BREAKPOINT and (here := self._executed.get(leave.pc)):
            for entry in here:
                self._occasion(entry, leave)
            if all(entry[2].is_over for entry in here):
                del self._executed[leave.pc]
                self.breakpoints.set_events(self._executed)
        if self._exits and (name := _EXITS.get(leave.kind)):
            for entry in self._exits:
                if entry[1].exit == name:
                    self._occasion(entry, leave)

    def step(self, name: str, trap: Exit) -> None:
        """The hypervisor has come to this step with the instruction that trapped."""
        for entry in self._steps.get(name, ()):
            self._occasion(entry, trap)

    def over(self) -> None:
        """The exit is over: whoever waited for it goes on."""
        self._in_exit = False
        while self._deferred:
            self._deferred.pop(0)()

    def obey(self, message: PerformEvent) -> None:
        """Perform what the coordinator says, when the exit under way is over."""
        if self._in_exit:
            self._deferred.append(lambda: self._answer(message))
        else:
            self._answer(message)

    def _answer(self, message: PerformEvent) -> None:
        wanted = event(json.loads(message.event), immediate=True)
        sentence = self._perform(wanted, None)
        self._tell(message.number, wanted, sentence)
        self._links.tell(EventPerformed(message.nonce, sentence))

    def _occasion(self, entry: _Entry, leave: Exit) -> None:
        index, wanted, selector = entry
        if not selector.takes():
            return
        if wanted.performer != WORKER:
            self._links.tell(EventTriggered(index))
        elif wanted.action in ("swap-out", "swap-in", "remap") and (self.world_is_ours or self._ipi):
            if (journal := self._journal) is not None:
                journal.event(journal.EVENT_DEFERRED, self._number, index, leave.pc)
                journal.text(wanted.name)
            self._deferred.append(lambda: self._tell(index, wanted, self._perform(wanted, leave)))
        else:
            self._tell(index, wanted, self._perform(wanted, leave))

    def _tell(self, index: int, wanted: Event, sentence: str) -> None:
        if index != _NO_INDEX:
            self._page.count_event(index, not sentence)
        if (journal := self._journal) is not None:
            journal.event(journal.EVENT_REFUSED if sentence else journal.EVENT_DONE, self._number, index)
            journal.text(f"{wanted.name}: {sentence}" if sentence else wanted.name)
        if sentence and index not in self._complained:
            self._complained.add(index)
            say_last_words(f"event {wanted.name} did not happen on vCPU {self._number}: {sentence}")

    def _perform(self, wanted: Event, leave: Exit | None) -> str:
        """Do it; "" or what is in the way."""
        match wanted.action:
            case "swap-out" | "swap-in" | "remap":
                return self._change_page(wanted, leave)
            case "flush-tlb":
                vcpus = (
                    range(self._vcpus)
                    if wanted.target == "all"
                    else (self._number if wanted.target == "self" else int(wanted.target),)
                )
                for vcpu in vcpus:
                    self._page.post(vcpu, TLB_FLUSH)
            case "stall":
                self._stall(wanted.for_ms / 1000)
            case "kill":
                self._tell(_NO_INDEX, wanted, "")
                say_last_words(f"killed by event {wanted.name}")
                os.kill(os.getpid(), signal.SIGKILL)
            case action:
                self._vcpu.spoil_invalidation(_SPOILED[action])
        return ""

    def _change_page(self, wanted: Event, leave: Exit | None) -> str:
        vcpu, gva = self._vcpu, wanted.page
        privileged = True
        if gva == "pc":
            if leave is None:
                return "it is on no instruction"
            gva, privileged = leave.pc, leave.cpsr & 0x1F != _USER
        if wanted.action == "remap":
            return self._remap.perform(int(gva or 0), wanted.to or 0, wanted.fill, self._ipi)
        ipa = wanted.ipa if gva is None else vcpu.translate(int(gva), False, privileged)
        if ipa is None:
            return f"vCPU {self._number} has no translation for {gva:#010x}"
        return vcpu.swap_in(ipa) if wanted.action == "swap-in" else vcpu.swap_out(ipa, wanted.fill, self._ipi)

    def _stall(self, seconds: float) -> None:
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0:
            self._links.idle()
            time.sleep(min(left_s, _NAP_S))
