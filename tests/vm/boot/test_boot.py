# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the initial RAM disk and the tree lie: in memory, on pages, over nothing else, where a guest expects them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from allstop.vm.boot.boot import Startup, prepare
from allstop.vm.boot.device_tree import RunFacts
from allstop.vm.boot.images import Image, ImageError, Segment
from allstop.vm.boot.tree_blob import parse
from allstop.vm.config.limits import RAM_BASE

MEGABYTE = 1 << 20


def image(kind: str, *places: tuple[int, int], reserved: int = 0) -> Image:
    """An image with zeroed segments at (offset in memory, size)."""
    return Image(
        kind,
        RAM_BASE + places[0][0],
        tuple(Segment(RAM_BASE + at, memoryview(b""), size) for at, size in places),
        reserved,
    )


def tree_at(startup: Startup) -> int:
    parse(bytes(startup.image.segments[-1].data))
    assert startup.image.segments[-1].ipa == startup.r2 and startup.r1 == 0xFFFF_FFFF
    return startup.r2 - RAM_BASE


def test_an_elf_image_has_the_tree_at_the_beginning_of_memory_if_there_is_room_below_it() -> None:
    facts = RunFacts(1, 2 * MEGABYTE)
    assert tree_at(prepare(image("elf", (0x1_0000, 0x8_0000)), facts)) == 0
    assert tree_at(prepare(image("elf", (0, 0x1000)), facts)) == MEGABYTE
    assert tree_at(prepare(image("elf", (0x1000, 0x1000), (0x8_0000, 0xF_0001)), facts)) == 0x17_1000
    assert tree_at(prepare(image("elf", (0x1_0000, 0x8_0000)), replace(facts, vcpus=128))) == 0


@pytest.mark.parametrize(("memory", "expected"), [(64, 32), (256, 128), (1024, 128)])
def test_kernels_and_raw_images_have_initrd_and_tree_where_qemu_has_them(memory: int, expected: int) -> None:
    facts = RunFacts(2, memory * MEGABYTE)
    assert tree_at(prepare(image("raw", (0x1_0000, 0x1000)), facts)) == expected * MEGABYTE
    startup = prepare(image("zimage", (0x1_0000, 0x1000), reserved=30 * MEGABYTE), facts, b"disk" * 1025)
    assert startup.initrd == (RAM_BASE + expected * MEGABYTE, RAM_BASE + expected * MEGABYTE + 4100)
    assert tree_at(startup) == expected * MEGABYTE + 0x2000
    assert bytes(startup.image.segments[1].data) == b"disk" * 1025


def test_what_the_kernel_unpacks_itself_over_is_left_alone() -> None:
    facts = RunFacts(1, 64 * MEGABYTE)
    startup = prepare(image("zimage", (0x1_0000, 0x1000), reserved=40 * MEGABYTE + 1), facts, b"x")
    assert startup.initrd is not None and startup.initrd[0] == RAM_BASE + 40 * MEGABYTE + 0x1000
    # Beyond the middle there is no room for it: it goes as low as the kernel lets it.
    startup = prepare(image("zimage", (0x1_0000, 0x1000), reserved=20 * MEGABYTE), facts, bytes(40 * MEGABYTE))
    assert startup.initrd is not None and startup.initrd[0] == RAM_BASE + 20 * MEGABYTE


def test_no_room() -> None:
    facts = RunFacts(1, 2 * MEGABYTE)
    full = image("raw", (0, 2 * MEGABYTE))
    without = prepare(full, facts)
    assert (without.image, without.r2, without.tree_bytes) == (full, 0, 0)
    with pytest.raises(ImageError, match="no room for a device tree"):
        prepare(full, replace(facts, command_line="x"))
    with pytest.raises(ImageError, match="no room for an initial RAM disk of 1 bytes in 2M"):
        prepare(full, facts, b"x")


@given(
    st.sampled_from(["elf", "raw", "zimage"]),
    st.integers(1, 20),
    st.integers(0, 1 << 25),
    st.integers(1, 1 << 25),
    st.integers(0, 1 << 23),
    st.integers(0, 1 << 25),
)
def test_nothing_overlaps_and_all_is_in_memory(
    kind: str, steps: int, at: int, size: int, disk: int, reserved: int
) -> None:
    memory = steps * 2 * MEGABYTE
    assume(at + size <= memory and reserved <= memory)
    try:
        startup = prepare(image(kind, (at, size), reserved=reserved), RunFacts(1, memory), bytes(disk))
    except ImageError:
        return
    ranges = sorted([(part.ipa, part.ipa + part.memory_bytes) for part in startup.image.segments])
    assert all(below[1] <= above[0] for below, above in zip(ranges, ranges[1:], strict=False))
    assert ranges[-1][1] <= RAM_BASE + memory
    for part in startup.image.segments[1:]:
        assert part.ipa % 4096 == 0 and part.ipa >= RAM_BASE + reserved
