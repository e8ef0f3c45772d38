# SPDX-License-Identifier: GPL-2.0-or-later
"""The fetch policies: each is a class here, with the argument why it is sound, and a row in `vm/config/policies.py`.

The premise of every argument: a guest that changes the instruction under a virtual address, or reuses the frame under
it, invalidates first, and makes the change only after the invalidation is over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from allstop.vcpu_worker.context import VcpuContext
from allstop.vcpu_worker.engine import EXIT_NISV, Exit
from allstop.vcpu_worker.fetch.fetch_handler import FetchHandler
from allstop.vcpu_worker.fetch.instruction_reader import InstructionReader
from allstop.vcpu_worker.fetch.stopped_world import StoppedWorld
from allstop.vm.config.policies import FetchRow, fetch_row

ABORT = -1
"""What a policy gives for an instruction word, so that the guest takes an external data abort."""
_PATIENCE = 8


@dataclass(frozen=True)
class FetchMeans:
    """What a policy works with. `retrying(trap)` counts and journals a fetch that the policy itself tries again."""

    context: VcpuContext
    reader: InstructionReader
    world: StoppedWorld
    retrying: Callable[[Exit], None]


class FetchPolicy:
    """How a worker gets the instruction of an access that trapped without syndrome.

    `row` is the policy's in `vm/config/policies.py`. `checks` says whether the decoded instruction must be able to have
    made the access. `suspect` ends the sentence about an instruction that never agrees with its trap.
    """

    row: ClassVar[FetchRow]
    checks: ClassVar[bool] = True
    suspect: ClassVar[str] = "please report this instruction"

    def __init_subclass__(cls, name: str) -> None:
        """Register the class as the policy `name`."""
        cls.row = fetch_row(name)
        POLICIES[name] = cls

    def __init__(self, means: FetchMeans) -> None:
        self._means = means

    def word(self, trap: Exit) -> tuple[int | None, Exit]:
        """The instruction word, None to enter the guest again, or ABORT; and the trap that the word belongs to, or
        another exit, to be handled first. Raises RunIsOver and FetchHandlerError."""
        raise NotImplementedError


POLICIES: dict[str, type[FetchPolicy]] = {}


class StopWorld(FetchPolicy, name="stop-world"):
    """Read while every other vCPU is held outside the guest: the cure of 2013. Readers share one stop.

    Sound: V1 cannot run between V0's translation and its read. But a stop covers only what comes after it. V0 traps at
    epoch 7; V1's TLBI makes it 8, without waiting for V0, which is outside the guest; V1 reuses the frame; only then
    does V0 own the world. So V0 compares the count of invalidations begun with the one of its trap. If it has moved, V0
    asks for the world alone and executes the instruction again there: it traps where nothing can have changed since, or
    takes its prefetch abort. So a guest that invalidates without end cannot keep V0 from making progress.
    """

    def word(self, trap: Exit) -> tuple[int | None, Exit]:
        means = self._means
        reader = means.reader
        with means.world.held(may_share=True):
            writes = reader.code_writes()
            if reader.is_undisturbed(trap):
                return reader.unless_written(writes, reader.read(trap)), trap
        means.retrying(trap)
        with means.world.held(may_share=False):
            writes = reader.code_writes()
            trap = means.context.vcpu.run(1, True)
            return (reader.unless_written(writes, reader.read(trap)) if trap.kind == EXIT_NISV else None), trap


class Unprotected(FetchPolicy, name="unprotected"):
    """Translate PC, read, decode, emulate: the bug as it was.

    Wrong under `broadcast`: V1's TLBI waits for vCPUs in the guest, and V0 is in its hypervisor, between trap and read.
    V1 reuses the frame, and V0 reads what V1 wrote. Sound under `ipi`, where the TLBI also waits for V0's exit.
    """

    checks = False

    def word(self, trap: Exit) -> tuple[int | None, Exit]:
        return self._means.reader.read(trap), trap


class Validate(StopWorld, name="validate"):
    """Read without a stop, and believe the word if no invalidation was under way at the trap and none has begun since.
    Otherwise the vCPU enters the guest and traps again; after eight disturbed tries in a row it stops the world.

    Sound: suppose V0 read something else than it executed. Then an invalidation X was over before the page changed. If
    X began after V0 took its count at the trap, the count has moved when V0 looks again, for X counts itself before it
    asks any vCPU. If X began before, then either it was over, and V0 had flushed for it before it executed the
    instruction, so V0 executed what it read; or it was under way, and V0 saw more begun than done.
    """

    def __init__(self, means: FetchMeans) -> None:
        super().__init__(means)
        self._retries = 0

    def word(self, trap: Exit) -> tuple[int | None, Exit]:
        word = self._means.reader.read(trap)
        if self._means.reader.is_undisturbed(trap):
            self._retries = 0
            return word, trap
        self._retries += 1
        if self._retries <= _PATIENCE:
            return None, trap
        self._retries = 0
        return super().word(trap)


class Abort(FetchPolicy, name="abort"):
    """Read nothing: the guest takes an external data abort, as with KVM_CAP_ARM_INJECT_EXT_DABT.

    Sound, for nothing is decoded; useless to a guest that has no other way to access the device.
    """

    def word(self, trap: Exit) -> tuple[int | None, Exit]:
        return ABORT, trap


class User(FetchPolicy, name="user"):
    """Ask a user's function, as KVM_EXIT_ARM_NISV asks user space. As sound as the function: no vCPU is stopped."""

    suspect = "the fetch handler answers something else than what is there"

    def __init__(self, means: FetchMeans) -> None:
        super().__init__(means)
        context = means.context
        handler = context.config.fetch_handler
        if handler is None:
            raise ValueError("the fetch policy user needs a fetch handler")
        self._handler = FetchHandler(handler, context.vcpu, context.number)

    def word(self, trap: Exit) -> tuple[int | None, Exit]:
        answer = self._handler.ask(trap)
        return ABORT if answer == "abort" else answer, trap
