# SPDX-License-Identifier: GPL-2.0-or-later
"""The line with which some bare-metal test suites end: "EXIT: STATUS=N" on the console, where N = code << 1 | 1.

Source: kvm-unit-tests, lib/arm/io.c, exit().
"""

from __future__ import annotations

import re

_LINE = re.compile(rb"EXIT: STATUS=(-?[0-9]{1,11})\r?")
_LONGEST = 32


class ExitLine:
    """Watches the console's output."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._is_long = False

    def feed(self, data: bytes) -> int | None:
        """The code, when these bytes complete such a line."""
        code = None
        *ends, rest = data.split(b"\n")
        for end in ends:
            self._grow(end)
            match = None if self._is_long else _LINE.fullmatch(self._line)
            if match is not None and code is None:
                code = int(match[1]) >> 1
            self._line.clear()
            self._is_long = False
        self._grow(rest)
        return code

    def _grow(self, data: bytes) -> None:
        self._is_long = self._is_long or len(self._line) + len(data) > _LONGEST
        if not self._is_long:
            self._line += data
