# SPDX-License-Identifier: GPL-2.0-or-later
"""The reference: stock Unicorn as a Cortex-A15 that executes one instruction on plain memory."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import pytest
import unicorn
from unicorn import arm_const

from allstop.vm.arm import psr
from allstop.vm.arm.psr import Mode
from allstop.vm.arm.sampling import Scene

RAM = 0x10000
SIZE = 0x6000
CODE = 0x13000
CODE_END = 0x14000
_ROUTINE = CODE

_R = [getattr(arm_const, f"UC_ARM_REG_R{n}") for n in range(13)]
_R += [arm_const.UC_ARM_REG_SP, arm_const.UC_ARM_REG_LR]
_D = [getattr(arm_const, f"UC_ARM_REG_D{n}") for n in range(32)]
_CPSR, _SPSR, _PC = arm_const.UC_ARM_REG_CPSR, arm_const.UC_ARM_REG_SPSR, arm_const.UC_ARM_REG_PC
_THUMB_BREAKPOINT, _ARM_BREAKPOINT = b"\x00\xbe", b"\x70\x00\x20\xe1"
_CLREX = 0xF57FF01F
_LDREX = {4: 0xE1910F9F, 8: 0xE1B10F9F, 1: 0xE1D10F9F, 2: 0xE1F10F9F}  # r0 (and r1), [r1]
_STREX = {4: 0xE1812F90, 8: 0xE1A12F90, 1: 0xE1C12F90, 2: 0xE1E12F90}  # r2, r0 (and r1), [r1]


@dataclass(frozen=True, slots=True)
class Touch:
    """One access to memory that the engine made or tried."""

    address: int
    size: int
    write: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """The CPU after one instruction; `r` are the registers of the mode in which it ran, `r[15]` is PC."""

    error: int
    r: tuple[int, ...]
    cpsr: int
    doubles: tuple[int, ...]
    banks: dict[tuple[Mode, int], int]
    touched: tuple[Touch, ...]


class NativeCpu:
    """Executes a Scene on the engine. `ram` is the memory at RAM, `before` its contents before the run.

    The instruction stands near the end of the only executable page, followed by breakpoints; where a
    branch goes, fetching fails: either way the run ends after one instruction with the CPU's state exact.

    A `traced` one also records the accesses. It must not be asked for ITSTATE: the engine's hooks on memory
    write the ITSTATE of the instruction back into the CPU, and the end of an IT block then leaves it there.
    """

    def __init__(self, traced: bool, seed: int = 0) -> None:
        self.uc = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_ARM)
        self.uc.ctl_set_cpu_model(arm_const.UC_CPU_ARM_CORTEX_A15)
        self.ram = mmap.mmap(-1, SIZE)
        self._buffer = ctypes.c_char.from_buffer(self.ram)
        start = ctypes.addressof(self._buffer)
        data = unicorn.UC_PROT_READ | unicorn.UC_PROT_WRITE
        for low, high, prot in (
            (RAM, CODE, data),
            (CODE, CODE_END, unicorn.UC_PROT_ALL),
            (CODE_END, RAM + SIZE, data),
        ):
            self.uc.mem_map_ptr(low, high - low, prot, start + low - RAM)
        self.ram[:] = Random(seed).randbytes(SIZE)
        self.before = self.ram[:]
        self.uc.reg_write(arm_const.UC_ARM_REG_CP_REG, (15, 0, 0, 1, 0, 0, 2, 0xF00000))
        self.uc.reg_write(arm_const.UC_ARM_REG_CP_REG, (15, 0, 0, 1, 0, 0, 0, self._control() | 1 << 10))
        self.uc.reg_write(arm_const.UC_ARM_REG_FPEXC, 0x40000000)
        self._touched: list[Touch] = []
        if traced:
            self.uc.hook_add(unicorn.UC_HOOK_MEM_READ | unicorn.UC_HOOK_MEM_WRITE, self._on_access)
            invalid = unicorn.UC_HOOK_MEM_READ_INVALID | unicorn.UC_HOOK_MEM_WRITE_INVALID
            self.uc.hook_add(invalid, self._on_invalid)

    def close(self) -> None:
        """Give the memory back; the engine must not run afterwards."""
        del self.uc
        del self._buffer
        self.ram.close()

    def _place(self, scene: Scene) -> None:
        pc, word, thumb = scene.r[15], scene.sample.word, scene.sample.thumb
        if not thumb:
            code = struct.pack("<I", word)
        elif word < 0x10000:
            code = struct.pack("<H", word)
        else:
            code = struct.pack("<HH", word >> 16, word & 0xFFFF)
        room = CODE_END - pc - len(code)
        filler = _THUMB_BREAKPOINT * (room // 2) if thumb else _ARM_BREAKPOINT * (room // 4)
        self.ram[pc - RAM : CODE_END - RAM] = code + filler
        for address, content in scene.memory:
            self.ram[address - RAM : address - RAM + len(content)] = content
        self.before = self.ram[:]
        self.uc.ctl_remove_cache(pc, CODE_END)

    def _control(self) -> int:
        value: int = self.uc.reg_read(arm_const.UC_ARM_REG_CP_REG, (15, 0, 0, 1, 0, 0, 0))
        return value

    def _on_access(self, uc: object, kind: int, address: int, size: int, value: int, data: object) -> None:
        self._touched.append(Touch(address, size, kind == unicorn.UC_MEM_WRITE))

    def _on_invalid(self, uc: object, kind: int, address: int, size: int, value: int, data: object) -> bool:
        writes = (unicorn.UC_MEM_WRITE_UNMAPPED, unicorn.UC_MEM_WRITE_PROT)
        self._touched.append(Touch(address, size, kind in writes))
        return False

    def pc(self, rng: Random, thumb: bool) -> int:
        """A place for an instruction."""
        return CODE_END - 32 + (rng.randrange(10) * 2 if thumb else rng.randrange(5) * 4)

    def reachable(self, pc: int) -> list[range]:
        """Where its accesses may go."""
        return [range(RAM, CODE - 8), range(CODE_END, RAM + SIZE), range(CODE + 16, pc)]

    def run(self, scene: Scene, vector: bool = True, banked: bool = True) -> Outcome:
        """Execute the scene's instruction in its state; the state left out is not compared either."""
        self._place(scene)
        if banked:
            self._write_banks(scene)
        self.uc.reg_write(_CPSR, scene.cpsr)
        self.uc.reg_write_batch([*zip(_R, scene.r[:15], strict=True)])
        if scene.cpsr & psr.MODE not in psr.USER_BANK:
            self.uc.reg_write(_SPSR, scene.spsr)
        if vector:
            self.uc.reg_write_batch([*zip(_D, scene.doubles, strict=True)])
        self._touched.clear()
        error = 0
        try:
            self.uc.emu_start(scene.r[15] | scene.sample.thumb, 0)
        except unicorn.UcError as failure:
            error = failure.errno
        touched = tuple(self._touched)
        after_pc, cpsr = self.uc.reg_read_batch([_PC, _CPSR])
        if (cpsr ^ scene.cpsr) & psr.MODE:
            self.uc.reg_write(_CPSR, cpsr & ~psr.MODE | scene.cpsr & psr.MODE)
        r = (*self.uc.reg_read_batch(_R), after_pc)
        doubles = tuple(self.uc.reg_read_batch(_D)) if vector else ()
        return Outcome(error, r, cpsr, doubles, self._read_banks() if banked else {}, touched)

    def probe(self, scene: Scene) -> tuple[Touch, ...]:
        """The accesses of the scene's instruction, whatever else it does; the registers are not read back."""
        self._place(scene)
        self.uc.reg_write(_CPSR, scene.cpsr)
        self.uc.reg_write_batch([*zip(_R, scene.r[:15], strict=True)])
        self._touched.clear()
        with contextlib.suppress(unicorn.UcError):
            self.uc.emu_start(scene.r[15] | scene.sample.thumb, 0, count=1)
        return tuple(self._touched)

    def open_monitor(self, address: int | None, size: int, cpsr: int) -> None:
        """Close the local exclusive monitor, or load exclusively at `address` in the byte order of `cpsr`."""
        self._routine(_CLREX if address is None else _LDREX[size], address or 0, cpsr)

    def store_exclusive_status(self, address: int, size: int, cpsr: int) -> int:
        """What a store exclusive at `address` says: 0 where the monitor is open for it. Memory stays."""
        memory = self.ram[:]
        self._routine(_STREX[size], address, cpsr)
        self.ram[:] = memory
        status: int = self.uc.reg_read(_R[2])
        return status

    def _routine(self, word: int, r1: int, cpsr: int) -> None:
        self.ram[_ROUTINE - RAM : _ROUTINE - RAM + 8] = struct.pack("<I", word) + _ARM_BREAKPOINT
        self.uc.ctl_remove_cache(_ROUTINE, _ROUTINE + 8)
        self.uc.reg_write(_CPSR, 0x1C0 | Mode.SUPERVISOR | cpsr & psr.E)
        self.uc.reg_write(_R[1], r1)
        try:
            self.uc.emu_start(_ROUTINE, 0)
        except unicorn.UcError as failure:
            assert failure.errno == unicorn.UC_ERR_EXCEPTION, failure

    def _write_banks(self, scene: Scene) -> None:
        for mode in psr.GUEST_MODES - {Mode.SYSTEM}:
            self.uc.reg_write(_CPSR, 0x1C0 | (Mode.SYSTEM if mode is Mode.USER else mode))
            numbers = range(8, 15) if mode is Mode.USER else (13,)
            self.uc.reg_write_batch([(_R[n], scene.banks[mode, n]) for n in numbers])

    def _read_banks(self) -> dict[tuple[Mode, int], int]:
        banks = {}
        for mode in psr.GUEST_MODES - {Mode.SYSTEM}:
            self.uc.reg_write(_CPSR, 0x1C0 | (Mode.SYSTEM if mode is Mode.USER else mode))
            numbers = range(8, 15) if mode is Mode.USER else (13,)
            values = self.uc.reg_read_batch([_R[n] for n in numbers])
            banks |= {(mode, n): value for n, value in zip(numbers, values, strict=True)}
        return banks


@pytest.fixture(scope="module")
def native() -> Iterator[NativeCpu]:
    """One engine for the tests of a module: each run sets all the state that it compares."""
    cpu = NativeCpu(traced=False)
    yield cpu
    cpu.close()


@pytest.fixture(scope="module")
def traced() -> Iterator[NativeCpu]:
    """One engine that records accesses."""
    cpu = NativeCpu(traced=True)
    yield cpu
    cpu.close()
