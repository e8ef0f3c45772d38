# SPDX-License-Identifier: GPL-2.0-or-later
"""The journals of a host that has no run folder: files without a name, which the kernel frees with the last process
that has them open. At the end of the run the agent sends them to the launcher (`deploy/hosts/journal_intake.py`)."""

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
"""How many pieces may be in flight: it bounds the memory of the launcher and the agent."""
MOST_BYTES = 1 << 32
"""How much of a journal is sent; the rest is left out, which its reader sees."""


class JournalFiles:
    """One temporary file for each of these vCPUs; `stack` closes them."""

    def __init__(self, vcpus: Iterable[int], stack: contextlib.ExitStack) -> None:
        """Make them. Raises OSError."""
        self._fds: dict[int, int] = {}
        for vcpu in vcpus:
            file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
            self._fds[vcpu] = stack.enter_context(file).fileno()

    @property
    def fds(self) -> dict[str, int]:
        """The descriptors, by the names of the processes that write there."""
        return {Member.worker(vcpu).name: fd for vcpu, fd in self._fds.items()}

    def pieces(self) -> Iterator[JournalPiece]:
        """What was written, vCPU by vCPU, after the last writer has exited; one empty piece for an empty journal.
        Raises OSError."""
        for vcpu, fd in self._fds.items():
            size = min(used_bytes(fd), MOST_BYTES)
            for offset in range(0, max(size, 1), PIECE_BYTES):
                yield JournalPiece(vcpu, size, offset, os.pread(fd, min(PIECE_BYTES, size - offset), offset))


def used_bytes(fd: int) -> int:
    """How much of a journal is written. A journal grows by windows of zeros; a process that exits normally cuts off the
    unused part, one that is killed leaves it in the last window. Raises OSError."""
    size = os.fstat(fd).st_size
    begin = max(0, size - 1) // WINDOW_BYTES * WINDOW_BYTES
    used = len(os.pread(fd, size - begin, begin).rstrip(b"\0"))
    used = begin + -(-used // RECORD_BYTES) * RECORD_BYTES
    return min(size, max(used, HEADER_BYTES)) if used else 0
