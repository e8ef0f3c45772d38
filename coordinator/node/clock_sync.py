# SPDX-License-Identifier: GPL-2.0-or-later
"""How a host learns when the guest's counters were 0, by its own clock. Pure: times come in as nanoseconds."""

from __future__ import annotations

ASKED = 32
_FIRST_NONCE = 0x8000_0000


class HostClock:
    """Of a host that is not the first. The quickest answer to `ASKED` questions tells best: it is off by half of the
    time that it took, at most. They are asked one after the other: questions that queue until there is a connection, or
    until the first host has time, tell little."""

    def __init__(self) -> None:
        self._asked = 0
        self._sent_ns: dict[int, int] = {}
        self._quickest_ns: int | None = None

    @property
    def is_set(self) -> bool:
        """Whether there was an answer, and there is nothing more to ask."""
        return self._quickest_ns is not None and self._asked == ASKED and not self._sent_ns

    @property
    def asks_more(self) -> bool:
        """Whether a question is left, and the one before was answered."""
        return self._asked < ASKED and not self._sent_ns

    @property
    def error_ns(self) -> int:
        """By how much the best answer may be off: half of the time that it took."""
        return 0 if self._quickest_ns is None else self._quickest_ns // 2 + 1

    def ask(self, now_ns: int) -> int:
        """A question is sent: its nonce."""
        nonce = _FIRST_NONCE + self._asked
        self._asked += 1
        self._sent_ns[nonce] = now_ns
        return nonce

    def answered(self, nonce: int, their_now_ns: int, their_base_ns: int, now_ns: int) -> int | None:
        """The first host's clock shows `their_now_ns`, and showed `their_base_ns` when the counters were 0. Returns
        when that was by our clock, or None unless this is the quickest answer so far to a question that was asked."""
        sent_ns = self._sent_ns.pop(nonce, None)
        if sent_ns is None or their_base_ns > their_now_ns:
            return None
        took_ns = now_ns - sent_ns
        if self._quickest_ns is not None and took_ns >= self._quickest_ns:
            return None
        self._quickest_ns = took_ns
        return max(0, their_base_ns - their_now_ns + (sent_ns + now_ns) // 2)
