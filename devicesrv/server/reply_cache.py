# SPDX-License-Identifier: GPL-2.0-or-later
"""Exactly once: a request that is repeated is answered again and not performed again.

A vCPU has one access under way at a time, and numbers its accesses upwards. So it is enough to remember the
last reply: the same number again means that the reply was lost, a lower one that a delayed copy has arrived.
"""

from __future__ import annotations

IGNORED = b""


class ReplyCache:
    """The last reply to one vCPU, byte for byte.

    `repeats` counts requests that were answered from memory, `stale` those that were ignored.
    """

    __slots__ = ("_reply", "_seq", "repeats", "stale")

    def __init__(self) -> None:
        self._seq = -1
        self._reply = IGNORED
        self.repeats = 0
        self.stale = 0

    def recall(self, seq: int) -> bytes | None:
        """What to do with request number `seq`: None: perform it, then `remember` its reply; IGNORED: do
        nothing; else the reply to send again."""
        if seq > self._seq:
            return None
        if seq == self._seq:
            self.repeats += 1
            return self._reply
        self.stale += 1
        return IGNORED

    def remember(self, seq: int, reply: bytes) -> None:
        """Request `seq` was performed and this is its reply. Raises ValueError unless `seq` is newer than all
        before and the reply is not empty."""
        if seq <= self._seq or not reply:
            raise ValueError(f"reply {seq} comes after reply {self._seq}, or is empty")
        self._seq = seq
        self._reply = reply
