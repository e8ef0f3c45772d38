# SPDX-License-Identifier: GPL-2.0-or-later
"""Stage-2 tables: ARMv7 long-descriptor tables in memory that all workers of a host share.

Layout of the file: one level-1 page (four entries of 1 GiB), four level-2 pages, then the level-3 entries of RAM as
one flat array, so that the entry of a page is found by arithmetic. Level-3 entries start absent and are made by the
first vCPU that uses the page; so the file, too, costs only what is touched. Source: ARM ARM (DDI 0406C), B3.6.
"""

from __future__ import annotations

import enum
import mmap
import os
import struct

from allstop.vm.config.limits import MAX_MEMORY_BYTES, RAM_BASE
from allstop.vm.config.machine import MachineConfig
from allstop.vm.control.control import ControlPage
from allstop.vm.memory.guest_memory import BROKEN, SWAPPED

STAGE2_BASE = 0xF000_0000
LEVEL3_OFFSET = 0x5000
PAGE_BYTES = 4096
_TABLE = 3
_BLOCK_BYTES = 512 * PAGE_BYTES


def read_guest(config: MachineConfig, ipa: int, length_bytes: int) -> bytes:
    """Guest RAM as the guest would find it: a page that is swapped out is read from the swap file, and stays there.

    To read, not to map: a hole that is read through a mapping costs memory. Raises OSError.
    """
    pieces = []
    while length_bytes:
        offset = ipa - RAM_BASE
        piece_bytes = min(length_bytes, PAGE_BYTES - ipa % PAGE_BYTES)
        entry = os.pread(config.fds.stage2, 8, LEVEL3_OFFSET + offset // PAGE_BYTES * 8)
        swapped = config.fds.swap >= 0 and struct.unpack("<Q", entry)[0] & SWAPPED
        pieces.append(os.pread(config.fds.swap if swapped else config.fds.ram, piece_bytes, offset))
        ipa += piece_bytes
        length_bytes -= piece_bytes
    return b"".join(pieces)


class Unread(enum.Enum):
    """Why a page of a machine on several hosts was not read."""

    AWAY = enum.auto()  # another host has it
    CHANGING = enum.auto()  # a process of this host is changing it: look again


def read_page_here(config: MachineConfig, control_page: ControlPage, ipa: int, length_bytes: int) -> bytes | Unread:
    """Bytes of one page of a machine on several hosts, as `read_guest`, that were all in the frame at one time.

    The reader R holds nothing, so the node N may take the page away meanwhile, and bring it back:

        R                                   N takes it away                N brings it
        count = arrivals                    the entry is broken            arrivals + 1
        entry: neither away nor broken      flush, wait, copy the frame    fills the frame
        read                                the entry says away            the entry says here
        entry as before, arrivals as before

    R reads a mixture only if N has begun to fill the frame before R had read it. If that was before R's first look, the
    entry said away until N was done, and R has read what came. Else `arrivals` has grown, for N counts first. If the
    page has only left, the entry has changed. The entry alone is not enough: it may be the same when the page is back.
    A page that is toggled or swapped meanwhile changes its entry, too, and is read again, though what was read of a
    toggled one was right. Raises OSError.
    """
    at = LEVEL3_OFFSET + (ipa - RAM_BASE) // PAGE_BYTES * 8
    arrivals = control_page.arrivals()
    before = os.pread(config.fds.stage2, 8, at)
    (entry,) = struct.unpack("<Q", before)
    if not entry:
        return Unread.AWAY
    if entry & BROKEN:
        return Unread.CHANGING
    data = read_guest(config, ipa, length_bytes)
    if os.pread(config.fds.stage2, 8, at) != before or control_page.arrivals() != arrivals:
        return Unread.CHANGING
    return data


def size_bytes(memory_bytes: int) -> int:
    """Bytes of the tables for so much RAM, a multiple of a page. Raises ValueError for a RAM that cannot be."""
    if memory_bytes <= 0 or memory_bytes % _BLOCK_BYTES or memory_bytes > MAX_MEMORY_BYTES:
        raise ValueError(
            f"guest memory must be a multiple of 2 MiB, at least 2 MiB and at most {MAX_MEMORY_BYTES >> 20} MiB, "
            f"not {memory_bytes} bytes"
        )
    return LEVEL3_OFFSET + memory_bytes // PAGE_BYTES * 8


def build_in(fd: int, memory_bytes: int) -> None:
    """`build` in a memory file of that size. Raises OSError."""
    with mmap.mmap(fd, 0) as mapping, memoryview(mapping) as tables:
        build(tables, memory_bytes)


def build(buffer: memoryview, memory_bytes: int) -> None:
    """Write levels 1 and 2 into a zeroed buffer of `size_bytes(memory_bytes)`."""
    for gigabyte in range(4):
        level2 = STAGE2_BASE + PAGE_BYTES * (1 + gigabyte)
        struct.pack_into("<Q", buffer, 8 * gigabyte, level2 | _TABLE)
    for block in range(memory_bytes // _BLOCK_BYTES):
        ipa = RAM_BASE + block * _BLOCK_BYTES
        level3 = STAGE2_BASE + LEVEL3_OFFSET + block * PAGE_BYTES
        gigabyte, index = divmod(ipa // _BLOCK_BYTES, 512)
        struct.pack_into("<Q", buffer, PAGE_BYTES * (1 + gigabyte) + 8 * index, level3 | _TABLE)
