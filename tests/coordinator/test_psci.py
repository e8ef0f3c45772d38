# SPDX-License-Identifier: GPL-2.0-or-later
"""PSCI 0.2: the codes that guests depend on, and a machine of switches against a model."""

from __future__ import annotations

import pytest
from hypothesis import assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from allstop.coordinator.world.psci import (
    Answer,
    Booted,
    Called,
    Effect,
    End,
    Lost,
    Power,
    PowerError,
    PowerState,
    Start,
    Started,
    Stopped,
)

MEMORY = 0x20_0000
ENTRY = 0x4000_8000
VERSION, CPU_SUSPEND, CPU_OFF, CPU_ON, AFFINITY_INFO = (0x8400_0000 + number for number in range(5))
MIGRATE, MIGRATE_INFO_TYPE, MIGRATE_INFO_UP_CPU, SYSTEM_OFF, SYSTEM_RESET, FEATURES = (
    0x8400_0000 + number for number in range(5, 11)
)
SUCCESS, NOT_SUPPORTED, INVALID, ALREADY_ON, ON_PENDING, INTERNAL = (
    code & 0xFFFF_FFFF for code in (0, -1, -2, -4, -5, -6)
)


def running(vcpus: int) -> Power:
    """A machine whose boot vCPU runs."""
    power = Power(vcpus, MEMORY)
    assert power.handle(Booted(ENTRY, 1, 2)) == [Start(0, ENTRY, 0, 1, 2)]
    power.handle(Started(0))
    return power


def call(power: Power, vcpu: int, function: int, *arguments: int) -> list[Effect]:
    first, second, third = (*arguments, 0, 0, 0)[:3]
    return power.handle(Called(vcpu, function, first, second, third))


def answer(power: Power, vcpu: int, function: int, *arguments: int) -> int:
    """r0 after a call that must return and do nothing else."""
    effects = call(power, vcpu, function, *arguments)
    assert len(effects) == 1 and isinstance(effects[0], Answer) and effects[0].vcpu == vcpu
    return effects[0].value


@pytest.mark.parametrize(
    ("function", "value"),
    [
        (VERSION, 0x0000_0002),
        (CPU_SUSPEND, SUCCESS),
        (MIGRATE_INFO_TYPE, 2),
        (MIGRATE, NOT_SUPPORTED),
        (MIGRATE_INFO_UP_CPU, NOT_SUPPORTED),
        (FEATURES, NOT_SUPPORTED),
        (0x8400_000E, NOT_SUPPORTED),
        (0xC400_0003, NOT_SUPPORTED),
        (0x8000_0000, NOT_SUPPORTED),
        (0, NOT_SUPPORTED),
        (0xFFFF_FFFF, NOT_SUPPORTED),
    ],
)
def test_calls_that_only_answer(function: int, value: int) -> None:
    assert answer(running(2), 0, function, VERSION, 0, 0) == value


def test_cpu_on_starts_the_target_with_its_context() -> None:
    power = running(2)
    assert call(power, 0, CPU_ON, 1, ENTRY | 1, 0x1234_5678) == [
        Start(1, ENTRY | 1, 0x1234_5678, 0, 0),
        Answer(0, SUCCESS),
    ]


def test_cpu_on_takes_a_whole_mpidr_of_any_cluster() -> None:
    power = running(10)
    assert call(power, 0, CPU_ON, 0x8000_0101, ENTRY)[0] == Start(9, ENTRY, 0, 0, 0)


@pytest.mark.parametrize(
    ("target", "entry"),
    [
        (2, ENTRY),
        (8, ENTRY),
        (0x100, ENTRY),
        (0x1_0000, ENTRY),  # no such vCPU
        (1, 0),
        (1, 0x3FFF_FFFC),
        (1, 0x4000_0000 + MEMORY),
        (1, ENTRY + 2),  # no such code
    ],
)
def test_cpu_on_refuses_a_target_or_an_entry_that_can_not_be(target: int, entry: int) -> None:
    power = running(2)
    assert answer(power, 0, CPU_ON, target, entry) == INVALID
    assert power.states[1] is PowerState.OFF


def test_cpu_on_takes_the_last_instruction_of_memory_and_odd_thumb_entries() -> None:
    power = running(3)
    assert call(power, 0, CPU_ON, 1, 0x4000_0000 + MEMORY - 4)[1] == Answer(0, SUCCESS)
    assert call(power, 0, CPU_ON, 2, ENTRY + 3)[1] == Answer(0, SUCCESS)


def test_cpu_on_tells_pending_from_on() -> None:
    power = running(2)
    assert answer(power, 0, CPU_ON, 0, ENTRY) == ALREADY_ON
    call(power, 0, CPU_ON, 1, ENTRY)
    assert answer(power, 0, CPU_ON, 1, ENTRY) == ON_PENDING
    assert answer(power, 0, AFFINITY_INFO, 1, 0) == 2
    power.handle(Started(1))
    assert answer(power, 0, CPU_ON, 1, ENTRY) == ALREADY_ON
    assert answer(power, 0, AFFINITY_INFO, 1, 0) == 0


def test_a_vcpu_that_calls_is_on_whether_or_not_we_have_heard() -> None:
    power = running(2)
    call(power, 0, CPU_ON, 1, ENTRY)
    answer(power, 1, VERSION)
    assert answer(power, 0, CPU_ON, 1, ENTRY) == ALREADY_ON


def test_a_vcpu_whose_worker_died_is_off_and_can_not_be_switched_on() -> None:
    power = running(2)
    power.handle(Lost(1))
    assert answer(power, 0, AFFINITY_INFO, 1, 0) == 1
    assert answer(power, 0, CPU_ON, 1, ENTRY) == INTERNAL


