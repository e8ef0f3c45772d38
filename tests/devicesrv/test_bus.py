# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allstop.devicesrv.bus import Bus, BusError
from allstop.devicesrv.device import Device, Wiring

BASE = 0x0A00_0000


class Recorder(Device):
    """Keeps what arrives; reads all ones, more than any width takes."""

    widths = frozenset({1, 2, 4})

    def __init__(self, wiring: Wiring | None = None) -> None:
        super().__init__(wiring or Wiring())
        self.seen: list[tuple[int, int, int | None, int]] = []

    def read(self, offset: int, size: int, cpu: int) -> int:
        self.seen.append((offset, size, None, cpu))
        return -1

    def write(self, offset: int, size: int, value: int, cpu: int) -> None:
        self.seen.append((offset, size, value, cpu))


class Wide(Recorder):
    size_bytes = 0x3000
    widths = frozenset({1, 2, 4, 8})
    unaligned = True


class OnePage(Wide):
    size_bytes = 0x1000


class BytesOnly(Recorder):
    widths = frozenset({1})


def test_a_device_sees_offsets_and_its_own_widths_only() -> None:
    bus, device = Bus(), Recorder()
    bus.attach(BASE, device)
    assert bus.access(BASE + 0x10, 4, False, 0, 3) == 0xFFFF_FFFF
    assert bus.access(BASE + 0xFFE, 2, True, 0x1_2345_6789, 1) == 0
    assert device.seen == [(0x10, 4, None, 3), (0xFFE, 2, 0x6789, 1)]


def test_eight_bytes_are_two_words_low_offset_first() -> None:
    bus, device = Bus(), Recorder()
    bus.attach(BASE, device)
    assert bus.access(BASE + 0x14, 8, True, 0x1111_1111_2222_2222, 0) == 0
    assert bus.access(BASE + 0x14, 8, False, 0, 0) == 0xFFFF_FFFF_FFFF_FFFF
    assert device.seen == [(0x14, 4, 0x2222_2222, 0), (0x18, 4, 0x1111_1111, 0), (0x14, 4, None, 0), (0x18, 4, None, 0)]
    wide = Wide()
    bus.attach(BASE + 0x1000, wide)
    assert bus.access(BASE + 0x1003, 8, False, 0, 0) == 0xFFFF_FFFF_FFFF_FFFF
    assert wide.seen == [(3, 8, None, 0)]


@pytest.mark.parametrize(("offset", "size"), [(0x1, 2), (0x2, 4), (0x6, 8)])
def test_alignment_that_a_device_does_not_take_is_a_guests_mistake(offset: int, size: int) -> None:
    bus, device = Bus(), Recorder()
    bus.attach(BASE, device)
    assert bus.access(BASE + offset, size, False, 0, 0) == 0
    assert bus.access(BASE + offset, size, True, 1, 0) == 0
    assert not device.seen
    assert device.guest_mistakes >= 2
    assert bus.unassigned == 0


@pytest.mark.parametrize("size", [2, 4, 8])
def test_width_that_a_device_does_not_take_is_a_guests_mistake(size: int) -> None:
    bus, device = Bus(), BytesOnly()
    bus.attach(BASE, device)
    assert bus.access(BASE, size, False, 0, 0) == 0
    assert (device.seen, device.guest_mistakes) == ([], 1)


def test_outside_of_every_device_there_is_no_answer() -> None:
    bus, device = Bus(), Wide()
    bus.attach(BASE, device)
    outside = [(BASE - 4, 4), (BASE + 0x3000, 4), (BASE + 0x2FFE, 4), (BASE - 2, 4), (0, 1), ((1 << 64) - 1, 8)]
    for ipa, size in outside:
        assert bus.access(ipa, size, False, 0, 0) is None
    assert (bus.unassigned, device.seen, device.guest_mistakes) == (len(outside), [], 0)


def test_overlap_is_refused_in_one_sentence_that_names_both() -> None:
    bus = Bus()
    bus.attach(BASE, Wide())
    for ipa in (BASE, BASE + 0x2000, BASE - 0x2000):
        with pytest.raises(BusError, match=rf"^Wide at 0x{ipa:08x} .* overlaps Wide at 0x0a000000"):
            bus.attach(ipa, Wide())
    bus.attach(BASE + 0x3000, Wide())
    bus.attach(BASE - 0x3000, Wide())
    assert [region.name for region in bus] == ["Wide at 0x0a000000", "Wide at 0x0a003000", "Wide at 0x09ffd000"]


def test_a_device_begins_and_ends_on_pages() -> None:
    class Odd(Recorder):
        size_bytes = 0x800

    class Empty(Recorder):
        size_bytes = 0

    for ipa, device in ((BASE + 0x800, Recorder()), (BASE, Odd()), (BASE, Empty())):
        with pytest.raises(BusError, match="must begin at"):
            Bus().attach(ipa, device)


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 40), unique=True, max_size=8), st.integers(0, 50 * 0x1000), st.sampled_from((1, 2, 4, 8))
)
def test_the_device_that_holds_an_address_answers(pages: list[int], ipa: int, size: int) -> None:
    """Against a plain search, and the same again when the answer is cached."""
    bus = Bus()
    devices = {}
    for page in pages:
        devices[page] = OnePage()
        bus.attach(page * 0x1000, devices[page])
    page = ipa // 0x1000
    inside = page in devices and ipa + size <= (page + 1) * 0x1000
    for _ in range(2):
        assert (bus.access(ipa, size, False, 0, 7) is not None) == inside
    for place, device in devices.items():
        assert device.seen == ([(ipa % 0x1000, size, None, 7)] * 2 if inside and place == page else [])
