# SPDX-License-Identifier: GPL-2.0-or-later
"""The lifecycle of a run, from the first process to the last.

A state machine without I/O: each method is an input, what has happened, and returns effects, what to do. Time comes
with each input, in seconds of a monotonic clock.

    STARTING   processes come up; the coordinator reports MembersReady       -> Boot, RUNNING
    RUNNING    the guest runs; the coordinator reports RunEnded              -> Shutdown, LEAVING
    SETTLING   a process was lost, and the coordinator knows; its RunEnded   -> Shutdown, LEAVING
               may carry a verdict that is older than the loss
    LEAVING    there is a verdict; processes exit, or are killed             -> OVER
    OVER       all processes are gone

The first verdict stands. Losing the coordinator must not hang the launcher, so every phase has a deadline.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from allstop.deploy.outcome.verdict import USAGE_EXIT_CODE
from allstop.deploy.processes.members import Member
from allstop.vm.wire.messages import (
    ROLE_COORDINATOR,
    ROLE_HOST,
    VERDICTS,
    Boot,
    Message,
    ProcessLost,
    RunEnded,
    Shutdown,
)

START_S = 60.0
START_PER_VCPU_S = 1.0
SETTLE_S = 0.5
LEAVE_S = 2.0
LEAVE_AFTER_LOSS_S = 0.5
LEAVE_WITH_JOURNALS_S = 600.0
LEAVE_HOSTS_S = 5.0


class Phase(enum.Enum):
    """See the module's documentation."""

    STARTING = enum.auto()
    RUNNING = enum.auto()
    SETTLING = enum.auto()
    LEAVING = enum.auto()
    OVER = enum.auto()


@dataclass(frozen=True)
class Send:
    """Send the message to the coordinator."""

    message: Message


@dataclass(frozen=True)
class Kill:
    """Kill the member of this index."""

    index: int


Effect: TypeAlias = Send | Kill


