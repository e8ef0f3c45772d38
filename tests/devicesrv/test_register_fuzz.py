# SPDX-License-Identifier: GPL-2.0-or-later
"""Whatever a guest does to the registers of the board's own devices, of every width and alignment, is answered."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allstop.devicesrv.bus import WIDTHS, Bus
from allstop.devicesrv.console.input_line import InputLine
from allstop.devicesrv.device import Wiring
from allstop.devicesrv.gicv2.cpu_interface import CpuInterfaces
from allstop.devicesrv.gicv2.distributor import Distributor
from allstop.devicesrv.gicv2.state import Gic
from allstop.devicesrv.models.pl011 import Pl011
from allstop.devicesrv.models.pl031 import Pl031
from allstop.vm.board import GICC_BASE, GICD_BASE, PL011_BASE, PL031_BASE

WINDOWS = ((GICD_BASE, 0x1000), (GICC_BASE, 0x2000), (PL011_BASE, 0x1000), (PL031_BASE, 0x1000))
VALUES = (0, 1, 0xFF, 0x5A5A_A5A5, 0xFFFF_FFFF, (1 << 64) - 1)


class Board:
    """GIC, UART and clock of a machine of so many vCPUs, with input that goes on forever."""

    def __init__(self, vcpus: int) -> None:
        self.now_s = 1_700_000_000
        self.gic = Gic(vcpus)
        self.bus = Bus()
        uart = Pl011(Wiring(irq=self.gic.input(33)))
        self.clock = Pl031(Wiring(irq=self.gic.input(34), clock_s=lambda: self.now_s))
        for base, device in zip(
            (base for base, _ in WINDOWS),
            (Distributor(Wiring(), self.gic), CpuInterfaces(Wiring(), self.gic), uart, self.clock),
            strict=True,
        ):
            self.bus.attach(base, device)
        self.input = InputLine()
        self.input.subscribe(uart)

    def access(self, ipa: int, size: int, is_write: bool, value: int, cpu: int) -> None:
        answer = self.bus.access(ipa, size, is_write, value & (1 << 8 * size) - 1, cpu)
        assert answer is None or 0 <= answer < 1 << 8 * size
        self.input.feed(b"x")
        assert all(line & 3 != 3 for line in self.gic.lines), "one of the two"
        due_s = self.clock.due_s
        assert due_s is None or due_s > self.now_s


@pytest.mark.parametrize("vcpus", [1, 2, 10])
def test_every_offset_of_every_width_is_answered_whatever_is_written(vcpus: int) -> None:
    board, random = Board(vcpus), Random(vcpus)
    for base, size_bytes in WINDOWS:
        for offset in range(size_bytes):
            for size in WIDTHS:
                board.access(base + offset, size, True, random.choice(VALUES), random.randrange(vcpus))
                board.access(base + offset, size, False, 0, random.randrange(vcpus))
    assert board.bus.unassigned, "the accesses that leave a window at its end"


_ADDRESSES = st.one_of(
    *(st.builds(int.__add__, st.just(base), st.integers(0, size - 1)) for base, size in WINDOWS),
    # where there are registers
    st.builds(int.__add__, st.sampled_from((GICC_BASE, PL011_BASE, PL031_BASE)), st.integers(0, 0x4C)),
    st.builds(lambda word: GICD_BASE + 4 * word, st.integers(0, 0x3FF)),
)


@pytest.mark.fuzz
@given(
    st.sampled_from((1, 3, 9)),
    st.lists(
        st.tuples(
            _ADDRESSES,
            st.sampled_from(sorted(WIDTHS)),
            st.booleans(),
            st.sampled_from(VALUES) | st.integers(0, (1 << 64) - 1),
            st.integers(0, 8),
            st.integers(0, 3),
        ),
        max_size=60,
    ),
)
def test_no_course_of_accesses_raises(vcpus: int, course: list[tuple[int, int, bool, int, int, int]]) -> None:
    board = Board(vcpus)
    for ipa, size, is_write, value, cpu, passed_s in course:
        board.now_s += passed_s
        board.clock.tick()
        board.access(ipa, size, is_write, value, cpu % vcpus)
