# SPDX-License-Identifier: GPL-2.0-or-later
"""The operator pause: what operators want of the stopped world, and the one stop that all of them share.

What may live here: decisions; inputs in, effects out, no I/O. The operator pause itself owns the stop (see
`barrier`), so a pause survives the operator that asked for it, and it wants the world as long as

    the machine is paused, or is to be               PauseAsked ... ResumeAsked
    or registers are wanted that have not come       RegistersAsked ... Dumped, Lost or Expired

A vCPU is asked for its registers when the operator pause has the world, so those of one request are of one
stop. Each question has a number: an answer that comes too late is not taken for that of a later stop. A vCPU
may be unable to answer: the `ipi` discipline has it wait natively for another vCPU, which may itself wait for
the world. Expired ends that.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from allstop.vm.wire.messages import MachinePaused, MachineResumed, Message, Refused, Registers

# Inputs


@dataclass(frozen=True, slots=True)
class PauseAsked:
    """`operator` wants the machine to pause."""

    operator: bytes


@dataclass(frozen=True, slots=True)
class ResumeAsked:
    """`operator` wants it to go on."""

    operator: bytes


@dataclass(frozen=True, slots=True)
class RegistersAsked:
    """`operator` wants the registers of these vCPUs, which are in the machine."""

    operator: bytes
    vcpus: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Granted:
    """The operator pause has the world, as stop `epoch`."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Denied:
    """The operator pause will not get the world."""

    sentence: str


@dataclass(frozen=True, slots=True)
class Dumped:
    """The worker of `vcpu` answers question `nonce`."""

    vcpu: int
    nonce: int
    registers: bytes


@dataclass(frozen=True, slots=True)
class Lost:
    """The worker of `vcpu` is dead."""

    vcpu: int


@dataclass(frozen=True, slots=True)
class Expired:
    """The time for the answers to the questions asked so far has passed."""


# Effects


@dataclass(frozen=True, slots=True)
class AskWorld:
    """Ask for the world for the operator pause."""


@dataclass(frozen=True, slots=True)
class LeaveWorld:
    """Give the world back, or no longer ask for it."""


@dataclass(frozen=True, slots=True)
class Dump:
    """Ask the worker of `vcpu` for its registers: question `nonce`. It may take some time, then comes Expired."""

    vcpu: int
    nonce: int


@dataclass(frozen=True, slots=True)
class Tell:
    """Answer an operator."""

    operator: bytes
    message: Message


Input: TypeAlias = PauseAsked | ResumeAsked | RegistersAsked | Granted | Denied | Dumped | Lost | Expired
Effect: TypeAlias = AskWorld | LeaveWorld | Dump | Tell


class OperatorPause:
    """The pause and the registers that the operators of one machine want."""

    def __init__(self) -> None:
        self.paused = False
        """The machine is paused, or will be when the world has stopped."""
        self._lost: set[int] = set()
        self._epoch: int | None = None  # of the stop that the operator pause owns
        self._asking = False
        self._pauser: bytes | None = None  # the operator that waits for the pause to begin
        self._wanted: dict[int, list[bytes]] = {}  # by vCPU, the operators that wait for its registers
        self._questions: dict[int, int] = {}  # vCPU to nonce, of those that have been asked
        self._nonce = 0

    @property
    def waits(self) -> bool:
        """Whether a vCPU has been asked and has not answered."""
        return bool(self._questions)

    @property
    def has_world(self) -> bool:
        """Whether the world is stopped for the operator pause."""
        return self._epoch is not None

    def handle(self, given: Input) -> list[Effect]:
        """Take one input; the effects are to be performed in their order."""
        match given:
            case PauseAsked(operator):
                return self._pause(operator)
            case ResumeAsked(operator):
                return self._resume(operator)
            case RegistersAsked(operator, vcpus):
                return self._ask(operator, vcpus)
            case Granted(epoch):
                return self._begin(epoch)
            case Denied(sentence):
                return self._deny(sentence)
            case Dumped(vcpu, nonce, registers):
                if self._questions.get(vcpu) != nonce:
                    return []
                return self._answer(vcpu, Registers(vcpu, registers))
            case Lost(vcpu):
                self._lost.add(vcpu)
                return self._answer(vcpu, _lost(vcpu)) if vcpu in self._wanted else []
            case Expired():
                return self._expire()

    def _pause(self, operator: bytes) -> list[Effect]:
        if self.paused:
            return [Tell(operator, Refused("the machine is paused already"))]
        self.paused = True
        if self._epoch is not None:
            return [Tell(operator, MachinePaused(self._epoch))]
        self._pauser = operator
        return self._want_world()

    def _resume(self, operator: bytes) -> list[Effect]:
        if not self.paused:
            return [Tell(operator, Refused("the machine is not paused"))]
        self.paused = False
        effects: list[Effect] = [Tell(operator, MachineResumed())]
        if self._pauser is not None:
            effects.append(Tell(self._pauser, Refused("another operator had the machine go on before it had paused")))
            self._pauser = None
        return effects + self._settle()

    def _ask(self, operator: bytes, vcpus: tuple[int, ...]) -> list[Effect]:
        effects: list[Effect] = []
        for vcpu in vcpus:
            if vcpu in self._lost:
                effects.append(Tell(operator, _lost(vcpu)))
            else:
                self._wanted.setdefault(vcpu, []).append(operator)
        if not self._wanted:
            return effects
        return effects + (self._want_world() if self._epoch is None else self._dump(vcpus))

    def _want_world(self) -> list[Effect]:
        if self._asking:
            return []
        self._asking = True
        return [AskWorld()]

    def _begin(self, epoch: int) -> list[Effect]:
        self._asking = False
        self._epoch = epoch
        effects: list[Effect] = []
        if self._pauser is not None:
            effects.append(Tell(self._pauser, MachinePaused(epoch)))
            self._pauser = None
        return effects + self._dump(self._wanted) + self._settle()

    def _dump(self, vcpus: Iterable[int]) -> list[Effect]:
        effects: list[Effect] = []
        for vcpu in vcpus:
            if vcpu in self._wanted and vcpu not in self._questions:
                self._nonce += 1
                self._questions[vcpu] = self._nonce
                effects.append(Dump(vcpu, self._nonce))
        return effects

    def _answer(self, vcpu: int, message: Message) -> list[Effect]:
        self._questions.pop(vcpu, None)
        return [*(Tell(operator, message) for operator in self._wanted.pop(vcpu)), *self._settle()]

    def _expire(self) -> list[Effect]:
        effects: list[Effect] = []
        for vcpu in list(self._questions):
            del self._questions[vcpu]
            refused = Refused(f"vCPU {vcpu} is stopped, but it does not answer: ask again, or look at its status")
            effects += (Tell(operator, refused) for operator in self._wanted.pop(vcpu))
        return effects + self._settle() if effects else []

    def _deny(self, sentence: str) -> list[Effect]:
        waiting = {operator for operators in self._wanted.values() for operator in operators}
        if self._pauser is not None:
            waiting.add(self._pauser)
        self._asking, self.paused, self._pauser = False, False, None
        self._wanted.clear()
        return [Tell(operator, Refused(sentence)) for operator in sorted(waiting)]

    def _settle(self) -> list[Effect]:
        """Leave the world when no operator wants it any more."""
        if self.paused or self._wanted or (self._epoch is None and not self._asking):
            return []
        self._epoch, self._asking = None, False
        return [LeaveWorld()]


def _lost(vcpu: int) -> Refused:
    return Refused(f"the process of vCPU {vcpu} is lost")
