# SPDX-License-Identifier: GPL-2.0-or-later
"""Stage-2 tables: ARMv7 long-descriptor tables in memory that all workers of a host share.

Layout of the file: one level-1 page (four entries of 1 GiB), four level-2 pages, then the level-3 entries of RAM as
one flat array, so that the entry of a page is found by arithmetic. Level-3 entries start absent and are made by the
first vCPU that uses the page; so the file, too, costs only what is touched. Source: ARM ARM (DDI 0406C), B3.6.
"""
from __future__ import annotations

import mmap
import os
import struct

from allstop.machine.configuration import MAX_MEMORY_BYTES, RAM_BASE, MachineConfig

STAGE2_BASE = 0xF000_0000
LEVEL3_OFFSET = 0x5000
PAGE_BYTES = 4096
SWAPPED = 1 << 62
"""A level-3 entry that is not valid: the page is in the swap file. See vcpu_worker/engine/swap.c."""
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


def first_away(config: MachineConfig, ipa: int, length_bytes: int) -> int | None:
    """Of a machine on several hosts: the first page of guest RAM in this range that is not here, if there is one. An
    entry that says nothing at all is that of another host's page. Raises OSError."""
    first, last = (ipa - RAM_BASE) // PAGE_BYTES, (ipa + length_bytes - 1 - RAM_BASE) // PAGE_BYTES
    for page in range(first, last + 1):
        if not any(os.pread(config.fds.stage2, 8, LEVEL3_OFFSET + page * 8)):
            return RAM_BASE + page * PAGE_BYTES
    return None


def size_bytes(memory_bytes: int) -> int:
    """Bytes of the tables for so much RAM, a multiple of a page. Raises ValueError for a RAM that can not be."""
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
