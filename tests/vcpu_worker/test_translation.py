# SPDX-License-Identifier: GPL-2.0-or-later
"""translate(): what the guest's stage 1 says of an address, with the guest's own ATS1C as a second opinion."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from allstop.vcpu_worker.engine import Vcpu
from allstop.vm.arm import psr

if TYPE_CHECKING:
    from tests.vcpu_worker.conftest import Machine

USER, PRIVILEGED = False, True
READ, WRITE = False, True
AFE, EAE = 1 << 29, 1 << 31  # of SCTLR, of TTBCR
RW, PL1_RW, USER_RO, RO = 3 << 10, 1 << 10, 2 << 10, 0x21 << 10  # AP of a section; RO is for PL1 only
SECTION, SUPER, TABLE = 2, 2 | 1 << 18, 1
DOMAIN_1 = 1 << 5


def put_long(machine: Machine, at: int, *entries: int) -> None:
    """Write 64-bit descriptors."""
    struct.pack_into(f"<{len(entries)}Q", machine.ram, at - machine.RAM, *entries)


def mmu_on(machine: Machine, vcpu: Vcpu, table: int, ttbcr: int = 0, sctlr: int = 0) -> None:
    """Use `table`."""
    vcpu.cp15(2, 0, 0, 2, False, ttbcr)  # TTBCR
    if ttbcr & EAE:
        vcpu.cp15(0, 2, 0, 0, True, table)  # TTBR0
        vcpu.cp15(10, 2, 0, 0, False, 0xFF)  # MAIR0
    else:
        vcpu.cp15(2, 0, 0, 0, False, table)  # TTBR0
    vcpu.cp15(3, 0, 0, 0, False, 1)  # DACR: domain 0 is a client, domain 1 has no access
    vcpu.cp15(1, 0, 0, 0, False, vcpu.cp15(1, 0, 0, 0) | sctlr | 1)  # SCTLR.M
    vcpu.set_core(16, vcpu.core()[16])


def asked_by_guest(machine: Machine, vcpu: Vcpu, gva: int, write: bool, privileged: bool) -> int:
    """PAR, as the guest's own ATS1C leaves it."""
    operation = (0 if privileged else 2) + write
    machine.put(
        machine.CODE,
        0xEE071F18 | operation << 5,  # mcr p15, 0, r1, c7, c8, operation
        0xF57FF06F,  # isb
        0xEC554F17,  # mrrc p15, 1, r4, r5, c7
        0xEE170F14,  # mrc p15, 0, r0, c7, c4, 0
        0xE1400070,
    )  # hvc #0
    machine.put(machine.CODE + 8, 0xEC554F07)  # mrrc p15, 0, r4, r5, c7
    vcpu.set_core(1, gva)
    vcpu.set_core(15, machine.CODE)
    machine.call(vcpu)
    core = vcpu.core()
    return core[5] << 32 | core[4] if vcpu.cp15(2, 0, 0, 2) & EAE else core[0]


def test_without_mmu_everything_is_where_it_is(machine: Machine) -> None:
    vcpu = machine.vcpu()
    for gva in (0, 0x1234_5678, machine.DATA + 5, 0xFFFF_FFFF):
        for write in (READ, WRITE):
            for privileged in (USER, PRIVILEGED):
                assert vcpu.translate(gva, write, privileged) == gva


SHORT = [  # address, access, privilege: IPA, or DFSR.FS
    (0x0010_0123, READ, PRIVILEGED, 0x4010_0123),
    (0x0010_0123, WRITE, USER, 0x4010_0123),
    (0x0020_0123, WRITE, PRIVILEGED, 0x4020_0123),
    (0x0020_0123, READ, USER, 0x0D),  # PL1 only: permission fault, section
    (0x0030_0123, READ, USER, 0x4010_0123),
    (0x0030_0123, WRITE, USER, 0x0D),  # read-only for User
    (0x0030_0123, WRITE, PRIVILEGED, 0x4010_0123),
    (0x0040_0123, READ, PRIVILEGED, 0x4010_0123),
    (0x0040_0123, WRITE, PRIVILEGED, 0x0D),  # read-only
    (0x0050_0123, READ, PRIVILEGED, 0x09),  # domain fault, section
    (0x0060_0123, READ, PRIVILEGED, 0x05),  # nothing there: translation fault, section
    (0x0170_4567, READ, PRIVILEGED, 0x4070_4567),  # supersection
    (0x0200_0FFF, WRITE, USER, 0x4030_1FFF),  # small page
    (0x0200_1004, READ, USER, 0x0F),  # small page, PL1 only
    (0x0200_1004, READ, PRIVILEGED, 0x4030_2004),
    (0x0200_2000, READ, PRIVILEGED, 0x07),  # translation fault, page
    (0x0201_ABCD, READ, PRIVILEGED, 0x4032_ABCD),  # large page
]


