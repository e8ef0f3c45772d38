# SPDX-License-Identifier: GPL-2.0-or-later
"""The journals of the other hosts, which arrive at the end of a run: each is written to the run folder piece by piece,
`HOST/vcpu-N.journal`, next to the log. No file name comes from another host."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import BinaryIO

from allstop.deploy.hosts.journal_files import MOST_BYTES, PIECE_BYTES
from allstop.deploy.outcome.run_folder import RunFolder
from allstop.deploy.processes.members import Member
from allstop.vm.journal.format import HEADER_BYTES, SUFFIX, WINDOW_BYTES, JournalError, mark_origin, read_header
from allstop.vm.wire.messages import ROLE_WORKER
from allstop.vm.wire.messages_hosts import JournalPiece, JournalsBegun

_MOST_NS = 1 << 62


class HostJournals:
    """Which pieces one host may send: one journal for each of its vCPUs, in order. A state machine without I/O.

    `complete` are the vCPUs whose journals have arrived, empty ones included.
    """

    def __init__(self, vcpus: Iterable[int]) -> None:
        self.vcpus = tuple(vcpus)
        self.complete: set[int] = set()
        self.clock: tuple[int, int] | None = None
        self._sizes: dict[int, int] = {}
        self._taken: dict[int, int] = {}

    @property
    def missing(self) -> tuple[int, ...]:
        """The vCPUs whose journals have not arrived, or not completely."""
        return tuple(vcpu for vcpu in self.vcpus if vcpu not in self.complete)

    def begin(self, message: JournalsBegun) -> None:
        """The pieces follow. Raises ValueError when the message is out of place."""
        if self.clock is not None:
            raise ValueError("JournalsBegun a second time")
        if max(message) > _MOST_NS:
            raise ValueError("a time that no clock shows")
        self.clock = message.base_ns, message.error_ns

    def take(self, piece: JournalPiece) -> None:
        """A piece has come. Raises ValueError when it is not the next one, and changes nothing then."""
        vcpu, size, offset, data = piece
        if self.clock is None:
            raise ValueError("a piece of a journal before JournalsBegun")
        if vcpu not in self.vcpus:
            raise ValueError("a journal of a vCPU that is not on its sender's host")
        if vcpu in self.complete:
            raise ValueError("more of a journal than there is")
        if self._sizes.get(vcpu, size) != size or not (size == 0 or HEADER_BYTES <= size <= MOST_BYTES):
            raise ValueError("a journal of a size that it cannot have")
        if offset != self._taken.get(vcpu, 0):
            raise ValueError("a piece of a journal that is not the next one")
        if len(data) != min(PIECE_BYTES, size - offset):
            raise ValueError("a piece of a journal that is too short or too long")
        self._sizes[vcpu] = size
        self._taken[vcpu] = offset + len(data)
        if offset + len(data) == size:
            self.complete.add(vcpu)


class JournalIntake:
    """The journals of all hosts but the first. `began_ns` is when the guest's counters were 0 by our clock."""

    def __init__(self, folder: RunFolder, names: Sequence[str], vcpu_hosts: Sequence[int], began_ns: int) -> None:
        self._folder = folder
        self._names = names
        self._began_ns = began_ns
        self._hosts = {
            host: HostJournals(vcpu for vcpu, where in enumerate(vcpu_hosts) if where == host)
            for host in range(1, len(names))
        }
        self._files: dict[tuple[int, int], BinaryIO] = {}
        self._refused: dict[int, Counter[str]] = {host: Counter() for host in self._hosts}
        self._notes: list[str] = []
        self._broken: set[int] = set()
        self._moved = False

    def take(self, host: int, message: JournalsBegun | JournalPiece) -> None:
        """A message of this host. One that is out of place is refused and counted."""
        journals = self._hosts[host]
        try:
            if isinstance(message, JournalsBegun):
                journals.begin(message)
            else:
                journals.take(message)
        except ValueError as error:
            self._refused[host][str(error)] += 1
            return
        self._moved = True
        if isinstance(message, JournalPiece) and message.size and host not in self._broken:
            try:
                self._write(host, message)
            except OSError as error:
                self._broken.add(host)
                self._notes.append(
                    f"host {self._names[host]}: its journals are not kept from vcpu-{message.vcpu} on: {error.strerror}"
                )

    def take_progress(self) -> bool:
        """Whether an accepted message has come since the last call."""
        moved, self._moved = self._moved, False
        return moved

    def finish(self) -> list[str]:
        """No more will come; the notes."""
        for host, vcpu in list(self._files):
            self._end(host, vcpu)
        for host, journals in self._hosts.items():
            name = self._names[host]
            if journals.missing:
                which = ", ".join(Member.worker(vcpu).name for vcpu in journals.missing)
                self._notes.append(
                    f"host {name}: its journals did not all come, for it ended before it had sent them: "
                    f"what is missing or cut is that of {which}"
                )
            self._notes += [f"host {name}: refused {count} x {what}" for what, count in self._refused[host].items()]
        return self._notes

    def close(self) -> None:
        """Close what is open."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    def _path(self, host: int, vcpu: int) -> str:
        return f"{self._names[host]}/{Member.worker(vcpu).name}{SUFFIX}"

    def _write(self, host: int, piece: JournalPiece) -> None:
        key = host, piece.vcpu
        if piece.offset == 0:
            self._folder.make_folder(self._names[host])
            self._files[key] = self._folder.create(self._path(*key))
        written = 0
        while written < len(piece.data):
            written += self._files[key].write(piece.data[written:])
        if piece.vcpu in self._hosts[host].complete:
            self._end(*key)

    def _end(self, host: int, vcpu: int) -> None:
        """No more will come for this file: mark its origin, or remove it if it is not this vCPU's journal."""
        journals, name = self._hosts[host], self._path(host, vcpu)
        assert journals.clock is not None
        base_ns, error_ns = journals.clock
        with self._files.pop((host, vcpu)) as file, contextlib.suppress(OSError):
            fd = file.fileno()
            try:
                header = read_header(fd, name)
                if (header.role, header.vcpu, header.process) != (ROLE_WORKER, vcpu, Member.worker(vcpu).name):
                    raise JournalError(f"{name} is the journal of another process")
            except JournalError as error:
                self._notes.append(f"{error}: it is not kept")
                self._folder.remove(name)
                return
            mark_origin(fd, self._names[host], self._began_ns - base_ns, error_ns)
            if not header.closed and vcpu in journals.complete:  # as a killed process leaves it
                os.ftruncate(fd, -(-os.fstat(fd).st_size // WINDOW_BYTES) * WINDOW_BYTES)
