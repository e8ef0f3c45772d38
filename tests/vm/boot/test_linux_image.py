# SPDX-License-Identifier: GPL-2.0-or-later
"""zImages: told by their header, placed as QEMU does, refused in one sentence when they cannot be right."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allstop.vm.boot.images import ImageError
from allstop.vm.boot.linux_image import ZIMAGE_LOAD_IPA, foreign_kind, is_zimage, parse_zimage
from allstop.vm.config.limits import RAM_BASE

MEMORY = 64 << 20
NOP = 0xE1A00000


def zimage(
    size: int = 0x2000,
    *,
    start: int = 0,
    end: int | None = None,
    order: int = 0x0403_0201,
    unpacked: int | None = None,
    zeroed: int = 0x3000,
    text_offset: int = 0x8000,
    heap: int = 0x1_0000,
) -> bytes:
    """A zImage without a kernel; with `unpacked`, its table says how big that would be."""
    data = bytearray(struct.pack("<9I", *[NOP] * 9) + bytes(size - 36))
    struct.pack_into("<4I", data, 0x24, 0x016F_2818, start, size if end is None else end, order)
    if unpacked is not None:
        struct.pack_into("<2I", data, 0x34, 0x4545_4545, 0x100)
        struct.pack_into("<3I", data, 0x100, 3, 0x1234_5678, 0)  # a tag that is none of ours
        struct.pack_into("<6I", data, 0x10C, 6, 0x5A53_4C4B, size - 7, zeroed, text_offset, heap)
        struct.pack_into("<I", data, size - 7, unpacked)
    return bytes(data)


def test_it_is_placed_where_qemu_places_it_and_entered_there() -> None:
    data = zimage()
    image = parse_zimage(data + b"appended", MEMORY)
    assert is_zimage(data[:0x40]) and image.kind == "zimage"
    assert image.entry == ZIMAGE_LOAD_IPA == RAM_BASE + 0x10000
    assert [(part.ipa, bytes(part.data), part.memory_bytes) for part in image.segments] == [
        (ZIMAGE_LOAD_IPA, data + b"appended", len(data) + 8)
    ]


def test_what_it_unpacks_itself_over_is_what_its_table_says() -> None:
    size = 0x2000
    needs = parse_zimage(zimage(size, unpacked=20 << 20, text_offset=0x20_8000), MEMORY).reserved_bytes
    assert 0x20_8000 + (20 << 20) + size + 0x1_0000 <= needs <= 0x20_8000 + (20 << 20) + size + 0x4_0000
    assert parse_zimage(zimage(size, unpacked=1 << 20, zeroed=30 << 20), MEMORY).reserved_bytes >= 31 << 20
    assert parse_zimage(zimage(size), MEMORY).reserved_bytes >= 5 * size
    with pytest.raises(ImageError, match="needs 65M of memory to unpack itself, the guest has 64M"):
        parse_zimage(zimage(size, unpacked=64 << 20), MEMORY)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (zimage(end=0x2001), "truncated zImage: its header says 8193 bytes, there are 8192"),
        (zimage()[:0x2A], "ends within its header"),
        (zimage()[:0x1FFF], "truncated zImage"),
        (zimage(start=0x2000), "damaged zImage"),
        (zimage(start=0x1000), "must lie at 0x00001000"),
        (zimage(order=0x0102_0304), "big-endian"),
        (b"\x7fELF" + bytes(100), "not a zImage"),
    ],
)
def test_each_fault_has_its_sentence(data: bytes, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        parse_zimage(data, MEMORY)


def test_one_that_is_larger_than_memory() -> None:
    with pytest.raises(ImageError, match="too big for the guest's memory"):
        parse_zimage(zimage(3 << 20), 2 << 20)


def test_what_is_often_given_instead_is_named() -> None:
    for head, words in (
        (b"\x27\x05\x19\x56", "uImage"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"\xfd7zXZ\x00", "xz file"),
        (b"070701", "--initrd"),
        (b"\xd0\x0d\xfe\xed", "--dtb"),
        (b"MZ" + bytes(0x36) + b"ARM\x64", "64-bit ARM"),
    ):
        assert words in foreign_kind(head.ljust(0x40, b"\0"))
    assert not foreign_kind(b"") and not foreign_kind(zimage()[:0x40]) and not foreign_kind(bytes(0x40))


SOUND = zimage(0x400, unpacked=1 << 20)


@pytest.mark.fuzz
@given(
    st.integers(0, len(SOUND)),
    st.lists(
        st.tuples(
            st.sampled_from(
                [
                    0x24,
                    0x28,
                    0x2C,
                    0x30,
                    0x34,
                    0x38,
                    0x100,
                    0x104,
                    0x10C,
                    0x110,
                    0x114,
                    0x118,
                    0x11C,
                    0x120,
                    len(SOUND) - 7,
                ]
            ),
            st.integers(0, 0xFFFF_FFFF) | st.integers(0, 0x500),
        ),
        max_size=4,
    ),
)
def test_no_damaged_zimage_is_anything_but_taken_or_refused(length: int, damage: list[tuple[int, int]]) -> None:
    data = bytearray(SOUND)
    for at, value in damage:
        struct.pack_into("<I", data, at, value)
    for part in (bytes(data), bytes(data[:length])):
        try:
            image = parse_zimage(part, MEMORY)
        except ImageError as error:
            assert str(error) and "\n" not in str(error)
            continue
        assert 0 < image.reserved_bytes <= MEMORY
