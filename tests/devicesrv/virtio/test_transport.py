# SPDX-License-Identifier: GPL-2.0-or-later
"""The registers of a virtio transport: negotiation, both versions, empty places, and every kind of nonsense."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allstop.devicesrv.board import Board
from allstop.devicesrv.device import Wiring
from allstop.devicesrv.virtio.console import VirtioConsole
from allstop.devicesrv.virtio.entropy import Entropy
from allstop.devicesrv.virtio.function import F_EVENT_IDX
from allstop.devicesrv.virtio.transport import Transport
from allstop.vm.config.limits import RAM_BASE
from allstop.vm.config.machine import MachineConfig, SharedFds
from allstop.vm.memory.guest_memory import AccessError

VIRTIO = 0x0A00_0000
BUFFER = RAM_BASE + 0x8000


def test_the_empty_places_identify_themselves_as_nothing() -> None:
    board = Board(
        MachineConfig(
            memory_bytes=2 << 20,
            token="",
            coordinator_endpoint="",
            devices_endpoint="",
            fds=SharedFds(-1, -1, -1),
            cores=1,
        ),
        Wiring(),
    )
    for place in range(32):
        base = VIRTIO + 0x200 * place
        assert [board.bus.access(base + offset, 4, False, 0, 0) for offset in (0, 4, 8)] == [0x74726976, 2, 0]
        assert board.bus.access(base + 0x70, 4, True, 1, 0) == 0
        assert board.bus.access(base + 0x70, 4, False, 0, 0) == 0
    assert board.bus.access(VIRTIO + 0x200 * 32, 4, False, 0, 0) is None


def test_a_driver_that_follows_the_rules(drive: Any) -> None:
    driver = drive(Entropy(Random(1)), F_EVENT_IDX)
    assert [driver.get(offset) for offset in (0x00, 0x04, 0x08)] == [0x74726976, 2, 4]
    driver.rings[0].chain((BUFFER, 32, True))
    driver.notify()
    assert driver.rings[0].used() == [(0, 32)]
    assert driver.memory.read(BUFFER, 32) == Random(1).randbytes(32)
    assert driver.levels == [True] and driver.get(0x60) == 1
    driver.set(0x64, 1)
    assert driver.levels == [True, False] and driver.get(0x60) == 0
    assert driver.mistakes == 0


def test_features_that_were_not_offered_are_refused(drive: Any) -> None:
    driver = drive(Entropy(Random(1)))
    driver.set(0x70, 0)
    driver.set(0x24, 0)
    driver.set(0x20, 1)
    driver.set(0x24, 1)
    driver.set(0x20, 1)
    driver.set(0x70, 11)
    assert driver.get(0x70) == 3


def test_a_modern_driver_must_accept_version_1(drive: Any) -> None:
    driver = drive(Entropy(Random(1)))
    driver.set(0x70, 0)
    driver.set(0x70, 11)
    assert driver.get(0x70) == 3


def test_nothing_happens_before_driver_ok(drive: Any) -> None:
    driver = drive(Entropy(Random(1)))
    driver.set(0x70, 11)
    driver.rings[0].chain((BUFFER, 32, True))
    driver.notify()
    assert driver.rings[0].used() == [] and driver.mistakes == 1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda ring: ring.offer(9),
        lambda ring: ring.chain((0x1000, 32, True)),
        lambda ring: ring.chain((RAM_BASE + (1 << 20) - 8, 32, True)),
        lambda ring: ring.chain((BUFFER, 32, False), (1 << 40, 0xFFFF_FFFF, True)),
    ],
)
def test_a_broken_queue_needs_a_reset_and_gets_well_by_it(drive: Any, spoil: Any) -> None:
    driver = drive(Entropy(Random(1)))
    spoil(driver.rings[0])
    driver.notify()
    assert driver.is_broken and driver.get(0x60) & 2 and driver.levels == [True]
    driver.notify()
    assert driver.rings[0].used() == []
    driver.set(0x70, 15)
    assert driver.is_broken, "a write of the status does not mend it"
    driver.memory.data[:] = bytes(len(driver.memory.data))
    driver.open()
    assert not driver.is_broken and driver.levels == [True, False]
    driver.rings[0].chain((BUFFER, 8, True))
    driver.notify()
    assert driver.rings[0].used() == [(0, 8)]


@pytest.mark.parametrize(("offset", "value"), [(0x38, 3), (0x38, 0), (0x80, RAM_BASE + 8), (0xA0, RAM_BASE + 2)])
def test_a_queue_that_can_not_be_needs_a_reset(drive: Any, offset: int, value: int) -> None:
    driver = drive(Entropy(Random(1)))
    driver.set(0x44, 0)
    driver.set(offset, value)
    driver.set(0x44, 1)
    assert driver.is_broken and driver.get(0x44) == 0


def test_the_legacy_layout_as_kvm_unit_tests_use_it(flat_memory: Any, ring_at: Any) -> None:
    """No status, no features: a page number, and a notification."""
    memory, levels, written = flat_memory(), [], bytearray()
    console = VirtioConsole(written.extend)
    transport = Transport(console, memory, Wiring(irq=levels.append), lambda: 0, legacy=True)
    assert transport.read(0x04, 4) == 1
    transport.write(0x28, 4, 4096)
    transport.write(0x30, 4, 1)
    assert transport.read(0x34, 4) >= 128 and transport.read(0x40, 4) == 0
    transport.write(0x38, 4, 128)
    transport.write(0x3C, 4, 4096)
    transport.write(0x40, 4, RAM_BASE >> 12)
    assert transport.read(0x40, 4) == RAM_BASE >> 12
    ring = ring_at(memory, RAM_BASE, 128)
    memory.write(BUFFER, b"0q")
    ring.chain((BUFFER, 2, False))
    transport.write(0x50, 4, 1)
    assert written == b"0q" and ring.used() == [(0, 0)]
    transport.write(0x40, 4, 0)
    assert transport.read(0x40, 4) == 0


registers = st.sampled_from([*range(0, 0x110, 4), 0x1FC]) | st.integers(0, 0x1FF)
values = st.sampled_from([0, 1, 2, 3, 4, 8, 11, 15, 0x80, RAM_BASE, RAM_BASE >> 12, RAM_BASE + 0x1000, 0xFFFF_FFFF]) | (
    st.integers(0, 0xFFFF_FFFF)
)
accesses = st.lists(st.tuples(st.booleans(), registers, st.sampled_from([1, 2, 4]), values), max_size=80)


@settings(max_examples=300)
@given(accesses, st.booleans(), st.booleans(), st.integers(0, 99))
def test_every_register_width_and_value_is_answered(
    flat_memory: Any, script: Any, legacy: bool, console: bool, seed: int
) -> None:
    """A guest that programs nonsense on top of rubbish in its memory: no exception, and the line is as the status."""
    memory, levels = flat_memory(0x10000), [False]
    memory.data[:] = Random(seed).randbytes(0x10000)
    mistakes: list[int] = []
    function = VirtioConsole(lambda data: None) if console else Entropy(Random(1))
    transport = Transport(function, memory, Wiring(irq=levels.append), lambda: mistakes.append(1) or 0, legacy)
    for is_write, offset, size, value in script:
        offset -= offset % size
        if is_write:
            transport.write(offset, size, value & (1 << 8 * size) - 1)
        else:
            assert 0 <= transport.read(offset, size) < 1 << 8 * size
        assert levels[-1] == bool(transport.read(0x60, 4))
    if isinstance(function, VirtioConsole):
        function.receive(b"input")


def test_the_guard_stops_what_memory_refuses(drive: Any) -> None:
    driver = drive(Entropy(Random(1)))

    def work() -> None:
        raise AccessError("no")

    driver.transport.guard(work)
    assert driver.is_broken
