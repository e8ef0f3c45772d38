# SPDX-License-Identifier: GPL-2.0-or-later
"""The zImage of a 32-bit ARM Linux kernel: a small program that unpacks the kernel proper, and starts it.

It runs wherever it is placed, and unpacks the kernel to the beginning of memory. Where the two meet it first moves
itself out of the way. Whatever the boot loader hands over must lie beyond that; the zImage itself says how much it is.

Source: Linux, arch/arm/boot/compressed/head.S and vmlinux.lds.S, Documentation/arch/arm/booting.rst.
"""

from __future__ import annotations

import struct

from allstop.vm.boot.images import Image, ImageError, Segment, check_range
from allstop.vm.config.limits import RAM_BASE

ZIMAGE_LOAD_IPA = RAM_BASE + 0x1_0000
"""Where QEMU places it."""

HEAD_BYTES = 0x40
"""What `is_zimage` and `foreign_kind` want to see of a file."""

_MAGIC_OFFSET = 0x24
_MAGIC = 0x016F_2818
_ORDER_OFFSET = 0x30
_LITTLE_ENDIAN = b"\x01\x02\x03\x04"
_TABLE_OFFSET = 0x34
_TABLE_MAGIC = 0x4545_4545
_KERNEL_TAG = 0x5A53_4C4B
_TEXT_OFFSET = 0x8000
_STACK_BYTES = 0x1_0000  # stack and heap of the unpacker, page tables; generous
_USUAL_RATIO = 5  # what a kernel that does not tell its size may grow to, unpacked

_FOREIGN = (
    (0, b"\x27\x05\x19\x56", "a U-Boot image (uImage)", "give the zImage that it was made from"),
    (0, b"\x1f\x8b", "a gzip file", "unpack it first"),
    (0, b"\xfd7zXZ\x00", "an xz file", "unpack it first"),
    (0, b"\x28\xb5\x2f\xfd", "a zstd file", "unpack it first"),
    (0, b"BZh", "a bzip2 file", "unpack it first"),
    (0x38, b"ARM\x64", "a kernel for 64-bit ARM", "allstop runs 32-bit ARM guests"),
    (0, b"070701", "a cpio archive", "an initial RAM disk goes with a kernel, by --initrd"),
    (0, b"\xd0\x0d\xfe\xed", "a device tree or a FIT image", "a tree goes with a kernel, by --dtb"),
)


def is_zimage(head: bytes) -> bool:
    """Whether a file that begins with `head` is the zImage of a 32-bit ARM kernel, whole or not."""
    return _word(head, _MAGIC_OFFSET) == _MAGIC


def foreign_kind(head: bytes) -> str:
    """The predicate of a sentence about a file that users often give instead of a kernel; or ""."""
    for offset, magic, what, advice in _FOREIGN:
        if head[offset : offset + len(magic)] == magic:
            return f"is {what}: {advice}"
    return ""


def parse_zimage(data: bytes, memory_bytes: int) -> Image:
    """A zImage, placed where QEMU places it. Raises ImageError.

    The image's `reserved_bytes` is what the kernel overwrites from the beginning of memory until it reads its tree.
    """
    if not is_zimage(data):
        raise ImageError("is not a zImage: it lacks the magic number 016f2818")
    start, end = _word(data, _MAGIC_OFFSET + 4), _word(data, _MAGIC_OFFSET + 8)
    if start is None or end is None:
        raise ImageError("is a truncated zImage: it ends within its header")
    if start >= end:
        raise ImageError(f"is a damaged zImage: its header says that it lies from {start:#010x} to {end:#010x}")
    if end - start > len(data):
        raise ImageError(f"is a truncated zImage: its header says {end - start} bytes, there are {len(data)}")
    if data[_ORDER_OFFSET : _ORDER_OFFSET + 4] == _LITTLE_ENDIAN[::-1]:
        raise ImageError("is a big-endian zImage: allstop runs little-endian kernels")
    if start:
        raise ImageError(
            f"is a zImage that must lie at {start:#010x} (CONFIG_ZBOOT_ROM): one that runs anywhere is needed"
        )
    check_range("", ZIMAGE_LOAD_IPA, len(data), memory_bytes)
    reserved = _reserved_bytes(data)
    if reserved > memory_bytes:
        raise ImageError(
            f"needs {(reserved + (1 << 20) - 1) >> 20}M of memory to unpack itself, the guest has "
            f"{memory_bytes >> 20}M (--memory sets its size)"
        )
    return Image("zimage", ZIMAGE_LOAD_IPA, (Segment(ZIMAGE_LOAD_IPA, memoryview(data), len(data)),), reserved)


def _reserved_bytes(data: bytes) -> int:
    """What unpacking takes, from the beginning of memory: the kernel with its zeroed data, behind it the zImage in its
    second place with the unpacker's stack and heap."""
    unpacked, zeroed, text_offset, heap = _kernel_size(data)
    text_end = text_offset + unpacked
    moved = text_end + len(data) + heap + _STACK_BYTES
    return max(text_end + zeroed, moved, ZIMAGE_LOAD_IPA - RAM_BASE + len(data) + heap + _STACK_BYTES)


def _kernel_size(data: bytes) -> tuple[int, int, int, int]:
    """Bytes of the unpacked kernel, of its zeroed data, of what lies before it, and of the unpacker's heap: as the
    zImage's table says (since Linux 4.15), else an estimate."""
    guess = (_USUAL_RATIO * len(data), 0, _TEXT_OFFSET, 0)
    at = _word(data, _TABLE_OFFSET + 4)
    if _word(data, _TABLE_OFFSET) != _TABLE_MAGIC or at is None:
        return guess
    while (words := _word(data, at)) and _word(data, at + 4) is not None:
        if _word(data, at + 4) == _KERNEL_TAG:
            values = [_word(data, at + 8 + 4 * place) if place + 2 < words else 0 for place in range(4)]
            size_at, zeroed, text_offset, heap = (value or 0 for value in values)
            unpacked = _word(data, size_at)
            return guess if not unpacked else (unpacked, zeroed, text_offset or _TEXT_OFFSET, heap)
        at += 4 * words
    return guess


def _word(data: bytes, offset: int) -> int | None:
    """The little-endian word at `offset`, None where there is none."""
    return None if offset + 4 > len(data) else int(struct.unpack_from("<I", data, offset)[0])
