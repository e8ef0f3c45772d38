# SPDX-License-Identifier: GPL-2.0-or-later
"""The whole vCPU as bytes, and the whole vCPU reset."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from allstop.deploy.processes.processes import child_environment
from allstop.vcpu_worker.engine import EXIT_BUDGET, EXIT_MMIO, EngineError, Vcpu
from allstop.vm.arm import psr
from allstop.vm.memory.memory import create_memory

if TYPE_CHECKING:
    from tests.vcpu_worker.conftest import Machine

PROGRAM = (  # r8 = DATA
    0xE2800001,  # add r0, r0, #1
    0xE0211180,  # eor r1, r1, r0, lsl #3
    0xE0832091,  # umull r2, r3, r1, r0
    0xE0B44002,  # adcs r4, r4, r2
    0xEC442B11,  # vmov d1, r2, r4
    0xEE300A01,  # vadd.f32 s0, s0, s2
    0xEEF15A10,  # vmrs r5, fpscr
    0xE1986F9F,  # ldrex r6, [r8]
    0xE0866004,  # add r6, r6, r4
    0xE1887F96,  # strex r7, r6, [r8]
    0xEB000000,  # bl .+8
    0xEAFFFFF3,  # b .-44
    0xE12FFF1E,  # bx lr
)
CP15 = [
    (1, 0, 0, 0),
    (1, 0, 0, 2),
    (2, 0, 0, 0),
    (2, 0, 0, 1),
    (2, 0, 0, 2),
    (3, 0, 0, 0),
    (5, 0, 0, 0),
    (5, 0, 0, 1),
    (6, 0, 0, 0),
    (6, 0, 0, 2),
    (7, 4, 0, 0),
    (10, 2, 0, 0),
    (10, 2, 0, 1),
    (12, 0, 0, 0),
    (13, 0, 0, 1),
    (13, 0, 0, 2),
    (13, 0, 0, 3),
    (13, 0, 0, 4),
]
BANKED = (
    [(mode, n) for mode in psr.GUEST_MODES - {psr.Mode.USER, psr.Mode.SYSTEM} for n in (13, 14, 16)]
    + [(psr.Mode.FIQ, n) for n in range(8, 13)]
    + [(psr.Mode.USER, n) for n in range(8, 15)]
)


def visible(vcpu: Vcpu) -> dict[str, object]:
    """Everything that a guest could find out about its CPU."""
    return {
        "core": vcpu.core(),
        "banked": [vcpu.banked(mode, n) for mode, n in BANKED],
        "monitor": vcpu.monitor(),
        "vfp": [vcpu.d(n) for n in range(32)],
        "fpexc": vcpu.fpexc(),
        "cp15": [vcpu.cp15(*name) for name in CP15],
        "ttbr": [vcpu.cp15(0, 2, n, 0, True) for n in (0, 1)],
    }


def started(machine: Machine, vcpu: Vcpu) -> Vcpu:
    """In PROGRAM, VFP enabled."""
    machine.put(machine.CODE, *PROGRAM)
    vcpu.cp15(1, 0, 0, 2, False, 0xF << 20)  # CPACR
    vcpu.fpexc(1 << 30)
    vcpu.set_core(16, vcpu.core()[16])
    vcpu.set_core(8, machine.DATA)
    return vcpu


def use(vcpu: Vcpu) -> None:
    """Leave something else than its reset value wherever something can be left."""
    for i, (mode, n) in enumerate(BANKED):
        vcpu.banked(mode, n, 0x5000_0000 + i if n != 16 else psr.Mode.SUPERVISOR | i << 28)
    for name in CP15[1:]:
        vcpu.cp15(*name, False, vcpu.cp15(*name) ^ 0x0123_4000)
    for n in range(32):
        vcpu.set_d(n, 0x1111_1111_0000_0000 * (n % 8) + n)
    for n in range(15):
        vcpu.set_core(n, 0x7000_0000 + n)
    vcpu.fpexc(1 << 30)
    vcpu.set_monitor(0x4000_0000, 77)
    vcpu.set_core(16, psr.Mode.IRQ | psr.T | psr.N | psr.E | 0x0400_AC00)
    vcpu.set_core(15, 0x4000_1234)


def test_the_guest_goes_on_as_it_would_have(machine: Machine) -> None:
    vcpu = started(machine, machine.vcpu())
    assert vcpu.run(5 * 13 + 8).kind == EXIT_BUDGET  # between the LDREX and the STREX
    state, word = vcpu.save(), machine.word(machine.DATA)
    assert vcpu.run(10_000).kind == EXIT_BUDGET
    expected, after = visible(vcpu), machine.word(machine.DATA)
    machine.put(machine.DATA, word)
    vcpu.restore(state)
    assert vcpu.save() == state
    assert vcpu.run(10_000).kind == EXIT_BUDGET
    assert visible(vcpu) == expected and machine.word(machine.DATA) == after
    assert vcpu.core()[0] > 700 and vcpu.core()[7] == 0, "the store exclusive after the restore failed"


@pytest.mark.processes
def test_another_process_goes_on_with_it(machine: Machine) -> None:
    def body(vcpu: Vcpu) -> tuple[bytes, int, tuple[int, ...]]:
        started(machine, vcpu).run(1000)
        state, word = vcpu.save(), machine.word(machine.DATA)
        vcpu.run(1000)
        return state, word, vcpu.core()

    state, word, core = machine.child(0, body).result()
    machine.put(machine.DATA, word)
    fds = machine.control_fd, machine.ram_fd, machine.stage2_fd
    script = (
        "import sys; from allstop.vcpu_worker.engine import Vcpu; "
        f"vcpu = Vcpu{(*fds, 0, 0x8000_0000)}; "
        "vcpu.restore(sys.stdin.buffer.read()); vcpu.run(1000); print(vcpu.core())"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", script],
        input=state,
        pass_fds=fds,
        env=child_environment(),
        capture_output=True,
        timeout=30,
    )
    assert done.stdout.decode().strip() == repr(core), done.stderr.decode()


def test_all_of_it_is_saved(machine: Machine) -> None:
    vcpu = machine.vcpu()
    use(vcpu)
    expected, state = visible(vcpu), vcpu.save()
    vcpu.power_on(machine.CODE, 1, 2, 3)
    assert visible(vcpu) != expected
    vcpu.restore(state)
    assert visible(vcpu) == expected


def test_power_on_resets_everything(machine: Machine) -> None:
    vcpu = machine.vcpu()
    vcpu.power_on(machine.CODE, 1, 2, 3)
    expected, state = visible(vcpu), vcpu.save()
    use(vcpu)
    started(machine, vcpu).run(100)
    vcpu.power_on(machine.CODE, 1, 2, 3)
    assert visible(vcpu) == expected
    assert vcpu.save() == state
    assert vcpu.core() == (1, 2, 3, *[0] * 12, machine.CODE, psr.Mode.SUPERVISOR | psr.A | psr.I | psr.F)
    assert vcpu.monitor() is None and vcpu.fpexc() == 0


def test_power_on_in_thumb_state(machine: Machine) -> None:
    vcpu = machine.vcpu()
    vcpu.power_on(machine.CODE | 1, 0, 0, 0)
    core = vcpu.core()
    assert core[15] == machine.CODE and core[16] & psr.T


def test_power_on_forgets_the_old_translations(machine: Machine) -> None:
    """The guest of before had its MMU on."""
    machine.put(machine.CODE, 0xE5910000, 0xE1400070)  # ldr r0, [r1]; hvc #0
    machine.put(machine.TABLES + 4 * (machine.RAM >> 20), machine.RAM | 0xC02, machine.RAM | 0xC02)  # two sections
    machine.put(machine.RAM + 0x10_0000, 5)
    vcpu = machine.vcpu()
    for mmu in (True, False):
        vcpu.power_on(machine.CODE, 0, machine.RAM + 0x10_0000, 0)
        if mmu:
            vcpu.cp15(2, 0, 0, 0, False, machine.TABLES)  # TTBR0
            vcpu.cp15(3, 0, 0, 0, False, 1)  # DACR
            vcpu.cp15(1, 0, 0, 0, False, vcpu.cp15(1, 0, 0, 0) | 1)  # SCTLR.M
            vcpu.set_core(16, vcpu.core()[16])
        machine.call(vcpu)
        assert vcpu.core()[0] == (machine.word(machine.RAM) if mmu else 5)


def test_each_vcpu_knows_its_number(machines: type[Machine]) -> None:
    machine = machines(vcpus=10)
    machine.put(machine.CODE, 0xEE100FB0, 0xE1400070)  # mrc p15, 0, r0, c0, c0, 5; hvc #0
    for number in (0, 1, 9):

        def body(vcpu: Vcpu, number: int = number) -> int:
            machine.call(vcpu, number)
            return vcpu.core()[0]

        assert machine.child(number, body).result() == {0: 0x8000_0000, 1: 0x8000_0001, 9: 0x8000_0101}[number]


def test_a_restore_takes_the_line_as_it_is_now(machine: Machine) -> None:
    machine.put(machine.CODE, *[0xE2800001] * 8)  # add r0, r0, #1
    machine.put(machine.VECTORS + 0x18, 0xE1400076)  # hvc #6
    vcpu = machine.vcpu()
    vcpu.cp15(12, 0, 0, 0, False, machine.VECTORS)  # VBAR
    saved = {}
    for version, level in ((1, 1), (2, 0)):
        machine.page.set_line(0, version << 2 | level)
        vcpu.run(1)
        saved[level] = vcpu.save()
    vcpu.restore(saved[1])
    vcpu.set_core(16, vcpu.core()[16] & ~psr.I)
    assert vcpu.run(3).kind == EXIT_BUDGET, "the line is low now"
    machine.page.set_line(0, 3 << 2 | 1)
    vcpu.restore(saved[0])
    vcpu.set_core(16, vcpu.core()[16] & ~psr.I)
    assert machine.call(vcpu) == 6, "the line is high now"


def test_a_restore_forgets_the_access_that_waited(machine: Machine) -> None:
    machine.put(machine.CODE, 0xE5910000)  # ldr r0, [r1]
    vcpu = machine.vcpu()
    vcpu.set_core(1, machine.DEVICE)
    state = vcpu.save()
    assert vcpu.run().kind == EXIT_MMIO
    vcpu.restore(state)
    vcpu.answer(5)
    assert vcpu.core()[0] == 0 and vcpu.core()[15] == machine.CODE
    assert vcpu.run().kind == EXIT_MMIO


def test_other_bytes_are_refused(machine: Machine) -> None:
    vcpu = machine.vcpu()
    for data in (b"", b"x", vcpu.save() + b"x"):
        with pytest.raises(EngineError, match="not a state"):
            vcpu.restore(data)


@pytest.mark.parametrize("mode", [0x00, 0x14, 0x16, 0x1A, 0x1C, 0x33, 0xFFFFFFF3])
def test_modes_that_no_guest_has_are_refused(machine: Machine, mode: int) -> None:
    def body(vcpu: Vcpu) -> list[int]:
        for current in (psr.Mode.SUPERVISOR, psr.Mode.USER):
            vcpu.set_core(16, current | psr.F)
            with pytest.raises(ValueError, match="mode"):
                vcpu.banked(mode, 13)
            if mode & 0x1F not in psr.GUEST_MODES:
                vcpu.set_core(16, psr.N | mode & 0x1F)
                assert vcpu.core()[16] == psr.N | current, "the mode stays, the rest is written"
        return [vcpu.banked(m, 13) for m in psr.GUEST_MODES]

    assert machine.child(0, body).result() == [0] * len(psr.GUEST_MODES)


def test_ranges_of_ram(machine: Machine) -> None:
    vcpu = machine.vcpu()
    end = machine.RAM + machine.memory_bytes
    for ipa, size in (
        (machine.RAM, 0),
        (machine.RAM - 1, 2),
        (end - 1, 2),
        (end, 1),
        (0, 4),
        (machine.RAM + 4096, 0xFFFF_FFFF),
        (machine.RAM, machine.memory_bytes + 1),
    ):
        assert vcpu.read_ram(ipa, size) is None
        if size < 1 << 24:
            assert not vcpu.write_ram(ipa, bytes(size))
    assert vcpu.write_ram(end - 3, b"abc") and vcpu.read_ram(end - 4, 4) == b"\0abc"
    assert vcpu.write_ram(machine.RAM + 4095, b"xy") and machine.ram[4094:4098] == b"\0xy\0"


def test_a_process_holds_one_vcpu(machines: type[Machine]) -> None:
    machine = machines(vcpus=2)
    vcpu = machine.vcpu(0)
    with pytest.raises(EngineError, match="holds one vCPU"):
        machine.vcpu(1)
    vcpu.close()
    with pytest.raises(EngineError, match="closed"):
        vcpu.run()
    vcpu.close()
    assert machine.vcpu(1).core()[15] == machine.CODE


def test_what_is_no_machine_is_refused(machine: Machine) -> None:
    fds = machine.control_fd, machine.ram_fd, machine.stage2_fd
    small = create_memory("test-small", 4096)
    for arguments, sentence in (
        ((fds[1], *fds[1:], 0, 0), "not a control page"),
        ((*fds, 1, 0), "no vCPU 1"),
        ((*fds[:2], small, 0, 0), "too small"),
    ):
        with pytest.raises(EngineError, match=sentence):
            Vcpu(*arguments)
    os.close(small)
    with pytest.raises(OSError):
        Vcpu(-1, *fds[1:], 0, 0)
