# SPDX-License-Identifier: GPL-2.0-or-later
"""The clock, the test device, the counter and the RAM device."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allstop.devicesrv.device import Wiring
from allstop.devicesrv.models import pl031, testdev
from allstop.devicesrv.models.counter import RESET, CounterDevice
from allstop.devicesrv.models.pl031 import Pl031
from allstop.devicesrv.models.ramdev import RamDevice
from allstop.devicesrv.models.testdev import TestDevice
from allstop.vm.board import RAMDEV_BYTES


class Outside:
    """What devices are wired to, kept."""

    def __init__(self) -> None:
        self.now_s = 1_700_000_000
        self.irq: list[bool] = []
        self.records: list[tuple[str, Mapping[str, object]]] = []
        self.finished: list[tuple[int, str]] = []

    def wiring(self, seed: int = 0) -> Wiring:
        return Wiring(
            irq=self.irq.append,
            record=lambda name, fields: self.records.append((name, fields)),
            finish=lambda status, detail: self.finished.append((status, detail)),
            clock_s=lambda: self.now_s,
            vcpus=6,
            parameter=77,
            random=Random(seed),
        )


@pytest.fixture
def outside() -> Outside:
    return Outside()


def test_test_device_answers_what_the_run_is(outside: Outside) -> None:
    device = TestDevice(outside.wiring())
    assert device.read(testdev.VCPUS, 4, 0) == 6
    assert device.read(testdev.MAGIC, 4, 0) == 0x4153_5450
    assert device.read(testdev.PARAMETER, 4, 0) == 77
    for offset in (testdev.EXIT, testdev.MARK, 0x18, 0xFFC):
        assert device.read(offset, 4, 0) == 0
    for offset in (testdev.VCPUS, testdev.RANDOM, testdev.MAGIC, 0x18):
        device.write(offset, 4, 1, 0)
    assert device.guest_mistakes == 8
    assert not outside.finished


def test_test_device_ends_the_run_and_says_who(outside: Outside) -> None:
    device = TestDevice(outside.wiring())
    device.write(testdev.EXIT, 4, 3, 5)
    assert outside.finished == [(3, "vCPU 5 wrote 3 to the test device")]


def test_test_device_marks(outside: Outside) -> None:
    TestDevice(outside.wiring()).write(testdev.MARK, 4, 0xABC, 2)
    assert outside.records == [("marks", {"vcpu": 2, "value": 0xABC})]


def test_chance_is_the_seeds(outside: Outside) -> None:
    def numbers(seed: int) -> list[int]:
        device = TestDevice(outside.wiring(seed))
        return [device.read(testdev.RANDOM, 4, 0) for _ in range(20)]

    assert numbers(1) == numbers(1) != numbers(2)
    assert len(set(numbers(1))) == 20
    assert all(0 <= number < 1 << 32 for number in numbers(1))


def test_counter_counts_every_access_before_a_read(outside: Outside) -> None:
    device = CounterDevice(outside.wiring())
    for offset in range(5):
        device.write(offset, 1, 9, 0)
    assert device.read(0, 4, 1) == 5
    assert device.read(0x800, 8, 1) == 6
    device.write(RESET, 4, 0, 0)
    assert device.read(RESET, 4, 0) == 0
    assert [fields["count"] for name, fields in outside.records if name == "accesses"] == [0, 1, 2, 3, 4, 5, 6, 7, 0]
    assert outside.records[5][1] == {"count": 5, "vcpu": 1, "offset": 0, "size": 4, "write": False, "value": 5}


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 32), st.sampled_from((1, 2, 4, 8)), st.none() | st.integers(0, (1 << 64) - 1)),
        max_size=40,
    )
)
def test_ram_device_is_memory(accesses: list[tuple[int, int, int | None]]) -> None:
    """Byte by byte, whatever the widths and however they overlap."""
    device, memory = RamDevice(Wiring()), dict.fromkeys(range(64), 0)
    for offset, size, value in accesses:
        if value is None:
            expected = sum(memory[offset + place] << 8 * place for place in range(size))
            assert device.read(offset, size, 0) == expected
        else:
            value &= (1 << 8 * size) - 1
            device.write(offset, size, value, 0)
            for place in range(size):
                memory[offset + place] = value >> 8 * place & 0xFF


def test_ram_device_reaches_to_its_end() -> None:
    device = RamDevice(Wiring())
    device.write(RAMDEV_BYTES - 8, 8, (1 << 64) - 1, 0)
    assert device.read(RAMDEV_BYTES - 1, 1, 0) == 0xFF


def test_clock_tells_the_time_and_takes_another(outside: Outside) -> None:
    clock = Pl031(outside.wiring())
    assert clock.read(pl031.DR, 4, 0) == 1_700_000_000
    clock.write(pl031.LR, 4, 1000, 0)
    outside.now_s += 5
    assert clock.read(pl031.DR, 4, 0) == 1005
    assert clock.read(pl031.LR, 4, 0) == 1000
    assert clock.read(pl031.CR, 4, 0) == 1
    assert [clock.read(offset, 4, 0) for offset in range(0xFE0, 0x1000, 4)] == [
        0x31,
        0x10,
        0x14,
        0x00,
        0x0D,
        0xF0,
        0x05,
        0xB1,
    ]
    clock.write(pl031.DR, 4, 0, 0)
    assert clock.read(0x20, 4, 0) == 0
    assert clock.guest_mistakes == 2


def test_alarm_rings_when_its_second_has_come(outside: Outside) -> None:
    clock = Pl031(outside.wiring())
    clock.write(pl031.IMSC, 4, 1, 0)
    clock.write(pl031.MR, 4, outside.now_s + 10, 0)
    outside.now_s += 9
    clock.tick()
    assert not outside.irq
    outside.now_s += 3  # neither an access nor a tick came in that very second
    clock.tick()
    assert outside.irq == [True]
    assert clock.read(pl031.MIS, 4, 0) == 1
    clock.write(pl031.ICR, 4, 1, 0)
    assert outside.irq == [True, False]
    outside.now_s += 100
    clock.tick()
    assert clock.read(pl031.RIS, 4, 0) == 0, "an alarm rings once"


def test_alarm_of_this_second_rings_now_and_masked_it_waits(outside: Outside) -> None:
    clock = Pl031(outside.wiring())
    clock.write(pl031.MR, 4, outside.now_s, 0)
    assert (clock.read(pl031.RIS, 4, 0), clock.read(pl031.MIS, 4, 0), outside.irq) == (1, 0, [])
    clock.write(pl031.IMSC, 4, 1, 0)
    assert outside.irq == [True]


def test_setting_the_clock_past_the_alarm_does_not_ring(outside: Outside) -> None:
    clock = Pl031(outside.wiring())
    clock.write(pl031.MR, 4, outside.now_s + 10, 0)
    clock.write(pl031.LR, 4, outside.now_s + 20, 0)
    clock.tick()
    assert clock.read(pl031.RIS, 4, 0) == 0


def test_the_clock_says_when_its_alarm_is_due(outside: Outside) -> None:
    clock = Pl031(outside.wiring())
    began_s = outside.now_s
    clock.write(pl031.MR, 4, began_s + 10, 0)
    assert clock.due_s is None, "masked"
    clock.write(pl031.IMSC, 4, 1, 0)
    assert clock.due_s == began_s + 10
    clock.write(pl031.LR, 4, began_s + 7, 0)
    assert clock.due_s == began_s + 3
    outside.now_s += 3
    clock.tick()
    assert (outside.irq, clock.due_s) == ([True], None)
    clock.write(pl031.LR, 4, 0xFFFF_FFFF, 0)
    clock.write(pl031.MR, 4, 2, 0)
    clock.write(pl031.ICR, 4, 1, 0)
    assert clock.due_s == outside.now_s + 3, "the counter wraps"
    outside.now_s += 3
    clock.tick()
    assert clock.read(pl031.RIS, 4, 0) == 1


def test_loading_the_match_value_rings(outside: Outside) -> None:
    clock = Pl031(outside.wiring())
    clock.write(pl031.IMSC, 4, 1, 0)
    clock.write(pl031.MR, 4, 500, 0)
    clock.write(pl031.LR, 4, 500, 0)
    assert outside.irq == [True]
