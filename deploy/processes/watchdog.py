# SPDX-License-Identifier: GPL-2.0-or-later
"""Which processes of a machine hang. Pure: samples come in, phrases come out; no clock and no /proc is read here.

A process is judged by three things: its heartbeat in the control page, its state as the kernel sees it, and the CPU
time that it has used. One whose heartbeat does not move hangs if it

    is stopped (T, t) or dead without having been reaped (Z)                for STOPPED_S, or
    sleeps (S, D) through                                                   for SLEPT_S, or
    uses its core, without a beat                                           for SPUN_S of CPU time.

A process that waits for a core does not hang, however long it waits: it is in state R and uses no CPU time. So the
judgement holds on an overloaded host, where wall-clock limits would not. For the same reason at most MAX_GAP_S of the
time between two samples counts: the launcher itself may have been late. A process that has never beaten is still
starting, and gets START_FACTOR times as long: it may be loading a user's module.
"""

from __future__ import annotations

STOPPED_S = 1.0
SLEPT_S = 1.5
SPUN_S = 1.5
START_FACTOR = 8.0
MAX_GAP_S = 0.5
NODE_PATIENCE = 2.0  # a node waits for vCPUs to leave the guest

_STOPPED_STATES = "TtZX"
_SLEEPING_STATES = "SDI"


class Watchdog:
    """Watches one process: call `is_silent` at each look, and `judge` when it returns True.

    `patience` multiplies the limits of a process that waits for others: if those hang, they must be found first."""

    def __init__(self, now_s: float, patience: float = 1.0) -> None:
        self._patience = patience
        self._looked_s = now_s
        self._gap_s = 0.0
        self._heartbeat = 0
        self._reset()

    def _reset(self) -> None:
        self._cpu_base_s: float | None = None
        self._stopped_s = 0.0
        self._slept_s = 0.0
        self._was_stopped = False

    def is_silent(self, now_s: float, heartbeat: int) -> bool:
        """Record a look at the process; True when it has not beaten since the previous one."""
        self._gap_s = min(max(now_s - self._looked_s, 0.0), MAX_GAP_S)
        self._looked_s = now_s
        if heartbeat == self._heartbeat:
            return True
        self._heartbeat = heartbeat
        self._reset()
        return False

    def judge(self, state: str, cpu_s: float) -> str | None:
        """Judge a silent process by its kernel state (one letter of /proc) and its CPU time so far.

        Returns a phrase for "PROCESS ..." when it hangs, else None.
        """
        if self._cpu_base_s is None:
            self._cpu_base_s = cpu_s
        stopped = state in _STOPPED_STATES
        self._stopped_s = self._stopped_s + self._gap_s if stopped and self._was_stopped else 0.0
        self._was_stopped = stopped
        self._slept_s = self._slept_s + self._gap_s if state in _SLEEPING_STATES else 0.0
        patience = self._patience * (1.0 if self._heartbeat else START_FACTOR)
        if self._stopped_s >= STOPPED_S:
            return "is stopped"
        if self._slept_s >= SLEPT_S * patience:
            return "hangs: it sleeps and gives no sign of life"
        if cpu_s - self._cpu_base_s >= SPUN_S * patience:
            return "hangs: it spins and gives no sign of life"
        return None