def short_tables(machine: Machine) -> None:
    """The tables of SHORT."""
    table, level2 = machine.TABLES, machine.TABLES + 0x4000
    first = {
        0x001: 0x4010_0000 | SECTION | RW,
        0x002: 0x4020_0000 | SECTION | PL1_RW,
        0x003: 0x4010_0000 | SECTION | USER_RO,
        0x004: 0x4010_0000 | SECTION | RO,
        0x005: 0x4010_0000 | SECTION | RW | DOMAIN_1,
        0x017: 0x4000_0000 | SUPER | RW,
        0x020: level2 | TABLE,
        machine.RAM >> 20: machine.RAM | SECTION | RW,
    }
    for index, descriptor in first.items():
        machine.put(table + 4 * index, descriptor)
    machine.put(level2, 0x4030_1000 | 0x32, 0x4030_2000 | 0x12)  # small pages: read and write for all, for PL1
    machine.put(level2 + 0x40, *[0x4032_0000 | 0x31] * 16)  # large page


@pytest.mark.parametrize(("gva", "write", "privileged", "expected"), SHORT)
def test_short_descriptors(machine: Machine, gva: int, write: bool, privileged: bool, expected: int) -> None:
    short_tables(machine)
    vcpu = machine.vcpu()
    mmu_on(machine, vcpu, machine.TABLES)
    ipa = vcpu.translate(gva, write, privileged)
    par = asked_by_guest(machine, vcpu, gva, write, privileged)
    if expected > 0xFF:
        assert ipa == expected and not par & 1
        assert par >> 24 == ipa >> 24 if par & 2 else par >> 12 == ipa >> 12
    else:
        assert ipa is None and vcpu.translation_fault()[1] == expected
        assert (par & 1, par >> 1 & 0x1F) == (1, expected)


def test_an_access_flag_fault(machine: Machine) -> None:
    machine.put(machine.TABLES, 0x4010_0000 | SECTION | 2 << 10)
    machine.put(machine.TABLES + 4 * (machine.RAM >> 20), machine.RAM | SECTION | RW)
    vcpu = machine.vcpu()
    mmu_on(machine, vcpu, machine.TABLES, sctlr=AFE)
    assert vcpu.translate(0, READ, PRIVILEGED) is None
    assert vcpu.translation_fault() == (0x09, 0x03)
    assert asked_by_guest(machine, vcpu, 0, READ, PRIVILEGED) >> 1 & 0x1F == 0x03


LONG = [  # the same with DFSR.STATUS
    (0x8000_0123, WRITE, USER, 0x4000_0123),  # 1 GiB block
    (0x4020_1234, READ, PRIVILEGED, 0x4000_1234),  # 2 MiB block
    (0x4040_0FFF, WRITE, PRIVILEGED, 0x4030_0FFF),  # page
    (0x4040_0FFF, WRITE, USER, 0x0F),  # page, PL1 only
    (0x4040_1000, WRITE, PRIVILEGED, 0x0F),  # read-only page
    (0x4040_1000, READ, USER, 0x4030_1000),
    (0x4040_2000, READ, PRIVILEGED, 0x07),  # translation fault, level 3
    (0x4040_3000, READ, PRIVILEGED, 0x0B),  # access flag, level 3
    (0x4060_0000, READ, PRIVILEGED, 0x06),  # translation fault, level 2
    (0xC000_0000, READ, PRIVILEGED, 0x05),  # translation fault, level 1
]


