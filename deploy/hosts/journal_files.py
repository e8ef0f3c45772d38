# SPDX-License-Identifier: GPL-2.0-or-later
"""The journals of a host that has no run folder: files without a name, which go with the last process that has them
open, however it ends. At the end of the run they are sent to the launcher (`deploy/hosts/journal_intake.py`)."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator

from allstop.deploy.processes.members import Member
from allstop.vm.journal.format import HEADER_BYTES, RECORD_BYTES, WINDOW_BYTES
from allstop.vm.wire.messages_hosts import JournalPiece

PIECE_BYTES = 1 << 18
PIECES_AHEAD = 4
"""How many pieces may be under way: what the launcher and the agent have to hold."""
MOST_BYTES = 1 << 32
"""Of a journal as it is sent: what is behind is left out, which its reader sees."""


class JournalFiles:
    """One file for each of these vCPUs, for as long as `stack`. They lie where temporary files do."""

    def __init__(self, vcpus: Iterable[int], stack: contextlib.ExitStack) -> None:
        """Make them. Raises OSError."""
        self._fds: dict[int, int] = {}
        for vcpu in vcpus:
            file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
            self._fds[vcpu] = stack.enter_context(file).fileno()

    @property
    def fds(self) -> dict[str, int]:
        """The descriptors, by the processes that are to write there."""
        return {Member.worker(vcpu).name: fd for vcpu, fd in self._fds.items()}

    def pieces(self) -> Iterator[JournalPiece]:
        """What was written, vCPU by vCPU, when nobody writes any more: one empty piece where that is nothing. Raises
        OSError."""
        for vcpu, fd in self._fds.items():
            size = min(used_bytes(fd), MOST_BYTES)
            for offset in range(0, max(size, 1), PIECE_BYTES):
                yield JournalPiece(vcpu, size, offset, os.pread(fd, min(PIECE_BYTES, size - offset), offset))


def used_bytes(fd: int) -> int:
    """How much of a journal is written. It grows by windows of zeros, of which only the last one can be left, and is
    cut to what it holds by a process that ends well. Raises OSError."""
    size = os.fstat(fd).st_size
    begin = max(0, size - 1) // WINDOW_BYTES * WINDOW_BYTES
    used = len(os.pread(fd, size - begin, begin).rstrip(b"\0"))
    used = begin + -(-used // RECORD_BYTES) * RECORD_BYTES
    return min(size, max(used, HEADER_BYTES)) if used else 0
