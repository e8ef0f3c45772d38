# SPDX-License-Identifier: GPL-2.0-or-later
"""Which vCPUs are switched on, and what PSCI 0.2 answers about that.

What may live here: decisions; inputs in, effects out, no I/O. A vCPU is

    OFF      --CPU_ON by another, or Boot-->   PENDING   --its worker took PowerOn-->   ON   --CPU_OFF-->   OFF

Sources: ARM DEN 0022 (PSCI), and Linux, virt/kvm/arm/psci.c, for what is left open there:

* CPU_ON looks at the affinity bits [23:0] of its target only, as KVM does: a guest may pass its MPIDR whole. An entry
  outside of RAM, or an ARM entry that is no multiple of 4, is INVALID_PARAMETERS (1.0 has a code of its own for it).
* CPU_SUSPEND of any state is WFI: it answers SUCCESS at once, and the worker then has the vCPU wait for an interrupt.
* AFFINITY_INFO takes levels 0 to 3; a CPU that is being switched on makes its cluster ON_PENDING unless one is ON.
* CPU_OFF, SYSTEM_OFF and SYSTEM_RESET never return. A reset ends the run like a failure: the guest wants to
  start over, and a run has one start.
* VERSION is 0.2, which has no PSCI_FEATURES; that and every other identifier is NOT_SUPPORTED.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TypeAlias

from allstop.vm.arm.psci import VERSION_0_2, AffinityState, MigrateInfo, PsciFunction, PsciReturn
from allstop.vm.board import RAM_BASE, mpidr, vcpu_of_mpidr

BOOT_VCPU = 0
_AFFINITY_MASK = 0x00FF_FFFF
_HIGHEST_LEVEL = 3


class PowerError(Exception):
    """An input that cannot be in the state the machine is in; the text says why. Nothing has changed."""


class PowerState(enum.Enum):
    """See the module's documentation."""

    OFF = enum.auto()
    PENDING = enum.auto()
    ON = enum.auto()


# Inputs


@dataclass(frozen=True, slots=True)
class Booted:
    """The launcher wants the boot vCPU to start at `entry` with r1 and r2."""

    entry: int
    r1: int
    r2: int


@dataclass(frozen=True, slots=True)
class Started:
    """The worker of `vcpu` has taken its PowerOn."""

    vcpu: int


@dataclass(frozen=True, slots=True)
class Called:
    """`vcpu` made a PSCI call: `function` is r0, the arguments r1 to r3."""

    vcpu: int
    function: int
    argument1: int
    argument2: int
    argument3: int


@dataclass(frozen=True, slots=True)
class Lost:
    """The worker of `vcpu` is dead."""

    vcpu: int


# Effects


@dataclass(frozen=True, slots=True)
class Answer:
    """The call of `vcpu` returns with `value` in r0."""

    vcpu: int
    value: int


@dataclass(frozen=True, slots=True)
class Start:
    """Tell the worker of `vcpu` to start: PC = entry (bit 0 selects Thumb), r0 to r2 as given."""

    vcpu: int
    entry: int
    r0: int
    r1: int
    r2: int


@dataclass(frozen=True, slots=True)
class Stopped:
    """`vcpu` is switched off."""

    vcpu: int


@dataclass(frozen=True, slots=True)
class End:
    """The run is over, with a verdict in the words of `VERDICTS`, a status and a sentence."""

    verdict: str
    status: int
    sentence: str


Input: TypeAlias = Booted | Started | Called | Lost
Effect: TypeAlias = Answer | Start | Stopped | End