@pytest.mark.parametrize(("gva", "write", "privileged", "expected"), LONG)
def test_long_descriptors(machine: Machine, gva: int, write: bool, privileged: bool, expected: int) -> None:
    table, level2, level3 = (machine.TABLES + n * 0x1000 for n in range(3))
    flag, user, read_only = 1 << 10, 1 << 6, 1 << 7
    put_long(machine, table, 0, level2 | 3, 0x4000_0000 | flag | user | 1, 0)
    put_long(machine, level2, machine.RAM | flag | user | 1, machine.RAM | flag | user | 1, level3 | 3)
    put_long(machine, level3, 0x4030_0000 | flag | 3, 0x4030_1000 | flag | user | read_only | 3, 0, 0x4030_3000 | 3)
    vcpu = machine.vcpu()
    mmu_on(machine, vcpu, table, EAE)
    ipa = vcpu.translate(gva, write, privileged)
    par = asked_by_guest(machine, vcpu, gva, write, privileged)
    if expected > 0xFF:
        assert ipa == expected and not par & 1 and par >> 12 & 0xFFFFF == ipa >> 12
    else:
        assert ipa is None and vcpu.translation_fault()[0] == expected
        assert (par & 1, par >> 1 & 0x3F) == (1, expected)


def test_the_upper_half_has_tables_of_its_own(machine: Machine) -> None:
    machine.put(machine.TABLES + 4, 0x4010_0000 | SECTION | RW)
    machine.put(machine.TABLES + 0x4000 + 4 * 0x801, 0x4020_0000 | SECTION | RW)
    vcpu = machine.vcpu()
    mmu_on(machine, vcpu, machine.TABLES, ttbcr=1)
    vcpu.cp15(2, 0, 0, 1, False, machine.TABLES + 0x4000)  # TTBR1
    assert vcpu.translate(0x0010_0000, READ, PRIVILEGED) == 0x4010_0000
    assert vcpu.translate(0x8010_0000, READ, PRIVILEGED) == 0x4020_0000


@pytest.mark.parametrize("mode", sorted(psr.GUEST_MODES))
def test_it_can_be_asked_in_every_mode_and_changes_nothing(machine: Machine, mode: psr.Mode) -> None:
    short_tables(machine)
    vcpu = machine.vcpu()
    mmu_on(machine, vcpu, machine.TABLES)
    vcpu.set_core(16, mode | psr.T | psr.N)
    vcpu.cp15(7, 4, 0, 0, False, 0x1234_5001)  # PAR
    before = vcpu.save()
    assert vcpu.translate(0x0020_0123, READ, PRIVILEGED) == 0x4020_0123
    assert vcpu.translate(0x0020_0123, READ, USER) is None
    assert vcpu.save() == before and vcpu.cp15(7, 4, 0, 0) == 0x1234_5001


@pytest.mark.parametrize("ttbcr", [0, EAE], ids=["short", "lpae"])
def test_tables_in_memory_that_nobody_has_touched(machine: Machine, ttbcr: int) -> None:
    """The walk goes through stage 2, which has no entry yet; the library itself leaves by a jump to nowhere there."""
    if ttbcr:
        put_long(machine, machine.TABLES, machine.RAM | 1 << 10 | 1)
    else:
        machine.put(machine.TABLES, 0x4010_0000 | SECTION | RW)

    def body(vcpu: Vcpu) -> tuple[int | None, int | None]:
        mmu_on(machine, vcpu, machine.TABLES, ttbcr)
        return vcpu.translate(0, READ, PRIVILEGED), vcpu.translate(0x8000_0000, READ, USER)

    assert machine.entry(machine.TABLES) == 0
    assert machine.child(0, body).result() == (machine.RAM if ttbcr else 0x4010_0000, None)
    assert machine.entry(machine.TABLES)


@pytest.mark.parametrize(
    ("ttbcr", "table", "status"),
    [
        (0, 0x2000_0000, (0x15, 0x0C)),
        (EAE, 0x2000_0000, (0x15, 0x0C)),
        (0, None, (0x16, 0x0E)),
        (EAE, None, (0x16, 0x0E)),
    ],
)
def test_tables_outside_memory(machine: Machine, ttbcr: int, table: int | None, status: tuple[int, int]) -> None:
    """External aborts on the walk, at level 1 and 2."""
    if table is None:
        table = machine.TABLES
        if ttbcr:
            put_long(machine, table, 0x2000_0000 | 3)
        else:
            machine.put(table, 0x2000_0000 | TABLE)

    def body(vcpu: Vcpu) -> tuple[int | None, tuple[int, int]]:
        mmu_on(machine, vcpu, table, ttbcr)
        return vcpu.translate(0, READ, PRIVILEGED), vcpu.translation_fault()

    assert machine.child(0, body).result() == (None, status)
