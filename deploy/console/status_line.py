# SPDX-License-Identifier: GPL-2.0-or-later
"""One line of status, kept at the bottom of a terminal while a run goes on."""

from __future__ import annotations

import os
import select

from allstop.deploy.outcome.telemetry import Activity

_CLEAR = b"\r\x1b[K"


def status_text(elapsed_s: float, before: Activity, now: Activity) -> str:
    """The line's text; rates are those between the two moments."""
    span_s = max(now.at_s - before.at_s, 1e-9)
    exits = (now.exits - before.exits) / span_s
    mmio = (now.mmio - before.mmio) / span_s
    return (
        f"{elapsed_s:6.1f} s  {now.vcpus_on}/{now.vcpus} vCPUs on  {exits:,.0f} exits/s  {mmio:,.0f} MMIO/s  "
        f"{now.stops:,} stops"
    )


class StatusLine:
    """Draws on a terminal's descriptor, unless the terminal would block."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._shown = False

    def show(self, text: str) -> None:
        """Redraw the line, cut to the terminal's width."""
        try:
            columns = os.get_terminal_size(self._fd).columns
        except OSError:
            columns = 80
        self._write(_CLEAR + text[: columns - 1].encode())
        self._shown = True

    def clear(self) -> None:
        """Erase the line, before other output."""
        if self._shown:
            self._write(_CLEAR)
            self._shown = False

    def _write(self, data: bytes) -> None:
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        if poll.poll(0):
            try:
                os.write(self._fd, data)
            except OSError:
                self._shown = False
