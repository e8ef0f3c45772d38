# SPDX-License-Identifier: GPL-2.0-or-later
import enum

class Kind(enum.IntEnum):
    """What can be journalled: the names of its `operands`, in order, its `meaning`, and its `writer`, a process. A span
    (`is_span`) ends at the record's time, and its last operand is `took_ns`."""

    operands: tuple[str, ...]
    meaning: str
    writer: str
    @property
    def is_span(self) -> bool: ...
    # Generated from kinds.h by `python -m allstop.vm.telemetry.generated`:
    TEXT = 1
    EXIT = 16
    MMIO = 17
    FETCHED = 18
    FETCH_RETRIED = 19
    FETCH_REFUSED = 20
    FETCH_DISAGREED = 21
    VIOLATION = 22
    STOP_ASKED = 23
    STOP_GRANTED = 24
    WORLD_HELD = 25
    PSCI = 26
    POWERED_ON = 27
    POWERED_OFF = 28
    FAILED = 29
    MMIO_WRONG = 31
    TLBI = 32
    SHOOTDOWN = 33
    FLUSHED = 34
    FLIPPED = 35
    SLEPT = 36
    PARKED = 37
    LINE_TAKEN = 38
    ABORTED = 39
    PAGED = 48
    EVENT_DONE = 40
    EVENT_REFUSED = 41
    EVENT_DEFERRED = 42
    STOP_QUEUED = 64
    STOPPED = 65
    RELEASED = 66
    RESUMED = 67
    PSCI_CALLED = 68
    POWER_STARTED = 69
    POWER_STOPPED = 70
    LINE_SET = 71
    LOST = 72
    ENDED = 73
    MEMBERS_READY = 74
    ACCESS = 96
    REPEATED = 97
    DEVICE_FAILED = 98
    FINISHED = 99
    # End of what is generated.
