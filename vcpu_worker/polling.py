# SPDX-License-Identifier: GPL-2.0-or-later
"""Poll a socket for a short while: an answer that comes soon then needs no wake-up by the kernel."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import zmq

_POLL_NS = 200_000  # a few answers' time; after that, a wake-up costs little beside the wait
_POLLIN = int(zmq.POLLIN)
_now_ns = time.perf_counter_ns


def poll(option: Callable[[int], Any]) -> None:
    """Return when the socket whose `getsockopt` this is has a message, or after a short while."""
    until_ns = _now_ns() + _POLL_NS
    while not option(zmq.EVENTS) & _POLLIN and _now_ns() < until_ns:
        pass
