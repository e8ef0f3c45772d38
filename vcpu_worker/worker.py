# SPDX-License-Identifier: GPL-2.0-or-later
"""The worker's loop: enter the guest, handle the exit by a table, enter again. One thread.

A vCPU is off (its worker waits for PowerOn) or on (in the guest, or in a handler). A handler runs to its end before the
vCPU enters again, so the access that the engine latched is completed exactly once.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from allstop.vcpu_worker.context import VcpuContext
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
from allstop.vcpu_worker.last_words import say_last_words
from allstop.vcpu_worker.links import Links
from allstop.vcpu_worker.liveness import RunIsOver
from allstop.vm import board
from allstop.vm.arm import psr
from allstop.vm.arm.psci import PsciFunction
from allstop.vm.arm.syndrome import ExceptionClass, Syndrome
from allstop.vm.config.machine import MachineConfig
from allstop.vm.control.control import ACTIVITY_OFF, ACTIVITY_PSCI, COUNT_UNASSIGNED, POWER_OFF, POWER_ON, ControlPage
from allstop.vm.journal.open import open_journal
from allstop.vm.journal.recorder import Recorder
from allstop.vm.telemetry.step import Telemetry
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
# How far LR is ahead of the instruction, by vector, in ARM and in Thumb state. ARM ARM (DDI 0406C), table B1-7.
_LINK_OFFSETS = {0x04: (4, 2), 0x08: (4, 2), 0x0C: (4, 4), 0x10: (8, 8), 0x18: (4, 4), 0x1C: (4, 4)}


class Worker:
    """One vCPU and everything that it needs to run. `close` disconnects it."""

    def __init__(self, context: VcpuContext, close: Callable[[], None]) -> None:
        config, vcpu = context.config, context.vcpu
        self._number = context.number
        self._control_page = context.control_page
        self._vcpu = vcpu
        self._telemetry = context.telemetry
        self._coordinator = context.coordinator
        self._devices = context.devices
        self._liveness = context.liveness
        self._close = close
        context.coordinator.dump = lambda: read_registers(vcpu)
        self._exit = self._telemetry.step(record=Recorder.EXIT)
        self._psci = self._telemetry.step(activity=ACTIVITY_PSCI, record=Recorder.PSCI)
        self._performer = EventPerformer(context)
        self._emulation = Emulation(context)
        self._fetch = Fetch(context, self._performer)
        self._on = False
        self._timers_told = (0, 0)
        self._debuggee = Debuggee(context, self._performer.breakpoints, self._turn)
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
            self._handlers[EXIT_SEMIHOSTING] = Semihosting(context, config.semihosting).handle

    @classmethod
    def open(cls, config: MachineConfig, number: int) -> Worker:
        """The worker of vCPU `number`, connected. Raises EngineError, ChannelError, OSError."""
        fds = config.fds
        control_page = ControlPage(fds.control)
        control_page.set_pid(number, os.getpid())
        vcpu = Vcpu(fds.control, fds.ram, fds.stage2, number, board.mpidr(number), config.as_shipped)
        journal = open_journal(config, f"vcpu-{number}", ROLE_WORKER, number)
        vcpu.keep_swap(fds.swap)
        if journal is not None:
            vcpu.keep_journal(journal.native())
        telemetry = Telemetry(control_page, number, journal)
        links = Links(config, control_page, number, telemetry)
        context = VcpuContext(
            config, number, vcpu, control_page, telemetry, links.coordinator, links.devices, links.liveness
        )
        return cls(context, links.close)

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
            self._close()
            self._vcpu.close()
            self._telemetry.close()

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
        handler = self._handlers[leave.kind]
        if not self._exit.is_kept:
            handler(leave)
            return
        began_ns = self._exit.begin()
        try:
            handler(leave)
        finally:
            self._exit.end(began_ns, self._number, leave.kind, leave.pc, leave.hsr, leave.ipa, leave.instruction)

    def _fail(self, sentence: str, known: bool = False) -> int:
        """Tell the coordinator, unless it is `known`, why this vCPU cannot go on, and wait for the end of the run."""
        say_last_words(sentence)
        self._telemetry.note(Recorder.FAILED, self._number, text=sentence)
        if not known:
            self._coordinator.tell(ComponentFailed(ROLE_WORKER, self._number, sentence))
        try:
            self._coordinator.wait(Shutdown)
        except RunIsOver:
            return 1
        return 1

    def _wait_for_power(self) -> None:
        self._telemetry.activity(ACTIVITY_OFF)
        self._telemetry.note(Recorder.POWERED_OFF, self._number)
        self._power_on(self._coordinator.wait(PowerOn))
        self._on = True

    def _power_on(self, message: PowerOn) -> None:
        """Start where the message says, and show that this vCPU is on: invalidations wait only for such."""
        self._vcpu.power_on(*message)
        self._control_page.set_power(self._number, POWER_ON)
        self._telemetry.note(Recorder.POWERED_ON, self._number, message.entry, message.r0)

    def _mmio(self, leave: Exit) -> None:
        reply = self._devices.mmio(leave.ipa, leave.size, leave.is_write == 1, leave.value)
        self._control_page.set_line(self._number, reply.line)
        if reply.status == MMIO_OK:
            self._vcpu.answer(reply.value)
        elif reply.status == MMIO_UNASSIGNED:
            self._control_page.count(self._number, COUNT_UNASSIGNED)
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
        began_ns = self._psci.begin()
        if function == PsciFunction.CPU_OFF:  # before the coordinator knows, which may switch it on again at once
            self._control_page.set_power(self._number, POWER_OFF)
            self._telemetry.activity(ACTIVITY_OFF)
        self._coordinator.tell(PsciCall(function, *arguments))
        if function == PsciFunction.CPU_OFF:
            self._telemetry.note(Recorder.POWERED_OFF, self._number)
            self._debuggee.went_off()
        answer = self._coordinator.wait_either(PsciReturn, PowerOn)  # off, it may be switched on again
        if isinstance(answer, PowerOn):
            self._power_on(answer)
            return
        self._vcpu.set_core(0, answer.value)
        self._psci.end(began_ns, self._number, function, *arguments, answer.value)
        if function == PsciFunction.CPU_SUSPEND and answer.value == 0 and not self._debuggee.stepping:
            self._vcpu.wait_for_interrupt()

    def _tell_timers(self) -> None:
        """The interrupt controller learns of the timers' lines before it sees anything else of this vCPU."""
        levels = self._vcpu.timer_levels()
        for intid, level, told in zip(_TIMER_INTIDS, levels, self._timers_told, strict=True):
            if level != told:
                self._control_page.set_line(self._number, self._devices.tell_ppi(intid, level == 1))
        self._timers_told = levels

    def _timer(self, leave: Exit) -> None:
        """Nothing more to do: `_turn` has told the timers' lines."""

    def _undefined(self, leave: Exit) -> None:
        self._vcpu.undefined()

    def _fetch_outside(self, leave: Exit) -> None:
        self._vcpu.abort(leave.hifar, prefetch=True)

    def _walk_outside(self, leave: Exit) -> None:
        """The guest's tables point outside its memory: an external abort on the walk, at level 1 or 2."""
        syndrome = Syndrome(leave.hsr)
        level = syndrome.level
        prefetch = syndrome.ec == ExceptionClass.PREFETCH_ABORT_LOWER
        self._vcpu.abort(
            leave.hifar if prefetch else leave.hdfar,
            prefetch=prefetch,
            is_write=not prefetch and syndrome.wnr,
            lpae_status=0x14 | level,
            short_status=0x0C if level < 2 else 0x0E,
        )

    def _lost(self, leave: Exit) -> None:
        mode = psr.mode(leave.cpsr)
        link, spsr = self._vcpu.banked(mode, 14), self._vcpu.banked(mode, 16)
        vector = leave.hifar & 0x1F
        offset = _LINK_OFFSETS.get(vector, (4, 4))[spsr & psr.T != 0]
        kind = _VECTORS.get(vector, "an exception")
        self._coordinator.tell(
            GuestFailed(
                self._number,
                f"vCPU {self._number} took {kind} at {link - offset & 0xFFFFFFFF:#010x}, and its vectors at "
                f"{leave.hifar & ~0x1F:#010x} are not in memory: set VBAR, or fix the faulting instruction",
            )
        )
        self._coordinator.wait(Shutdown)
        raise RunIsOver

    def _request(self, leave: Exit) -> None:
        self._liveness.beat()
        if leave.kind == EXIT_REQUEST:
            self._coordinator.drain()

    def _stopped_at(self, leave: Exit) -> None:
        self._liveness.beat()
        self._debuggee.hit(leave)

    def _unknown(self, leave: Exit) -> None:
        raise EngineError(
            f"vCPU {self._number} left the guest at {leave.pc:#010x} for a reason that has no handler "
            f"(HSR {leave.hsr:#010x})"
        )