class Lifecycle:
    """One run's lifecycle. `verdict`, `sentence` and `guest_status` hold from LEAVING on.

    `refusal` is a usage error that only a member could find: then there was no run.
    """

    def __init__(self, members: Sequence[Member], boot: Boot, timeout_s: float | None) -> None:
        self._members = members
        self._boot = boot
        self._timeout_s = timeout_s
        self._alive: set[int] = set()
        self._killed: set[int] = set()
        self._interrupts = 0
        self._lost_sentence = ""
        self.phase = Phase.STARTING
        self.deadline_s: float | None = None
        self._booted_s: float | None = None
        self._ended_s: float | None = None
        self.verdict = ""
        self.sentence = ""
        self.guest_status: int | None = None
        self.notes: list[str] = []
        self.refusal = ""

    @property
    def guest_s(self) -> float:
        """The time from the guest's first instruction to the verdict; 0 when it never ran."""
        if self._booted_s is None or self._ended_s is None:
            return 0.0
        return self._ended_s - self._booted_s

    @property
    def interrupted_before(self) -> bool:
        """Whether the user has interrupted the run."""
        return self._interrupts > 0

    def begun(self, now_s: float) -> None:
        """The first process is about to start."""
        self.deadline_s = now_s + START_S + START_PER_VCPU_S * len(self._members)

    def started(self, index: int) -> None:
        """A member has started."""
        self._alive.add(index)

    def ready(self, now_s: float) -> list[Effect]:
        """The coordinator reports that all members are connected."""
        if self.phase is not Phase.STARTING:
            return []
        self.phase = Phase.RUNNING
        self._booted_s = now_s
        self.deadline_s = None if self._timeout_s is None else now_s + self._timeout_s
        return [Send(self._boot)]

    def ended(self, message: RunEnded, now_s: float) -> list[Effect]:
        """The coordinator reports a verdict."""
        if self.phase in (Phase.LEAVING, Phase.OVER):
            return []
        verdict = VERDICTS[message.verdict] if message.verdict < len(VERDICTS) else "error"
        if verdict in ("pass", "fail"):
            self.guest_status = message.status
        lost = self.phase is Phase.SETTLING and verdict == "lost"
        return self._conclude(verdict, self._lost_sentence if lost else message.sentence, now_s)

    def gone(self, index: int, sentence: str, status: int, now_s: float) -> list[Effect]:
        """A member has exited and was reaped; a negative `status` is the signal that killed it.

        A member that exits by itself before the machine is up has said why it cannot work: an error, not a loss.
        """
        if index not in self._alive:
            return []
        self._alive.discard(index)
        effects: list[Effect] = []
        if self.phase is Phase.STARTING and status > 0:
            effects = self._conclude("error", sentence, now_s)
        elif self.phase is not Phase.LEAVING:
            effects = self._lost(index, sentence, now_s)
        elif status != 0 and index not in self._killed:
            if self.verdict not in ("lost", "error"):  # later exits are consequences, not causes
                self.notes.append(sentence)
            effects = self._kill_all() if self._is_coordinator(index) else []
        return [] if self._over() else effects

    def refused(self, index: int, sentence: str, now_s: float) -> list[Effect]:
        """A member has exited with a usage error: `sentence` says which."""
        if self.phase is Phase.STARTING:
            self.refusal = sentence
        return self.gone(index, sentence, USAGE_EXIT_CODE, now_s)

    def hangs(self, index: int, sentence: str, now_s: float) -> list[Effect]:
        """A member gives no sign of life: it is killed, and counts as lost."""
        if index not in self._alive or index in self._killed:
            return []
        self._killed.add(index)
        if self.phase is Phase.LEAVING:
            return [Kill(index)]
        return [Kill(index), *self._lost(index, sentence, now_s)]

    def interrupted(self, sentence: str, now_s: float) -> list[Effect]:
        """The user interrupts the run; a second time kills what is left."""
        self._interrupts += 1
        if self.phase in (Phase.LEAVING, Phase.OVER):
            return self._kill_all() if self._interrupts > 1 else []
        return self._conclude("error", sentence, now_s)

    def failed(self, sentence: str, now_s: float, verdict: str = "error") -> list[Effect]:
        """The launcher itself cannot go on; `lost` when it lost a process that is not a member, such as the zygote."""
        return [] if self.phase in (Phase.LEAVING, Phase.OVER) else self._conclude(verdict, sentence, now_s)

    def due(self, now_s: float, telemetry: str) -> list[Effect]:
        """`deadline_s` may have passed; `telemetry` is what the machine is doing, in words."""
        if self.deadline_s is None or now_s < self.deadline_s:
            return []
        if self.phase is Phase.STARTING:
            return self._conclude("error", f"the machine did not come up: {telemetry}", now_s)
        if self.phase is Phase.RUNNING:
            return self._conclude(
                "timeout", f"the guest had not finished after {self._timeout_s:g} s: {telemetry}", now_s
            )
        if self.phase is Phase.SETTLING:
            return self._conclude("lost", self._lost_sentence, now_s)
        self.deadline_s = None
        return self._kill_all()

    def sending(self, now_s: float) -> None:
        """Another host is sending its journals: allow more time to leave, up to LEAVE_WITH_JOURNALS_S."""
        if self.phase is Phase.LEAVING and self.deadline_s is not None and self._ended_s is not None:
            self.deadline_s = max(self.deadline_s, min(now_s + LEAVE_S, self._ended_s + LEAVE_WITH_JOURNALS_S))

    def _lost(self, index: int, sentence: str, now_s: float) -> list[Effect]:
        self._lost_sentence = self._lost_sentence or sentence
        if self._is_coordinator(index):
            return self._conclude("lost", self._lost_sentence, now_s)
        if self.phase is Phase.SETTLING:
            return []
        self.phase = Phase.SETTLING
        self.deadline_s = now_s + SETTLE_S
        member = self._members[index]
        return [Send(ProcessLost(member.role, member.vcpu, sentence))]

    def _conclude(self, verdict: str, sentence: str, now_s: float) -> list[Effect]:
        self.verdict, self.sentence = verdict, sentence
        self._ended_s = now_s
        self.phase = Phase.LEAVING
        # Other hosts send their reports then, which takes time on a bad wire.
        hosts, lost = any(member.role == ROLE_HOST for member in self._members), verdict in ("lost", "error")
        leave_s = (LEAVE_S if lost else LEAVE_HOSTS_S) if hosts else LEAVE_AFTER_LOSS_S if lost else LEAVE_S
        self.deadline_s = now_s + leave_s
        if self._over():
            return []
        if any(self._is_coordinator(index) for index in self._alive - self._killed):
            return [Send(Shutdown())]
        return self._kill_all()

    def _kill_all(self) -> list[Effect]:
        victims = sorted(self._alive - self._killed)
        self._killed.update(victims)
        return [Kill(index) for index in victims]

    def _over(self) -> bool:
        if self.phase is Phase.LEAVING and not self._alive:
            self.phase = Phase.OVER
            self.deadline_s = None
        return self.phase is Phase.OVER

    def _is_coordinator(self, index: int) -> bool:
        return self._members[index].role == ROLE_COORDINATOR
