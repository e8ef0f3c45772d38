# SPDX-License-Identifier: GPL-2.0-or-later
"""The device's side of a split virtqueue. Source: virtio 1.2 (OASIS), 2.6 and 2.7.

Three areas in guest RAM: descriptors, which the driver writes; the available ring, which it writes too; the used ring,
which we write. A queue trusts nothing that it reads there: an impossible value is a QueueBrokenError, which the
transport turns into DEVICE_NEEDS_RESET. Each descriptor is read once, so a driver that changes one while we work
harms only itself.

Order. The index of a ring is read before its entries, and written after them: `load16` acquires, `store16` releases
and ends with a full fence, so we see in time that a driver suppresses interrupts or asks for them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from allstop.vm.memory.guest_memory import AccessError

F_NEXT = 1
F_WRITE = 2
F_INDIRECT = 4
AVAIL_NO_INTERRUPT = 1
MAX_CHAIN = 1024  # descriptors, as QEMU has it: a driver may chain no more than the queue's size, but some do
_DESCRIPTOR = struct.Struct("<QIHH")
_USED = struct.Struct("<II")


class Memory(Protocol):
    """Guest RAM; each call raises AccessError where there is none. See `allstop.vm.memory.guest_memory`."""

    def read(self, ipa: int, n: int, /) -> bytes:
        """`n` bytes."""

    def write(self, ipa: int, data: bytes, /) -> None:
        """Write all of `data`."""

    def load16(self, ipa: int, /) -> int:
        """A half-word, with acquire."""

    def store16(self, ipa: int, value: int, /) -> None:
        """A half-word, with release and a full fence behind it."""


class QueueBrokenError(Exception):
    """The driver has left something impossible in a queue; the text says what."""


@dataclass(frozen=True)
class Segment:
    """A piece of a buffer: guest addresses `ipa` to `ipa + length - 1`."""

    ipa: int
    length: int


@dataclass(frozen=True)
class Chain:
    """One buffer: what the device may read, and then what it may write. `head` names it to the driver."""

    head: int
    readable: tuple[Segment, ...]
    writable: tuple[Segment, ...]

    @property
    def readable_bytes(self) -> int:
        """How many bytes the device may read."""
        return sum(segment.length for segment in self.readable)

    @property
    def writable_bytes(self) -> int:
        """How many bytes the device may write."""
        return sum(segment.length for segment in self.writable)


def pieces(segments: Iterable[Segment], offset: int, length: int) -> Iterable[Segment]:
    """The part of `segments` that begins `offset` bytes in and is at most `length` bytes long."""
    for segment in segments:
        if length <= 0:
            return
        if offset >= segment.length:
            offset -= segment.length
            continue
        piece = min(length, segment.length - offset)
        yield Segment(segment.ipa + offset, piece)
        length -= piece
        offset = 0


def gather(memory: Memory, segments: Iterable[Segment], offset: int, length: int) -> bytes:
    """The bytes of that part. Raises AccessError."""
    return b"".join(memory.read(piece.ipa, piece.length) for piece in pieces(segments, offset, length))


def scatter(memory: Memory, segments: Iterable[Segment], offset: int, data: bytes) -> None:
    """Write `data` there, as far as there is room. Raises AccessError."""
    done = 0
    for piece in pieces(segments, offset, len(data)):
        memory.write(piece.ipa, data[done : done + piece.length])
        done += piece.length


class Queue:
    """One queue. `max_size` is what the device offers; the driver sets the rest, through the transport.

    `size`, `descriptors`, `driver` and `device` (guest addresses of the three areas) may be written while it is not
    `ready`.
    """

    def __init__(self, memory: Memory, max_size: int) -> None:
        self._memory = memory
        self.max_size = max_size
        self.reset()

    def reset(self) -> None:
        """As after power-on."""
        self.size = self.max_size
        self.descriptors = self.driver = self.device = 0
        self.event_index = False
        self.ready = False
        self._next = 0  # available entries that were taken
        self._used = 0  # used entries that were given back
        self._told = 0  # ... when the driver was last considered for an interrupt

    def enable(self, event_index: bool) -> None:
        """The driver has set everything. Raises QueueBrokenError for impossible settings."""
        if not 0 < self.size <= self.max_size or self.size & self.size - 1:
            raise QueueBrokenError(f"a queue cannot have {self.size} entries")
        if self.descriptors % 16 or self.driver % 2 or self.device % 4:
            raise QueueBrokenError("a queue's areas are not aligned")
        self.event_index = event_index
        self._next = self._used = self._told = 0
        self.ready = True

    def pop(self) -> Chain | None:
        """The oldest buffer that the driver has made available; None when there is none. Raises QueueBrokenError."""
        if not self.ready:
            return None
        try:
            return self._pop()
        except AccessError as error:
            raise QueueBrokenError(str(error)) from None

    def push(self, chain: Chain, written: int) -> None:
        """Give a buffer back, with the number of bytes that were written to its beginning. Raises QueueBrokenError."""
        slot = self._used % self.size
        try:
            self._memory.write(self.device + 4 + 8 * slot, _USED.pack(chain.head, written & 0xFFFF_FFFF))
            self._used = self._used + 1 & 0xFFFF
            self._memory.store16(self.device + 2, self._used)
        except AccessError as error:
            raise QueueBrokenError(str(error)) from None

    def wants_interrupt(self) -> bool:
        """Whether to interrupt the driver about the buffers given back since the last call. Raises
        QueueBrokenError."""
        old, self._told = self._told, self._used
        if old == self._used:
            return False
        try:
            if not self.event_index:
                return not self._memory.load16(self.driver) & AVAIL_NO_INTERRUPT
            wanted = self._memory.load16(self.driver + 4 + 2 * self.size)
        except AccessError as error:
            raise QueueBrokenError(str(error)) from None
        return (self._used - wanted - 1 & 0xFFFF) < (self._used - old & 0xFFFF)

    def _pop(self) -> Chain | None:
        waiting = self._waiting()
        if not waiting and self.event_index:
            self._memory.store16(self.device + 4 + 8 * self.size, self._next)  # notify us of the next one
            waiting = self._waiting()  # which may have come before the driver could see that
        if not waiting:
            return None
        if waiting > self.size:
            raise QueueBrokenError(f"{waiting} buffers are available in a queue of {self.size}")
        head = int.from_bytes(self._memory.read(self.driver + 4 + 2 * (self._next % self.size), 2), "little")
        if head >= self.size:
            raise QueueBrokenError(f"descriptor {head} was made available in a queue of {self.size}")
        chain = self._chain(head)
        self._next = self._next + 1 & 0xFFFF
        return chain

    def _waiting(self) -> int:
        return self._memory.load16(self.driver + 2) - self._next & 0xFFFF

    def _chain(self, head: int) -> Chain:
        """Follow a chain. Raises QueueBrokenError, AccessError."""
        table, size, index, indirect = self.descriptors, self.size, head, False
        readable: list[Segment] = []
        writable: list[Segment] = []
        seen = 0
        while True:
            ipa, length, flags, following = _DESCRIPTOR.unpack(self._memory.read(table + 16 * index, 16))
            if flags & F_INDIRECT:
                if indirect or flags & F_NEXT:
                    raise QueueBrokenError("an indirect descriptor is nested, or has a successor")
                if length % 16 or not 16 <= length <= 16 * MAX_CHAIN:
                    raise QueueBrokenError(f"a table of indirect descriptors has {length} bytes")
                table, size, index, indirect, seen = ipa, length // 16, 0, True, 0
                continue
            if flags & F_WRITE:
                writable.append(Segment(ipa, length))
            elif writable:
                raise QueueBrokenError("a descriptor to read follows one to write")
            else:
                readable.append(Segment(ipa, length))
            seen += 1
            if not flags & F_NEXT:
                return Chain(head, tuple(readable), tuple(writable))
            if following >= size:
                raise QueueBrokenError(f"descriptor {following} follows in a table of {size}")
            if seen >= size:
                raise QueueBrokenError("a chain of descriptors is a loop")
            index = following
