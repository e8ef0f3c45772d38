# SPDX-License-Identifier: GPL-2.0-or-later
"""Guest RAM for devices that read and write it by themselves, in step with stage 2."""

from __future__ import annotations

from typing import final

SWAPPED: int
BROKEN: int

class AccessError(ValueError):
    """A device cannot read or write there; the text says why."""

@final
class GuestMemory:
    """Guest RAM as a device reaches it. Pages that are swapped out are brought in; a write to a page that may be
    executed waits until no vCPU executes what was there before. Raises RuntimeError when a page cannot
    be brought in."""

    swapped_in: int
    written_while_out: int
    def __new__(
        cls, control_fd: int, ram_fd: int, stage2_fd: int, swap_fd: int = -1, as_shipped: bool = False
    ) -> GuestMemory: ...
    def read(self, ipa: int, n: int, /) -> bytes: ...
    def write(self, ipa: int, data: bytes | bytearray | memoryview, /) -> None: ...
    def load16(self, ipa: int, /) -> int: ...
    def store16(self, ipa: int, value: int, /) -> None: ...
