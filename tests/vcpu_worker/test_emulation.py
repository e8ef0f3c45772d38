# SPDX-License-Identifier: GPL-2.0-or-later
"""The emulation of instructions without syndrome: all addresses first, each device access once, registers last."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from allstop.vcpu_worker.engine import Vcpu
from allstop.vcpu_worker.exits.emulation import DeviceFailedError, Emulation, EngineState
from allstop.vm.arm import psr
from allstop.vm.arm.decoder import decode
from allstop.vm.arm.execution import plan
from allstop.vm.wire.messages import MMIO_FAILED, MMIO_OK, MMIO_UNASSIGNED, MmioReply
from tests.vcpu_worker.contexts import context

if TYPE_CHECKING:
    from tests.vcpu_worker.conftest import Machine

VA = 0x1230_0000
EDGE = VA + 4096
SECTION, PAGE, PAGE_PL1 = 0xC02, 0x32, 0x12  # read and write for all; for PL1


@dataclass
class FakeLinks:
    """Stands for the device server: answers with the accesses' addresses, or as told."""

    replies: dict[int, tuple[int, int]] = field(default_factory=dict)
    asked: list[tuple[int, int, bool, int]] = field(default_factory=list)

    def mmio(self, ipa: int, size: int, is_write: bool, value: int) -> MmioReply:
        self.asked.append((ipa, size, is_write, value))
        status, answer = self.replies.get(ipa, (MMIO_OK, ipa))
        return MmioReply(len(self.asked), status, answer, len(self.asked) << 2)


class Scene:
    """RAM at VA, a device behind it from EDGE on, and an Emulation with fake links."""

    def __init__(self, machine: Machine, second: int | None = None) -> None:
        self.machine = machine
        self.links = FakeLinks()
        self.vcpu = vcpu = machine.vcpu()
        self.ram = machine.DATA
        second = machine.DEVICE | PAGE if second is None else second
        machine.put(machine.TABLES + 4 * (machine.RAM >> 20), machine.RAM | SECTION)
        machine.put(machine.TABLES + 4 * (VA >> 20), machine.TABLES + 0x4000 | 1)
        machine.put(machine.TABLES + 0x4000, machine.DATA | PAGE, second)
        vcpu.cp15(2, 0, 0, 0, False, machine.TABLES)  # TTBR0
        vcpu.cp15(3, 0, 0, 0, False, 1)  # DACR
        vcpu.cp15(12, 0, 0, 0, False, machine.VECTORS)  # VBAR
        vcpu.cp15(1, 0, 0, 0, False, vcpu.cp15(1, 0, 0, 0) | 1)  # SCTLR.M
        vcpu.set_core(16, vcpu.core()[16])
        self.emulation = Emulation(context(machine, vcpu, devices=self.links))

    def perform(self, word: int, thumb: bool = False, **registers: int) -> bool:
        """Emulate one instruction at CODE."""
        for name, value in registers.items():
            self.vcpu.set_core(int(name[1:]), value)
        return self.emulation.perform(plan(decode(word, thumb), EngineState(self.vcpu)))


@pytest.fixture
def scene(machine: Machine) -> Scene:
    return Scene(machine)


def test_a_load_with_writeback(scene: Scene) -> None:
    assert scene.perform(0xE4910004, r1=EDGE + 8)  # ldr r0, [r1], #4
    core = scene.vcpu.core()
    assert (core[0], core[1], core[15]) == (0x0900_0008, EDGE + 12, scene.machine.CODE + 4)
    assert scene.links.asked == [(0x0900_0008, 4, False, 0)]
    assert (scene.machine.counter("mmio_read"), scene.machine.page.line(0)) == (1, 1 << 2)


