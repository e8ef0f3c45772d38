# SPDX-License-Identifier: GPL-2.0-or-later
from collections.abc import Iterable
from typing import TypeAlias, final

_Ledger: TypeAlias = tuple[int, int, tuple[tuple[int, int, bool, int, bool], ...]]

COUNTER_NAMES: tuple[str, ...]
EXIT_COUNTERS: tuple[str, ...]
HISTOGRAMS: tuple[tuple[str, str, str, str, str], ...]

# Generated from rows.h by `python -m allstop.vm.telemetry.generated`:
OUTSIDE: int
IN_GUEST: int
EXITING: int
SLEEPING: int
POWER_OFF: int
POWER_PENDING: int
POWER_ON: int
COORDINATOR: int
DEVICES: int
DEBUGGER: int
NODE: int
STOP: int
TLB_FLUSH: int
CODE_FLUSH: int
INTERRUPT: int
EVENT: int
PING: int
QUIT: int
TICK: int
TLB_PAGES: int
HOLD: int
COUNT_MMIO_READ: int
COUNT_MMIO_WRITE: int
COUNT_NISV: int
COUNT_HVC: int
COUNT_SMC: int
COUNT_WFI: int
COUNT_WFE: int
COUNT_YIELD: int
COUNT_TLBI: int
COUNT_CP15: int
COUNT_STAGE2_FAULT: int
COUNT_TOGGLE_EXEC: int
COUNT_TOGGLE_WRITE: int
COUNT_SHARED_CODE: int
COUNT_TLB_FLUSH: int
COUNT_CODE_FLUSH: int
COUNT_INTERRUPT: int
COUNT_KICK: int
COUNT_STOPPED: int
COUNT_ICACHE: int
COUNT_PING: int
COUNT_UNASSIGNED: int
COUNT_ABORT: int
COUNT_FETCH_RETRY: int
COUNT_FETCH_REFUSED: int
COUNT_FETCH_DISAGREED: int
COUNT_FETCH_WRONG: int
COUNT_STALE_TLB: int
COUNT_RESENT: int
COUNT_STALE: int
COUNT_SWAP_OUT: int
COUNT_SWAP_IN: int
COUNT_SWAP_WRITTEN: int
COUNT_OTHER: int
COUNT_MMIO_WRONG: int
COUNT_UNDEFINED: int
COUNT_SEMIHOSTING: int
COUNT_SEMIHOSTING_BAD: int
COUNT_PAGE_READ: int
COUNT_PAGE_WRITE: int
HISTOGRAM_MMIO: int
HISTOGRAM_STOP: int
HISTOGRAM_SHOOTDOWN: int
HISTOGRAM_FETCH: int
HISTOGRAM_PAGE: int
ACTIVITY_NONE: int
ACTIVITY_OFF: int
ACTIVITY_GUEST: int
ACTIVITY_WFI: int
ACTIVITY_MMIO: int
ACTIVITY_WAIT_WORLD: int
ACTIVITY_OWN_WORLD: int
ACTIVITY_PARKED: int
ACTIVITY_PSCI: int
ACTIVITY_FETCH: int
ACTIVITY_SHOOTDOWN: int
ACTIVITY_DEVICE: int
ACTIVITY_STOPPING: int
ACTIVITY_IDLE: int
ACTIVITY_SEMIHOSTING: int
ACTIVITY_PAGE: int
# End of what is generated.

def bucket_ns(bucket: int, /) -> float: ...

