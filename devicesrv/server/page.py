# SPDX-License-Identifier: GPL-2.0-or-later
"""The control page, as far as the device server uses it."""

from __future__ import annotations

from typing import Protocol


class Page(Protocol):
    """What is used of the control page."""

    DEVICES: int
    ACTIVITY_DEVICE: int
    ACTIVITY_IDLE: int

    def set_line(self, vcpu: int, line: int, /) -> bool:
        """The vCPU's interrupt line is this now, as in MmioReply: it is interrupted. Whether that was news."""

    def count_event(self, index: int, done: bool, /) -> object:
        """An event of the scenario happened, or could not."""

    def beat(self, slot: int, /) -> object:
        """This process lives."""

    def set_activity(self, slot: int, code: int, detail: int = 0, pc: int = 0) -> object:
        """What this process is doing."""

    COUNT_MMIO_WRONG: int

    def perform_access(self, vcpu: int, ipa: int, size: int, is_write: bool, value: int, unassigned: bool, /) -> object:
        """The bus has done this for a vCPU."""

    def count(self, vcpu: int, counter: int, n: int = 1, /) -> object:
        """Count one more of something."""
