# SPDX-License-Identifier: GPL-2.0-or-later
"""What operators ask of a running machine, and what the coordinator asks vCPUs for them."""

from __future__ import annotations

from allstop.vm.wire.fields import U16, U32, U64, Blob, Text
from allstop.vm.wire.message import Message, message
from allstop.vm.wire.routes import COORDINATOR, DEBUGGER, DEVICES, OPERATOR, WORKER

MAX_MEMORY_READ_BYTES = 1 << 16
ALL_VCPUS = 0xFFFF


@message(96, OPERATOR >> COORDINATOR)
class QueryStatus(Message):
    """What is the machine doing?"""


@message(97, COORDINATOR >> OPERATOR)
class Status(Message):
    """Answer to QueryStatus: a JSON object in UTF-8. `paused` is a truth value, `stops` the number of stops so far;
    `vcpus` is an array of objects with `pid`, `power` (off, pending or on), `doing` (words), `pc` (where it left the
    guest last) and `counters` (an object); `coordinator` and `devices` are objects with `pid` and `doing`."""

    report: Blob


@message(98, OPERATOR >> COORDINATOR)
class PauseMachine(Message):
    """Stop the world and keep it stopped until ResumeMachine, whatever becomes of the operator: the coordinator itself
    owns the stop. Other requests for the world queue."""


@message(99, COORDINATOR >> OPERATOR)
class MachinePaused(Message):
    """Answer to PauseMachine, when every vCPU is out of the guest."""

    epoch: U64


@message(100, OPERATOR >> COORDINATOR)
class ResumeMachine(Message):
    """End the pause."""


@message(101, COORDINATOR >> OPERATOR)
class MachineResumed(Message):
    """Answer to ResumeMachine."""


@message(102, OPERATOR >> COORDINATOR)
class ReadRegisters(Message):
    """The registers of one vCPU, or of every vCPU (65535), all out of the guest in the same stop. A vCPU that sleeps in
    WFI comes out of it for that, as an architecture that lets WFI end at any time allows."""

    vcpu: U16


@message(103, COORDINATOR >> OPERATOR)
class Registers(Message):
    """Answer to ReadRegisters, one for each vCPU: a JSON object in UTF-8, register names to numbers. PC is that of the
    next instruction to execute, or of the one that is being emulated."""

    vcpu: U16
    registers: Blob


@message(104, COORDINATOR >> WORKER)
class DumpState(Message):
    """Tell the vCPU's registers; the request bit EVENT says that this message waits."""

    nonce: U64


@message(105, WORKER >> COORDINATOR)
class StateDumped(Message):
    """Answer to the DumpState with the same `nonce`; `registers` as in Registers."""

    nonce: U64
    registers: Blob


@message(106, OPERATOR >> COORDINATOR)
class ReadMemory(Message):
    """The guest's RAM, as it is while it is read: 1 to 65536 bytes from `ipa` on."""

    ipa: U64
    length_bytes: U32


@message(107, COORDINATOR >> OPERATOR)
class Memory(Message):
    """Answer to ReadMemory."""

    ipa: U64
    data: Blob


@message(108, OPERATOR >> COORDINATOR)
class FlushTlbs(Message):
    """Have every vCPU forget its translations before it executes another instruction: harmless to a correct guest."""


@message(109, COORDINATOR >> OPERATOR)
class TlbsFlushed(Message):
    """Answer to FlushTlbs: each vCPU has been asked."""


@message(110, (OPERATOR | DEBUGGER) >> COORDINATOR)
class StopRun(Message):
    """End the run, with verdict `error`."""


@message(111, COORDINATOR >> (OPERATOR | DEBUGGER))
class RunStopped(Message):
    """Answer to StopRun: the launcher has been told."""


@message(112, COORDINATOR >> (OPERATOR | DEBUGGER))
class Refused(Message):
    """What the operator asked for last cannot be done; the sentence says why."""

    sentence: Text


@message(113, OPERATOR >> COORDINATOR)
class InjectEvent(Message):
    """Perform an event now, on `vcpu` (65535: on any): a JSON object, as in PerformEvent."""

    vcpu: U16
    event: Text


@message(114, COORDINATOR >> OPERATOR)
class EventInjected(Message):
    """Answer to InjectEvent: it is done."""


@message(128, COORDINATOR >> (WORKER | DEVICES))
class PerformEvent(Message):
    """Perform an event now: a JSON object as `allstop.vm.events.vocabulary.event` reads it. `number` is its
    place in the scenario, 65535 for one that is not of it; `vcpu` is the vCPU that its trigger was on, else
    65535. For a worker the request bit EVENT says that this message waits."""

    nonce: U32
    number: U16
    vcpu: U16
    event: Text


@message(129, (WORKER | DEVICES) >> COORDINATOR)
class EventPerformed(Message):
    """Answer to the PerformEvent with the same `nonce`: `sentence` is empty when it is done, else it says what was in
    the way."""

    nonce: U32
    sentence: Text


@message(130, WORKER >> COORDINATOR)
class EventTriggered(Message):
    """A trigger on the sending vCPU has fired for event `number` of the scenario, which is not a worker's to perform.
    There is no reply."""

    number: U16
