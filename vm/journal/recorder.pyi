# SPDX-License-Identifier: GPL-2.0-or-later
from typing import final

KINDS: tuple[tuple[str, int, str, str, str], ...]

@final
class Recorder:
    """The journal of this process, written. The constants are the kinds of records."""

    # Generated from kinds.h by `python -m allstop.vm.telemetry.generated`:
    TEXT: int
    EXIT: int
    MMIO: int
    FETCHED: int
    FETCH_RETRIED: int
    FETCH_REFUSED: int
    FETCH_DISAGREED: int
    VIOLATION: int
    STOP_ASKED: int
    STOP_GRANTED: int
    WORLD_HELD: int
    PSCI: int
    POWERED_ON: int
    POWERED_OFF: int
    FAILED: int
    MMIO_WRONG: int
    TLBI: int
    SHOOTDOWN: int
    FLUSHED: int
    FLIPPED: int
    SLEPT: int
    PARKED: int
    LINE_TAKEN: int
    ABORTED: int
    PAGED: int
    EVENT_DONE: int
    EVENT_REFUSED: int
    EVENT_DEFERRED: int
    STOP_QUEUED: int
    STOPPED: int
    RELEASED: int
    RESUMED: int
    PSCI_CALLED: int
    POWER_STARTED: int
    POWER_STOPPED: int
    LINE_SET: int
    LOST: int
    ENDED: int
    MEMBERS_READY: int
    ACCESS: int
    REPEATED: int
    DEVICE_FAILED: int
    FINISHED: int
    # End of what is generated.
    def __new__(cls, path: str | int, process: str, role: int, vcpu: int = 0) -> Recorder: ...
    def event(self, kind: int, vcpu: int, /, *operands: int) -> None: ...
    def span(self, kind: int, vcpu: int, began_ns: int, /, *operands: int) -> None: ...
    def text(self, words: str, /) -> None: ...
    def native(self) -> object: ...
    def close(self) -> None: ...