@final
class ControlPage:
    """The control page of one host, mapped from an inherited memory file. The C files document each method."""

    # Generated from rows.h by `python -m allstop.vm.telemetry.generated`:
    OUTSIDE: int
    IN_GUEST: int
    EXITING: int
    SLEEPING: int
    POWER_OFF: int
    POWER_PENDING: int
    POWER_ON: int
    COORDINATOR: int
    DEVICES: int
    DEBUGGER: int
    NODE: int
    STOP: int
    TLB_FLUSH: int
    CODE_FLUSH: int
    INTERRUPT: int
    EVENT: int
    PING: int
    QUIT: int
    TICK: int
    TLB_PAGES: int
    HOLD: int
    COUNT_MMIO_READ: int
    COUNT_MMIO_WRITE: int
    COUNT_NISV: int
    COUNT_HVC: int
    COUNT_SMC: int
    COUNT_WFI: int
    COUNT_WFE: int
    COUNT_YIELD: int
    COUNT_TLBI: int
    COUNT_CP15: int
    COUNT_STAGE2_FAULT: int
    COUNT_TOGGLE_EXEC: int
    COUNT_TOGGLE_WRITE: int
    COUNT_SHARED_CODE: int
    COUNT_TLB_FLUSH: int
    COUNT_CODE_FLUSH: int
    COUNT_INTERRUPT: int
    COUNT_KICK: int
    COUNT_STOPPED: int
    COUNT_ICACHE: int
    COUNT_PING: int
    COUNT_UNASSIGNED: int
    COUNT_ABORT: int
    COUNT_FETCH_RETRY: int
    COUNT_FETCH_REFUSED: int
    COUNT_FETCH_DISAGREED: int
    COUNT_FETCH_WRONG: int
    COUNT_STALE_TLB: int
    COUNT_RESENT: int
    COUNT_STALE: int
    COUNT_SWAP_OUT: int
    COUNT_SWAP_IN: int
    COUNT_SWAP_WRITTEN: int
    COUNT_OTHER: int
    COUNT_MMIO_WRONG: int
    COUNT_UNDEFINED: int
    COUNT_SEMIHOSTING: int
    COUNT_SEMIHOSTING_BAD: int
    COUNT_PAGE_READ: int
    COUNT_PAGE_WRITE: int
    HISTOGRAM_MMIO: int
    HISTOGRAM_STOP: int
    HISTOGRAM_SHOOTDOWN: int
    HISTOGRAM_FETCH: int
    HISTOGRAM_PAGE: int
    ACTIVITY_NONE: int
    ACTIVITY_OFF: int
    ACTIVITY_GUEST: int
    ACTIVITY_WFI: int
    ACTIVITY_MMIO: int
    ACTIVITY_WAIT_WORLD: int
    ACTIVITY_OWN_WORLD: int
    ACTIVITY_PARKED: int
    ACTIVITY_PSCI: int
    ACTIVITY_FETCH: int
    ACTIVITY_SHOOTDOWN: int
    ACTIVITY_DEVICE: int
    ACTIVITY_STOPPING: int
    ACTIVITY_IDLE: int
    ACTIVITY_SEMIHOSTING: int
    ACTIVITY_PAGE: int
    # End of what is generated.
    def __new__(cls, fd: int) -> ControlPage: ...
    @classmethod
    def create(cls, fd: int, vcpus: int, cores: int, tlb: int = 0, time_dilation: int = 1) -> ControlPage: ...
    @staticmethod
    def size_bytes(vcpus: int, /) -> int: ...
    @property
    def vcpus(self) -> int: ...
    @property
    def cores(self) -> int: ...
    def post(self, vcpu: int, bits: int, /) -> None: ...
    def clear(self, vcpu: int, bits: int, /) -> None: ...
    def requests(self, vcpu: int, /) -> int: ...
    def mode(self, vcpu: int, /) -> int: ...
    def set_mode(self, vcpu: int, mode: int, /) -> bool: ...
    def wait_outside(self, vcpu: int, timeout_s: float, /) -> bool: ...
    def stop(self, owners: Iterable[int], timeout_s: float, /) -> list[int]: ...
    def resume(self) -> None: ...
    def head_start(self, vcpu: int, /) -> None: ...
    def may_poll(self, vcpu: int, /) -> bool: ...
    def set_line(self, vcpu: int, line: int, /) -> bool: ...
    def line(self, vcpu: int, /) -> int: ...
    def power(self, vcpu: int, /) -> int: ...
    def set_power(self, vcpu: int, power: int, /) -> None: ...
    def pid(self, slot: int, /) -> int: ...
    def set_pid(self, slot: int, pid: int, /) -> None: ...
    def beat(self, slot: int, /) -> None: ...
    def heartbeat(self, slot: int, /) -> int: ...
    def set_activity(self, slot: int, code: int, detail: int = 0, pc: int = 0) -> None: ...
    def activity(self, slot: int, /) -> tuple[int, int, int, int]: ...
    def describe(self, slot: int, /) -> str: ...
    def count(self, vcpu: int, counter: int, n: int = 1, /) -> None: ...
    def counters(self, vcpu: int, /) -> tuple[int, ...]: ...
    def record(self, vcpu: int, histogram: int, ns: int, /) -> None: ...
    def histogram(self, vcpu: int, histogram: int, /) -> list[int]: ...
    def count_event(self, index: int, done: bool, /) -> None: ...
    def event_counts(self, index: int, /) -> tuple[int, int]: ...
    def undefined(self, vcpu: int, /) -> list[tuple[int, int]]: ...
    def epochs(self) -> tuple[int, int, int]: ...
    def code_writes(self) -> int: ...
    def arrivals(self) -> int: ...
    def want_page(self, ipa: int, /) -> None: ...
    def leave_page(self) -> None: ...
    def next_stop_epoch(self) -> int: ...
    def issue_access(self, vcpu: int, /) -> None: ...
    def perform_access(
        self, vcpu: int, ipa: int, size: int, is_write: bool, value: int, unassigned: bool, /
    ) -> None: ...
    def complete_access(
        self, vcpu: int, ipa: int, size: int, is_write: bool, value: int, unassigned: bool, /
    ) -> bool: ...
    def settle_accesses(self, vcpu: int, /) -> None: ...
    def accesses(self, vcpu: int, /) -> tuple[int, _Ledger, _Ledger]: ...
