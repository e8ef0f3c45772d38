# SPDX-License-Identifier: GPL-2.0-or-later
"""Images: what is accepted is placed exactly, what is damaged or foreign is refused with its own sentence."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allstop.vm.boot.images import Image, ImageError, parse_elf, parse_raw
from allstop.vm.config.limits import RAM_BASE

MEMORY = 64 << 20
GUESTS = Path(__file__).parents[3] / "guests" / "images"


@dataclass(frozen=True)
class Load:
    ipa: int
    data: bytes
    memory_bytes: int
    vaddr: int | None = None
    kind: int = 1
    offset: int | None = None
    file_bytes: int | None = None

    def header(self, offset: int) -> bytes:
        vaddr = self.ipa if self.vaddr is None else self.vaddr
        return struct.pack(
            "<IIIIIIII",
            self.kind,
            offset if self.offset is None else self.offset,
            vaddr,
            self.ipa,
            len(self.data) if self.file_bytes is None else self.file_bytes,
            self.memory_bytes,
            7,
            4,
        )


@dataclass(frozen=True)
class Elf:
    """An ELF file to be spoilt one field at a time."""

    loads: tuple[Load, ...] = (Load(RAM_BASE + 0x10000, b"\x01\x02\x03\x04", 16),)
    entry: int = RAM_BASE + 0x10000
    magic: bytes = b"\x7fELF"
    elf_class: int = 1
    order: int = 1
    ident_version: int = 1
    kind: int = 2
    machine: int = 40
    version: int = 1
    phoff: int = 52
    ehsize: int = 52
    phentsize: int = 32
    phnum: int | None = None
    trailer: bytes = field(default=b"")

    def bytes(self) -> bytes:
        ident = self.magic + bytes([self.elf_class, self.order, self.ident_version]) + bytes(9)
        phnum = len(self.loads) if self.phnum is None else self.phnum
        header = ident + struct.pack(
            "<HHIIIIIHHHHHH",
            self.kind,
            self.machine,
            self.version,
            self.entry,
            self.phoff,
            0,
            0x05000200,
            self.ehsize,
            self.phentsize,
            phnum,
            0,
            0,
            0,
        )
        offset = 52 + 32 * len(self.loads)
        headers, body = b"", b""
        for load in self.loads:
            headers += load.header(offset + len(body))
            body += load.data
        return header + headers + body + self.trailer


GOOD = Elf()


def placed(image: Image) -> dict[int, tuple[bytes, int]]:
    return {segment.ipa: (bytes(segment.data), segment.memory_bytes) for segment in image.segments}


def test_an_executable_is_placed_by_its_physical_addresses() -> None:
    image = parse_elf(GOOD.bytes(), MEMORY)
    assert (image.kind, image.entry) == ("elf", RAM_BASE + 0x10000)
    assert placed(image) == {RAM_BASE + 0x10000: (b"\x01\x02\x03\x04", 16)}


def test_a_thumb_entry_keeps_its_bit() -> None:
    assert parse_elf(replace(GOOD, entry=RAM_BASE + 0x10003).bytes(), MEMORY).entry == RAM_BASE + 0x10003


def test_a_virtual_entry_is_moved_with_its_segment() -> None:
    load = Load(RAM_BASE + 0x8000, b"code", 4, vaddr=0xC000_8000)
    assert parse_elf(Elf((load,), entry=0xC000_8000).bytes(), MEMORY).entry == RAM_BASE + 0x8000


def test_headers_of_other_kinds_and_empty_segments_are_passed_over() -> None:
    loads = (Load(0, b"note", 4, kind=4), Load(0, b"", 0), *GOOD.loads)
    assert len(parse_elf(replace(GOOD, loads=loads).bytes(), MEMORY).segments) == 1


def test_a_segment_may_fill_memory_to_its_last_byte() -> None:
    load = Load(RAM_BASE, b"x", MEMORY)
    assert parse_elf(Elf((load,), entry=RAM_BASE).bytes(), MEMORY).segments[0].memory_bytes == MEMORY


@pytest.mark.parametrize(
    ("elf", "sentence"),
    [
        (replace(GOOD, magic=b"\x7fELG"), "is not an ELF file"),
        (replace(GOOD, elf_class=2, machine=183), "not a 32-bit ELF file for AArch64"),
        (replace(GOOD, elf_class=2, machine=62), "not a 32-bit ELF file for x86-64"),
        (replace(GOOD, order=2), "not a little-endian"),
        (replace(GOOD, ident_version=0), "unknown version"),
        (replace(GOOD, version=2), "unknown version"),
        (replace(GOOD, machine=3), r"another machine \(x86\)"),
        (replace(GOOD, machine=999), r"another machine \(number 999\)"),
        (replace(GOOD, kind=1), "relocatable object"),
        (replace(GOOD, kind=3), "shared object"),
        (replace(GOOD, kind=77), "type 77"),
        (replace(GOOD, ehsize=64), "damaged"),
        (replace(GOOD, phentsize=56), "damaged"),
        (replace(GOOD, phnum=0), "without program headers"),
        (replace(GOOD, phnum=0xFFFF), "truncated"),
        (replace(GOOD, phoff=0xFFFF_FFF0), "truncated"),
        (replace(GOOD, loads=(replace(GOOD.loads[0], kind=2),)), "without a segment"),
        (replace(GOOD, loads=(replace(GOOD.loads[0], file_bytes=17),)), "damaged"),
        (replace(GOOD, loads=(replace(GOOD.loads[0], offset=0xFFFF_FFFF),)), "truncated"),
        (replace(GOOD, loads=(replace(GOOD.loads[0], ipa=0x8000),)), "outside the guest's memory"),
        (replace(GOOD, loads=(replace(GOOD.loads[0], ipa=RAM_BASE + MEMORY),)), "outside the guest's memory"),
        (replace(GOOD, loads=(replace(GOOD.loads[0], memory_bytes=MEMORY),)), "too big for the guest's memory"),
        (replace(GOOD, loads=(replace(GOOD.loads[0], memory_bytes=0xFFFF_FFFF),)), "too big for the guest's memory"),
        (replace(GOOD, loads=(GOOD.loads[0], Load(RAM_BASE + 0x1000F, b"y", 1))), "overlap"),
        (replace(GOOD, loads=(replace(GOOD.loads[0], vaddr=RAM_BASE + 0x10001),)), "alignment"),
        (replace(GOOD, entry=RAM_BASE + 0x10002), "neither an ARM nor a Thumb"),
        (replace(GOOD, entry=RAM_BASE), "entry point"),
        (replace(GOOD, entry=RAM_BASE + 0x10010), "entry point"),
    ],
)
def test_each_fault_has_its_sentence(elf: Elf, sentence: str) -> None:
    with pytest.raises(ImageError, match=sentence) as caught:
        parse_elf(elf.bytes(), MEMORY)
    assert "\n" not in str(caught.value)


@given(st.integers(min_value=0, max_value=len(GOOD.bytes()) - 1))
def test_no_prefix_of_an_executable_is_accepted(length: int) -> None:
    with pytest.raises(ImageError):
        parse_elf(GOOD.bytes()[:length], MEMORY)


@pytest.mark.fuzz
@given(st.data())
def test_damage_is_refused_or_harmless_and_never_anything_else(data: st.DataObject) -> None:
    damaged = bytearray(GOOD.bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        image = parse_elf(bytes(damaged), MEMORY)
    except ImageError:
        return
    for segment in image.segments:
        assert RAM_BASE <= segment.ipa <= segment.ipa + segment.memory_bytes <= RAM_BASE + MEMORY
        assert len(segment.data) <= segment.memory_bytes
    assert any(s.ipa <= image.entry & ~1 < s.ipa + s.memory_bytes for s in image.segments)


def test_a_raw_image_is_placed_and_entered_where_it_is_told() -> None:
    image = parse_raw(b"\x00\x01", MEMORY, RAM_BASE)
    assert (image.kind, image.entry, placed(image)) == ("raw", RAM_BASE, {RAM_BASE: (b"\x00\x01", 2)})
    assert parse_raw(b"\x00", MEMORY).entry == 0x4001_0000


@pytest.mark.parametrize(
    ("size", "ipa", "sentence"),
    [
        (0, RAM_BASE, "is empty"),
        (4, RAM_BASE + 2, "multiple of 4"),
        (4, 0x1000, "outside"),
        (4, RAM_BASE + MEMORY, "outside"),
        (8, RAM_BASE + MEMORY - 4, "too big"),
    ],
)
def test_a_raw_image_outside_memory_is_refused(size: int, ipa: int, sentence: str) -> None:
    with pytest.raises(ImageError, match=sentence):
        parse_raw(bytes(size), MEMORY, ipa)


@pytest.mark.parametrize("path", sorted(GUESTS.glob("**/*.elf")), ids=lambda path: path.stem)
def test_our_own_guests_are_accepted(path: Path) -> None:
    assert parse_elf(path.read_bytes(), MEMORY).kind == "elf"