def test_affinity_info_by_level() -> None:
    power = running(10)  # clusters of 8 and 2
    assert answer(power, 0, AFFINITY_INFO, 0x101, 0) == 1
    assert answer(power, 0, AFFINITY_INFO, 0x100, 1) == 1
    assert answer(power, 0, AFFINITY_INFO, 0x007, 1) == 0, "vCPU 0 is in that cluster; affinity 0 does not count"
    call(power, 0, CPU_ON, 0x101, ENTRY)
    assert answer(power, 0, AFFINITY_INFO, 0x100, 1) == 2
    assert answer(power, 0, AFFINITY_INFO, 0, 2) == 0
    assert answer(power, 0, AFFINITY_INFO, 0x102, 0) == INVALID
    assert answer(power, 0, AFFINITY_INFO, 0x200, 1) == INVALID
    assert answer(power, 0, AFFINITY_INFO, 0, 3) == 0
    assert answer(power, 0, AFFINITY_INFO, 0, 4) == INVALID


def test_cpu_off_does_not_return_and_the_vcpu_can_be_switched_on_again() -> None:
    power = running(2)
    call(power, 0, CPU_ON, 1, ENTRY)
    assert call(power, 1, CPU_OFF) == [Stopped(1)]
    assert answer(power, 0, AFFINITY_INFO, 1, 0) == 1
    assert call(power, 0, CPU_ON, 1, ENTRY)[0] == Start(1, ENTRY, 0, 0, 0)


def test_the_last_one_out_ends_the_run() -> None:
    power = running(2)
    call(power, 0, CPU_ON, 1, ENTRY)
    assert call(power, 0, CPU_OFF) == [Stopped(0)], "vCPU 1 is on its way"
    assert call(power, 1, CPU_OFF) == [Stopped(1), End("fail", 1, "every vCPU is off and nothing can wake one")]


def test_off_and_reset_end_the_run_and_do_not_return() -> None:
    assert call(running(1), 0, SYSTEM_OFF) == [End("pass", 0, "the guest powered the machine off")]
    assert call(running(1), 0, SYSTEM_RESET) == [End("fail", 1, "the guest asked for a reset, which ends the run")]


def test_what_can_not_be_raises() -> None:
    with pytest.raises(PowerError):
        running(1).handle(Booted(ENTRY, 0, 0))
    with pytest.raises(PowerError):
        call(running(2), 1, VERSION)
    lost = Power(2, MEMORY)
    lost.handle(Lost(0))
    with pytest.raises(PowerError):
        lost.handle(Booted(ENTRY, 0, 0))


VCPUS = 10


class PowerMachine(RuleBasedStateMachine):
    """Against a model that is three sets of vCPU numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.power = running(VCPUS)
        self.on, self.pending, self.lost = {0}, set[int](), set[int]()

    def expected_on(self, target: int) -> int:
        if target in self.lost:
            return INTERNAL
        return ALREADY_ON if target in self.on else ON_PENDING if target in self.pending else SUCCESS

    @precondition(lambda self: self.on)
    @rule(data=st.data(), vcpu=st.integers(0, VCPUS - 1), context=st.integers(0, 0xFFFF_FFFF))
    def cpu_on(self, data: st.DataObject, vcpu: int, context: int) -> None:
        caller = data.draw(st.sampled_from(sorted(self.on)))
        expected = self.expected_on(vcpu)
        effects = call(self.power, caller, CPU_ON, vcpu // 8 << 8 | vcpu % 8, ENTRY, context)
        starts = [Start(vcpu, ENTRY, context, 0, 0)] if expected == SUCCESS else []
        assert effects == [*starts, Answer(caller, expected)]
        if starts:
            self.pending.add(vcpu)

    @precondition(lambda self: self.on)
    @rule(data=st.data())
    def cpu_off(self, data: st.DataObject) -> None:
        caller = data.draw(st.sampled_from(sorted(self.on)))
        effects = call(self.power, caller, CPU_OFF)
        self.on.discard(caller)
        assert effects[0] == Stopped(caller)
        assert (len(effects) == 2) == (not self.on and not self.pending)

    @rule(vcpu=st.integers(0, VCPUS - 1))
    def start(self, vcpu: int) -> None:
        self.power.handle(Started(vcpu))  # an unexpected report does nothing
        if vcpu in self.pending:
            self.pending.discard(vcpu)
            self.on.add(vcpu)

    @rule(vcpu=st.integers(0, VCPUS - 1))
    def lose(self, vcpu: int) -> None:
        assume(len(self.lost) < 3)
        self.power.handle(Lost(vcpu))
        self.lost.add(vcpu)
        self.on.discard(vcpu)
        self.pending.discard(vcpu)

    @precondition(lambda self: self.on)
    @rule(vcpu=st.integers(0, VCPUS - 1), level=st.integers(0, 2))
    def affinity_info(self, vcpu: int, level: int) -> None:
        group = ({vcpu}, {other for other in range(VCPUS) if other // 8 == vcpu // 8}, set(range(VCPUS)))[level]
        expected = 0 if group & self.on else 2 if group & self.pending else 1
        affinity = vcpu // 8 << 8 | vcpu % 8
        assert answer(self.power, min(self.on), AFFINITY_INFO, affinity, level) == expected

    @invariant()
    def pending_is_known(self) -> None:
        assert self.power.pending() == sorted(self.pending)


TestPowerMachine = PowerMachine.TestCase
TestPowerMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