def test_a_multiple_from_ram_and_a_device(scene: Scene) -> None:
    scene.machine.put(scene.ram + 4088, 0x1111, 0x2222)
    assert scene.perform(0xE8B1001D, r1=EDGE - 8)  # ldm r1!, {r0, r2, r3, r4}
    core = scene.vcpu.core()
    assert core[:5] == (0x1111, EDGE + 8, 0x2222, 0x0900_0000, 0x0900_0004)
    assert scene.links.asked == [(0x0900_0000, 4, False, 0), (0x0900_0004, 4, False, 0)]


def test_a_multiple_to_ram_and_a_device(scene: Scene) -> None:
    assert scene.perform(0xE881000D, r0=5, r1=EDGE - 4, r2=6, r3=7)  # stm r1, {r0, r2, r3}
    assert scene.machine.word(scene.ram + 4092) == 5
    assert scene.links.asked == [(0x0900_0000, 4, True, 6), (0x0900_0004, 4, True, 7)]
    assert scene.machine.counter("mmio_write") == 2


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("before", [1, 2, 3])
def test_a_word_over_the_edge_is_made_of_bytes(scene: Scene, before: int, big: bool) -> None:
    scene.machine.put(scene.ram + 4092, 0x4433_2211)
    scene.links.replies = {0x0900_0000 + n: (MMIO_OK, 0xA0 + n) for n in range(3)}
    if big:
        scene.vcpu.set_core(16, scene.vcpu.core()[16] | psr.E)
    assert scene.perform(0xE5910000, r1=EDGE - before)  # ldr r0, [r1]
    there = [0x11, 0x22, 0x33, 0x44][4 - before :] + [0xA0, 0xA1, 0xA2][: 4 - before]
    assert scene.vcpu.core()[0] == int.from_bytes(there, "big" if big else "little")
    assert scene.links.asked == [(0x0900_0000 + n, 1, False, 0) for n in range(4 - before)]


@pytest.mark.parametrize("before", [1, 2, 3])
def test_a_stored_word_over_the_edge_is_made_of_bytes(scene: Scene, before: int) -> None:
    scene.machine.put(scene.ram + 4092, 0x4433_2211)
    assert scene.perform(0xE5810000, r0=0xD4C3_B2A1, r1=EDGE - before)  # str r0, [r1]
    stored = [0xA1, 0xB2, 0xC3, 0xD4]
    assert scene.links.asked == [(0x0900_0000 + n, 1, True, byte) for n, byte in enumerate(stored[before:])]
    expected = [0x11, 0x22, 0x33, 0x44][: 4 - before] + stored[:before]
    assert scene.machine.word(scene.ram + 4092) == int.from_bytes(expected, "little")


@pytest.mark.parametrize(
    "word",
    [
        0xE8B1000D,  # ldm r1!, {r0, r2, r3}
        0xE8A1000D,  # stm r1!, {r0, r2, r3}
    ],
)
def test_an_abort_in_the_middle_leaves_the_registers(scene: Scene, word: int) -> None:
    scene.links.replies = {0x0900_0008: (MMIO_UNASSIGNED, 0)}
    for n in range(15):
        scene.vcpu.set_core(n, 0x500 + n)
    scene.vcpu.set_core(1, EDGE + 4)
    before = scene.vcpu.core()
    write = word == 0xE8A1000D
    assert not scene.perform(word)
    assert [ipa for ipa, *_ in scene.links.asked] == [0x0900_0004, 0x0900_0008], "nothing after the abort"
    core = scene.vcpu.core()
    assert core[:13] == before[:13]
    assert core[13:] == (0, scene.machine.CODE + 8, scene.machine.VECTORS + 0x10, psr.Mode.ABORT | 0x1C0)
    assert scene.vcpu.banked(psr.Mode.ABORT, 16) == before[16]
    assert scene.vcpu.banked(psr.Mode.SUPERVISOR, 13) == before[13]
    assert scene.vcpu.cp15(6, 0, 0, 0) == EDGE + 8  # DFAR
    assert scene.vcpu.cp15(5, 0, 0, 0) == 0x008 | write << 11  # DFSR: external abort
    assert (scene.machine.counter("unassigned"), scene.machine.counter("abort_injected")) == (1, 1)


