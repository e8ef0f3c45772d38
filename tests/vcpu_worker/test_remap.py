# SPDX-License-Identifier: GPL-2.0-or-later
"""Stage-1 remap: the page moves to another frame, its old frame gets another use, and the page moves back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from allstop.vcpu_worker.engine import EXIT_HVC, Vcpu
from allstop.vcpu_worker.events.remap import Remap

if TYPE_CHECKING:
    from tests.vcpu_worker.conftest import Machine

HVC = 0xE1400070
MOV_R0_7 = 0xE3A00007
FILL = 0xE7F000F0
SMALL_PAGE = 0x032
TO = 0x4030_0000


def with_tables(machine: Machine) -> Vcpu:
    """A vCPU whose MMU maps everything by sections but the megabyte of CODE, which it maps by small pages."""
    level1, level2 = machine.TABLES, machine.TABLES + 0x8000
    for megabyte in range(4096):
        machine.put(level1 + 4 * megabyte, megabyte << 20 | 0xC02)
    machine.put(level1 + (machine.CODE >> 20) * 4, level2 | 1)
    for page in range(256):
        machine.put(level2 + 4 * page, (machine.CODE & ~0xFFFFF) + 4096 * page | SMALL_PAGE)
    machine.put(machine.CODE, MOV_R0_7, HVC)
    vcpu = machine.vcpu()
    vcpu.power_on(machine.CODE, 0, 0, 0)
    vcpu.cp15(2, 0, 0, 0, False, level1)
    vcpu.cp15(3, 0, 0, 0, False, 0xFFFF_FFFF)
    vcpu.cp15(1, 0, 0, 0, False, vcpu.cp15(1, 0, 0, 0) | 1)
    return vcpu


def call(machine: Machine, vcpu: Vcpu) -> int:
    vcpu.set_core(0, 0)
    vcpu.set_core(15, machine.CODE)
    assert vcpu.run().kind == EXIT_HVC
    return vcpu.core()[0]


def test_there_and_back(machine: Machine) -> None:
    vcpu = with_tables(machine)
    remap = Remap(vcpu)
    for frame, old in ((TO, machine.CODE), (machine.CODE, TO)):
        assert call(machine, vcpu) == 7
        assert remap.perform(machine.CODE + 4, TO, FILL, False) == ""
        assert vcpu.translate(machine.CODE, False, True) == frame
        assert machine.word(old) == FILL
        assert call(machine, vcpu) == 7


@pytest.mark.parametrize(
    ("gva", "to", "why"),
    [
        (0x4010_0000, TO, "by a table of small pages"),
        (0x4001_0000, 0x9000_0000, "not in the guest's memory"),
        (0x4001_0000, 0x4002_0000, "is in use"),
    ],
)
def test_what_can_not_be_remapped_says_why(machine: Machine, gva: int, to: int, why: str) -> None:
    vcpu = with_tables(machine)
    machine.put(0x4002_0000, 1, 2)
    assert why in Remap(vcpu).perform(gva, to, FILL, False)


def test_without_an_mmu_there_is_nothing_to_remap(machine: Machine) -> None:
    assert "MMU is off" in Remap(machine.vcpu()).perform(machine.CODE, TO, FILL, False)
