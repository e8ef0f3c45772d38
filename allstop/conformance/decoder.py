# SPDX-License-Identifier: GPL-2.0-or-later
"""The whole path of an instruction without syndrome, against the engine itself.

The same instruction is run twice from the same state at the same addresses: once its data lies in RAM, and the engine
executes it; once the guest's stage 1 maps these addresses to a device that is a RAM, so that the instruction traps, and
the worker's own code fetches, decodes, plans and emulates it. Registers of every mode, CPSR with ITSTATE, PC, VFP
registers, exclusive monitor and memory must be the same.

The instruction ends its page, and everything behind it and elsewhere is execute-never or outside RAM, so the run ends
after exactly one instruction, with exact state. There is no budget, because the engine cannot count inside an IT block.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from allstop.vcpu_worker.context import VcpuContext
from allstop.vcpu_worker.coordinator_link import CoordinatorLink
from allstop.vcpu_worker.devices.device_link import DeviceLink
from allstop.vcpu_worker.engine import EXIT_FETCH, EXIT_LOST, EXIT_MMIO, EXIT_NISV, Exit, Vcpu
from allstop.vcpu_worker.liveness import Liveness
from allstop.vcpu_worker.worker import Worker
from allstop.vm import board
from allstop.vm.arm import psr
from allstop.vm.arm.decoder import decode
from allstop.vm.arm.instruction import Exclusive, StoreReturnState
from allstop.vm.arm.psr import Mode
from allstop.vm.arm.sampling import CLASS_NAMES, Sample, Scene, sample, stage
from allstop.vm.config.limits import RAM_BASE
from allstop.vm.config.machine import MachineConfig, SharedFds
from allstop.vm.control.control import ControlPage
from allstop.vm.memory import stage2
from allstop.vm.telemetry.step import Telemetry
from allstop.vm.wire.messages import MMIO_OK, MMIO_UNASSIGNED, Message, MmioReply

_MEMORY_BYTES = 2 << 20
_PAGE = 4096
# Guest virtual layout: data, the code page, data again. All else is an address outside RAM.
_LOW = 0x10000
_CODE = 0x13000
_HIGH = 0x14000
_END = 0x16000
_DATA_PAGES = [*range(_LOW, _CODE, _PAGE), *range(_HIGH, _END, _PAGE)]
_DATA_IPA = RAM_BASE + 0x40000
_CODE_IPA = RAM_BASE + 0x80000
_TABLES_IPA = RAM_BASE + 0x10000  # two stage-1 tables: data in RAM, data on the device
_NOWHERE = 0x2000_0000
_MODES = (Mode.FIQ, Mode.IRQ, Mode.SUPERVISOR, Mode.ABORT, Mode.UNDEFINED)
_VBAR = 0x7000_0000  # outside RAM: an exception to EL1 ends the run as well


@dataclass(frozen=True)
class State:
    """A vCPU after the run: what the architecture lets software see, and the data pages."""

    pc: int
    cpsr: int
    registers: dict[tuple[int, int], int]
    doubles: tuple[int, ...]
    monitor: tuple[int, int] | None
    memory: bytes

    def differences(self, other: State) -> str:
        """In words, what differs in `other`; empty when nothing does."""
        named = (("pc", self.pc, other.pc), ("cpsr", self.cpsr, other.cpsr))
        found = [f"{name} {a:#x} is {b:#x}" for name, a, b in named if a != b]
        found += [
            f"r{n} of mode {mode:#x} {value:#x} is {other.registers[mode, n]:#x}"
            for (mode, n), value in self.registers.items()
            if other.registers[mode, n] != value
        ]
        pairs = zip(self.doubles, other.doubles, strict=True)
        found += [f"d{n} {a:#x} is {b:#x}" for n, (a, b) in enumerate(pairs) if a != b]
        if self.monitor != other.monitor:
            found.append(f"monitor {self.monitor} is {other.monitor}")
        if self.memory != other.memory:
            place = next(i for i, (a, b) in enumerate(zip(self.memory, other.memory, strict=True)) if a != b)
            found.append(f"data byte {place:#x} {self.memory[place]:#x} is {other.memory[place]:#x}")
        return ", ".join(found)


class NoCoordinator(CoordinatorLink):
    """Stands for the coordinator, which this check does without."""

    def __init__(self) -> None:
        """Connect to nothing."""

    def tell(self, message: Message) -> None:
        raise AssertionError(f"the decoder's check has no coordinator, and got a message for it: {message}")


class DeviceRam(DeviceLink):
    """Stands for the device server: a device that is a RAM, in this process."""

    def __init__(self, size: int) -> None:
        self.content = bytearray(size)
        self.accesses = 0

    def mmio(self, ipa: int, size: int, is_write: bool, value: int) -> MmioReply:
        self.accesses += 1
        offset = ipa - board.RAMDEV_BASE
        if not 0 <= offset <= len(self.content) - size:
            return MmioReply(0, MMIO_UNASSIGNED, 0, 0)
        if is_write:
            self.content[offset : offset + size] = value.to_bytes(size, "little")
            return MmioReply(0, MMIO_OK, 0, 0)
        return MmioReply(0, MMIO_OK, int.from_bytes(self.content[offset : offset + size], "little"), 0)


@dataclass
class Report:
    """What a campaign found: cases by class, those that trapped, and the differences, a sentence each."""

    by_class: Counter[str] = field(default_factory=Counter)
    trapped: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    @property
    def unseen(self) -> list[str]:
        """Classes without a case that trapped and was emulated."""
        return [name for name in CLASS_NAMES if not self.trapped[name]]


class Comparison:
    """One vCPU that runs scenes both ways. One per process; use as a context manager."""

    def __init__(self, rng: Random) -> None:
        with contextlib.ExitStack() as stack:
            control = _memory(ControlPage.size_bytes(1), stack)
            ram = _memory(_MEMORY_BYTES, stack)
            tables = _memory(stage2.size_bytes(_MEMORY_BYTES), stack)
            control_page = ControlPage.create(control, 1, 1)
            with mmap.mmap(tables, 0) as buffer, memoryview(buffer) as view:
                stage2.build(view, _MEMORY_BYTES)
            self._ram = mmap.mmap(ram, 0)
            self._vcpu = Vcpu(control, ram, tables, 0, board.mpidr(0))
            fds = SharedFds(control, ram, tables)
            config = MachineConfig(
                memory_bytes=_MEMORY_BYTES,
                token="",
                coordinator_endpoint="",
                devices_endpoint="",
                fds=fds,
                cores=1,
                fetch="unprotected",
            )
            self._device = DeviceRam(len(_DATA_PAGES) * _PAGE)
            telemetry, liveness = Telemetry(control_page, 0, None), Liveness(control_page, 0)
            context = VcpuContext(
                config, 0, self._vcpu, control_page, telemetry, NoCoordinator(), self._device, liveness
            )
            self._worker = Worker(context, lambda: None)
            self._descriptors = stack.pop_all()
        self._rng = rng
        self._build_tables()
        self._prepare()

    def __enter__(self) -> Comparison:
        return self

    def __exit__(self, *unused: object) -> None:
        self._vcpu.close()
        self._ram.close()
        self._descriptors.close()

    def _poke(self, ipa: int, data: bytes) -> None:
        self._ram[ipa - RAM_BASE : ipa - RAM_BASE + len(data)] = data

    def _build_tables(self) -> None:
        """Two short-descriptor tables that differ in where the data pages lie. Everything is open to all modes; data is
        execute-never, and the rest of the address space is outside RAM."""
        for which, base in enumerate((_DATA_IPA, board.RAMDEV_BASE)):
            table = _TABLES_IPA + 0x8000 * which
            pages = table + 0x4000
            for megabyte in range(4096):
                entry = pages | 1 if megabyte == 0 else _NOWHERE | 0xC02
                self._poke(table + 4 * megabyte, entry.to_bytes(4, "little"))
            for page in range(256):
                gva = page * _PAGE
                if gva == _CODE:
                    entry = _CODE_IPA | 0x032
                elif gva in _DATA_PAGES:
                    entry = base + _DATA_PAGES.index(gva) * _PAGE | 0x033
                else:
                    entry = _NOWHERE | 0x032
                self._poke(pages + 4 * page, entry.to_bytes(4, "little"))

    def _prepare(self) -> None:
        vcpu = self._vcpu
        vcpu.power_on(_CODE, 0, 0, 0)
        vcpu.cp15(3, 0, 0, 0, False, 0x55555555)  # DACR: client
        vcpu.cp15(1, 0, 0, 2, False, 0xF00000)  # CPACR: VFP and NEON
        vcpu.cp15(12, 0, 0, 0, False, _VBAR)
        vcpu.cp15(2, 0, 0, 0, False, _TABLES_IPA)
        vcpu.cp15(1, 0, 0, 0, False, vcpu.cp15(1, 0, 0, 0) | 1)
        vcpu.fpexc(1 << 30)
        self._reset = vcpu.save()

    def case(self, drawn: Sample) -> tuple[bool, str] | None:
        """Run one sample both ways: whether it trapped, and what differs. None if it cannot be staged."""
        length = 2 if drawn.thumb and drawn.word < 0x10000 else 4
        pc = _HIGH - length
        scene = stage(self._rng, drawn, pc, [range(_LOW, _CODE), range(_HIGH, _END)])
        if scene is None:
            return None
        if isinstance(decode(drawn.word, drawn.thumb), StoreReturnState) and psr.itstate(scene.cpsr) & 0xF == 8:
            return None  # a fault of the engine, executing natively: the ITSTATE of the block's last SRS stays behind
        data = bytearray(self._rng.randbytes(len(_DATA_PAGES) * _PAGE))
        for address, content in scene.memory:
            at = _data_offset(address)
            data[at : at + len(content)] = content
        self._vcpu.restore(self._reset)
        self._vcpu.write_ram(_CODE_IPA + pc - _CODE, _code(drawn, length))
        self._enter(scene, data)
        before = self._vcpu.save()
        self._poke(_DATA_IPA, bytes(data))
        self._run()
        expected = self._state(bytes(self._ram[_DATA_IPA - RAM_BASE : _DATA_IPA - RAM_BASE + len(data)]))
        self._vcpu.restore(before)
        self._vcpu.cp15(2, 0, 0, 0, False, _TABLES_IPA + 0x8000)
        self._vcpu.shootdown()
        self._device.content[:] = data
        self._device.accesses = 0
        self._run()
        return self._device.accesses > 0, expected.differences(self._state(bytes(self._device.content)))

    def _enter(self, scene: Scene, data: bytearray) -> None:
        """Make the vCPU the scene's."""
        vcpu = self._vcpu
        for (mode, n), value in scene.banks.items():
            vcpu.banked(int(mode), n, value)
        if scene.cpsr & psr.MODE not in psr.USER_BANK:
            vcpu.banked(scene.cpsr & psr.MODE, 16, scene.spsr)
        vcpu.set_core(16, scene.cpsr)
        for n in range(15):
            vcpu.set_core(n, scene.r[n])
        vcpu.set_core(15, scene.r[15])
        for n, value in enumerate(scene.doubles):
            vcpu.set_d(n, value)
        if (address := scene.exclusive.address) is None:
            vcpu.set_monitor(None)
        else:
            instruction = decode(scene.sample.word, scene.sample.thumb)
            assert isinstance(instruction, Exclusive)
            content = data[_data_offset(address) : _data_offset(address) + instruction.size]
            vcpu.set_monitor(address, int.from_bytes(content, "big" if scene.cpsr & psr.E else "little"))

    def _run(self) -> None:
        """Enter until the one instruction is done: the fetch of the next one ends the run."""
        for _ in range(100):
            leave: Exit = self._vcpu.run()
            if leave.kind in (EXIT_FETCH, EXIT_LOST):
                return
            if leave.kind not in (EXIT_MMIO, EXIT_NISV):
                raise AssertionError(f"unexpected {leave!r}")
            self._worker.handle(leave)
        raise AssertionError("the instruction is never done")

    def _state(self, memory: bytes) -> State:
        """PC and CPSR are the guest's, or those that its prefetch abort saved, which is how most runs end."""
        vcpu = self._vcpu
        core = vcpu.core()
        pc, cpsr = core[15], core[16]
        ended_in_abort = pc == _VBAR + 0x0C
        if ended_in_abort:
            pc, cpsr = vcpu.banked(Mode.ABORT, 14) - 4, vcpu.banked(Mode.ABORT, 16)
        registers: dict[tuple[int, int], int] = {(Mode.USER, n): vcpu.banked(Mode.SYSTEM, n) for n in range(15)}
        for mode in _MODES:
            for n in (*range(8 if mode is Mode.FIQ else 13, 15), 16):
                if not (ended_in_abort and mode is Mode.ABORT and n in (14, 16)):
                    registers[mode, n] = vcpu.banked(mode, n)
        return State(pc, cpsr, registers, tuple(vcpu.d(n) for n in range(32)), vcpu.monitor(), memory)


