# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's real-time clock, which runs as fast as its counters."""

from __future__ import annotations

import time

_NS_PER_S = 1_000_000_000


class GuestTime:
    """Begins now, at the host's time of day; from then on it goes `dilation` times slower than the host's clock.

    It follows CLOCK_MONOTONIC, as the guest's counters do: setting the host's clock does not set the guest's.
    """

    def __init__(self, dilation: int = 1) -> None:
        self._dilation = dilation
        self._began_ns = time.monotonic_ns()
        self._origin_ns = time.time_ns()

    def elapsed_ns(self) -> int:
        """Guest time since the beginning."""
        return (time.monotonic_ns() - self._began_ns) // self._dilation

    def seconds(self) -> int:
        """The guest's time of day: seconds since 1970, UTC."""
        return (self._origin_ns + self.elapsed_ns()) // _NS_PER_S

    def host_seconds_until(self, guest_s: int) -> float:
        """How long until this time of day of the guest's, by the host's clock; negative if it has passed."""
        return (guest_s * _NS_PER_S - self._origin_ns - self.elapsed_ns()) * self._dilation / _NS_PER_S
