# SPDX-License-Identifier: GPL-2.0-or-later
"""What a device is, and what it is connected to.

A device is a window of registers. It knows offsets into that window, but no addresses, sockets or
processes; its `Wiring` connects it to the outside. `docs/devices.md` shows how to write one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import ClassVar

PAGE_BYTES = 0x1000


def _no_irq(level: bool) -> None:
    """A device that is wired to no interrupt controller."""


def _no_console(data: bytes) -> None:
    """A device that is wired to no console."""


def _no_record(name: str, fields: Mapping[str, object]) -> None:
    """A device whose run keeps no records."""


def _no_finish(status: int, detail: str) -> None:
    """A device that cannot end the run."""


def _no_note(sentence: str) -> None:
    """A device whose run has no verdict to put a note in."""


def _no_clock() -> int:
    """A device that is wired to no clock: it is always 1970."""
    return 0


@dataclass(frozen=True)
class Wiring:
    """Everything outside of a device that it may use. Each device has a Wiring of its own.

    irq(level)            drives the device's interrupt line; call it whenever the level may have changed
    console(data)         prints on the machine's console
    record(name, fields)  appends one JSON line to `name`.jsonl in the run's folder, if the run has one
    finish(status, text)  ends the run; status 0 is a pass
    note(sentence)        adds a sentence to the verdict's notes: an oddity that does not decide it
    clock_s()             seconds since 1970, UTC
    vcpus                 number of vCPUs of the machine
    parameter             the number that the run was given for its guest
    random                a generator seeded from the run's seed: the only source of chance a device may use
    """

    irq: Callable[[bool], None] = _no_irq
    console: Callable[[bytes], None] = _no_console
    record: Callable[[str, Mapping[str, object]], None] = _no_record
    finish: Callable[[int, str], None] = _no_finish
    note: Callable[[str], None] = _no_note
    clock_s: Callable[[], int] = _no_clock
    vcpus: int = 1
    parameter: int = 0
    random: Random = field(default_factory=lambda: Random(0))


class Device:
    """A window of registers.

    size_bytes  size of the window, a multiple of 4096
    widths      access sizes in bytes that the device takes, of 1, 2, 4 and 8. An access of 8 bytes to a
                device that takes 4 and not 8 arrives as two of 4, the lower offset first; any other is
                refused before it arrives
    unaligned   whether an access may start at an offset that its size does not divide
    guest_mistakes  accesses that were answered, but which a correct guest does not make
    """

    size_bytes: ClassVar[int] = PAGE_BYTES
    widths: ClassVar[frozenset[int]] = frozenset({1, 2, 4})
    unaligned: ClassVar[bool] = False

    def __init__(self, wiring: Wiring) -> None:
        self.wiring = wiring
        self.guest_mistakes = 0

    def read(self, offset: int, size: int, cpu: int) -> int:
        """The value of `size` bytes at `offset`, read by vCPU number `cpu`. Extra high bits are cut off."""
        return self.mistake()

    def write(self, offset: int, size: int, value: int, cpu: int) -> None:
        """vCPU number `cpu` writes `value`, which fits in `size` bytes, at `offset`."""
        self.mistake()

    def mistake(self) -> int:
        """Count an access that the device has no register for, or not of that width. Reads of such are zero,
        which is the value of this call; writes are ignored."""
        self.guest_mistakes += 1
        return 0
