# SPDX-License-Identifier: GPL-2.0-or-later
"""Guest RAM without a machine, and a driver's side of virtqueues and registers to play with."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest

from allstop.devicesrv.device import Wiring
from allstop.devicesrv.virtio.function import Function
from allstop.devicesrv.virtio.transport import Transport
from allstop.vm.config.limits import RAM_BASE
from allstop.vm.memory.guest_memory import AccessError


class FlatMemory:
    """What GuestMemory promises, on a bytearray."""

    def __init__(self, size_bytes: int = 1 << 20) -> None:
        self.data = bytearray(size_bytes)

    def _at(self, ipa: int, n: int) -> int:
        if not RAM_BASE <= ipa <= ipa + n <= RAM_BASE + len(self.data):
            raise AccessError(f"{n} bytes at {ipa:#x}")
        return ipa - RAM_BASE

    def read(self, ipa: int, n: int) -> bytes:
        at = self._at(ipa, n)
        return bytes(self.data[at : at + n])

    def write(self, ipa: int, data: bytes) -> None:
        at = self._at(ipa, len(data))
        self.data[at : at + len(data)] = data

    def load16(self, ipa: int) -> int:
        if ipa % 2:
            raise AccessError(f"{ipa:#x} is odd")
        return int.from_bytes(self.read(ipa, 2), "little")

    def store16(self, ipa: int, value: int) -> None:
        if ipa % 2:
            raise AccessError(f"{ipa:#x} is odd")
        self.write(ipa, value.to_bytes(2, "little"))


class Ring:
    """A driver's side of one queue, at `base`: it knows what it has made available, and counts what comes back."""

    def __init__(self, memory: FlatMemory, base: int, size: int = 8) -> None:
        self.memory, self.size = memory, size
        self.descriptors = base
        self.driver = base + 16 * size
        self.device = base + 0x1000
        self.index = 0
        self.taken = 0

    def descriptor(self, index: int, ipa: int, length: int, flags: int = 0, following: int = 0, table: int = 0) -> None:
        self.memory.write((table or self.descriptors) + 16 * index, struct.pack("<QIHH", ipa, length, flags, following))

    def offer(self, head: int) -> None:
        """Make a chain available."""
        self.memory.store16(self.driver + 4 + 2 * (self.index % self.size), head)
        self.index = self.index + 1 & 0xFFFF
        self.memory.store16(self.driver + 2, self.index)

    def chain(self, *pieces: tuple[int, int, bool], first: int = 0) -> None:
        """Offer a buffer of (ipa, length, device writes it) pieces, in the descriptors from `first` on."""
        for place, (ipa, length, writable) in enumerate(pieces):
            more = place + 1 < len(pieces)
            self.descriptor(first + place, ipa, length, int(more) | 2 * writable, first + place + 1 if more else 0)
        self.offer(first)

    def used(self) -> list[tuple[int, int]]:
        """What came back since the last call: (head, bytes written)."""
        end = self.memory.load16(self.device + 2)
        found = []
        while self.taken != end:
            at = self.device + 4 + 8 * (self.taken % self.size)
            head, length = struct.unpack("<II", self.memory.read(at, 8))
            found.append((head, length))
            self.taken = self.taken + 1 & 0xFFFF
        return found


class Driver:
    """A function behind a modern transport, set up as a driver does it. `levels` is what its interrupt line did."""

    def __init__(self, function: Function, accept: int = 0) -> None:
        self.memory = FlatMemory()
        self.levels: list[bool] = []
        self.mistakes = 0
        self.transport = Transport(function, self.memory, Wiring(irq=self.levels.append), self._mistake)
        self.rings: list[Ring] = []
        self.open(accept)

    def open(self, accept: int = 0) -> None:
        """Reset, negotiate, set the queues up."""
        self.rings = [
            Ring(self.memory, RAM_BASE + 0x2000 * number) for number in range(len(self.transport.function.queue_sizes))
        ]
        self.set(0x70, 0)
        self.set(0x70, 3)
        for half, bits in enumerate((accept & 0xFFFF_FFFF, 1 | accept >> 32)):
            self.set(0x24, half)
            self.set(0x20, bits)
        self.set(0x70, 11)
        assert self.get(0x70) == 11
        for number, ring in enumerate(self.rings):
            self.set(0x30, number)
            self.set(0x38, ring.size)
            for offset, ipa in ((0x80, ring.descriptors), (0x90, ring.driver), (0xA0, ring.device)):
                self.set(offset, ipa)
                self.set(offset + 4, 0)
            self.set(0x44, 1)
        self.set(0x70, 15)

    def _mistake(self) -> int:
        self.mistakes += 1
        return 0

    def get(self, offset: int, size: int = 4) -> int:
        return self.transport.read(offset, size)

    def set(self, offset: int, value: int) -> None:
        self.transport.write(offset, 4, value)

    def notify(self, queue: int = 0) -> None:
        self.set(0x50, queue)

    @property
    def is_broken(self) -> bool:
        """Whether the device wants to be reset."""
        return bool(self.get(0x70) & 64)


@pytest.fixture(scope="session")
def flat_memory() -> type[FlatMemory]:
    """Makes guest RAM."""
    return FlatMemory


@pytest.fixture(scope="session")
def ring_at() -> Callable[..., Any]:
    """Makes a driver's side of a queue: ring_at(memory, base, size=8)."""
    return Ring


@pytest.fixture(scope="session")
def drive() -> Callable[..., Any]:
    """Makes a driver: drive(function, accept=features)."""
    return Driver
