# SPDX-License-Identifier: GPL-2.0-or-later
"""Emulate an instruction: its accesses go to RAM or to devices, then it retires.

The order matters. Every address is translated before anything is touched, so an abort leaves the instruction as if it
had not begun. Each access asks its device once. Registers, writeback, flags and PC change together, last.
"""

from __future__ import annotations

from collections.abc import Callable

from allstop.vcpu_worker.context import VcpuContext
from allstop.vcpu_worker.engine import Vcpu
from allstop.vm.arm import psr
from allstop.vm.arm.execution import Access, CpuState, Effects, ExclusiveMonitor, Plan, finish
from allstop.vm.arm.psr import Mode
from allstop.vm.config.limits import RAM_BASE
from allstop.vm.control.control import COUNT_MMIO_READ, COUNT_MMIO_WRITE, COUNT_UNASSIGNED
from allstop.vm.wire.messages import MMIO_OK, MMIO_UNASSIGNED

_PAGE = 4096


class DeviceFailedError(Exception):
    """A device failed to answer; the device server has told the coordinator why."""


class EngineState(CpuState):
    """The vCPU as `execution.plan` asks for it, read from the engine."""

    def __init__(self, vcpu: Vcpu) -> None:
        self._vcpu = vcpu
        core = vcpu.core()
        self._r = core[:16]
        self._cpsr = core[16]

    @property
    def r(self) -> tuple[int, ...]:
        return self._r

    @property
    def cpsr(self) -> int:
        return self._cpsr

    @property
    def spsr(self) -> int:
        return self._vcpu.banked(psr.mode(self._cpsr), 16)

    @property
    def exclusive(self) -> ExclusiveMonitor:
        monitor = self._vcpu.monitor()
        return ExclusiveMonitor() if monitor is None else ExclusiveMonitor(*monitor)

    def banked(self, mode: Mode, register: int) -> int:
        return self._vcpu.banked(int(mode), register)

    def double(self, number: int) -> int:
        return self._vcpu.d(number)


def _pieces(access: Access) -> list[tuple[int, int, int]]:
    """(gva, size, shift of the value in bits): the access, byte by byte where it crosses a page."""
    if access.address % _PAGE + access.size <= _PAGE:
        return [(access.address, access.size, 0)]
    return [((access.address + i) & 0xFFFFFFFF, 1, 8 * i) for i in range(access.size)]


class Emulation:
    """Performs plans for one vCPU."""

    def __init__(self, context: VcpuContext) -> None:
        self._vcpu = context.vcpu
        self._number = context.number
        self._control_page = context.control_page
        self._devices = context.devices
        self._ram_end = context.ram_end

    def perform(self, plan: Plan, before_retire: Callable[[], None] = lambda: None) -> bool:
        """Make the accesses of `plan` and retire it; False when the guest has taken an abort instead.

        Raises RunIsOver and DeviceFailedError."""
        vcpu = self._vcpu
        pieces: list[tuple[Access, int, int, int, int]] = []
        for access in plan.accesses:
            for gva, size, shift in _pieces(access):
                ipa = vcpu.translate(gva, access.write, access.privileged)
                if ipa is None:
                    lpae_status, short_status = vcpu.translation_fault()
                    vcpu.abort(gva, is_write=access.write, lpae_status=lpae_status, short_status=short_status)
                    return False
                pieces.append((access, gva, ipa, size, shift))
        values: list[int] = []
        previous: Access | None = None
        for access, gva, ipa, size, shift in pieces:
            mask = (1 << 8 * size) - 1
            stored = 0 if access.value is None else access.value >> shift & mask
            loaded = self._access(gva, ipa, size, access.write, stored)
            if loaded is None:
                return False
            if access.write:
                continue
            if access is previous:
                values[-1] |= loaded << shift
            else:
                values.append(loaded)
                previous = access
        before_retire()
        self._apply(finish(plan, values))
        return True

    def _access(self, gva: int, ipa: int, size: int, is_write: bool, value: int) -> int | None:
        if RAM_BASE <= ipa < self._ram_end:
            if is_write:
                self._vcpu.write_ram(ipa, value.to_bytes(size, "little"))
                return 0
            data = self._vcpu.read_ram(ipa, size)
            return None if data is None else int.from_bytes(data, "little")
        self._control_page.count(self._number, COUNT_MMIO_WRITE if is_write else COUNT_MMIO_READ)
        reply = self._devices.mmio(ipa, size, is_write, value)
        self._control_page.set_line(self._number, reply.line)
        if reply.status == MMIO_OK:
            return reply.value
        if reply.status == MMIO_UNASSIGNED:
            self._control_page.count(self._number, COUNT_UNASSIGNED)
            self._vcpu.abort(gva, is_write=is_write)
            return None
        raise DeviceFailedError(f"the device at {ipa:#010x} failed")

    def _apply(self, effects: Effects) -> None:
        vcpu = self._vcpu
        for number, value in effects.registers.items():
            vcpu.set_core(number, value)
        for number, value in effects.user_registers.items():
            vcpu.banked(int(Mode.USER), number, value)
        for mode, value in effects.stack_pointers.items():
            vcpu.banked(int(mode), 13, value)
        for number, value in effects.vfp.items():
            vcpu.set_d(number, value)
        if effects.exclusive is not None:
            monitor = effects.exclusive
            vcpu.set_monitor(monitor.address, monitor.value)
        if effects.cpsr is not None:
            vcpu.set_core(16, effects.cpsr)
        vcpu.set_core(15, effects.pc)
