# SPDX-License-Identifier: GPL-2.0-or-later
"""GICv2, case by case, through its registers as a guest programs it. Sections are those of ARM IHI 0048B."""

from __future__ import annotations

import pytest

from allstop.devicesrv.bus import Bus
from allstop.devicesrv.device import Wiring
from allstop.devicesrv.gicv2 import cpu_interface as gicc
from allstop.devicesrv.gicv2 import distributor as gicd
from allstop.devicesrv.gicv2.cpu_interface import CpuInterfaces
from allstop.devicesrv.gicv2.distributor import Distributor
from allstop.devicesrv.gicv2.state import SPURIOUS, Gic

GICD = 0x0800_0000
GICC = 0x0801_0000
SPI = 40
SPI2 = 41
PPI = 27


class Machine:
    """A GIC on a bus, switched on: every CPU interface enabled with an open mask, shared interrupts at priority 0xa0,
    routed to CPU 0 and disabled."""

    def __init__(self, vcpus: int = 4, on: bool = True) -> None:
        self.gic = Gic(vcpus)
        self.distributor = Distributor(Wiring(), self.gic)
        self.interfaces = CpuInterfaces(Wiring(), self.gic)
        self.bus = Bus()
        self.bus.attach(GICD, self.distributor)
        self.bus.attach(GICC, self.interfaces)
        if on:
            self.gicd_write(gicd.CTLR, 1)
            for cpu in range(min(vcpus, 8)):
                self.gicc_write(gicc.CTLR, 1, cpu)
                self.gicc_write(gicc.PMR, 0xFF, cpu)
            for intid in (SPI, SPI2, PPI):
                self.priority(intid, 0xA0)
            self.target(SPI, 0b1)
            self.target(SPI2, 0b1)

    def gicd_read(self, offset: int, cpu: int = 0, size: int = 4) -> int:
        value = self.bus.access(GICD + offset, size, False, 0, cpu)
        assert value is not None
        return value

    def gicd_write(self, offset: int, value: int, cpu: int = 0, size: int = 4) -> None:
        assert self.bus.access(GICD + offset, size, True, value, cpu) is not None

    def gicc_read(self, offset: int, cpu: int = 0) -> int:
        value = self.bus.access(GICC + offset, 4, False, 0, cpu)
        assert value is not None
        return value

    def gicc_write(self, offset: int, value: int, cpu: int = 0) -> None:
        assert self.bus.access(GICC + offset, 4, True, value, cpu) is not None

    def bit(self, register: int, intid: int, cpu: int = 0) -> int:
        """The bit of `intid` in a register with one bit for each interrupt."""
        return self.gicd_read(register + intid // 32 * 4, cpu) >> intid % 32 & 1

    def set_bit(self, register: int, intid: int, cpu: int = 0) -> None:
        self.gicd_write(register + intid // 32 * 4, 1 << intid % 32, cpu)

    def priority(self, intid: int, priority: int, cpu: int = 0) -> None:
        self.gicd_write(gicd.IPRIORITYR + intid, priority, cpu, size=1)

    def target(self, intid: int, cpus: int) -> None:
        self.gicd_write(gicd.ITARGETSR + intid, cpus, size=1)

    def enable(self, intid: int, cpu: int = 0) -> None:
        self.set_bit(gicd.ISENABLER, intid, cpu)

    def edge(self, intid: int) -> None:
        register = gicd.ICFGR + intid // 16 * 4
        self.gicd_write(register, self.gicd_read(register) | 2 << intid % 16 * 2)

    def sgi(self, sgi: int, targets: int, cpu: int = 0) -> None:
        self.gicd_write(gicd.SGIR, targets << 16 | sgi, cpu)

    def group1(self, *intids: int) -> None:
        """Put these interrupts, and no others, into group 1 and switch both groups on at CPU 0."""
        for register in range(9):
            bits = sum(1 << intid % 32 for intid in intids if intid // 32 == register)
            self.gicd_write(gicd.IGROUPR + register * 4, bits)
        self.gicd_write(gicd.CTLR, 3)
        self.gicc_write(gicc.CTLR, 3)

    def acknowledge(self, cpu: int = 0) -> int:
        return self.gicc_read(gicc.IAR, cpu)

    def end(self, intid: int, cpu: int = 0) -> None:
        self.gicc_write(gicc.EOIR, intid, cpu)

    def irq(self, cpu: int = 0) -> bool:
        return bool(self.gic.lines[cpu] & 1)

    def fiq(self, cpu: int = 0) -> bool:
        return bool(self.gic.lines[cpu] & 2)


@pytest.fixture
def machine() -> Machine:
    return Machine()


# What software finds (4.3.2, 4.3.3, 4.4)


def test_says_what_it_is(machine: Machine) -> None:
    assert machine.gicd_read(gicd.TYPER) == 8 | 3 << 5  # 288 INTIDs, four CPU interfaces
    assert machine.gicd_read(gicd.IIDR) & 0xFFF == 0x43B
    assert machine.gicc_read(gicc.IIDR) == 0x0002_043B
    assert [machine.gicd_read(offset) for offset in range(0xFD0, 0x1000, 4)] == [
        0x04,
        0,
        0,
        0,
        0x90,
        0xB4,
        0x2B,
        0,
        0x0D,
        0xF0,
        0x05,
        0xB1,
    ]


def test_at_reset_nothing_is_signalled_and_registers_hold_the_reset_values() -> None:
    machine = Machine(on=False)
    assert machine.gicd_read(gicd.CTLR) == 0
    assert machine.gicd_read(gicd.ISENABLER) == 0xFFFF  # SGIs are always enabled
    assert machine.gicd_read(gicd.ICFGR) == 0xAAAA_AAAA
    assert machine.gicd_read(gicd.ICFGR + 4) == 0
    assert machine.gicc_read(gicc.PMR) == 0
    assert machine.gicc_read(gicc.RPR) == 0xFF
    assert machine.gicc_read(gicc.ABPR) == 1
    assert machine.acknowledge() == SPURIOUS
    machine.gic.set_level(SPI, True)
    machine.sgi(1, 0xF)
    assert machine.gic.lines == [0, 0, 0, 0]


@pytest.mark.parametrize(
    "offset",
    [
        0x00C,
        0x040,
        gicd.ISENABLER + 9 * 4,
        gicd.IPRIORITYR + 288,
        gicd.ITARGETSR + 288,
        gicd.ICFGR + 18 * 4,
        0xE00,
        gicd.SGIR,
        0xF30,
    ],
)
def test_distributor_reads_zero_where_there_is_no_register_to_read(machine: Machine, offset: int) -> None:
    assert machine.gicd_read(offset) == 0
    assert machine.distributor.guest_mistakes == 1


@pytest.mark.parametrize("offset", [gicc.EOIR, gicc.AEOIR, 0x2C, 0xF0, gicc.DIR, 0x1004])
def test_interface_reads_zero_where_there_is_no_register_to_read(machine: Machine, offset: int) -> None:
    assert machine.gicc_read(offset) == 0
    assert machine.interfaces.guest_mistakes == 1


@pytest.mark.parametrize("offset", [gicd.TYPER, gicd.ISENABLER, gicd.ICFGR, 0xFE0])
def test_word_registers_refuse_bytes(machine: Machine, offset: int) -> None:
    assert machine.gicd_read(offset, size=1) == 0
    machine.gicd_write(offset, 0xFF, size=1)
    assert machine.distributor.guest_mistakes == 2


def test_writes_to_registers_that_can_not_be_written_are_counted(machine: Machine) -> None:
    for offset in (gicd.TYPER, gicd.IIDR, 0x00C, gicd.ICFGR, gicd.ICFGR + 4, 0xFE0):
        machine.gicd_write(offset, 0xFFFF_FFFF)
    for offset in (gicc.IAR, gicc.RPR, gicc.HPPIR, gicc.IIDR):
        machine.gicc_write(offset, 0xFFFF_FFFF)
    assert (machine.distributor.guest_mistakes, machine.interfaces.guest_mistakes) == (6, 4)
    assert machine.gicd_read(gicd.ICFGR + 4) == 0


def test_reserved_bits_are_not_kept(machine: Machine) -> None:
    machine.gicd_write(gicd.CTLR, 0xFFFF_FFFF)
    assert machine.gicd_read(gicd.CTLR) == 3
    for offset, kept in ((gicc.CTLR, 0x61F), (gicc.PMR, 0xFF), (gicc.BPR, 7), (gicc.ABPR, 7)):
        machine.gicc_write(offset, 0xFFFF_FFFF)
        assert machine.gicc_read(offset) == kept
    machine.gicc_write(gicc.ABPR, 0)
    assert machine.gicc_read(gicc.ABPR) == 1, "the least that group 1 can have"


# Enables, pending, active (4.3.5 to 4.3.10)


def test_enable_bits_set_and_clear_by_ones_only(machine: Machine) -> None:
    machine.gicd_write(gicd.ISENABLER + 4, 0x0F)
    machine.gicd_write(gicd.ISENABLER + 4, 0xF0)
    machine.gicd_write(gicd.ICENABLER + 4, 0x3C)
    assert machine.gicd_read(gicd.ISENABLER + 4) == machine.gicd_read(gicd.ICENABLER + 4) == 0xC3


def test_sgis_can_not_be_disabled_nor_made_pending_by_bits(machine: Machine) -> None:
    machine.gicd_write(gicd.ICENABLER, 0xFFFF_FFFF)
    assert machine.gicd_read(gicd.ISENABLER) == 0xFFFF
    machine.gicd_write(gicd.ISPENDR, 0xFFFF)
    assert machine.gicd_read(gicd.ISPENDR) == 0
    machine.sgi(3, 1)
    machine.gicd_write(gicd.ICPENDR, 0xFFFF)
    assert machine.gicd_read(gicd.ISPENDR) == 1 << 3


def test_private_registers_are_banked(machine: Machine) -> None:
    machine.enable(PPI, cpu=2)
    machine.priority(PPI, 0x40, cpu=2)
    assert [machine.bit(gicd.ISENABLER, PPI, cpu) for cpu in range(4)] == [0, 0, 1, 0]
    assert [machine.gicd_read(gicd.IPRIORITYR + PPI, cpu, 1) for cpu in range(4)] == [0xA0, 0, 0x40, 0]
    machine.gic.set_level(PPI, True, cpu=2)
    assert [machine.irq(cpu) for cpu in range(4)] == [False, False, True, False]
    assert [machine.bit(gicd.ISPENDR, PPI, cpu) for cpu in range(4)] == [0, 0, 1, 0]
    machine.set_bit(gicd.ISACTIVER, PPI, cpu=1)
    assert [machine.bit(gicd.ISACTIVER, PPI, cpu) for cpu in range(4)] == [0, 1, 0, 0]


def test_disabled_while_pending_stays_pending_and_comes_back(machine: Machine) -> None:
    machine.edge(SPI)
    machine.enable(SPI)
    machine.gic.set_level(SPI, True)
    machine.gic.set_level(SPI, False)
    assert machine.irq()
    machine.set_bit(gicd.ICENABLER, SPI)
    assert not machine.irq()
    assert machine.acknowledge() == SPURIOUS
    assert machine.bit(gicd.ISPENDR, SPI) == 1
    machine.enable(SPI)
    assert machine.irq()
    assert machine.acknowledge() == SPI


def test_disabled_while_active_can_still_be_ended(machine: Machine) -> None:
    machine.enable(SPI)
    machine.gic.set_level(SPI, True)
    assert machine.acknowledge() == SPI
    machine.set_bit(gicd.ICENABLER, SPI)
    machine.end(SPI)
    assert machine.bit(gicd.ISACTIVER, SPI) == 0
    assert machine.gicc_read(gicc.RPR) == 0xFF
    assert not machine.irq()


def test_software_may_set_and_clear_pending_of_a_level_interrupt(machine: Machine) -> None:
    machine.enable(SPI)
    machine.set_bit(gicd.ISPENDR, SPI)
    assert machine.irq()
    machine.set_bit(gicd.ICPENDR, SPI)
    assert not machine.irq()
    machine.gic.set_level(SPI, True)
    machine.set_bit(gicd.ICPENDR, SPI)
    assert machine.irq(), "the line is still high: clearing has no effect"


def test_software_pending_outlives_the_level_until_it_is_taken(machine: Machine) -> None:
    machine.enable(SPI)
    machine.gic.set_level(SPI, True)
    machine.set_bit(gicd.ISPENDR, SPI)
    machine.gic.set_level(SPI, False)
    assert machine.acknowledge() == SPI
    machine.end(SPI)
    assert not machine.irq()


# Level and edge (1.4.2, 3.2.4)


def test_level_that_stays_high_is_pending_again_after_its_end(machine: Machine) -> None:
    machine.enable(SPI)
    machine.gic.set_level(SPI, True)
    assert machine.acknowledge() == SPI
    assert not machine.irq()
    assert (machine.bit(gicd.ISPENDR, SPI), machine.bit(gicd.ISACTIVER, SPI)) == (1, 1)  # active and pending
    machine.end(SPI)
    assert machine.irq()
    assert machine.acknowledge() == SPI
    machine.gic.set_level(SPI, False)
    machine.end(SPI)
    assert not machine.irq()


def test_level_that_falls_before_it_is_taken_is_gone(machine: Machine) -> None:
    machine.enable(SPI)
    machine.gic.set_level(SPI, True)
    machine.gic.set_level(SPI, False)
    assert not machine.irq()
    assert machine.acknowledge() == SPURIOUS


def test_edge_is_kept_until_it_is_taken_and_comes_once(machine: Machine) -> None:
    machine.edge(SPI)
    machine.enable(SPI)
    machine.gic.set_level(SPI, True)
    assert machine.acknowledge() == SPI
    machine.end(SPI)
    assert not machine.irq(), "a line that stays high is no second edge"
    machine.gic.set_level(SPI, False)
    machine.gic.set_level(SPI, True)
    assert machine.irq()


def test_edge_while_active_is_pending_after_the_end(machine: Machine) -> None:
    machine.edge(SPI)
    machine.enable(SPI)
    machine.gic.set_level(SPI, True)
    assert machine.acknowledge() == SPI
    machine.gic.set_level(SPI, False)
    machine.gic.set_level(SPI, True)
    assert not machine.irq()
    machine.end(SPI)
    assert machine.acknowledge() == SPI


# Priorities, preemption, masks (3.3)


def test_the_most_urgent_is_taken_first_and_ties_go_to_the_lowest_intid(machine: Machine) -> None:
    for intid, priority in ((SPI, 0x80), (SPI2, 0x80), (PPI, 0x90)):
        machine.priority(intid, priority)
        machine.enable(intid)
        machine.gic.set_level(intid, True)
    assert machine.gicc_read(gicc.HPPIR) == SPI
    machine.priority(SPI2, 0x7F)
    assert machine.gicc_read(gicc.HPPIR) == SPI2
    machine.priority(PPI, 0x10)
    assert machine.acknowledge() == PPI


def test_preemption_nests_and_ends_in_reverse(machine: Machine) -> None:
    for intid, priority in ((SPI, 0xA0), (SPI2, 0x40)):
        machine.edge(intid)
        machine.priority(intid, priority)
        machine.enable(intid)
    machine.gic.set_level(SPI, True)
    assert machine.acknowledge() == SPI
    assert machine.gicc_read(gicc.RPR) == 0xA0
    machine.gic.set_level(SPI2, True)
    assert machine.irq()
    assert machine.acknowledge() == SPI2
    assert machine.gicc_read(gicc.RPR) == 0x40
    machine.gic.set_level(SPI, False)
    machine.gic.set_level(SPI, True)
    machine.end(SPI2)
    assert machine.gicc_read(gicc.RPR) == 0xA0
    assert not machine.irq(), "SPI is pending, and active too"
    machine.end(SPI)
    assert machine.gicc_read(gicc.RPR) == 0xFF
    assert machine.acknowledge() == SPI


def test_equal_group_priority_does_not_preempt(machine: Machine) -> None:
    for intid, priority in ((SPI, 0xA8), (SPI2, 0xA0)):
        machine.priority(intid, priority)
        machine.enable(intid)
    machine.gicc_write(gicc.BPR, 3)  # group priority is [7:4]
    machine.gic.set_level(SPI, True)
    assert machine.acknowledge() == SPI
    assert machine.gicc_read(gicc.RPR) == 0xA0
    machine.gic.set_level(SPI2, True)
    assert not machine.irq()
    assert machine.acknowledge() == SPURIOUS
    assert machine.gicc_read(gicc.HPPIR) == SPI2, "it is pending all the same"
    machine.gicc_write(gicc.BPR, 2)
    machine.gicc_write(gicc.EOIR, SPI)
    assert machine.irq()


def test_binary_point_seven_allows_no_preemption(machine: Machine) -> None:
    machine.gicc_write(gicc.BPR, 7)
    machine.priority(SPI2, 0)
    for intid in (SPI, SPI2):
        machine.enable(intid)
    machine.gic.set_level(SPI, True)
    assert machine.acknowledge() == SPI
    machine.gic.set_level(SPI2, True)
    assert not machine.irq()
    machine.end(SPI)
    assert machine.acknowledge() == SPI2


def test_mask_lets_only_more_urgent_pass(machine: Machine) -> None:
    machine.enable(SPI)
    machine.gic.set_level(SPI, True)
    for mask, passes in ((0xA0, False), (0xA1, True), (0x00, False), (0xFF, True)):
        machine.gicc_write(gicc.PMR, mask)
        assert machine.irq() is passes, hex(mask)
        assert machine.gicc_read(gicc.HPPIR) == SPI
    machine.gicc_write(gicc.PMR, 0xA0)
    assert machine.acknowledge() == SPURIOUS
    machine.priority(SPI, 0x98)
    assert machine.irq()


def test_lowest_priority_is_never_signalled(machine: Machine) -> None:
    machine.priority(SPI, 0xFF)
    machine.enable(SPI)
    machine.gic.set_level(SPI, True)
    assert not machine.irq()


def test_active_priorities_show_what_runs_and_can_be_restored(machine: Machine) -> None:
    for intid, priority in ((SPI, 0xA0), (SPI2, 0x40)):
        machine.priority(intid, priority)
        machine.enable(intid)
        machine.gic.set_level(intid, True)
        assert machine.acknowledge() == intid
    words = [machine.gicc_read(gicc.APR + 4 * word) for word in range(4)]
    assert words == [0, 1 << 0, 1 << 16, 0]  # levels 0x40 >> 1 and 0xa0 >> 1
    for word in range(4):
        machine.gicc_write(gicc.APR + 4 * word, 0)
    assert machine.gicc_read(gicc.RPR) == 0xFF
    machine.gicc_write(gicc.APR + 8, words[2])
    assert machine.gicc_read(gicc.RPR) == 0xA0
    machine.gicc_write(gicc.APR + 4, words[1])
    assert [machine.gicc_read(gicc.APR + 4 * word) for word in range(4)] == words
    assert machine.gicc_read(gicc.RPR) == 0x40


def test_switching_off_the_distributor_or_the_interface_hides_everything(machine: Machine) -> None:
    machine.enable(SPI)
    machine.gic.set_level(SPI, True)
    machine.gicd_write(gicd.CTLR, 0)
    assert not machine.irq()
    assert machine.acknowledge() == machine.gicc_read(gicc.HPPIR) == SPURIOUS
    machine.gicd_write(gicd.CTLR, 1)
    assert machine.irq()
    machine.gicc_write(gicc.CTLR, 0)
    assert not machine.irq()
    assert machine.acknowledge() == machine.gicc_read(gicc.HPPIR) == SPURIOUS


# Ending (3.2.1, 4.4.5, 4.4.15)


def test_spurious_end_does_nothing(machine: Machine) -> None:
    machine.enable(SPI)
    machine.gic.set_level(SPI, True)
    assert machine.acknowledge() == SPI
    machine.end(SPURIOUS)
    assert machine.gicc_read(gicc.RPR) == 0xA0
    assert machine.interfaces.guest_mistakes == 0


def test_end_when_nothing_runs_is_a_mistake_that_changes_nothing(machine: Machine) -> None:
    machine.set_bit(gicd.ISACTIVER, SPI)
    machine.end(SPI)
    assert machine.bit(gicd.ISACTIVER, SPI) == 1
    machine.end(500)
    assert machine.interfaces.guest_mistakes == 2


def test_split_end_drops_the_priority_first_and_deactivates_later(machine: Machine) -> None:
    machine.gicc_write(gicc.CTLR, 1 | 1 << 9)
    machine.priority(SPI2, 0xA0)
    for intid in (SPI, SPI2):
        machine.enable(intid)
        machine.gic.set_level(intid, True)
    assert machine.acknowledge() == SPI
    machine.end(SPI)
    assert machine.bit(gicd.ISACTIVER, SPI) == 1
    assert machine.gicc_read(gicc.RPR) == 0xFF
    assert machine.acknowledge() == SPI2, "of equal priority, and the first one's was dropped"
    machine.end(SPI2)
    assert not machine.irq()
    machine.gicc_write(gicc.DIR, SPI)
    assert machine.bit(gicd.ISACTIVER, SPI) == 0
    assert machine.acknowledge() == SPI


def test_deactivation_without_the_split_mode_is_a_mistake(machine: Machine) -> None:
    machine.enable(SPI)
    machine.gic.set_level(SPI, True)
    assert machine.acknowledge() == SPI
    machine.gicc_write(gicc.DIR, SPI)
    assert machine.bit(gicd.ISACTIVER, SPI) == 1
    assert machine.interfaces.guest_mistakes == 1


def test_another_cpu_may_deactivate_a_shared_interrupt(machine: Machine) -> None:
    for cpu in (0, 1):
        machine.gicc_write(gicc.CTLR, 1 | 1 << 9, cpu)
    machine.enable(SPI)
    machine.gic.set_level(SPI, True)
    assert machine.acknowledge(0) == SPI
    machine.end(SPI, 0)
    machine.gicc_write(gicc.DIR, SPI, cpu=1)
    assert machine.irq(0)


def test_active_bit_set_by_software_holds_an_interrupt_back(machine: Machine) -> None:
    machine.enable(SPI)
    machine.set_bit(gicd.ISACTIVER, SPI)
    machine.gic.set_level(SPI, True)
    assert not machine.irq()
    machine.set_bit(gicd.ICACTIVER, SPI)
    assert machine.irq()


def test_clearing_the_active_bit_of_what_runs_leaves_its_priority_running(machine: Machine) -> None:
    """As a handler does that ends an SGI by GICD_ICACTIVER, without GICC_EOIR."""
    machine.priority(1, 0xA0)
    machine.gicd_write(gicd.SGIR, 2 << 24 | 1)
    assert machine.acknowledge() == 1
    machine.set_bit(gicd.ICACTIVER, 1)
    machine.gicd_write(gicd.SGIR, 2 << 24 | 1)
    assert (machine.bit(gicd.ISACTIVER, 1), machine.bit(gicd.ISPENDR, 1)) == (0, 1)
    assert machine.gicc_read(gicc.RPR) == 0xA0
    assert not machine.irq()
    machine.end(1)
    assert machine.irq()


def test_byte_and_word_accesses_to_priorities_and_targets_see_the_same(machine: Machine) -> None:
    for register, pattern, mask in (
        (gicd.IPRIORITYR, 0xFF7F_BF3F, 0xFFFF_FFFF),
        (gicd.ITARGETSR, 0x0103_020F, 0x0F0F_0F0F),
    ):
        machine.gicd_write(register + 32, pattern)
        assert machine.gicd_read(register + 32) == pattern & mask
        assert machine.gicd_read(register + 33, size=1) == pattern >> 8 & 0xFF
        machine.gicd_write(register + 34, 0x1F, size=1)
        assert machine.gicd_read(register + 32) == (pattern & ~0xFF_0000 | 0x1F_0000) & mask


# SGIs (4.3.15 to 4.3.17)


def test_sgi_filters(machine: Machine) -> None:
    machine.gicd_write(gicd.SGIR, 1 << 24 | 0xFF << 16 | 5, cpu=2)  # all others
    assert [machine.irq(cpu) for cpu in range(4)] == [True, True, False, True]
    machine.gicd_write(gicd.SGIR, 2 << 24 | 0x01 << 16 | 6, cpu=2)  # self
    assert machine.acknowledge(2) == 2 << 10 | 6
    machine.sgi(7, 0b1010, cpu=0)  # the list
    assert [machine.gicd_read(gicd.ISPENDR, cpu) & 1 << 7 for cpu in range(4)] == [0, 1 << 7, 0, 1 << 7]
    machine.gicd_write(gicd.SGIR, 3 << 24 | 0xFF << 16 | 8)
    assert machine.distributor.guest_mistakes == 1
    assert not machine.gicd_read(gicd.ISPENDR) & 1 << 8


def test_sgi_to_cpus_that_are_not_there_goes_nowhere() -> None:
    machine = Machine(vcpus=2)
    machine.sgi(1, 0xFC)
    assert machine.gic.lines == [0, 0]


def test_sgi_from_two_sources_is_taken_once_for_each(machine: Machine) -> None:
    machine.sgi(4, 0b0001, cpu=3)
    machine.sgi(4, 0b0001, cpu=1)
    machine.sgi(4, 0b0001, cpu=1)  # the same source again: one interrupt
    assert machine.gicd_read(gicd.SPENDSGIR + 4, 0, 1) == 0b1010
    assert machine.gicc_read(gicc.HPPIR) == 1 << 10 | 4
    assert machine.acknowledge() == 1 << 10 | 4
    assert not machine.irq(), "it is active: the other source's waits"
    assert machine.gicd_read(gicd.CPENDSGIR + 4) == 0b1000
    machine.end(1 << 10 | 4)
    assert machine.acknowledge() == 3 << 10 | 4
    machine.end(3 << 10 | 4)
    assert machine.acknowledge() == SPURIOUS


def test_sgi_pending_registers_set_and_clear_by_source(machine: Machine) -> None:
    machine.gicd_write(gicd.SPENDSGIR + 4, 0x0000_0300, cpu=1)  # SGI 5 from CPUs 0 and 1
    assert machine.irq(1)
    assert not machine.irq(0)
    machine.gicd_write(gicd.CPENDSGIR + 5, 0b01, cpu=1, size=1)
    assert machine.gicd_read(gicd.SPENDSGIR + 4, cpu=1) == 0x0000_0200
    machine.gicd_write(gicd.CPENDSGIR + 5, 0xFF, cpu=1, size=1)
    assert not machine.irq(1)
    assert machine.gicd_read(gicd.ISPENDR, cpu=1) == 0
    machine.gicd_write(gicd.SPENDSGIR, 0xF0, cpu=1)
    assert machine.gicd_read(gicd.SPENDSGIR, cpu=1) == 0, "from CPUs that are not there"


# Targets (4.3.12)


def test_targets_of_private_interrupts_read_as_the_reader(machine: Machine) -> None:
    for cpu in range(4):
        machine.gicd_write(gicd.ITARGETSR, 0, cpu)
        assert machine.gicd_read(gicd.ITARGETSR, cpu) == (1 << cpu) * 0x0101_0101
        assert machine.gicd_read(gicd.ITARGETSR + 31, cpu, 1) == 1 << cpu


def test_a_change_of_target_moves_what_is_pending(machine: Machine) -> None:
    machine.enable(SPI)
    machine.gic.set_level(SPI, True)
    assert (machine.irq(0), machine.irq(1)) == (True, False)
    machine.target(SPI, 0b10)
    assert (machine.irq(0), machine.irq(1)) == (False, True)
    machine.target(SPI, 0)
    assert (machine.irq(0), machine.irq(1)) == (False, False)
    machine.gicd_write(gicd.ITARGETSR + SPI, 0xFF_03_02_01)
    assert machine.gicd_read(gicd.ITARGETSR + SPI) == 0x0F_03_02_01, "CPUs that are not there are no targets"


def test_one_of_several_targets_takes_it(machine: Machine) -> None:
    machine.target(SPI, 0b0110)
    machine.enable(SPI)
    machine.gic.set_level(SPI, True)
    assert [machine.irq(cpu) for cpu in range(4)] == [False, True, True, False]
    assert machine.acknowledge(2) == SPI
    assert not machine.irq(1)
    assert machine.acknowledge(1) == SPURIOUS
    machine.end(SPI, 2)
    assert [machine.irq(cpu) for cpu in range(4)] == [False, True, True, False]


def test_uniprocessor_has_no_targets_and_every_interrupt_reaches_it() -> None:
    machine = Machine(vcpus=1)
    machine.gicd_write(gicd.ITARGETSR + SPI, 0)
    assert machine.gicd_read(gicd.ITARGETSR) == machine.gicd_read(gicd.ITARGETSR + SPI) == 0
    assert machine.gicd_read(gicd.TYPER) >> 5 == 0
    machine.enable(SPI)
    machine.gic.set_level(SPI, True)
    assert machine.acknowledge() == SPI


# Groups (3.5, 4.4.4), as without the Security Extensions


def test_group_1_needs_ack_ctl_or_the_alias_registers(machine: Machine) -> None:
    machine.group1(SPI)
    machine.enable(SPI)
    machine.gic.set_level(SPI, True)
    assert machine.irq()
    assert machine.acknowledge() == machine.gicc_read(gicc.HPPIR) == 1022
    assert machine.gicc_read(gicc.AHPPIR) == SPI
    assert machine.gicc_read(gicc.AIAR) == SPI
    machine.gicc_write(gicc.AEOIR, SPI)
    machine.gicc_write(gicc.CTLR, 3 | 1 << 2)
    assert machine.gicc_read(gicc.HPPIR) == SPI
    assert machine.acknowledge() == SPI
    machine.end(SPI)
    assert machine.irq()


def test_alias_registers_do_not_touch_group_0(machine: Machine) -> None:
    machine.group1()
    machine.enable(SPI)
    machine.gic.set_level(SPI, True)
    assert machine.gicc_read(gicc.AIAR) == machine.gicc_read(gicc.AHPPIR) == SPURIOUS
    assert machine.acknowledge() == SPI
    machine.gicc_write(gicc.AEOIR, SPI)
    assert machine.gicc_read(gicc.RPR) == 0xA0
    assert machine.interfaces.guest_mistakes == 1


def test_group_0_is_a_fiq_if_told_so(machine: Machine) -> None:
    machine.group1(SPI2)
    machine.gicc_write(gicc.CTLR, 3 | 1 << 3)
    for intid in (SPI, SPI2):
        machine.enable(intid)
    machine.gic.set_level(SPI2, True)
    assert (machine.irq(), machine.fiq()) == (True, False)
    machine.priority(SPI, 0x10)
    machine.gic.set_level(SPI, True)
    assert (machine.irq(), machine.fiq()) == (False, True)


def test_group_that_is_off_at_the_distributor_is_passed_over(machine: Machine) -> None:
    machine.group1(SPI)
    machine.gicd_write(gicd.CTLR, 1)
    machine.priority(SPI, 0x10)
    for intid in (SPI, SPI2):
        machine.enable(intid)
        machine.gic.set_level(intid, True)
    assert machine.acknowledge() == SPI2
    machine.gicd_write(gicd.CTLR, 2)
    assert machine.gicc_read(gicc.AIAR) == SPI


def test_group_that_is_off_at_the_interface_blocks_what_is_behind_it(machine: Machine) -> None:
    machine.group1(SPI)
    machine.gicc_write(gicc.CTLR, 1)
    machine.priority(SPI, 0x10)
    for intid in (SPI, SPI2):
        machine.enable(intid)
        machine.gic.set_level(intid, True)
    assert not machine.irq()
    assert machine.acknowledge() == machine.gicc_read(gicc.HPPIR) == SPURIOUS


def test_group_1_has_a_binary_point_of_its_own_unless_they_share_one(machine: Machine) -> None:
    machine.group1(SPI)
    machine.enable(SPI)
    machine.priority(SPI, 0xAF)
    machine.gicc_write(gicc.ABPR, 4)  # group priority is [7:4]
    machine.gic.set_level(SPI, True)
    assert machine.gicc_read(gicc.AIAR) == SPI
    assert machine.gicc_read(gicc.RPR) == 0xA0
    assert [machine.gicc_read(gicc.NSAPR + 4 * word) for word in range(4)] == [0, 0, 1 << 16, 0]
    machine.gicc_write(gicc.AEOIR, SPI)
    machine.gicc_write(gicc.CTLR, 3 | 1 << 4)
    machine.gicc_write(gicc.BPR, 4)
    assert machine.gicc_read(gicc.AIAR) == SPI
    assert machine.gicc_read(gicc.RPR) == 0xA0
    machine.gicc_write(gicc.AEOIR, SPI)
    machine.gicc_write(gicc.BPR, 2)
    assert machine.gicc_read(gicc.AIAR) == SPI
    assert machine.gicc_read(gicc.RPR) == 0xA8


# Lines and CPUs


def test_line_versions_count_the_changes_of_the_level(machine: Machine) -> None:
    machine.enable(SPI)
    assert machine.gic.lines[0] == 0
    machine.gic.set_level(SPI, True)
    assert machine.gic.lines[0] == 1 << 2 | 1
    assert machine.gic.changed == {0}
    machine.gic.changed.clear()
    machine.gic.set_level(SPI, True)
    machine.gicc_write(gicc.PMR, 0xF0)
    assert machine.gic.lines[0] == 1 << 2 | 1
    assert not machine.gic.changed
    machine.gic.set_level(SPI, False)
    assert machine.gic.lines[0] == 2 << 2


def test_vcpus_beyond_eight_have_no_interface() -> None:
    machine = Machine(vcpus=10)
    assert machine.gicd_read(gicd.TYPER) >> 5 & 7 == 7
    for offset in (gicc.IAR, gicc.CTLR, gicc.IIDR):
        assert machine.gicc_read(offset, cpu=8) == 0
    machine.gicc_write(gicc.PMR, 0xFF, cpu=9)
    assert machine.interfaces.guest_mistakes == 4
    assert machine.gicd_read(gicd.ISENABLER, cpu=8) == 0
    assert machine.gicd_read(gicd.IPRIORITYR, cpu=8) == machine.gicd_read(gicd.SPENDSGIR, cpu=8) == 0
    machine.gicd_write(gicd.SPENDSGIR, 1, cpu=8)
    machine.gicd_write(gicd.ISENABLER, 1 << PPI, cpu=8)
    machine.gicd_write(gicd.IPRIORITYR, 1, cpu=8)
    machine.sgi(1, 0xFF, cpu=8)
    assert machine.distributor.guest_mistakes == 7
    machine.gic.set_level(PPI, True, cpu=8)
    assert machine.gic.lines == [0] * 10
    machine.gicd_write(gicd.ISENABLER + 4, 1 << SPI - 32, cpu=9)
    machine.gic.set_level(SPI, True)
    assert machine.irq(0), "the shared interrupts are every CPU's"


def test_only_ppis_and_spis_have_an_input_line(machine: Machine) -> None:
    for intid in (0, 15, 288, 1023):
        with pytest.raises(ValueError, match=f"INTID {intid} has no input line"):
            machine.gic.set_level(intid, True)