@pytest.mark.parametrize(
    ("second", "word", "far", "status"),
    [
        (0, 0xE8A1000D, EDGE, 0x807),  # stm r1!, {r0, r2, r3}
        (0, 0xE5910000, EDGE, 0x007),  # ldr r0, [r1]
        (PAGE_PL1, 0xE4B10004, EDGE, 0x00F),  # ldrt r0, [r1], #4
    ],
)
def test_an_address_that_does_not_translate_is_found_before_anything_is_touched(
    machine: Machine, second: int, word: int, far: int, status: int
) -> None:
    scene = Scene(machine, second and machine.DEVICE | second)
    machine.put(scene.ram + 4088, 1, 2)
    registers = {0: 3, 1: EDGE - (2 if word == 0xE5910000 else 0 if second else 8), 2: 4, 3: 5}
    for n, value in registers.items():
        scene.vcpu.set_core(n, value)
    assert not scene.perform(word)
    assert scene.links.asked == [] and (machine.word(scene.ram + 4088), machine.word(scene.ram + 4092)) == (1, 2)
    assert scene.vcpu.core()[:4] == tuple(registers.values())
    assert (scene.vcpu.cp15(6, 0, 0, 0), scene.vcpu.cp15(5, 0, 0, 0)) == (far, status)  # DFAR, DFSR
    assert scene.vcpu.core()[15] == machine.VECTORS + 0x10


def test_a_walk_that_leaves_memory_is_an_external_abort(machine: Machine) -> None:
    scene = Scene(machine)
    machine.put(machine.TABLES + 4 * (VA >> 20) + 4, 0x2000_0001)  # a level-2 table where there is no memory
    assert not scene.perform(0xE8B1000D, r1=VA + 0x10_0000)  # ldm r1!, {r0, r2, r3}
    assert (scene.vcpu.cp15(6, 0, 0, 0), scene.vcpu.cp15(5, 0, 0, 0)) == (VA + 0x10_0000, 0x00E)  # DFAR, DFSR


def test_a_device_that_failed_ends_the_run(scene: Scene) -> None:
    scene.links.replies = {0x0900_0000: (MMIO_FAILED, 0)}
    before = scene.vcpu.core()
    with pytest.raises(DeviceFailedError, match="0x09000000"):
        scene.perform(0xE5910000, r1=EDGE)  # ldr r0, [r1]
    assert scene.vcpu.core()[15] == before[15]


def test_an_exclusive_pair_on_a_device(scene: Scene) -> None:
    assert scene.perform(0xE1910F9F, r1=EDGE)  # ldrex r0, [r1]
    assert scene.vcpu.monitor() == (EDGE, 0x0900_0000)
    assert scene.perform(0xE1812F93, r2=9, r3=77)  # strex r2, r3, [r1]
    assert scene.links.asked[-1] == (0x0900_0000, 4, True, 77)
    assert scene.vcpu.core()[2] == 0 and scene.vcpu.monitor() is None


def test_a_double_comes_as_two_words(scene: Scene) -> None:
    scene.links.replies = {0x0900_0008: (MMIO_OK, 0x1111), 0x0900_000C: (MMIO_OK, 0x2222)}
    assert scene.perform(0xED911B02, r1=EDGE)  # vldr d1, [r1, #8]
    assert scene.vcpu.d(1) == 0x2222_0000_1111
    assert [ipa for ipa, *_ in scene.links.asked] == [0x0900_0008, 0x0900_000C]


def test_user_registers_and_other_stack_pointers(scene: Scene) -> None:
    assert scene.perform(0xE8D16000, r1=EDGE)  # ldm r1, {sp, lr}^
    assert [scene.vcpu.banked(psr.Mode.USER, n) for n in (13, 14)] == [0x0900_0000, 0x0900_0004]
    assert scene.vcpu.core()[13:15] == (0, 0)
    scene.vcpu.banked(psr.Mode.IRQ, 13, EDGE + 64)
    scene.vcpu.banked(psr.Mode.SUPERVISOR, 16, psr.Mode.USER)
    assert scene.perform(0xF96D0512, r14=0x1234)  # srsdb sp!, #18
    assert scene.links.asked[-2:] == [(0x0900_0038, 4, True, 0x1234), (0x0900_003C, 4, True, psr.Mode.USER)]
    assert scene.vcpu.banked(psr.Mode.IRQ, 13) == EDGE + 56


