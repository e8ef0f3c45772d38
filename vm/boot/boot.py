# SPDX-License-Identifier: GPL-2.0-or-later
"""The state in which a guest starts: the places of everything in memory, and its first registers.

The rule of placement, for the initial RAM disk and then for the device tree, each on a page boundary:

    ELF     the tree at the beginning of memory, if it fits below the image; else as for the others
    others  from the middle of memory on, or from 128M where there is more than 256M; behind the image, and behind what
            a zImage unpacks itself over, where those reach further
    then    the lowest place that nothing else needs, for what does not fit there

As QEMU (hw/arm/boot.c), except the last line: this finds every place that QEMU finds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from allstop.vm.boot.device_tree import RunFacts, adapt, build
from allstop.vm.boot.images import Image, ImageError, Segment
from allstop.vm.config.limits import RAM_BASE

NO_MACHINE_NUMBER = 0xFFFF_FFFF
"""r1 of a guest that learns what machine it is on from a device tree."""

_PAGE_BYTES = 0x1000
_HIGHEST_START = 128 << 20


@dataclass(frozen=True)
class Startup:
    """A guest that can be started: `image` with everything that is placed in memory; the boot vCPU's r1 and r2 (r0 is
    0). `tree_bytes` is the tree's size, at r2; 0 and r2 = 0 where it has no place."""

    image: Image
    r1: int
    r2: int
    tree_bytes: int
    initrd: tuple[int, int] | None = None


def prepare(image: Image, facts: RunFacts, initrd: bytes = b"", tree: bytes | None = None) -> Startup:
    """Place an initial RAM disk and the device tree beside `image`; `tree` is a user's own. Raises ImageError.

    An image that leaves no room for a tree runs without one, unless the user gave something that only a tree can carry.
    """
    memory_bytes = facts.memory_bytes
    taken = [(segment.ipa, segment.ipa + segment.memory_bytes) for segment in image.segments]
    if image.reserved_bytes:
        taken.append((RAM_BASE, RAM_BASE + image.reserved_bytes))
    usual = RAM_BASE + min(memory_bytes // 2, _HIGHEST_START)
    segments = image.segments
    if initrd:
        start = _place(len(initrd), (usual, RAM_BASE), taken, memory_bytes)
        if start is None:
            raise ImageError(
                f"leaves no room for an initial RAM disk of {len(initrd)} bytes in {memory_bytes >> 20}M "
                "of memory (--memory sets its size)"
            )
        usual = start + len(initrd)
        taken.append((start, usual))
        segments += (Segment(start, memoryview(initrd), len(initrd)),)
        facts = replace(facts, initrd=(start, usual))
    blob = build(facts) if tree is None else adapt(tree, facts)
    at = _place(len(blob), (usual, RAM_BASE), taken, memory_bytes)
    if image.kind == "elf" and RAM_BASE + len(blob) <= min(begin for begin, _ in taken):
        at = RAM_BASE
    if at is None:
        if initrd or tree is not None or facts.command_line:
            raise ImageError(
                f"leaves no room for a device tree of {len(blob)} bytes in {memory_bytes >> 20}M of "
                "memory (--memory sets its size)"
            )
        return Startup(image, NO_MACHINE_NUMBER, 0, 0)
    segments += (Segment(at, memoryview(blob), len(blob)),)
    return Startup(replace(image, segments=segments), NO_MACHINE_NUMBER, at, len(blob), facts.initrd)


def _place(size_bytes: int, starts: tuple[int, ...], taken: list[tuple[int, int]], memory_bytes: int) -> int | None:
    """The lowest page boundary from the first of `starts` on with `size_bytes` free; without one, from the next."""
    for at in starts:
        for begin, end in sorted(taken):
            at += -at % _PAGE_BYTES
            if begin < at + size_bytes and at < end:
                at = end
        at += -at % _PAGE_BYTES
        if at + size_bytes <= RAM_BASE + memory_bytes:
            return at
    return None
