# SPDX-License-Identifier: GPL-2.0-or-later
"""The reader of journals: what each process of a run did, record by record. The kinds of records are in kinds.h.

A journal is a file: a header of 256 bytes, then records of 64 bytes, little-endian, in the order of their time. The
writer is `allstop.vm.journal.recorder`, native since it sits on the paths that are measured; `vm/journal/journal.h`
says how it survives `kill -9`. A record counts when its sequence number is its place in the file.

    header   u64 magic, u32 version, u32 bytes of a record, u32 role, u32 vCPU, u32 process number, u32 closed,
             u64 began (monotonic, ns), u64 began (Unix time, ns), u64 records once closed, u64 records dropped,
             32 bytes: the process's name; and where it has come from another host, else zeros: i64 what to add to its
             times for the first host's clock, u64 by how much that may be off (ns; 0: not measured), 64
             bytes: the host's name
    record   u64 time (monotonic, ns), u32 sequence, u16 kind, u16 vCPU, 6 x u64 operands
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from allstop.vm.journal.kind import Kind as Kind

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

MAGIC = b"ASJRNL1\n"
VERSION = 1
HEADER_BYTES = 256
RECORD_BYTES = 64
WINDOW_BYTES = 1 << 20
SUFFIX = ".journal"
FOLDER = "journal"
NO_VCPU = 0xFFFF  # the vCPU field of a record that concerns no vCPU; writers say -1
NOTHING = (1 << 64) - 1
EXIT_NAMES = (
    "MMIO",
    "NISV",
    "HVC",
    "SMC",
    "FETCH",
    "WALK",
    "CP15",
    "REQUEST",
    "BUDGET",
    "BREAKPOINT",
    "TIMER",
    "LOST",
    "SEMIHOSTING",
    "OTHER",
    "WATCHPOINT",
)

_HEADER = struct.Struct("<8s6IQQQQ32sqQ64s")
_ORIGIN = struct.Struct("<qQ64s")
_ORIGIN_AT = 96
_RECORD = struct.Struct("<QIHH6Q")
_CHUNK_RECORDS = 16384


KINDS: dict[int, Kind] = {kind.value: kind for kind in Kind}


class JournalError(ValueError):
    """The file is no journal, or cannot be read as one. The text is one sentence."""


class Header(NamedTuple):
    """The journal's process, and how far it came. `records` counts only once it is `closed`; `dropped` records had no
    room on the disk.

    `host` is the host that it came from, "" for the first host's own. Times are the first host's: `offset_ns` is added
    to those that are in the file, and `error_ns` is by how much they may be off, None where that was not measured."""

    process: str
    role: int
    vcpu: int
    pid: int
    closed: bool
    began_ns: int
    began_unix_ns: int
    records: int
    dropped: int
    host: str = ""
    offset_ns: int = 0
    error_ns: int | None = 0

    @property
    def name(self) -> str:
        """The process, with its host where that is another one: `vcpu-0`, `there/vcpu-3`, as in the run folder."""
        return f"{self.host}/{self.process}" if self.host else self.process


class Event(NamedTuple):
    """One record. `t_ns` is when it was over; `operands` are those that its kind has, in that order."""

    t_ns: int
    kind: Kind
    vcpu: int
    operands: tuple[int, ...]
    text: str = ""

    @property
    def took_ns(self) -> int:
        """Its duration; 0 for a record without one."""
        return self.operands[-1] if self.kind.is_span else 0

    def operand(self, name: str) -> int:
        """An operand by its name."""
        return self.operands[self.kind.operands.index(name)]


def read_header(fd: int, name: str) -> Header:
    """The header of the journal in this file, which sentences call `name`. Raises JournalError, OSError."""
    data = os.pread(fd, HEADER_BYTES, 0)
    if len(data) < HEADER_BYTES or not data.startswith(MAGIC):
        raise JournalError(f"{name} is no journal, or was cut within its first {HEADER_BYTES} bytes")
    (
        _,
        version,
        record_bytes,
        role,
        vcpu,
        pid,
        closed,
        began_ns,
        began_unix_ns,
        records,
        dropped,
        process,
        offset_ns,
        error_ns,
        host,
    ) = _HEADER.unpack(data[: _HEADER.size])
    if version != VERSION or record_bytes != RECORD_BYTES:
        raise JournalError(
            f"{name} is a journal of format {version}, and this allstop reads format "
            f"{VERSION}: use the allstop that wrote it"
        )
    where = _text(host)
    return Header(
        _text(process),
        role,
        vcpu,
        pid,
        bool(closed),
        began_ns + offset_ns,
        began_unix_ns,
        records,
        dropped,
        where,
        offset_ns,
        error_ns or None if where else 0,
    )


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").decode(errors="replace")


def mark_origin(fd: int, host: str, offset_ns: int, error_ns: int) -> None:
    """Write into a journal's header from which host it came, and how to read its times (see Header); `error_ns` 0: not
    measured. Raises OSError."""
    os.pwrite(fd, _ORIGIN.pack(offset_ns, error_ns, host.encode()), _ORIGIN_AT)


class Journal:
    """One journal, open for reading; another process may be writing it. Its times are by the first host's clock.

    `count` records are there, and `damaged` of them do not count. `conditions` are sentences about what differs from
    the journal of a process that ended normally.
    """

    def __init__(self, path: Path, name: str = "") -> None:
        """Open it and look at every record's sequence. Sentences call it `name`, or by its file's name. Raises
        JournalError, OSError."""
        self.path = path
        self._name = name or path.name
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.header = read_header(self._fd, self._name)
            self._offset_ns = self.header.offset_ns
            self.count, self.damaged, torn = self._survey()
        except BaseException:
            self.close()
            raise
        self.conditions = tuple(self._conditions(torn))

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def events(self, since_ns: int = -NOTHING, until_ns: int = NOTHING) -> Iterator[Event]:
        """The records of this stretch of time, in their order; a TEXT is joined to the record that it continues."""
        pending: Event | None = None
        words = b""
        offset_ns = self._offset_ns
        for raw_ns, _, number, vcpu, *operands in self._records(self._place(since_ns - offset_ns)):
            t_ns = raw_ns + offset_ns
            if number == Kind.TEXT:
                words += struct.pack("<6Q", *operands)[:vcpu]
                continue
            if pending is not None:
                yield pending._replace(text=words.decode(errors="replace")) if words else pending
                pending, words = None, b""
            if t_ns > until_ns:
                return
            kind = KINDS.get(number)
            if kind is None:
                continue
            if kind.is_span:
                pending = Event(t_ns, kind, vcpu, (*operands[: len(kind.operands) - 1], operands[5]))
            else:
                pending = Event(t_ns, kind, vcpu, tuple(operands[: len(kind.operands)]))
        if pending is not None:
            yield pending._replace(text=words.decode(errors="replace")) if words else pending

    @property
    def ended_ns(self) -> int:
        """The time of the last record; when the journal began, if there is none."""
        data = os.pread(self._fd, 8, HEADER_BYTES + (self.count - 1) * RECORD_BYTES) if self.count else b""
        raw_ns = int.from_bytes(data, "little")
        return raw_ns + self._offset_ns if raw_ns else self.header.began_ns

    def _survey(self) -> tuple[int, int, bool]:
        """How many records there are up to the last good one, how many of these are not good, and whether another one
        had been begun after them."""
        last, good, torn_at = 0, 0, 0
        for first, data in self._chunks(0):
            sequences = memoryview(data).cast("I")[2 :: RECORD_BYTES // 4].tolist()
            expected = list(range(first + 1, first + 1 + len(sequences)))
            if sequences == expected:
                good += len(sequences)
                last = expected[-1]
                continue
            hits = [place for place, (is_, must) in enumerate(zip(sequences, expected, strict=True)) if is_ == must]
            good += len(hits)
            if hits:
                last = first + hits[-1] + 1
            after = data[(max(last - first, 0)) * RECORD_BYTES :]
            if any(after):
                torn_at = first + len(sequences)
        return last, last - good, torn_at > last

    def _conditions(self, torn: bool) -> Iterator[str]:
        header, name = self.header, self._name
        size = os.fstat(self._fd).st_size
        if header.closed and self.count < header.records:
            yield (
                f"{name} was cut: the first {self.count} of its {header.records} records are there, and none of "
                "these is lost"
            )
        elif not header.closed and size % WINDOW_BYTES:
            yield (
                f"{name} was cut, or its process was killed as it closed it: the first {self.count} records are "
                "there, and none of these is lost"
            )
        elif not header.closed:
            half = ", except one that was being written" if torn else ""
            yield (
                f"{name} was not closed, for its process was killed or still runs: all of its {self.count} records "
                f"are there{half}"
            )
        if header.dropped:
            yield f"{name} lacks {header.dropped} records, for which the file system had no room"
        if self.damaged:
            yield f"{name} has {self.damaged} damaged records, which are left out"

    def _chunks(self, first: int) -> Iterator[tuple[int, bytes]]:
        """Whole records, many at once, and the index of the first."""
        while True:
            data = os.pread(self._fd, _CHUNK_RECORDS * RECORD_BYTES, HEADER_BYTES + first * RECORD_BYTES)
            data = data[: len(data) // RECORD_BYTES * RECORD_BYTES]
            if not data:
                return
            yield first, data
            first += len(data) // RECORD_BYTES

    def _records(self, first: int) -> Iterator[tuple[int, ...]]:
        """The good records from index `first` on."""
        for place, data in self._chunks(first):
            sequence = place
            for record in _RECORD.iter_unpack(data[: (self.count - place) * RECORD_BYTES]):
                sequence += 1
                if record[1] == sequence & 0xFFFFFFFF:
                    yield record
            if sequence >= self.count:
                return

    def _place(self, t_ns: int) -> int:
        """The index of the first record that is not older, by the time that is in the file."""
        low, high = 0, self.count
        while low < high:
            middle = (low + high) // 2
            data = os.pread(self._fd, 8, HEADER_BYTES + middle * RECORD_BYTES)
            if int.from_bytes(data, "little") < t_ns:
                low = middle + 1
            else:
                high = middle
        return low
