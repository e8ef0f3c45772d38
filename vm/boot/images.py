# SPDX-License-Identifier: GPL-2.0-or-later
"""What can be loaded into a machine: an ELF executable for 32-bit ARM, or a raw image (a kernel: linux_image.py).

`parse` turns a file's bytes into an `Image`: the pieces to place in guest memory and the address to start at. It
checks everything that it relies on, field by field, and does no I/O. Source of the formats: ELF for the ARM
architecture (IHI 0044), System V ABI chapters 4 and 5.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from allstop.vm.config.limits import RAM_BASE

ELF_MAGIC = b"\x7fELF"
RAW_LOAD_IPA = 0x4001_0000

_HEADER = struct.Struct("<16sHHIIIIIHHHHHH")
_PROGRAM_HEADER = struct.Struct("<IIIIIIII")
_SECTION_HEADER = struct.Struct("<IIIIIIIIII")
_SYMBOL = struct.Struct("<IIIBBH")
_SHT_SYMTAB = 2
_STT_FUNC = 2
_CLASS_32 = 1
_LITTLE_ENDIAN = 1
_ET_EXEC = 2
_EM_ARM = 40
_PT_LOAD = 1
_TYPES = {1: "a relocatable object", 3: "a shared object or position-independent program", 4: "a core dump"}
_MACHINES = {
    2: "SPARC",
    3: "x86",
    8: "MIPS",
    20: "PowerPC",
    21: "64-bit PowerPC",
    22: "S/390",
    62: "x86-64",
    183: "AArch64",
    243: "RISC-V",
}


class ImageError(ValueError):
    """The image cannot be run; the text is a sentence without its subject, for "IMAGE ..."."""


@dataclass(frozen=True)
class Segment:
    """One piece of guest memory: `data` at `ipa`, followed by zeros up to `memory_bytes`."""

    ipa: int
    data: memoryview
    memory_bytes: int


@dataclass(frozen=True)
class Image:
    """A checked image. `entry` is a guest-physical address; its bit 0 selects Thumb state.

    `kind` is "elf", "raw" or "zimage". `reserved_bytes`, from the beginning of memory, are the image's as well: a
    kernel that unpacks itself writes there.
    """

    kind: str
    entry: int
    segments: tuple[Segment, ...]
    reserved_bytes: int = 0


@dataclass(frozen=True)
class _Load:
    """A PT_LOAD program header with something in it."""

    number: int
    vaddr: int
    paddr: int
    offset: int
    file_bytes: int
    memory_bytes: int


def is_elf(data: bytes) -> bool:
    """Whether `data` begins like an ELF file."""
    return data[:4] == ELF_MAGIC


def parse_raw(data: bytes, memory_bytes: int, load_ipa: int = RAW_LOAD_IPA) -> Image:
    """A raw image: placed at `load_ipa` as it is, and entered at its first word. Raises ImageError."""
    if not data:
        raise ImageError("is empty")
    if load_ipa % 4:
        raise ImageError(f"cannot be loaded at {load_ipa:#010x}: the address must be a multiple of 4")
    check_range("", load_ipa, len(data), memory_bytes)
    return Image("raw", load_ipa, (Segment(load_ipa, memoryview(data), len(data)),))


def parse_elf(data: bytes, memory_bytes: int) -> Image:
    """An ELF32 little-endian ARM executable. Raises ImageError, with one sentence for each fault that it knows."""
    entry, loads = _headers(data)
    for load in loads:
        check_range(f"has a segment (program header {load.number}) that ", load.paddr, load.memory_bytes, memory_bytes)
    _check_overlap(loads)
    view = memoryview(data)
    segments = tuple(
        Segment(load.paddr, view[load.offset : load.offset + load.file_bytes], load.memory_bytes) for load in loads
    )
    return Image("elf", _physical_entry(entry, loads), segments)


def symbols(data: bytes) -> dict[str, int]:
    """The named symbols of an ELF executable that `parse_elf` takes, with their values; those of functions without the
    Thumb bit. A file whose symbol table is missing or damaged has none."""
    if len(data) < _HEADER.size or not is_elf(data):
        return {}
    shoff, shentsize, shnum = struct.unpack_from("<I10xHH", data, 32)
    found: dict[str, int] = {}
    try:
        sections = [_SECTION_HEADER.unpack_from(data, shoff + i * shentsize) for i in range(shnum if shoff else 0)]
        for _, kind, _, _, offset, size, link, _, _, entry_bytes in sections:
            if kind != _SHT_SYMTAB or entry_bytes != _SYMBOL.size:
                continue
            names = sections[link][4]
            for at in range(offset, offset + size, _SYMBOL.size):
                name, value, _, info, _, section = _SYMBOL.unpack_from(data, at)
                if not name or not section:
                    continue
                text = data[names + name : data.index(0, names + name)].decode()
                found.setdefault(text, value & ~1 if info & 15 == _STT_FUNC else value)
    except (struct.error, IndexError, ValueError):
        return {}
    return found


def check_range(what: str, ipa: int, size_bytes: int, memory_bytes: int) -> None:
    """Raise ImageError unless [ipa, ipa + size_bytes) lies in guest memory."""
    end = ipa + size_bytes
    ram_end = RAM_BASE + memory_bytes
    if ipa < RAM_BASE or ipa >= ram_end:
        raise ImageError(
            f"{what or 'would '}{'lies' if what else 'lie'} at {ipa:#010x}, outside the guest's memory "
            f"({RAM_BASE:#010x} to {ram_end:#010x})"
        )
    if end > ram_end:
        raise ImageError(
            f"{what}is too big for the guest's memory: it would end at {end:#010x}, memory ends at "
            f"{ram_end:#010x} (--memory sets its size)"
        )


def _headers(data: bytes) -> tuple[int, list[_Load]]:
    """The entry point and the non-empty PT_LOAD headers of an ELF file, all of them within the file."""
    if not is_elf(data):
        raise ImageError("is not an ELF file: it does not begin with the ELF magic number")
    if len(data) < 6:
        raise ImageError("is a truncated ELF file: it ends within the ELF header")
    if data[4] != _CLASS_32:
        machine = struct.unpack_from("<H", data, 18)[0] if len(data) >= 20 else 0
        name = f" for {_MACHINES[machine]}" if machine in _MACHINES else ""
        raise ImageError(f"is not a 32-bit ELF file{name}: allstop runs 32-bit ARM guests")
    if data[5] != _LITTLE_ENDIAN:
        raise ImageError("is not a little-endian ELF file")
    if len(data) < _HEADER.size:
        raise ImageError("is a truncated ELF file: it ends within the ELF header")
    (ident, kind, machine, version, entry, phoff, _, _, ehsize, phentsize, phnum, _, _, _) = _HEADER.unpack_from(data)
    if machine != _EM_ARM:
        raise ImageError(
            f"is an ELF file for another machine ({_MACHINES.get(machine, f'number {machine}')}), not for ARM"
        )
    if ident[6] != 1 or version != 1:
        raise ImageError("is an ELF file of an unknown version")
    if kind != _ET_EXEC:
        raise ImageError(f"is {_TYPES.get(kind, f'an ELF file of type {kind}')}, not an ELF executable")
    if ehsize != _HEADER.size:
        raise ImageError(f"is a damaged ELF file: its header claims {ehsize} bytes, not {_HEADER.size}")
    if phnum == 0:
        raise ImageError("is an ELF file without program headers: there is nothing to load")
    if phentsize != _PROGRAM_HEADER.size:
        raise ImageError(f"is a damaged ELF file: a program header of {phentsize} bytes, not {_PROGRAM_HEADER.size}")
    if phoff + phnum * phentsize > len(data):
        raise ImageError("is a truncated ELF file: it ends within its program headers")
    loads = list(_loads(data, phoff, phnum))
    if not loads:
        raise ImageError("is an ELF file without a segment to load")
    return entry, loads


def _loads(data: bytes, phoff: int, phnum: int) -> Iterator[_Load]:
    for number in range(phnum):
        kind, offset, vaddr, paddr, file_bytes, memory_bytes, _, _ = _PROGRAM_HEADER.unpack_from(
            data, phoff + number * _PROGRAM_HEADER.size
        )
        if kind != _PT_LOAD or memory_bytes == 0:
            continue
        if file_bytes > memory_bytes:
            raise ImageError(
                f"is a damaged ELF file: program header {number} has {file_bytes} bytes for "
                f"{memory_bytes} bytes of memory"
            )
        if offset + file_bytes > len(data):
            raise ImageError(f"is a truncated ELF file: it ends within the segment of program header {number}")
        if (vaddr ^ paddr) % 4:
            raise ImageError(f"is a damaged ELF file: program header {number} moves words off their alignment")
        yield _Load(number, vaddr, paddr, offset, file_bytes, memory_bytes)


def _check_overlap(loads: list[_Load]) -> None:
    ordered = sorted(loads, key=lambda load: load.paddr)
    for below, above in zip(ordered, ordered[1:], strict=False):
        if below.paddr + below.memory_bytes > above.paddr:
            raise ImageError(
                f"has segments that overlap (program headers {below.number} and {above.number}, at {above.paddr:#010x})"
            )


def _physical_entry(entry: int, loads: list[_Load]) -> int:
    """Where to start with the MMU off: an entry given as a virtual address is moved with its segment."""
    if entry % 4 == 2:
        raise ImageError(f"has its entry point at {entry:#010x}, which is neither an ARM nor a Thumb address")
    for load in loads:
        if load.vaddr <= entry & ~1 < load.vaddr + load.memory_bytes:
            return entry - load.vaddr + load.paddr
    for load in loads:
        if load.paddr <= entry & ~1 < load.paddr + load.memory_bytes:
            return entry
    raise ImageError(f"has its entry point at {entry:#010x}, outside all of its segments")
