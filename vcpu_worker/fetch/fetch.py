# SPDX-License-Identifier: GPL-2.0-or-later
"""Instruction fetch without a syndrome: translate PC, read, decode, check, for one policy of DESIGN 7.

Two checks, for every policy but `unprotected`, which is the bug as it was:

* No invalidation was under way when the guest was left, none has begun since. A stop covers only what comes after it:
  between the trap and the stop another vCPU may unmap the page, invalidate (this vCPU is outside: nobody waits for it),
  and fill the page with something else. Reuse of a page must be preceded by an invalidation, so a begun count that has
  not moved says that the page is what it was. Named actors: V0 traps at epoch 7. V1's TLBI makes it 8, V1 fills the
  page. V0 reads the page, sees 8, and enters again.
* The decoded instruction can have made the access that trapped: direction as HSR.WnR, an access at HDFAR.

Where a check fails, or PC does not translate any more, the instruction is tried again: the vCPU will fetch what is
there now, and trap again or take its own prefetch abort. That is no error.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from allstop.vcpu_worker.engine import EXIT_NISV, Exit, Vcpu
from allstop.vcpu_worker.events.performer import EventPerformer
from allstop.vcpu_worker.exits.emulation import EngineState
from allstop.vcpu_worker.fetch.fetch_handler import FetchHandler
from allstop.vcpu_worker.fetch.oracle import Oracle
from allstop.vcpu_worker.links import Links
from allstop.vm.arm.decoder import decode, decode_kvm, thumb_is_wide
from allstop.vm.arm.execution import Plan, plan
from allstop.vm.arm.instruction import Instruction, UndecodableError
from allstop.vm.config.machine import MachineConfig
from allstop.vm.control.control import (
    ACTIVITY_FETCH,
    ACTIVITY_OWN_WORLD,
    ACTIVITY_WAIT_WORLD,
    COUNT_FETCH_DISAGREED,
    COUNT_FETCH_REFUSED,
    COUNT_FETCH_RETRY,
    HISTOGRAM_FETCH,
    HISTOGRAM_STOP,
    ControlPage,
)
from allstop.vm.wire.messages import ReleaseWorld

_THUMB = 1 << 5
_USER = 0x10
_ALWAYS_DISAGREES = 10_000
_PATIENCE = 8
_ABORT = -1  # what a policy gives for an instruction word, so that the guest takes an external data abort


class FetchStuckError(Exception):
    """The same instruction trapped again and again, and what is fetched never agrees: the decoder is wrong."""


class Fetch:
    """Fetches and decodes for one vCPU."""

    def __init__(
        self, config: MachineConfig, vcpu: Vcpu, number: int, page: ControlPage, links: Links, performer: EventPerformer
    ) -> None:
        self._vcpu = vcpu
        self._performer = performer
        self._number = number
        self._page = page
        self._links = links
        self._journal = links.journal
        self._checks = config.fetch != "unprotected"
        self._decode = decode_kvm if config.decode == "kvm" else decode
        policies: dict[str, Callable[[Exit], tuple[int | None, Exit]]] = {
            "stop-world": self._stop_world,
            "unprotected": self._unprotected,
            "validate": self._validate,
        }
        if config.fetch_handler is not None:
            self._handler = FetchHandler(config.fetch_handler, vcpu, number)
            policies["user"] = self._user
        self._policy = policies.get(config.fetch)  # None: abort, which fetches nothing
        self._oracle = Oracle(number, page, links, config.keep_going)
        self._retries = 0
        self._stuck_at = (-1, -1)
        self._stuck_times = 0

    def plan(self, trap: Exit) -> Plan | Exit | None:
        """What the trapped instruction does; None when the vCPU has to enter again, or has taken a data abort because
        the instruction is refused; or another exit, to be handled first. Raises RunIsOver, FetchStuckError and
        FetchHandlerError."""
        page, number = self._page, self._number
        if self._policy is None:
            self._vcpu.abort(trap.hdfar, is_write=bool(trap.hsr >> 6 & 1))
            return None
        started = time.perf_counter_ns()
        page.set_activity(number, ACTIVITY_FETCH, trap.pc)
        self._performer.step("after-trap", trap)
        word, trap = self._policy(trap)
        page.record(number, HISTOGRAM_FETCH, time.perf_counter_ns() - started)
        journal = self._journal
        if trap.kind != EXIT_NISV:
            return trap
        if journal is not None:
            journal.span(
                journal.FETCHED,
                number,
                started,
                trap.pc,
                trap.instruction if trap.length else -1,
                -1 if word is None else word,
                trap.hdfar,
                page.epochs()[1] - trap.epoch,
            )
        if word is None:
            page.count(number, COUNT_FETCH_RETRY)
            if journal is not None:
                journal.event(journal.FETCH_RETRIED, number, trap.pc)
            return None
        if word == _ABORT:
            self._vcpu.abort(trap.hdfar, is_write=bool(trap.hsr >> 6 & 1))
            return None
        try:
            instruction: Instruction = self._decode(word, bool(trap.cpsr & _THUMB))
            planned = plan(instruction, EngineState(self._vcpu))
        except UndecodableError:
            self._oracle.look(trap, word, page.epochs()[1])
            page.count(number, COUNT_FETCH_REFUSED)
            if journal is not None:
                journal.event(journal.FETCH_REFUSED, number, trap.pc, word)
            self._vcpu.abort(trap.hdfar, is_write=bool(trap.hsr >> 6 & 1))
            return None
        if self._checks and not _agrees(planned, trap):
            page.count(number, COUNT_FETCH_DISAGREED)
            if journal is not None:
                journal.event(journal.FETCH_DISAGREED, number, trap.pc, word, trap.hdfar)
            self._disagreed(trap, instruction)
            return None
        self._oracle.look(trap, word, page.epochs()[1])
        return planned

    def _unprotected(self, trap: Exit) -> tuple[int | None, Exit]:
        return self._read_now(trap), trap

    def _user(self, trap: Exit) -> tuple[int | None, Exit]:
        """As a user's function says."""
        answer = self._handler.ask(trap)
        return _ABORT if answer == "abort" else answer, trap

    def _validate(self, trap: Exit) -> tuple[int | None, Exit]:
        """Read without a stop, and believe it when nothing was invalidated meanwhile; else try again. A vCPU that is
        disturbed again and again stops the world once, so that it goes on."""
        word = self._read_now(trap)
        if self._still_valid(trap):
            self._retries = 0
            return word, trap
        self._retries += 1
        if self._retries <= _PATIENCE:
            return None, trap
        self._retries = 0
        return self._stop_world(trap)

    def _stop_world(self, trap: Exit) -> tuple[int | None, Exit]:
        """Read in a stopped world. Readers share one. Where an invalidation came before the stop, the instruction is
        tried again, alone in a world of its own: then it traps where nothing can have changed since, so a guest that
        invalidates without end cannot keep this vCPU from going on."""
        with self._stopped(may_share=True):
            writes = self._page.code_writes()
            if self._still_valid(trap):
                return self._unless_written(writes, self._read_now(trap)), trap
        self._page.count(self._number, COUNT_FETCH_RETRY)
        if (journal := self._journal) is not None:
            journal.event(journal.FETCH_RETRIED, self._number, trap.pc)
        with self._stopped(may_share=False):
            writes = self._page.code_writes()
            trap = self._vcpu.run(1, True)
            return (self._unless_written(writes, self._read_now(trap)) if trap.kind == EXIT_NISV else None), trap

    def _unless_written(self, writes: int, word: int | None) -> int | None:
        """`word`, or None when a device has begun to write to code since `writes` were counted. A stop does not stop
        devices: one that works for a vCPU which waits for it may write to this very page."""
        return word if self._page.code_writes() == writes else None

    @contextlib.contextmanager
    def _stopped(self, may_share: bool) -> Iterator[None]:
        page, number = self._page, self._number
        started = time.perf_counter_ns()
        page.set_activity(number, ACTIVITY_WAIT_WORLD)
        if (journal := self._journal) is not None:
            journal.event(journal.STOP_ASKED, number, may_share)
        stopped = self._links.stop_world("fetch without syndrome", may_share)
        page.record(number, HISTOGRAM_STOP, time.perf_counter_ns() - started)
        page.set_activity(number, ACTIVITY_OWN_WORLD)
        if journal is not None:
            journal.span(journal.STOP_GRANTED, number, started, stopped.epoch, may_share)
            started = time.perf_counter_ns()
        self._performer.world_is_ours = True
        try:
            yield
        finally:
            self._performer.world_is_ours = False
            self._links.tell(ReleaseWorld(stopped.epoch))
            if journal is not None:
                journal.span(journal.WORLD_HELD, number, started, stopped.epoch)

    def _still_valid(self, trap: Exit) -> bool:
        """Whether no translation of this vCPU's trapped instruction was invalidated since, or was about to be."""
        _, begun, _ = self._page.epochs()
        return trap.settled == 1 and begun == trap.epoch

    def _disagreed(self, trap: Exit, instruction: Instruction) -> None:
        at = (trap.pc, instruction.word)
        self._stuck_times = self._stuck_times + 1 if at == self._stuck_at else 1
        self._stuck_at = at
        if self._stuck_times >= _ALWAYS_DISAGREES:
            raise FetchStuckError(
                f"`{instruction}` at {trap.pc:#010x} trapped {self._stuck_times} times on {trap.hdfar:#010x} (HSR "
                f"{trap.hsr:#010x}), which it cannot have accessed: "
                + (
                    "the fetch handler answers something else than what is there"
                    if self._policy == self._user
                    else "please report this instruction"
                )
            )

    def _read_now(self, trap: Exit) -> int | None:
        """The word at PC, a wide Thumb instruction as first << 16 | second; None when PC does not translate."""
        privileged = trap.cpsr & 0x1F != _USER
        if not trap.cpsr & _THUMB:
            return self._fetch(trap, trap.pc, 4, privileged)
        first = self._fetch(trap, trap.pc, 2, privileged)
        if first is None or not thumb_is_wide(first):
            return first
        second = self._fetch(trap, trap.pc + 2 & 0xFFFFFFFF, 2, privileged)
        return None if second is None else first << 16 | second

    def _fetch(self, trap: Exit, gva: int, size: int, privileged: bool) -> int | None:
        """What the frame holds that `gva` translates to. The translation has a swapped page brought in; but what
        becomes of the frame between that and the read is what this project is about."""
        ipa = self._vcpu.translate(gva, False, privileged)
        if ipa is None:
            return None
        self._vcpu.bring_in(ipa, size)
        self._performer.step("after-translate", trap)
        self._performer.step("before-read", trap)
        data = self._vcpu.read_frame(ipa, size)
        return None if data is None else int.from_bytes(data, "little")


def _agrees(planned: Plan, trap: Exit) -> bool:
    """Whether the instruction can have made the access that trapped."""
    if not planned.instruction.agrees_with(bool(trap.hsr >> 6 & 1)):
        return False
    hdfar = trap.hdfar
    for access in planned.accesses:  # noqa: SIM110 - a generator costs more than the rest of this function
        if access.address <= hdfar < access.address + access.size:
            return True
    return False