class Power:
    """The switches of one machine."""

    def __init__(self, vcpus: int, memory_bytes: int) -> None:
        self.states = [PowerState.OFF] * vcpus
        self.lost: set[int] = set()
        self._ram = range(RAM_BASE, RAM_BASE + memory_bytes)
        self._booted = False

    def handle(self, given: Input) -> list[Effect]:
        """Take one input; the effects are to be performed in their order. Raises PowerError."""
        match given:
            case Called():
                return self._called(given)
            case Started(vcpu):
                if self.states[vcpu] is PowerState.PENDING:
                    self.states[vcpu] = PowerState.ON
                return []
            case Booted(entry, r1, r2):
                return self._boot(entry, r1, r2)
            case Lost(vcpu):
                self.lost.add(vcpu)
                self.states[vcpu] = PowerState.OFF
                return []

    def pending(self) -> list[int]:
        """The vCPUs that are being switched on."""
        return [vcpu for vcpu, state in enumerate(self.states) if state is PowerState.PENDING]

    def _boot(self, entry: int, r1: int, r2: int) -> list[Effect]:
        if self._booted:
            raise PowerError("boots a machine that was booted before")
        if BOOT_VCPU in self.lost:
            raise PowerError("boots a machine whose boot vCPU is lost")
        self._booted = True
        self.states[BOOT_VCPU] = PowerState.PENDING
        return [Start(BOOT_VCPU, entry, 0, r1, r2)]

    def _called(self, call: Called) -> list[Effect]:
        vcpu = call.vcpu
        if self.states[vcpu] is PowerState.OFF:
            raise PowerError("makes a PSCI call, but is switched off")
        self.states[vcpu] = PowerState.ON  # it runs: whether or not we have heard so
        match call.function:
            case PsciFunction.VERSION:
                value = VERSION_0_2
            case PsciFunction.CPU_SUSPEND:
                value = PsciReturn.SUCCESS.register_value
            case PsciFunction.CPU_ON:
                return self._cpu_on(call)
            case PsciFunction.CPU_OFF:
                return self._cpu_off(vcpu)
            case PsciFunction.AFFINITY_INFO:
                value = self._affinity_info(call.argument1, call.argument2)
            case PsciFunction.MIGRATE_INFO_TYPE:
                value = MigrateInfo.NOT_REQUIRED.value
            case PsciFunction.SYSTEM_OFF:
                return [End("pass", 0, "the guest powered the machine off")]
            case PsciFunction.SYSTEM_RESET:
                return [End("fail", 1, "the guest asked for a reset, which ends the run")]
            case _:
                value = PsciReturn.NOT_SUPPORTED.register_value
        return [Answer(vcpu, value)]

    def _cpu_on(self, call: Called) -> list[Effect]:
        target = vcpu_of_mpidr(call.argument1)
        entry = call.argument2
        if target >= len(self.states) or (entry & ~1) not in self._ram or entry & 3 == 2:
            code = PsciReturn.INVALID_PARAMETERS
        elif target in self.lost:
            code = PsciReturn.INTERNAL_FAILURE
        elif self.states[target] is PowerState.ON:
            code = PsciReturn.ALREADY_ON
        elif self.states[target] is PowerState.PENDING:
            code = PsciReturn.ON_PENDING
        else:
            self.states[target] = PowerState.PENDING
            return [Start(target, entry, call.argument3, 0, 0), Answer(call.vcpu, PsciReturn.SUCCESS.register_value)]
        return [Answer(call.vcpu, code.register_value)]

    def _cpu_off(self, vcpu: int) -> list[Effect]:
        self.states[vcpu] = PowerState.OFF
        effects: list[Effect] = [Stopped(vcpu)]
        if all(state is PowerState.OFF for state in self.states):
            effects.append(End("fail", 1, "every vCPU is off and nothing can wake one"))
        return effects

    def _affinity_info(self, target: int, level: int) -> int:
        if level > _HIGHEST_LEVEL:
            return PsciReturn.INVALID_PARAMETERS.register_value
        shift = 8 * level
        wanted = (target & _AFFINITY_MASK) >> shift
        states = {state for vcpu, state in enumerate(self.states) if (mpidr(vcpu) & _AFFINITY_MASK) >> shift == wanted}
        if not states:
            return PsciReturn.INVALID_PARAMETERS.register_value
        if PowerState.ON in states:
            return AffinityState.ON.value
        return (AffinityState.ON_PENDING if PowerState.PENDING in states else AffinityState.OFF).value
