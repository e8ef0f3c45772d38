# SPDX-License-Identifier: GPL-2.0-or-later
"""GICv2 against a model that shares nothing with it: one object for each interrupt and CPU, no bit masks, the rules of
ARM IHI 0048B chapter 3 written down one by one. A guest that follows the rules cannot tell them apart."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from allstop.devicesrv.bus import Bus
from allstop.devicesrv.device import Wiring
from allstop.devicesrv.gicv2 import cpu_interface as gicc
from allstop.devicesrv.gicv2 import distributor as gicd
from allstop.devicesrv.gicv2.cpu_interface import CpuInterfaces
from allstop.devicesrv.gicv2.distributor import Distributor
from allstop.devicesrv.gicv2.state import Gic

GICD = 0x0800_0000
GICC = 0x0801_0000
CPUS = 3
SGIS = (0, 5)
PPIS = (27, 30)
SPIS = (32, 63, 287)
NONE = 1023


@dataclass
class Interrupt:
    """One interrupt as one CPU has it, or a shared one. An SGI is pending from `sources`."""

    intid: int
    enabled: bool = False
    is_edge: bool = False
    line: bool = False
    latched: bool = False
    active: bool = False
    group: int = 0
    priority: int = 0
    targets: set[int] = field(default_factory=set)
    sources: set[int] = field(default_factory=set)

    @property
    def pending(self) -> bool:
        if self.intid < 16:
            return bool(self.sources)
        return self.latched or not self.is_edge and self.line


@dataclass
class Running:
    """An interrupt that was taken and whose priority has not been dropped."""

    intid: int
    source: int
    group_priority: int
    group: int


class ModelCpu:
    def __init__(self, number: int) -> None:
        self.number = number
        self.own = {intid: Interrupt(intid, enabled=intid < 16, is_edge=intid < 16) for intid in SGIS + PPIS}
        self.group_on = [False, False]
        self.ack_ctl = self.fiq_en = self.shared_bpr = self.split = False
        self.mask = 0
        self.bpr = 0
        self.abpr = 1
        self.stack: list[Running] = []
        self.dropped: list[int] = []


class Model:
    def __init__(self) -> None:
        self.cpus = [ModelCpu(number) for number in range(CPUS)]
        self.spis = {intid: Interrupt(intid) for intid in SPIS}
        self.group_on = [False, False]

    def interrupt(self, cpu: int, intid: int) -> Interrupt:
        return self.spis[intid] if intid >= 32 else self.cpus[cpu].own[intid]

    def highest(self, cpu: int) -> Interrupt | None:
        mine = list(self.cpus[cpu].own.values()) + [spi for spi in self.spis.values() if cpu in spi.targets]
        able = [one for one in mine if one.pending and one.enabled and not one.active and self.group_on[one.group]]
        return min(able, key=lambda one: (one.priority, one.intid), default=None)

    def group_priority(self, cpu: int, one: Interrupt) -> int:
        interface = self.cpus[cpu]
        dropped_bits = interface.bpr + 1
        if one.group == 1 and not interface.shared_bpr:
            dropped_bits = interface.abpr
        return one.priority // 2**dropped_bits * 2**dropped_bits

    def running(self, cpu: int) -> int:
        return min((one.group_priority for one in self.cpus[cpu].stack), default=256)

    def signalled(self, cpu: int) -> Interrupt | None:
        one = self.highest(cpu)
        interface = self.cpus[cpu]
        if (
            one is None
            or not interface.group_on[one.group]
            or one.priority >= interface.mask
            or self.group_priority(cpu, one) >= self.running(cpu)
        ):
            return None
        return one

    def level(self, cpu: int) -> int:
        one = self.signalled(cpu)
        if one is None:
            return 0
        return 2 if self.cpus[cpu].fiq_en and one.group == 0 else 1

    def acknowledge(self, cpu: int, alias: bool) -> int:
        one = self.signalled(cpu)
        if one is None:
            return NONE
        if alias and one.group == 0:
            return NONE
        if not alias and one.group == 1 and not self.cpus[cpu].ack_ctl:
            return 1022
        source = 0
        if one.intid < 16:
            source = min(one.sources)
            one.sources.remove(source)
        one.latched = False
        self.cpus[cpu].stack.append(Running(one.intid, source, self.group_priority(cpu, one), one.group))
        one.active = True
        return source * 1024 + one.intid

    def highest_pending(self, cpu: int, alias: bool) -> int:
        one = self.highest(cpu)
        if one is None or not self.cpus[cpu].group_on[one.group] or alias and one.group == 0:
            return NONE
        if not alias and one.group == 1 and not self.cpus[cpu].ack_ctl:
            return 1022
        return one.intid + (min(one.sources) * 1024 if one.intid < 16 else 0)

    def is_active_anywhere(self, cpu: int, intid: int) -> bool:
        return self.interrupt(cpu, intid).active or any(
            one.intid == intid for interface in self.cpus for one in interface.stack
        )


cpus = st.integers(0, CPUS - 1)
inputs = st.sampled_from(PPIS + SPIS)
intids = st.sampled_from(SGIS + PPIS + SPIS)
spis = st.sampled_from(SPIS)
priorities = st.sampled_from((0x00, 0x01, 0x10, 0x18, 0x40, 0x80, 0x88, 0xF0, 0xFF))


class GicAgainstModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.gic = Gic(CPUS)
        self.bus = Bus()
        self.distributor = Distributor(Wiring(), self.gic)
        self.interfaces = CpuInterfaces(Wiring(), self.gic)
        self.bus.attach(GICD, self.distributor)
        self.bus.attach(GICC, self.interfaces)
        self.model = Model()
        self.lines = [0] * CPUS
        # A guest that never gets anything tells nothing: the interrupts are on from the start, the higher the
        # INTID the more urgent, so that they can preempt each other.
        self.switch_distributor([True, True])
        for cpu in range(CPUS):
            self.control(cpu, [True, True], ack_ctl=True, fiq_en=False, shared_bpr=False, split=False)
            self.mask(cpu, 0xFF)
            for intid in PPIS:
                self.enable(cpu, intid, True)
            for place, intid in enumerate(SGIS + PPIS):
                self.prioritise(cpu, intid, 0xF0 - 0x18 * place)
        for place, intid in enumerate(SPIS):
            self.enable(0, intid, True)
            self.prioritise(0, intid, 0x58 - 0x18 * place)
            self.target(intid, {0, 1})

    def read(self, ipa: int, cpu: int, size: int = 4) -> int:
        value = self.bus.access(ipa, size, False, 0, cpu)
        assert value is not None
        return value

    def write(self, ipa: int, value: int, cpu: int, size: int = 4) -> None:
        assert self.bus.access(ipa, size, True, value, cpu) is not None

    def bits(self, register: int, intid: int) -> int:
        return GICD + register + intid // 32 * 4

    @rule(on=st.lists(st.booleans(), min_size=2, max_size=2))
    def switch_distributor(self, on: list[bool]) -> None:
        self.write(GICD + gicd.CTLR, on[0] + 2 * on[1], 0)
        self.model.group_on = list(on)

    @rule(
        cpu=cpus,
        on=st.lists(st.booleans(), min_size=2, max_size=2),
        ack_ctl=st.booleans(),
        fiq_en=st.booleans(),
        shared_bpr=st.booleans(),
        split=st.booleans(),
    )
    def control(self, cpu: int, on: list[bool], ack_ctl: bool, fiq_en: bool, shared_bpr: bool, split: bool) -> None:
        value = on[0] + 2 * on[1] + 4 * ack_ctl + 8 * fiq_en + 16 * shared_bpr + 512 * split
        self.write(GICC + gicc.CTLR, value, cpu)
        interface = self.model.cpus[cpu]
        interface.group_on = list(on)
        interface.ack_ctl, interface.fiq_en, interface.shared_bpr, interface.split = ack_ctl, fiq_en, shared_bpr, split

    @rule(cpu=cpus, mask=st.sampled_from((0, 0x10, 0x41, 0x80, 0xF1, 0xFF, 0xFF, 0xFF)))
    def mask(self, cpu: int, mask: int) -> None:
        self.write(GICC + gicc.PMR, mask, cpu)
        self.model.cpus[cpu].mask = mask

    @rule(cpu=cpus, bpr=st.integers(0, 7), abpr=st.integers(0, 7))
    def binary_points(self, cpu: int, bpr: int, abpr: int) -> None:
        self.write(GICC + gicc.BPR, bpr, cpu)
        self.write(GICC + gicc.ABPR, abpr, cpu)
        self.model.cpus[cpu].bpr = bpr
        self.model.cpus[cpu].abpr = max(abpr, 1)

    @rule(cpu=cpus, intid=intids, on=st.booleans())
    def enable(self, cpu: int, intid: int, on: bool) -> None:
        register = gicd.ISENABLER if on else gicd.ICENABLER
        self.write(self.bits(register, intid), 1 << intid % 32, cpu)
        if intid >= 16:
            self.model.interrupt(cpu, intid).enabled = on

    @rule(cpu=cpus, intid=intids, priority=priorities)
    def prioritise(self, cpu: int, intid: int, priority: int) -> None:
        self.write(GICD + gicd.IPRIORITYR + intid, priority, cpu, 1)
        self.model.interrupt(cpu, intid).priority = priority

    @rule(intid=spis, at=st.sets(cpus))
    def target(self, intid: int, at: set[int]) -> None:
        self.write(GICD + gicd.ITARGETSR + intid, sum(1 << cpu for cpu in at), 0, 1)
        self.model.spis[intid].targets = at

    @rule(intid=spis, is_edge=st.booleans())
    def trigger(self, intid: int, is_edge: bool) -> None:
        register = GICD + gicd.ICFGR + intid // 16 * 4
        field_of = 2 << intid % 16 * 2
        value = self.read(register, 0)
        self.write(register, value | field_of if is_edge else value & ~field_of, 0)
        self.model.spis[intid].is_edge = is_edge

    @rule(cpu=cpus, intid=intids, group=st.integers(0, 1))
    def regroup(self, cpu: int, intid: int, group: int) -> None:
        if self.model.is_active_anywhere(cpu, intid):
            return  # the active priority is in the other group's registers then: nothing a guest may do
        value = self.read(self.bits(gicd.IGROUPR, intid), cpu)
        bit = 1 << intid % 32
        self.write(self.bits(gicd.IGROUPR, intid), value | bit if group else value & ~bit, cpu)
        self.model.interrupt(cpu, intid).group = group

    @rule(cpu=cpus, intid=inputs, level=st.booleans())
    def drive(self, cpu: int, intid: int, level: bool) -> None:
        self.gic.set_level(intid, level, cpu)
        one = self.model.interrupt(cpu, intid)
        if level and not one.line and one.is_edge:
            one.latched = True
        one.line = level

    @rule(cpu=cpus, intid=intids, pending=st.booleans())
    def write_pending(self, cpu: int, intid: int, pending: bool) -> None:
        self.write(self.bits(gicd.ISPENDR if pending else gicd.ICPENDR, intid), 1 << intid % 32, cpu)
        if intid >= 16:
            self.model.interrupt(cpu, intid).latched = pending

    @rule(cpu=cpus, sgi=st.sampled_from(SGIS), how=st.integers(0, 2), named=st.sets(cpus))
    def send(self, cpu: int, sgi: int, how: int, named: set[int]) -> None:
        self.write(GICD + gicd.SGIR, how << 24 | sum(1 << one for one in named) << 16 | sgi, cpu)
        reached = (named, set(range(CPUS)) - {cpu}, {cpu})[how]
        for one in reached:
            self.model.cpus[one].own[sgi].sources.add(cpu)

    @rule(cpu=cpus, sgi=st.sampled_from(SGIS), sources=st.sets(cpus), pending=st.booleans())
    def write_sources(self, cpu: int, sgi: int, sources: set[int], pending: bool) -> None:
        register = gicd.SPENDSGIR if pending else gicd.CPENDSGIR
        self.write(GICD + register + sgi, sum(1 << one for one in sources), cpu, 1)
        if pending:
            self.model.cpus[cpu].own[sgi].sources |= sources
        else:
            self.model.cpus[cpu].own[sgi].sources -= sources

    def pick(self, number: int, able: list[int]) -> int:
        return able[number % len(able)]

    @rule(cpu=cpus, alias=st.sampled_from((False, False, True)))
    def acknowledge(self, cpu: int, alias: bool) -> None:
        taken = self.read(GICC + (gicc.AIAR if alias else gicc.IAR), cpu)
        assert taken == self.model.acknowledge(cpu, alias)

    @rule(cpu=cpus, intid=inputs, falls=st.booleans())
    def interrupt(self, cpu: int, intid: int, falls: bool) -> None:
        """A device asks, and the CPU takes what it is given, though it may run something already."""
        self.drive(cpu, intid, False)
        self.drive(cpu, intid, True)
        self.acknowledge(cpu, alias=False)
        if falls:
            self.drive(cpu, intid, False)

    @precondition(lambda self: any(self.model.signalled(cpu) for cpu in range(CPUS)))
    @rule(number=st.integers(0, 5))
    def take(self, number: int) -> None:
        """Acknowledge on a CPU that has something: the rule above mostly finds nothing."""
        able = [cpu for cpu in range(CPUS) if self.model.signalled(cpu)]
        self.acknowledge(self.pick(number, able), alias=False)

    @precondition(lambda self: any(interface.stack for interface in self.model.cpus))
    @rule(number=st.integers(0, 5), alias=st.booleans())
    def end(self, number: int, alias: bool) -> None:
        cpu = self.pick(number, [one.number for one in self.model.cpus if one.stack])
        interface = self.model.cpus[cpu]
        top = interface.stack[-1]
        register = gicc.AEOIR if alias and top.group == 1 else gicc.EOIR
        self.write(GICC + register, top.source << 10 | top.intid, cpu)
        interface.stack.pop()
        if interface.split:
            interface.dropped.append(top.intid)
        else:
            self.model.interrupt(cpu, top.intid).active = False

    @precondition(lambda self: any(one.split and one.dropped for one in self.model.cpus))
    @rule(number=st.integers(0, 5), place=st.integers(0, 5))
    def deactivate(self, number: int, place: int) -> None:
        cpu = self.pick(number, [one.number for one in self.model.cpus if one.split and one.dropped])
        dropped = self.model.cpus[cpu].dropped
        intid = dropped.pop(place % len(dropped))
        self.write(GICC + gicc.DIR, intid, cpu)
        self.model.interrupt(cpu, intid).active = False

    @rule(cpu=cpus, intid=intids, active=st.booleans())
    def write_active(self, cpu: int, intid: int, active: bool) -> None:
        self.write(self.bits(gicd.ISACTIVER if active else gicd.ICACTIVER, intid), 1 << intid % 32, cpu)
        self.model.interrupt(cpu, intid).active = active

    @invariant()
    def lines_agree(self) -> None:
        for cpu in range(CPUS):
            line, before = self.gic.lines[cpu], self.lines[cpu]
            assert line & 3 == self.model.level(cpu)
            assert (line >> 2) - (before >> 2) >= (line & 3 != before & 3)
            assert (line == before) or cpu in self.gic.changed
        self.lines = list(self.gic.lines)
        self.gic.changed.clear()

    @invariant()
    def registers_agree(self) -> None:
        for cpu, interface in enumerate(self.model.cpus):
            assert self.read(GICC + gicc.RPR, cpu) == min(self.model.running(cpu), 0xFF)
            assert self.read(GICC + gicc.HPPIR, cpu) == self.model.highest_pending(cpu, alias=False)
            assert self.read(GICC + gicc.AHPPIR, cpu) == self.model.highest_pending(cpu, alias=True)
            for one in list(interface.own.values()) + list(self.model.spis.values()):
                shift = one.intid % 32
                assert self.read(self.bits(gicd.ISPENDR, one.intid), cpu) >> shift & 1 == one.pending
                assert self.read(self.bits(gicd.ICACTIVER, one.intid), cpu) >> shift & 1 == one.active
                assert self.read(self.bits(gicd.ISENABLER, one.intid), cpu) >> shift & 1 == one.enabled

    def teardown(self) -> None:
        assert self.distributor.guest_mistakes == self.interfaces.guest_mistakes == 0


TestGicAgainstModel = GicAgainstModel.TestCase
TestGicAgainstModel.settings = settings(max_examples=100, stateful_step_count=70, deadline=None)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.booleans(),
            st.integers(0, 0x400).map(lambda word: 4 * word) | st.integers(0, 0xFFF),
            st.sampled_from((1, 2, 4, 4, 8)),
            st.none() | st.integers(0, (1 << 64) - 1),
            st.integers(0, 9),
        ),
        max_size=60,
    )
)
def test_no_access_whatever_upsets_it(accesses: list[tuple[bool, int, int, int | None, int]]) -> None:
    """A guest's nonsense is answered within the width of the access, and no state leaves its range."""
    gic = Gic(10)
    bus = Bus()
    bus.attach(GICD, Distributor(Wiring(), gic))
    bus.attach(GICC, CpuInterfaces(Wiring(), gic))
    for to_distributor, offset, size, value, cpu in accesses:
        ipa = (GICD if to_distributor else GICC) + offset
        answer = bus.access(ipa, size, value is not None, value or 0, cpu)
        assert answer is None or 0 <= answer < 1 << 8 * size
    for interface in gic.interfaces:
        assert all(0 <= levels < 1 << 128 for levels in interface.actives)
        assert all(sources < 1 << 8 for sources in interface.sources)
        assert all(bool(interface.sources[sgi]) == bool(interface.bank.latch >> sgi & 1) for sgi in range(16))
    for bank, first, last in [(gic.spis, 32, 288), *((one.bank, 0, 32) for one in gic.interfaces)]:
        for bits in (bank.enabled, bank.latch, bank.active, bank.group, bank.edge):
            assert 0 <= bits < 1 << last and not bits & (1 << first) - 1
    assert gic.lines[8:] == [0, 0]
