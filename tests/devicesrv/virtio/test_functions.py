# SPDX-License-Identifier: GPL-2.0-or-later
"""Disk, console and entropy devices, each behind a transport, and the images behind disks."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allstop.devicesrv.virtio.block import LONGEST_REQUEST_BYTES, S_IOERR, S_OK, S_UNSUPP, Block
from allstop.devicesrv.virtio.console import WAITING_BYTES, TestConsole, VirtioConsole
from allstop.devicesrv.virtio.drive import Drive, open_any
from allstop.devicesrv.virtio.entropy import MOST_BYTES, Entropy
from allstop.vm.boot.drive import DriveError
from allstop.vm.config.limits import RAM_BASE
from allstop.vm.config.specs import DriveSpec

HEADER, STATUS, BUFFER = RAM_BASE + 0x8000, RAM_BASE + 0x8100, RAM_BASE + 0x9000
IN, OUT, FLUSH, GET_ID = 0, 1, 4, 8


class Disk:
    """A block device with an image of `sectors`, each full of its number, and what the verdict would be told."""

    def __init__(self, folder: Path, drive: Any, mode: str = "cow", sectors: int = 64) -> None:
        self.path = folder / "disk.img"
        self.path.write_bytes(b"".join(bytes((number % 256,)) * 512 for number in range(sectors)))
        self.notes: list[str] = []
        self.image = open_any(DriveSpec(str(self.path), mode), None)
        self.driver = drive(Block(self.image, "disk-7", self.notes.append))

    def request(self, kind: int, sector: int = 0, length: int = 0, data: bytes = b"") -> int:
        """The status; data goes to and comes from BUFFER, in two pieces."""
        memory, ring = self.driver.memory, self.driver.rings[0]
        memory.write(HEADER, struct.pack("<IIQ", kind, 0, sector))
        memory.write(STATUS, b"\xff")
        memory.write(BUFFER, data)
        writable = kind != OUT
        half = length // 2
        ring.chain(
            (HEADER, 16, False), (BUFFER, half, writable), (BUFFER + half, length - half, writable), (STATUS, 1, True)
        )
        self.driver.notify()
        assert ring.used() == [(0, length + 1 if writable else 1)]
        return memory.read(STATUS, 1)[0]

    def data(self, length: int) -> bytes:
        return self.driver.memory.read(BUFFER, length)


@pytest.fixture
def disk(tmp_path: Path, drive: Any, request: pytest.FixtureRequest) -> Any:
    made = Disk(tmp_path, drive, getattr(request, "param", "cow"))
    yield made
    made.image.close()


def test_sectors_are_read(disk: Disk) -> None:
    assert disk.request(IN, 5, 1024) == S_OK
    assert disk.data(1024) == b"\x05" * 512 + b"\x06" * 512


@pytest.mark.parametrize("disk", ["cow", "rw"], indirect=True)
def test_what_is_written_is_read_again(disk: Disk) -> None:
    assert disk.request(OUT, 7, 1024, b"x" * 1024) == S_OK
    assert disk.request(FLUSH) == S_OK
    assert disk.request(IN, 6, 2048) == S_OK
    assert disk.data(2048) == b"\x06" * 512 + b"x" * 1024 + b"\x09" * 512
    through = disk.path.read_bytes()[7 * 512 : 9 * 512] == b"x" * 1024
    assert through == (type(disk.image) is Drive), "copy on write leaves the image as it is"


@pytest.mark.parametrize("disk", ["ro"], indirect=True)
def test_a_read_only_disk_says_so(disk: Disk) -> None:
    disk.driver.set(0x14, 0)
    assert disk.driver.get(0x10) & 1 << 5
    assert disk.request(OUT, 0, 512, b"x" * 512) == S_IOERR
    assert disk.path.read_bytes()[:512] == bytes(512) and disk.notes == []


@pytest.mark.parametrize(
    ("kind", "sector", "length"),
    [
        (IN, 64, 512),
        (IN, 63, 1024),
        (IN, 1 << 63, 512),
        (IN, (1 << 64) - 1, 512),
        (IN, 0, 100),
        (OUT, 0, 511),
        (OUT, 64, 512),
    ],
)
def test_requests_that_can_not_be_fail(disk: Disk, kind: int, sector: int, length: int) -> None:
    before = disk.path.read_bytes()
    assert disk.request(kind, sector, length) == S_IOERR
    assert disk.path.read_bytes() == before and disk.notes == [] and not disk.driver.is_broken


def test_a_request_that_would_never_end_fails(disk: Disk) -> None:
    memory, ring = disk.driver.memory, disk.driver.rings[0]
    memory.write(HEADER, struct.pack("<IIQ", IN, 0, 0))
    ring.chain((HEADER, 16, False), (BUFFER, LONGEST_REQUEST_BYTES + 512, True), (STATUS, 1, True))
    disk.driver.notify()
    assert memory.read(STATUS, 1)[0] == S_IOERR


def test_the_serial_number_and_what_is_not_supported(disk: Disk) -> None:
    assert disk.request(GET_ID, 0, 20) == S_OK
    assert disk.data(20) == b"disk-7".ljust(20, b"\0")
    assert disk.request(77, 0, 512) == S_UNSUPP


def test_the_configuration(disk: Disk) -> None:
    assert (disk.driver.get(0x100), disk.driver.get(0x104), disk.driver.get(0x114)) == (64, 0, 512)
    assert disk.driver.get(0x101, 1) == 0 and disk.driver.get(0x100, 2) == 64
    assert disk.driver.mistakes == 0
    assert disk.driver.get(0x1FC) == 0 and disk.driver.mistakes == 1


@pytest.mark.parametrize(
    "pieces",
    [
        [(STATUS, 1, True)],
        [(HEADER, 15, False), (STATUS, 1, True)],
        [(HEADER, 16, False)],
        [(HEADER, 16, False), (STATUS, 0, True)],
    ],
)
def test_a_request_without_header_or_status_breaks_the_device(disk: Disk, pieces: Any) -> None:
    disk.driver.rings[0].chain(*pieces)
    disk.driver.notify()
    assert disk.driver.is_broken


def test_an_image_that_is_cut_short_is_an_error_for_the_guest_and_one_note(disk: Disk) -> None:
    os.truncate(disk.path, 10 * 512)
    assert disk.request(IN, 20, 512) == S_IOERR
    assert disk.request(IN, 9, 1024) == S_IOERR
    assert disk.request(IN, 9, 512) == S_OK
    assert disk.notes == [
        f"the drive's image {disk.path} failed the guest (VIRTIO_BLK_S_IOERR): it has become shorter than it was"
    ]
    assert not disk.driver.is_broken


def test_an_image_that_vanishes_is_read_on(disk: Disk) -> None:
    disk.path.unlink()
    assert disk.request(IN, 20, 512) == S_OK and disk.data(512) == b"\x14" * 512


def test_a_host_that_fails_is_an_error_for_the_guest(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(disk.image, "read", fail)
    monkeypatch.setattr(disk.image, "flush", fail)
    assert disk.request(IN, 0, 512) == S_IOERR
    assert disk.request(FLUSH) == S_IOERR
    assert len(disk.notes) == 1 and "Input/output error" in disk.notes[0]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 60), st.integers(1, 30)), max_size=25))
def test_copy_on_write_is_a_disk(tmp_path_factory: pytest.TempPathFactory, script: Any) -> None:
    path = tmp_path_factory.mktemp("cow") / "disk.img"
    size_bytes = 61 * 512  # not a whole number of clusters
    original = Random(7).randbytes(size_bytes)
    path.write_bytes(original)
    image, model = open_any(DriveSpec(str(path)), None), bytearray(original)
    try:
        for step, (is_write, sector, count) in enumerate(script):
            offset, length = sector * 512, min(count, 61 - sector) * 512
            if is_write:
                model[offset : offset + length] = bytes((step + 1,)) * length
                image.write(offset, bytes((step + 1,)) * length)
            else:
                assert image.read(offset, length) == model[offset : offset + length]
        assert image.read(0, size_bytes) == model
    finally:
        image.close()
    assert path.read_bytes() == original


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: None, "cannot be opened: No such file or directory"),
        (lambda path: path.mkdir(), "is neither a regular file nor a block device"),
        (lambda path: os.mkfifo(path), "is neither a regular file nor a block device"),
        (lambda path: path.write_bytes(b""), "has 0 bytes: it must be a multiple of 512, and not empty"),
        (lambda path: path.write_bytes(bytes(513)), "has 513 bytes"),
    ],
)
def test_what_is_wrong_with_an_image_is_one_sentence(tmp_path: Path, make: Any, sentence: str) -> None:
    path = tmp_path / "disk.img"
    make(path)
    with pytest.raises(DriveError, match=sentence) as raised:
        open_any(DriveSpec(str(path)), None)
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


def test_the_console_prints_and_takes_input(drive: Any) -> None:
    printed = bytearray()
    console = VirtioConsole(printed.extend)
    driver = drive(console)
    driver.memory.write(BUFFER, b"hello, world")
    driver.rings[1].chain((BUFFER, 5, False), (BUFFER + 5, 7, False))
    driver.notify(1)
    assert printed == b"hello, world" and driver.rings[1].used() == [(0, 0)]
    assert console.receive(b"abcdef") == 6
    assert driver.rings[0].used() == [], "there is no buffer yet"
    driver.rings[0].chain((BUFFER, 4, True))
    driver.notify(0)
    assert driver.rings[0].used() == [(0, 4)] and driver.memory.read(BUFFER, 4) == b"abcd"
    driver.rings[0].chain((BUFFER, 4, True))
    driver.notify(0)
    assert driver.rings[0].used() == [(0, 2)] and driver.memory.read(BUFFER, 2) == b"ef"
    driver.rings[0].chain((BUFFER, 4, True))
    driver.notify(0)
    driver.set(0x64, 3)
    assert console.receive(b"z") == 1
    assert driver.rings[0].used() == [(0, 1)] and driver.levels[-1], "input comes by itself, and interrupts"
    assert console.receive(bytes(WAITING_BYTES + 1)) == WAITING_BYTES
    assert console.receive(b"x") == 0


def test_input_into_a_bad_queue_breaks_the_device_and_nothing_else(drive: Any) -> None:
    console = VirtioConsole(lambda data: None)
    driver = drive(console)
    driver.rings[0].offer(99)
    assert console.receive(b"x") == 1
    assert driver.is_broken
    assert console.receive(b"x") == 1


@pytest.mark.parametrize(("text", "status"), [(b"0q", 0), (b"1q", 1), (b"x 12q", 12), (b"127q", 127)])
def test_the_test_console_ends_the_run(drive: Any, text: bytes, status: int) -> None:
    ended: list[tuple[int, str]] = []
    driver = drive(TestConsole(lambda status, sentence: ended.append((status, sentence))))
    for place in range(len(text)):  # in whatever pieces it comes
        driver.memory.write(BUFFER, text[place : place + 1])
        driver.rings[1].chain((BUFFER, 1, False))
        driver.notify(1)
    assert ended == [(status, f"the guest wrote {status}q to the test console")]


def test_entropy_is_the_seeds_and_never_too_much(drive: Any) -> None:
    def read(seed: int, length: int) -> tuple[int, bytes]:
        driver = drive(Entropy(Random(seed)))
        driver.rings[0].chain((BUFFER, length, True))
        driver.notify()
        ((_, written),) = driver.rings[0].used()
        return written, driver.memory.read(BUFFER, written)

    assert read(1, 64) == read(1, 64) != read(2, 64)
    assert read(1, 0x8_0000)[0] == MOST_BYTES
