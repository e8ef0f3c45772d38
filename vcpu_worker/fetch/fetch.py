# SPDX-License-Identifier: GPL-2.0-or-later
"""From a trap without syndrome to a plan of its accesses: get the instruction by a policy, decode it, check it.

For every policy but `unprotected`, the decoded instruction must be able to have made the access that trapped: direction
as HSR.WnR, an access at HDFAR. Where that fails, or PC does not translate any more, the vCPU enters the guest again: it
fetches what is there now, and traps again or takes its own prefetch abort. That is no error.
"""

from __future__ import annotations

from allstop.vcpu_worker.context import VcpuContext
from allstop.vcpu_worker.engine import EXIT_NISV, Exit
from allstop.vcpu_worker.events.performer import EventPerformer
from allstop.vcpu_worker.exits.emulation import EngineState
from allstop.vcpu_worker.fetch.instruction_reader import InstructionReader
from allstop.vcpu_worker.fetch.oracle import Oracle
from allstop.vcpu_worker.fetch.policies import ABORT, POLICIES, FetchMeans
from allstop.vcpu_worker.fetch.stopped_world import StoppedWorld
from allstop.vm.arm import psr
from allstop.vm.arm.decoder import DECODE
from allstop.vm.arm.execution import Plan, plan
from allstop.vm.arm.instruction import Instruction, UndecodableError
from allstop.vm.control.control import (
    ACTIVITY_FETCH,
    COUNT_FETCH_DISAGREED,
    COUNT_FETCH_REFUSED,
    COUNT_FETCH_RETRY,
    HISTOGRAM_FETCH,
)
from allstop.vm.journal.recorder import Recorder

_ALWAYS_DISAGREES = 10_000


class FetchStuckError(Exception):
    """The same instruction trapped again and again, and the fetched one never agrees: the decoder is wrong."""


class Fetch:
    """Fetches and decodes for one vCPU."""

    def __init__(self, context: VcpuContext, performer: EventPerformer) -> None:
        self._vcpu = context.vcpu
        self._performer = performer
        self._number = context.number
        self._control_page = context.control_page
        self._telemetry = telemetry = context.telemetry
        self._fetching = telemetry.step(activity=ACTIVITY_FETCH, histogram=HISTOGRAM_FETCH, record=Recorder.FETCHED)
        self._decode = DECODE[context.config.decode]
        reader, world = InstructionReader(context, performer), StoppedWorld(context, performer)
        self._policy = POLICIES[context.config.fetch](FetchMeans(context, reader, world, self._retrying))
        self._oracle = Oracle(context)
        self._stuck_at = (-1, -1)
        self._stuck_times = 0

    def plan(self, trap: Exit) -> Plan | Exit | None:
        """The plan of the trapped instruction; None when the vCPU has to enter the guest again, or has taken a data
        abort because the decoder refused the instruction; or another exit, to be handled first. Raises RunIsOver,
        FetchStuckError and FetchHandlerError."""
        number = self._number
        if not self._policy.row.fetches:
            self._abort(trap)
            return None
        began_ns = self._fetching.begin(trap.pc)
        self._performer.step("after-trap", trap)
        word, trap = self._policy.word(trap)
        if trap.kind != EXIT_NISV:
            self._fetching.measure(began_ns, number)
            return trap
        self._fetching.end(
            began_ns,
            number,
            trap.pc,
            trap.instruction if trap.length else -1,
            -1 if word is None else word,
            trap.hdfar,
            self._begun - trap.epoch,
        )
        if word is None:
            self._retrying(trap)
            return None
        if word == ABORT:
            self._abort(trap)
            return None
        try:
            instruction: Instruction = self._decode(word, bool(trap.cpsr & psr.T))
            planned = plan(instruction, EngineState(self._vcpu))
        except UndecodableError:
            self._oracle.look(trap, word, self._begun)
            self._telemetry.note(Recorder.FETCH_REFUSED, number, trap.pc, word, counter=COUNT_FETCH_REFUSED)
            self._abort(trap)
            return None
        if self._policy.checks and not _agrees(planned, trap):
            self._telemetry.note(
                Recorder.FETCH_DISAGREED, number, trap.pc, word, trap.hdfar, counter=COUNT_FETCH_DISAGREED
            )
            self._disagreed(trap, instruction)
            return None
        self._oracle.look(trap, word, self._begun)
        return planned

    @property
    def _begun(self) -> int:
        """How many invalidations have begun."""
        return self._control_page.epochs()[1]

    def _abort(self, trap: Exit) -> None:
        self._vcpu.abort(trap.hdfar, is_write=trap.is_write == 1)

    def _retrying(self, trap: Exit) -> None:
        self._telemetry.note(Recorder.FETCH_RETRIED, self._number, trap.pc, counter=COUNT_FETCH_RETRY)

    def _disagreed(self, trap: Exit, instruction: Instruction) -> None:
        at = (trap.pc, instruction.word)
        self._stuck_times = self._stuck_times + 1 if at == self._stuck_at else 1
        self._stuck_at = at
        if self._stuck_times >= _ALWAYS_DISAGREES:
            raise FetchStuckError(
                f"`{instruction}` at {trap.pc:#010x} trapped {self._stuck_times} times on {trap.hdfar:#010x} (HSR "
                f"{trap.hsr:#010x}), which it cannot have accessed: {self._policy.suspect}"
            )


def _agrees(planned: Plan, trap: Exit) -> bool:
    """Whether the instruction can have made the access that trapped."""
    if not planned.instruction.agrees_with(trap.is_write == 1):
        return False
    hdfar = trap.hdfar
    for access in planned.accesses:  # noqa: SIM110 - a generator costs more than the rest of this function
        if access.address <= hdfar < access.address + access.size:
            return True
    return False
