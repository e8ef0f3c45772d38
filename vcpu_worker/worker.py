# SPDX-License-Identifier: GPL-2.0-or-later
"""The worker's loop: enter the guest, leave on an exit, handle it by a table, enter again. One thread.

States: off (waits for PowerOn), on (in the guest, or in a handler). A handler runs to its end before the vCPU enters
again, so whatever it latched is completed exactly once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from allstop.vcpu_worker.debug.debuggee import Debuggee
from allstop.vcpu_worker.debug.registers import read_registers
from allstop.vcpu_worker.engine import (
    EXIT_BREAKPOINT,
    EXIT_BUDGET,
    EXIT_CP15,
    EXIT_FETCH,
    EXIT_HVC,
    EXIT_LOST,
    EXIT_MMIO,
    EXIT_NISV,
    EXIT_OTHER,
    EXIT_REQUEST,
    EXIT_SEMIHOSTING,
    EXIT_SMC,
    EXIT_TIMER,
    EXIT_WALK,
    EXIT_WATCHPOINT,
    EngineError,
    Exit,
    Vcpu,
)
from allstop.vcpu_worker.events.performer import EventPerformer
from allstop.vcpu_worker.exits.emulation import DeviceFailedError, Emulation
from allstop.vcpu_worker.exits.semihosting import Semihosting
from allstop.vcpu_worker.fetch.fetch import Fetch, FetchStuckError
from allstop.vcpu_worker.fetch.fetch_handler import FetchHandlerError
from allstop.vcpu_worker.links import Links, RunIsOver, say_last_words
from allstop.vm import board
from allstop.vm.arm.psci import PsciFunction
from allstop.vm.config.machine import MachineConfig
from allstop.vm.control.control import ACTIVITY_OFF, ACTIVITY_PSCI, COUNT_UNASSIGNED, POWER_OFF, POWER_ON, ControlPage
from allstop.vm.journal.open import open_journal
from allstop.vm.wire.messages import (
    MMIO_OK,
    MMIO_UNASSIGNED,
    ROLE_WORKER,
    ComponentFailed,
    GuestFailed,
    PowerOn,
    PsciCall,
    PsciReturn,
    Shutdown,
)

_PREFETCH_CLASS = 0x20
_PSCI_RANGE = range(0x8400_0000, 0x8400_0020)
_UNKNOWN_FUNCTION = 0xFFFF_FFFF
_TIMER_INTIDS = (board.PHYSICAL_TIMER_INTID, board.VIRTUAL_TIMER_INTID)
_VECTORS = {
    0x04: "an undefined-instruction exception",
    0x08: "a supervisor call",
    0x0C: "a prefetch abort",
    0x10: "a data abort",
    0x18: "an interrupt",
    0x1C: "a fast interrupt",
}
# What LR is ahead of the instruction, by vector, in ARM and in Thumb state. ARM ARM (DDI 0406C), table B1-7.
_LINK_OFFSETS = {0x04: (4, 2), 0x08: (4, 2), 0x0C: (4, 4), 0x10: (8, 8), 0x18: (4, 4), 0x1C: (4, 4)}


class Worker:
    """One vCPU and everything that it needs to run."""

    def __init__(self, config: MachineConfig, number: int, page: ControlPage, vcpu: Vcpu, links: Links) -> None:
        self._number = number
        self._page = page
        self._vcpu = vcpu
        self._links = links
        links.dump = lambda: read_registers(vcpu)
        self._journal = links.journal
        self._performer = EventPerformer(config, vcpu, number, page, links)
        self._emulation = Emulation(vcpu, number, page, links, config.memory_bytes)
        self._fetch = Fetch(config, vcpu, number, page, links, self._performer)
        self._on = False
        self._timers_told = (0, 0)
        self._debuggee = Debuggee(vcpu, number, page, links, self._performer.breakpoints, self._turn)
        self._handlers: dict[int, Callable[[Exit], None]] = {
            EXIT_MMIO: self._mmio,
            EXIT_NISV: self._no_syndrome,
            EXIT_HVC: self._hvc,
            EXIT_SMC: self._undefined,
            EXIT_CP15: self._undefined,
            EXIT_FETCH: self._fetch_outside,
            EXIT_WALK: self._walk_outside,
            EXIT_LOST: self._lost,
            EXIT_REQUEST: self._request,
            EXIT_BUDGET: self._request,
            EXIT_BREAKPOINT: self._stopped_at,
            EXIT_WATCHPOINT: self._stopped_at,
            EXIT_TIMER: self._timer,
            EXIT_OTHER: self._unknown,
        }
        if config.semihosting is not None:
            vcpu.allow_semihosting(True)
            host = Semihosting(config.semihosting, vcpu, number, page, links, config.memory_bytes)
            self._handlers[EXIT_SEMIHOSTING] = host.handle

    @classmethod
    def open(cls, config: MachineConfig, number: int) -> Worker:
        """The worker of vCPU `number`, connected. Raises EngineError, ChannelError, OSError."""
        page = ControlPage(config.fds.control)
        page.set_pid(number, os.getpid())
        fds = config.fds
        vcpu = Vcpu(fds.control, fds.ram, fds.stage2, number, board.mpidr(number), config.as_shipped)
        journal = open_journal(config, f"vcpu-{number}", ROLE_WORKER, number)
        vcpu.keep_swap(fds.swap)
        if journal is not None:
            vcpu.keep_journal(journal.native())
        return cls(config, number, page, vcpu, Links(config, page, number, journal))

    def run(self) -> int:
        """Serve until the machine shuts down; the exit status of the process."""
        try:
            while True:
                if not self._on:
                    self._wait_for_power()
                if self._debuggee.held:
                    self._debuggee.stay()
                self._turn(0)
        except RunIsOver:
            return 0
        except DeviceFailedError as error:
            return self._fail(str(error), known=True)  # the device server has said why, in better words
        except (EngineError, FetchStuckError, FetchHandlerError) as error:
            return self._fail(str(error))
        finally:
            self._links.close()
            self._vcpu.close()
            if self._journal is not None:
                self._journal.close()

    def _turn(self, budget: int) -> Exit:
        """Enter the guest, for `budget` instructions at most unless that is 0, and handle the exit."""
        events = self._performer.budget
        leave = self._vcpu.run(min(budget, events) if budget and events else budget or events)
        self._performer.left(leave)
        if leave.timers:
            self._tell_timers()
        self.handle(leave)
        self._performer.over()
        return leave

    def handle(self, leave: Exit) -> None:
        """Do what this exit asks for; afterwards the vCPU may enter again."""
        journal = self._journal
        if journal is None:
            self._handlers[leave.kind](leave)
            return
        began_ns = time.perf_counter_ns()
        try:
            self._handlers[leave.kind](leave)
        finally:
            journal.span(
                journal.EXIT, self._number, began_ns, leave.kind, leave.pc, leave.hsr, leave.ipa, leave.instruction
            )

    def _fail(self, sentence: str, known: bool = False) -> int:
        """Tell why this vCPU cannot go on, unless the coordinator knows, and wait for the end of the run."""
        say_last_words(sentence)
        if self._journal is not None:
            self._journal.event(self._journal.FAILED, self._number)
            self._journal.text(sentence)
        if not known:
            self._links.tell(ComponentFailed(ROLE_WORKER, self._number, sentence))
        try:
            self._links.wait(Shutdown)
        except RunIsOver:
            return 1
        return 1

    def _wait_for_power(self) -> None:
        self._page.set_activity(self._number, ACTIVITY_OFF)
        if self._journal is not None:
            self._journal.event(self._journal.POWERED_OFF, self._number)
        self._power_on(self._links.wait(PowerOn))
        self._on = True

    def _power_on(self, message: PowerOn) -> None:
        """Start where the message says, and tell the others that this vCPU is on: some wait only for those."""
        self._vcpu.power_on(*message)
        self._page.set_power(self._number, POWER_ON)
        if self._journal is not None:
            self._journal.event(self._journal.POWERED_ON, self._number, message.entry, message.r0)

    def _mmio(self, leave: Exit) -> None:
        reply = self._links.mmio(leave.ipa, leave.size, leave.is_write == 1, leave.value)
        self._page.set_line(self._number, reply.line)
        if reply.status == MMIO_OK:
            self._vcpu.answer(reply.value)
        elif reply.status == MMIO_UNASSIGNED:
            self._page.count(self._number, COUNT_UNASSIGNED)
            self._vcpu.abort(leave.hdfar, is_write=leave.is_write == 1)
        else:
            raise DeviceFailedError(f"the device at {leave.ipa:#010x} failed")

    def _no_syndrome(self, leave: Exit) -> None:
        plan = self._fetch.plan(leave)
        if isinstance(plan, Exit):
            self.handle(plan)
        elif plan is not None:
            self._emulation.perform(plan, lambda: self._performer.step("before-retire", leave))

    def _hvc(self, leave: Exit) -> None:
        function, *arguments = self._vcpu.core()[:4]
        if function not in _PSCI_RANGE:
            self._vcpu.set_core(0, _UNKNOWN_FUNCTION)  # SMC calling convention (ARM DEN 0028)
            return
        self._page.set_activity(self._number, ACTIVITY_PSCI)
        began_ns = time.perf_counter_ns()
        if function == PsciFunction.CPU_OFF:  # before the coordinator knows, who may have it switched on again
            self._page.set_power(self._number, POWER_OFF)
            self._page.set_activity(self._number, ACTIVITY_OFF)
        self._links.tell(PsciCall(function, *arguments))
        if function == PsciFunction.CPU_OFF:
            if self._journal is not None:
                self._journal.event(self._journal.POWERED_OFF, self._number)
            self._debuggee.went_off()
        answer = self._links.wait_either(PsciReturn, PowerOn)  # off, it may be switched on again
        if isinstance(answer, PowerOn):
            self._power_on(answer)
            return
        self._vcpu.set_core(0, answer.value)
        if self._journal is not None:
            self._journal.span(self._journal.PSCI, self._number, began_ns, function, *arguments, answer.value)
        if function == PsciFunction.CPU_SUSPEND and answer.value == 0 and not self._debuggee.stepping:
            self._vcpu.wait_for_interrupt()

    def _tell_timers(self) -> None:
        """The interrupt controller learns of the timers' lines before it sees anything else of this vCPU."""
        levels = self._vcpu.timer_levels()
        for intid, level, told in zip(_TIMER_INTIDS, levels, self._timers_told, strict=True):
            if level != told:
                self._page.set_line(self._number, self._links.tell_ppi(intid, level == 1))
        self._timers_told = levels

    def _timer(self, leave: Exit) -> None:
        """The vCPU left only to have its timers' lines told."""

    def _undefined(self, leave: Exit) -> None:
        self._vcpu.undefined()

    def _fetch_outside(self, leave: Exit) -> None:
        self._vcpu.abort(leave.hifar, prefetch=True)

    def _walk_outside(self, leave: Exit) -> None:
        """The guest's tables point outside its memory: an external abort on the walk, at level 1 or 2."""
        level = leave.hsr & 3
        prefetch = leave.hsr >> 26 == _PREFETCH_CLASS
        self._vcpu.abort(
            leave.hifar if prefetch else leave.hdfar,
            prefetch=prefetch,
            is_write=not prefetch and bool(leave.hsr >> 6 & 1),
            lpae_status=0x14 | level,
            short_status=0x0C if level < 2 else 0x0E,
        )

    def _lost(self, leave: Exit) -> None:
        mode = leave.cpsr & 0x1F
        link, spsr = self._vcpu.banked(mode, 14), self._vcpu.banked(mode, 16)
        vector = leave.hifar & 0x1F
        offset = _LINK_OFFSETS.get(vector, (4, 4))[spsr >> 5 & 1]
        kind = _VECTORS.get(vector, "an exception")
        self._links.tell(
            GuestFailed(
                self._number,
                f"vCPU {self._number} took {kind} at {link - offset & 0xFFFFFFFF:#010x}, and its vectors at "
                f"{leave.hifar & ~0x1F:#010x} are not in memory: set VBAR, or mend what it executed",
            )
        )
        self._links.wait(Shutdown)
        raise RunIsOver

    def _request(self, leave: Exit) -> None:
        self._links.idle()
        if leave.kind == EXIT_REQUEST:
            self._links.drain()

    def _stopped_at(self, leave: Exit) -> None:
        self._links.idle()
        self._debuggee.hit(leave)

    def _unknown(self, leave: Exit) -> None:
        raise EngineError(
            f"vCPU {self._number} left the guest at {leave.pc:#010x} for a reason that nobody handles "
            f"(HSR {leave.hsr:#010x})"
        )