def _data_offset(gva: int) -> int:
    return gva - _LOW - (_PAGE if gva >= _HIGH else 0)


def _code(drawn: Sample, length: int) -> bytes:
    if drawn.thumb and length == 4:
        return (drawn.word >> 16).to_bytes(2, "little") + (drawn.word & 0xFFFF).to_bytes(2, "little")
    return drawn.word.to_bytes(length, "little")


def _memory(size: int, stack: contextlib.ExitStack) -> int:
    fd = os.memfd_create("allstop-decoding")
    stack.callback(os.close, fd)
    os.ftruncate(fd, size)
    return fd


def campaign(cases: int, seed: int, most_failures: int = 20) -> Iterator[Report]:
    """Run `cases` random instructions of all classes; the report so far after each thousand, and at the end."""
    rng = Random(seed)
    report = Report()
    with Comparison(rng) as comparison:
        while report.by_class.total() < cases and len(report.failures) < most_failures:
            drawn = sample(rng)
            result = comparison.case(drawn)
            if result is None:
                continue
            trapped, differs = result
            report.by_class[drawn.class_name] += 1
            report.trapped[drawn.class_name] += trapped
            if differs:
                text = f"{drawn.class_name} {drawn.word:#x} `{decode(drawn.word, drawn.thumb)}`"
                report.failures.append(f"{text}: native {differs} emulated")
            if report.by_class.total() % 1000 == 0:
                yield report
    yield report
