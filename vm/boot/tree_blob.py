# SPDX-License-Identifier: GPL-2.0-or-later
"""Device trees as bytes: reading a user's blob, and writing one.

The library (`fdt`) does the work, but checks little: it knows no NOP tokens, takes a tree whose nodes do not close, and
raises any exception. So this file walks a blob first, and gives the library only sound ones.

Source of the format: Devicetree Specification 0.4, chapter 5.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TypeAlias

import fdt

from allstop.vm.boot.images import ImageError

MAX_TREE_BYTES = 1 << 20
"""The largest tree that is taken, as in QEMU."""

Reservations: TypeAlias = Sequence[dict[str, int]]
"""Ranges of memory that the guest must leave alone, each with `address` and `size`."""

_VERSION = 17
_OLDEST_VERSION = 16
_HEADER = struct.Struct(">10I")
_MAGIC = 0xD00D_FEED
_BEGIN_NODE, _END_NODE, _PROPERTY, _NOP, _END = 1, 2, 3, 4, 9
_DEEPEST = 64  # libfdt's users go no deeper either, and Python's recursion has an end


def parse(tree: bytes) -> tuple[fdt.Node, Reservations]:
    """The root and the memory reservations of a blob. Raises ImageError."""
    if len(tree) < 4 or int.from_bytes(tree[:4], "big") != _MAGIC:
        raise ImageError(
            "is not a device tree blob: it does not begin with the magic number d00dfeed"
            + ("; if it is a source, compile it with dtc" if b"/dts-v1/" in tree[:4096] else "")
        )
    if len(tree) < _HEADER.size:
        raise ImageError("is a truncated device tree: it ends within its header")
    _, total, _, _, _, version, last_compatible, _, _, _ = _HEADER.unpack_from(tree)
    if not _OLDEST_VERSION <= version <= _VERSION or last_compatible > _OLDEST_VERSION:
        raise ImageError(
            f"is a device tree of version {version}, compatible down to {last_compatible}: version "
            f"{_VERSION} is understood"
        )
    if total > len(tree):
        raise ImageError(f"is a truncated device tree: its header says {total} bytes, there are {len(tree)}")
    if total > MAX_TREE_BYTES:
        raise ImageError(f"is a device tree of {total} bytes: {MAX_TREE_BYTES} are the most")
    # The library gathers the reservations in one list that all its trees share: start with it empty, and take a copy.
    fdt.FDT().entries.clear()
    try:
        parsed = fdt.parse_dtb(_without_nops(tree[:total]))
        return parsed.root, list(parsed.entries)
    except Exception as error:  # the library has no error of its own: it raises whatever comes
        raise damaged(error) from None


def damaged(error: Exception) -> ImageError:
    """The library's exception, in a sentence."""
    reason = " ".join(str(error).split())[:120].rstrip(" .!")
    return ImageError(f"is a damaged device tree: {reason or 'it cannot be read'}")


def blob(root: fdt.Node, reserved: Reservations = ()) -> bytes:
    """A tree as it lies in guest memory. Raises ImageError where it cannot be one."""
    tree = fdt.FDT(fdt.Header(), list(reserved))
    tree.root = root
    try:
        data = bytes(tree.to_dtb(version=_VERSION, last_comp_version=_OLDEST_VERSION, boot_cpuid_phys=0))
    except Exception as error:
        raise damaged(error) from None
    if len(data) > MAX_TREE_BYTES:
        raise ImageError(f"is a device tree of {len(data)} bytes: {MAX_TREE_BYTES} are the most")
    return data


def _without_nops(tree: bytes) -> bytes:
    """`tree` without the tokens that stand for nothing. Raises ValueError where its structure is not sound."""
    _, _, begin, strings, _, _, _, _, strings_bytes, _ = _HEADER.unpack_from(tree)
    strings_end = strings + strings_bytes
    if strings_end > len(tree):
        raise ValueError("its strings lie outside of it")
    kept = bytearray()
    depth, at, seen_root = 0, begin, False
    while True:
        token, start = _word(tree, at), at
        at += 4
        if token == _BEGIN_NODE:
            depth += 1
            if depth == 1 and (seen_root or _word(tree, at)):
                raise ValueError("it has more than one root" if seen_root else "its root has a name")
            if depth > _DEEPEST:
                raise ValueError(f"its nodes are nested deeper than {_DEEPEST}")
            seen_root = True
            at = tree.index(0, at) + 1
        elif token == _END_NODE:
            depth -= 1
        elif token == _PROPERTY:
            size, name = _word(tree, at), _word(tree, at + 4)
            at += 8 + size
            if name >= strings_bytes or at > len(tree):
                raise ValueError("a property lies outside of it")
            tree.index(0, strings + name, strings_end)
        elif token not in (_NOP, _END):
            raise ValueError(f"it has an unknown token {token:#x} at {start:#x}")
        if depth < 0 or depth == 0 and token == _PROPERTY or token == _END and (depth or not seen_root):
            raise ValueError("its nodes do not close where they should")
        at += -at % 4
        if token != _NOP:
            kept += tree[start:at]
        if token == _END:
            return tree[:begin] + kept + tree[begin + len(kept) :]


def _word(tree: bytes, at: int) -> int:
    if at % 4 or at + 4 > len(tree):
        raise ValueError("its structure lies outside of it")
    return int.from_bytes(tree[at : at + 4], "big")
