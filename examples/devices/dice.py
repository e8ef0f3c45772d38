# SPDX-License-Identifier: GPL-2.0-or-later
"""A die: every read is a roll. The smallest device there is."""

from __future__ import annotations

from allstop.devicesrv.device import Device


class Dice(Device):
    """Reads as 1 to 6 at offset 0. The same seed rolls the same numbers."""

    def read(self, offset: int, size: int, cpu: int) -> int:
        if offset != 0:
            return self.mistake()
        return self.wiring.random.randint(1, 6)