@pytest.mark.parametrize(
    ("cpsr", "mode"),
    [
        (psr.Mode.USER | psr.N, psr.Mode.USER),
        (psr.Mode.IRQ | psr.T, psr.Mode.IRQ),
        (psr.Mode.HYP, psr.Mode.SUPERVISOR),
        (psr.Mode.MONITOR, psr.Mode.SUPERVISOR),
        (0x1D, psr.Mode.SUPERVISOR),
    ],
)
def test_a_return_from_exception_can_not_reach_the_hypervisors_mode(scene: Scene, cpsr: int, mode: int) -> None:
    scene.links.replies = {0x0900_0000: (MMIO_OK, 0x4001_0100), 0x0900_0004: (MMIO_OK, cpsr)}
    assert scene.perform(0xF8B10A00, r1=EDGE)  # rfeia r1!
    core = scene.vcpu.core()
    assert (core[15], core[16]) == (0x4001_0100, cpsr & ~0x1F | mode)
    assert scene.vcpu.banked(psr.Mode.SUPERVISOR, 1) == EDGE + 8


def test_itstate_goes_on(scene: Scene) -> None:
    cpsr = psr.with_itstate(psr.Mode.SUPERVISOR | psr.T | psr.Z, 0x0C)
    scene.vcpu.set_core(16, cpsr)
    assert scene.perform(0xC90C, True, r1=EDGE)  # ldm r1!, {r2, r3}
    core = scene.vcpu.core()
    assert psr.itstate(core[16]) == 0x18 and core[15] == scene.machine.CODE + 2


def test_a_store_to_code_is_executed_from_then_on(machine: Machine) -> None:
    """The page before the device is code that was translated."""
    scene = Scene(machine)
    old, new = 0xE3A00001, 0xE3A00002  # mov r0, #1; mov r0, #2
    machine.put(scene.ram + 4088, 0xE12FFF1E, old)  # bx lr
    machine.put(scene.ram + 4084, old)
    machine.put(machine.CODE, 0xE12FFF32, 0xE1400070)  # blx r2; hvc #0
    machine.put(machine.CODE + 8, 0xE12FFF32, 0xE1400070)  # blx r2; hvc #0
    vcpu = scene.vcpu
    vcpu.set_core(2, EDGE - 12)
    machine.call(vcpu)
    assert vcpu.core()[0] == 1
    vcpu.set_core(15, machine.CODE)
    assert scene.perform(0xE8810078, r1=EDGE - 12, r3=new, r4=0xE12FFF1E, r5=7, r6=8)  # stm r1, {r3, r4, r5, r6}
    assert scene.links.asked == [(0x0900_0000, 4, True, 8)]
    vcpu.set_core(15, machine.CODE + 8)
    machine.call(vcpu)
    assert vcpu.core()[0] == 2


def test_ram_ends_where_it_ends(machine: Machine) -> None:
    """Without MMU, the word behind the end of RAM is a device's."""
    vcpu: Vcpu = machine.vcpu()
    links = FakeLinks()
    end = machine.RAM + machine.memory_bytes
    machine.put(end - 4, 5)
    vcpu.set_core(1, end - 4)
    emulation: Callable[[Any], bool] = Emulation(context(machine, vcpu, devices=links)).perform
    assert emulation(plan(decode(0xE8B1000D, False), EngineState(vcpu)))  # ldm r1!, {r0, r2, r3}
    assert vcpu.core()[0] == 5 and [ipa for ipa, *_ in links.asked] == [end, end + 4]
