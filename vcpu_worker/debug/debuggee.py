# SPDX-License-Identifier: GPL-2.0-or-later
"""A vCPU under a debugger: held outside the guest, read, changed, stepped, let go.

The worker gets a command whenever it looks at the coordinator's messages. The vCPU is outside the guest then, so the
worker carries it out at once, except two: a step waits for the worker's loop, and the answer to HoldVcpu waits until
the exit under way is over. A vCPU that is switched off waits for PowerOn in the middle of an exit and answers at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from allstop.vcpu_worker.context import VcpuContext
from allstop.vcpu_worker.debug.breakpoints import Breakpoints
from allstop.vcpu_worker.debug.registers import read_all_registers, write_register
from allstop.vcpu_worker.engine import EXIT_BREAKPOINT, EXIT_NISV, EXIT_REQUEST, EXIT_TIMER, EXIT_WATCHPOINT, Exit
from allstop.vm.control.control import ACTIVITY_OFF, ACTIVITY_PARKED, TLB_FLUSH
from allstop.vm.wire.messages import (
    HIT_BREAKPOINT,
    HIT_WATCHPOINT,
    DebugDone,
    HoldVcpu,
    LetVcpuGo,
    Message,
    PeekMemory,
    PokeMemory,
    ReadVcpu,
    SetStops,
    StepVcpu,
    TranslateAddress,
    VcpuHit,
    WriteVcpu,
)

_PAGE = 4096
_PATIENCE = 8
_NOT_HELD = "the vCPU is not held"


class Debuggee:
    """The vCPU `number`. `turn(budget)` enters the guest once and handles the exit."""

    def __init__(self, context: VcpuContext, breakpoints: Breakpoints, turn: Callable[[int], Exit]) -> None:
        self._vcpu = context.vcpu
        self._number = context.number
        self._control_page = context.control_page
        self._coordinator = context.coordinator
        self._breakpoints = breakpoints
        self._turn = turn
        self.held = False
        """The vCPU has to stay out of the guest: see `stay`."""
        self.stepping = False
        self._hold_nonce: int | None = None
        self._step_nonce: int | None = None
        context.coordinator.debug = self.obey

    def obey(self, message: Message) -> None:
        """Do what the debugger says, or note it for `stay`."""
        match message:
            case HoldVcpu(nonce):
                self.held, self._hold_nonce = True, nonce
                if self._is_off:
                    self._say_held()
            case StepVcpu(nonce):
                if self._is_off or not self.held:
                    self._done(nonce, sentence="" if self._is_off else _NOT_HELD)
                else:
                    self._step_nonce = nonce
            case LetVcpuGo(nonce, _, again):
                self.held = False
                if again:
                    self._breakpoints.renew()
                self._done(nonce)
            case ReadVcpu(nonce):
                self._done(nonce, read_all_registers(self._vcpu))
            case WriteVcpu(nonce, _, name, value):
                known = write_register(self._vcpu, name, value)
                self._control_page.post(self._number, TLB_FLUSH)
                self._done(nonce, sentence="" if known else f"there is no register {name}")
            case PeekMemory(nonce, _, address, length_bytes, physical):
                self._done(nonce, self._peek(address, length_bytes, physical))
            case PokeMemory(nonce, _, address, data, physical):
                self._done(nonce, sentence=self._poke(address, data, physical))
            case TranslateAddress(nonce, _, address):
                ipa = self._vcpu.translate(address, False, True)
                self._done(nonce, b"" if ipa is None else ipa.to_bytes(4, "little"))
            case SetStops(nonce, _, stops):
                self._done(nonce, sentence=self._set_stops(stops))

    def stay(self) -> None:
        """Stay out of the guest until the debugger lets the vCPU go. Raises RunIsOver."""
        while self.held:
            self._say_held()
            if self._step_nonce is not None:
                self._step()
                continue
            self._control_page.set_activity(self._number, ACTIVITY_PARKED)
            self._vcpu.rest(True)
            try:
                self._coordinator.attend()
            finally:
                self._vcpu.rest(False)

    def hit(self, leave: Exit) -> None:
        """The vCPU has left the guest for a breakpoint or a watchpoint: if it is the debugger's, the world stops."""
        is_breakpoint = leave.kind == EXIT_BREAKPOINT
        if self.stepping or is_breakpoint and leave.pc not in self._breakpoints.debugger:
            return
        self.held = True
        self._control_page.head_start(self._number)
        self._coordinator.tell(
            VcpuHit(self._number, HIT_BREAKPOINT if is_breakpoint else HIT_WATCHPOINT, leave.pc, leave.hdfar)
        )

    def went_off(self) -> None:
        """The vCPU has switched itself off and waits for PowerOn: answer what is still open."""
        self._say_held()
        self._say_stepped(b"")

    @property
    def _is_off(self) -> bool:
        return self._control_page.activity(self._number)[0] == ACTIVITY_OFF

    def _step(self) -> None:
        """Execute one instruction, past a breakpoint on it. One that traps without syndrome may need several tries."""
        self.stepping = True
        try:
            tries = 0
            while tries < _PATIENCE:
                before = self._vcpu.core()
                leave = self._turn(1)
                if leave.kind == EXIT_REQUEST or leave.kind in (EXIT_BREAKPOINT, EXIT_TIMER) and not leave.executed:
                    continue
                if leave.kind != EXIT_NISV or self._vcpu.core() != before:
                    break
                tries += 1
        finally:
            self.stepping = False
        self._say_stepped(leave.hdfar.to_bytes(4, "little") if leave.kind == EXIT_WATCHPOINT else b"")

    def _say_held(self) -> None:
        if self._hold_nonce is not None:
            self._done(self._hold_nonce)
            self._hold_nonce = None

    def _say_stepped(self, data: bytes) -> None:
        if self._step_nonce is not None:
            self._done(self._step_nonce, data)
            self._step_nonce = None

    def _done(self, nonce: int, data: bytes = b"", sentence: str = "") -> None:
        self._coordinator.tell(DebugDone(nonce, self._number, data, sentence))

    def _set_stops(self, stops: str) -> str:
        wanted = json.loads(stops)
        try:
            self._breakpoints.set_debugger(wanted["breakpoints"])
            self._vcpu.set_watchpoints([tuple(watch) for watch in wanted["watchpoints"]])
        except ValueError as error:
            return str(error)
        return ""

    def _ipa(self, address: int, physical: bool) -> int | None:
        return address if physical else self._vcpu.translate(address, False, True)

    def _peek(self, address: int, length_bytes: int, physical: bool) -> bytes:
        data = b""
        while (left := length_bytes - len(data)) > 0:
            ipa = self._ipa(address, physical)
            piece = None if ipa is None else self._vcpu.read_ram(ipa, min(left, _PAGE - address % _PAGE))
            if piece is None:
                break
            data += piece
            address = address + len(piece) & 0xFFFFFFFF
        return data

    def _poke(self, address: int, data: bytes, physical: bool) -> str:
        while data:
            piece = data[: _PAGE - address % _PAGE]
            ipa = self._ipa(address, physical)
            if ipa is None or not self._vcpu.write_ram(ipa, piece):
                return f"there is no RAM at {address:#010x}"
            data = data[len(piece) :]
            address = address + len(piece) & 0xFFFFFFFF
        return ""
