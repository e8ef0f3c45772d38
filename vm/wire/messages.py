# SPDX-License-Identifier: GPL-2.0-or-later
"""Every message that crosses a process border, defined once, with its documentation.

A message is a NamedTuple: immutable, positional on the wire (a msgpack array whose first element is the
message's number), named in the code. Commands are imperative (`StopWorld`), replies and facts participles or
past (`WorldStopped`, `ProcessLost`). `PROTOCOL.md` is generated from this module (`allstop.vm.wire.protocol`), and
`allstop.vm.wire.codec` checks each field against the annotations below, so an annotation is the law here:

    U8 U16 U32 U64   integers of that many bits
    Flag             a bool
    Text             a str of at most 4096 characters
    Blob             bytes of at most 1 MiB
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from allstop.vm.wire.fields import U8, U16, U32, U64, Blob, Flag, Text
from allstop.vm.wire.messages_hosts import (
    HostBeat,
    HostEnded,
    HostPlan,
    HostReady,
    HostStatus,
    HostStop,
    HostStopped,
    JournalPiece,
    JournalsBegun,
    JournalTaken,
    KillVcpu,
    NodeHello,
    NodePing,
    NodePong,
    PageAsked,
    PageGranted,
    PageRecalled,
    PageYielded,
    Posted,
    PostsDone,
    PowerChanged,
    ResumeHost,
    StopHost,
    VcpuKilled,
    VcpuTold,
)

PROTOCOL_VERSION = 1
MAX_TEXT = 4096
MAX_BLOB = 1 << 20
MAX_MEMORY_READ_BYTES = 1 << 16
INPUT_WINDOW_BYTES = 4096  # what a launcher may have sent of the console's input before it is told that it was taken
ALL_VCPUS = 0xFFFF


# Who speaks: the `role` of a Hello and of a lost process.
ROLE_WORKER = 0
ROLE_DEVICES = 1
ROLE_LAUNCHER = 2
ROLE_COORDINATOR = 3
ROLE_OPERATOR = 4
ROLE_DEBUGGER = 5
ROLE_NODE = 6
ROLE_HOST = 7
ROLE_NAMES = ("worker", "device server", "launcher", "coordinator", "operator", "gdb server", "node", "host agent")

# VcpuHit.cause
HIT_BREAKPOINT = 0
HIT_WATCHPOINT = 1

# MmioReply.status
MMIO_OK = 0
MMIO_UNASSIGNED = 1
MMIO_FAILED = 2
MMIO_MALFORMED = 3

# RunEnded.verdict, in the words that `verdict.json` uses.
VERDICTS = ("pass", "fail", "violation", "lost", "timeout", "error")


class Hello(NamedTuple):
    """First message of every peer on every connection. A peer whose token is wrong is ignored and counted."""

    version: U16
    token: Blob
    role: U8
    vcpu: U16
    pid: U32


class Welcome(NamedTuple):
    """Answer to a Hello that was accepted."""

    version: U16
    pid: U32


class MmioRequest(NamedTuple):
    """A vCPU's access to a device page. `seq` counts the accesses of that vCPU from 1: a request whose
    `seq` equals the last one is answered again and not performed again; an older one is ignored. `size` is 1, 2, 4
    or 8 bytes; `value` is the little-endian number to write (0 for a read)."""

    seq: U64
    ipa: U64
    size: U8
    is_write: Flag
    value: U64


class MmioReply(NamedTuple):
    """Answer to the MmioRequest with the same `seq`. `status`: 0 done, 1 no device there (the vCPU takes an
    external abort), 2 the device raised (the run ends), 3 the request was not understood. `line` is the requesting
    vCPU's interrupt line after the access: version << 2 | FIQ << 1 | IRQ. Versions grow with each change of that vCPU's
    line, so that the newest wins whichever way it arrives."""

    seq: U64
    status: U8
    value: U64
    line: U64


class PpiLevel(NamedTuple):
    """The level of a private interrupt (timers) of the sending vCPU. A PpiReply answers it unless `seq` is 0."""

    intid: U16
    level: Flag
    seq: U64


class PpiReply(NamedTuple):
    """Answer to the PpiLevel with the same `seq`. `line` is the vCPU's interrupt line now, as in MmioReply."""

    seq: U64
    line: U64


class ConsoleInput(NamedTuple):
    """What was typed on the console. The launcher may have 4096 bytes under way: it counts what it sends, and
    ConsoleInputTaken gives back what a device has taken. More than that is dropped as a whole, and counted."""

    data: Blob


class ConsoleInputTaken(NamedTuple):
    """A device has taken so many bytes of the console's input: the launcher may send as many more."""

    taken_bytes: U32


class HostCall(NamedTuple):
    """A guest's semihosting call that the device server performs, from the worker of its vCPU. `seq` counts these calls
    of that vCPU from 1, as MmioRequest's does. `operation` is the call's number; `handle`, `number`, `data` and `more`
    are what it needs: a file's handle, a mode, position or number of bytes, names or bytes to write."""

    seq: U64
    operation: U32
    handle: U32
    number: U32
    data: Blob
    more: Blob


class HostReturn(NamedTuple):
    """Answer to the HostCall with the same `seq`: what it returns, an error number where that says so, and bytes."""

    seq: U64
    value: U64
    error: U32
    data: Blob


class GuestFinished(NamedTuple):
    """The guest wrote its exit status to the test device (0 is pass): the run ends with verdict `pass` or `fail`."""

    status: U32
    detail: Text


class GuestFailed(NamedTuple):
    """The guest cannot go on (it jumped where there is no memory and has no vectors there, say). The run
    ends with verdict `fail`."""

    vcpu: U16
    sentence: Text


class Violated(NamedTuple):
    """An oracle fired. The run ends with verdict `violation`."""

    vcpu: U16
    sentence: Text


class ComponentFailed(NamedTuple):
    """A device or a part of the harness failed: the run ends with verdict `error`. `sentence` says what to do; `vcpu`
    means something where `role` is a worker's."""

    role: U8
    vcpu: U16
    sentence: Text


class PsciCall(NamedTuple):
    """A PSCI call that a vCPU made by HVC: r0 to r3."""

    function: U32
    argument1: U32
    argument2: U32
    argument3: U32


class PsciReturn(NamedTuple):
    """The value for r0. A call that does not return (CPU_OFF, SYSTEM_OFF) gets none: the vCPU waits for PowerOn
    or Shutdown."""

    value: U32


class PowerOn(NamedTuple):
    """Start the vCPU: PC = entry (bit 0 selects Thumb), r0 = context, SVC mode, MMU off. r1 and r2 are 0 but on the
    boot vCPU, which gets the machine number and the address of the device tree there."""

    entry: U32
    r0: U32
    r1: U32
    r2: U32


class StopWorld(NamedTuple):
    """Ask for the world. Requests queue. Owners that only read guest memory say so by `may_share`: they may hold
    the same stop together. `reason` is for whoever asks why the machine waits. An operator that has the world must say
    something now and then (a Ping will do), or it loses the world."""

    reason: Text
    may_share: Flag


class WorldStopped(NamedTuple):
    """Every vCPU is out of the guest and stays out until ReleaseWorld."""

    epoch: U64


class ReleaseWorld(NamedTuple):
    """The owner of stop `epoch` is done."""

    epoch: U64


class WorldRefused(NamedTuple):
    """The request for the world will not be granted, or the world was taken back from an owner that went silent.
    A worker is not told: its machine is about to get Shutdown."""

    sentence: Text


class Boot(NamedTuple):
    """All is ready: start the boot vCPU, with no machine number (0xffffffff) in r1 and the guest-physical address of
    its device tree in r2, 0 where it has none."""

    entry: U32
    r1: U32
    r2: U32


class MembersReady(NamedTuple):
    """Every worker and the device server have said Hello to the coordinator."""

    vcpus: U16


class ProcessLost(NamedTuple):
    """The launcher saw a process die or hang. The coordinator takes it out of every barrier and ends the
    run with verdict `lost`."""

    role: U8
    vcpu: U16
    sentence: Text


class RunEnded(NamedTuple):
    """The run has a verdict: an index into VERDICTS, the guest's own status, and one sentence. Sent
    once: the first reason wins."""

    verdict: U8
    status: U32
    sentence: Text


class Shutdown(NamedTuple):
    """Leave now, cleanly."""


class Ping(NamedTuple):
    """Are you there? Servers, and the agents of other hosts, answer it with Pong."""

    nonce: U64


class Pong(NamedTuple):
    """Answer to Ping."""

    nonce: U64


class QueryStatus(NamedTuple):
    """What is the machine doing?"""


class Status(NamedTuple):
    """Answer to QueryStatus: a JSON object in UTF-8. `paused` is a truth value, `stops` the number of stops so far;
    `vcpus` is an array of objects with `pid`, `power` (off, pending or on), `doing` (words), `pc` (where it left the
    guest last) and `counters` (an object); `coordinator` and `devices` are objects with `pid` and `doing`."""

    report: Blob


class PauseMachine(NamedTuple):
    """Stop the world and keep it stopped until ResumeMachine, whatever becomes of the operator: the coordinator itself
    owns the stop. Whoever else wants the world queues."""


class MachinePaused(NamedTuple):
    """Answer to PauseMachine, when every vCPU is out of the guest."""

    epoch: U64


class ResumeMachine(NamedTuple):
    """End the pause."""


class MachineResumed(NamedTuple):
    """Answer to ResumeMachine."""


class ReadRegisters(NamedTuple):
    """The registers of one vCPU, or of every vCPU (65535), all out of the guest in the same stop. A vCPU that sleeps in
    WFI comes out of it for that, as an architecture that lets WFI end at any time allows."""

    vcpu: U16


class Registers(NamedTuple):
    """Answer to ReadRegisters, one for each vCPU: a JSON object in UTF-8, register names to numbers. PC is that of the
    next instruction to execute, or of the one that is being emulated."""

    vcpu: U16
    registers: Blob


class DumpState(NamedTuple):
    """Tell the vCPU's registers; the request bit EVENT says that this message waits."""

    nonce: U64


class StateDumped(NamedTuple):
    """Answer to the DumpState with the same `nonce`; `registers` as in Registers."""

    nonce: U64
    registers: Blob


class ReadMemory(NamedTuple):
    """The guest's RAM, as it is while it is read: 1 to 65536 bytes from `ipa` on."""

    ipa: U64
    length_bytes: U32


class Memory(NamedTuple):
    """Answer to ReadMemory."""

    ipa: U64
    data: Blob


class FlushTlbs(NamedTuple):
    """Have every vCPU forget its translations before it executes another instruction: harmless to a correct guest."""


class TlbsFlushed(NamedTuple):
    """Answer to FlushTlbs: each vCPU has been asked."""


class PerformEvent(NamedTuple):
    """Perform an event now: a JSON object as `allstop.vm.events.vocabulary.event` reads it. `number` is its
    place in the scenario, 65535 for one that is not of it; `vcpu` is the vCPU that its trigger was on, else
    65535. For a worker the request bit EVENT says that this message waits."""

    nonce: U32
    number: U16
    vcpu: U16
    event: Text


class EventPerformed(NamedTuple):
    """Answer to the PerformEvent with the same `nonce`: `sentence` is empty when it is done, else it says what was in
    the way."""

    nonce: U32
    sentence: Text


class EventTriggered(NamedTuple):
    """A trigger on the sending vCPU has fired for event `number` of the scenario, which is not a worker's to perform.
    There is no reply."""

    number: U16


class InjectEvent(NamedTuple):
    """Perform an event now, on `vcpu` (65535: on any): a JSON object, as in PerformEvent."""

    vcpu: U16
    event: Text


class EventInjected(NamedTuple):
    """Answer to InjectEvent: it is done."""


class StopRun(NamedTuple):
    """End the run, with verdict `error`."""


class RunStopped(NamedTuple):
    """Answer to StopRun: the launcher has been told."""


class Refused(NamedTuple):
    """What the operator asked for last cannot be done; the sentence says why."""

    sentence: Text


class HoldVcpu(NamedTuple):
    """Finish the exit under way and stay out of the guest until LetVcpuGo; DebugDone says that it is so. Like all
    commands of a debugger to one vCPU it goes by way of the coordinator, is announced by the request bit EVENT, and
    is answered before the next one to the same vCPU is sent."""

    nonce: U32
    vcpu: U16


class LetVcpuGo(NamedTuple):
    """The end of HoldVcpu. `again`: a breakpoint at PC stops the vCPU once more."""

    nonce: U32
    vcpu: U16
    again: Flag


class StepVcpu(NamedTuple):
    """Have a vCPU that is held execute one instruction. DebugDone comes at once for one that is switched off; its
    `data` is empty, or the address of a watched access that the instruction made, of 32 bits."""

    nonce: U32
    vcpu: U16


class ReadVcpu(NamedTuple):
    """All registers: the `data` of DebugDone is a JSON object in UTF-8, names to numbers, as `allstop.vm.arm.registers`
    names them."""

    nonce: U32
    vcpu: U16


class WriteVcpu(NamedTuple):
    """Change one register, by its name there."""

    nonce: U32
    vcpu: U16
    register: Text
    value: U64


class PeekMemory(NamedTuple):
    """Read RAM as the vCPU's privileged stage 1 shows it, or by physical address: DebugDone has as much of it as there
    is."""

    nonce: U32
    vcpu: U16
    address: U32
    length_bytes: U32
    physical: Flag


class PokeMemory(NamedTuple):
    """Write RAM, likewise, whatever its permissions are. Code that was translated from there is dropped."""

    nonce: U32
    vcpu: U16
    address: U32
    data: Blob
    physical: Flag


class TranslateAddress(NamedTuple):
    """What the vCPU's privileged stage 1 makes of a virtual address: the `data` of DebugDone is the physical one, 32
    bits in little-endian order, or nothing where the walk faults."""

    nonce: U32
    vcpu: U16
    address: U32


class SetStops(NamedTuple):
    """What stops the vCPU from now on: a JSON object with `breakpoints`, an array of virtual addresses, and
    `watchpoints`, an array of [address, bytes, kinds], kinds 1 for reads, 2 for writes, 3 for both."""

    nonce: U32
    vcpu: U16
    stops: Text


class DebugDone(NamedTuple):
    """Answer to the debugger's command with the same `nonce`: done, or `sentence` says why not."""

    nonce: U32
    vcpu: U16
    data: Blob
    sentence: Text


class VcpuHit(NamedTuple):
    """The sending vCPU has come to a breakpoint (`cause` 0), before the instruction at `pc`, or has accessed watched
    memory at `address` (1). It stays out of the guest until LetVcpuGo; the others are being stopped, and the debugger
    is to ask for the world."""

    vcpu: U16
    cause: U8
    pc: U32
    address: U32


class DebuggerReady(NamedTuple):
    """Every vCPU is held before its first instruction: the machine may boot, where it waits for a debugger."""


Message: TypeAlias = (
    Hello
    | Welcome
    | MmioRequest
    | MmioReply
    | PpiLevel
    | PpiReply
    | ConsoleInput
    | ConsoleInputTaken
    | HostCall
    | HostReturn
    | GuestFinished
    | GuestFailed
    | Violated
    | ComponentFailed
    | PsciCall
    | PsciReturn
    | PowerOn
    | StopWorld
    | WorldStopped
    | ReleaseWorld
    | WorldRefused
    | Boot
    | MembersReady
    | ProcessLost
    | RunEnded
    | Shutdown
    | Ping
    | Pong
    | QueryStatus
    | Status
    | PauseMachine
    | MachinePaused
    | ResumeMachine
    | MachineResumed
    | ReadRegisters
    | Registers
    | DumpState
    | StateDumped
    | ReadMemory
    | Memory
    | FlushTlbs
    | TlbsFlushed
    | HoldVcpu
    | LetVcpuGo
    | StepVcpu
    | ReadVcpu
    | WriteVcpu
    | PeekMemory
    | PokeMemory
    | TranslateAddress
    | SetStops
    | DebugDone
    | VcpuHit
    | DebuggerReady
    | PerformEvent
    | EventPerformed
    | EventTriggered
    | InjectEvent
    | EventInjected
    | StopRun
    | RunStopped
    | Refused
    | NodeHello
    | NodePing
    | NodePong
    | PageAsked
    | PageRecalled
    | PageYielded
    | PageGranted
    | Posted
    | PostsDone
    | PowerChanged
    | VcpuTold
    | StopHost
    | HostStopped
    | ResumeHost
    | HostReady
    | HostPlan
    | HostBeat
    | HostStatus
    | KillVcpu
    | VcpuKilled
    | HostStop
    | HostEnded
    | JournalsBegun
    | JournalPiece
    | JournalTaken
)

# The number of each message on the wire. Numbers are never reused: CHANGELOG says what changed.
NUMBERS: dict[type[Message], int] = {
    Hello: 1,
    Welcome: 2,
    Ping: 3,
    Pong: 4,
    Shutdown: 5,
    MmioRequest: 16,
    MmioReply: 17,
    PpiLevel: 19,
    PpiReply: 20,
    ConsoleInput: 21,
    ConsoleInputTaken: 22,
    HostCall: 24,
    HostReturn: 25,
    GuestFinished: 32,
    GuestFailed: 33,
    Violated: 34,
    ComponentFailed: 35,
    RunEnded: 36,
    PsciCall: 48,
    PsciReturn: 49,
    PowerOn: 50,
    StopWorld: 64,
    WorldStopped: 65,
    ReleaseWorld: 66,
    WorldRefused: 67,
    Boot: 80,
    MembersReady: 81,
    ProcessLost: 82,
    QueryStatus: 96,
    Status: 97,
    PauseMachine: 98,
    MachinePaused: 99,
    ResumeMachine: 100,
    MachineResumed: 101,
    ReadRegisters: 102,
    Registers: 103,
    DumpState: 104,
    StateDumped: 105,
    ReadMemory: 106,
    Memory: 107,
    FlushTlbs: 108,
    TlbsFlushed: 109,
    StopRun: 110,
    RunStopped: 111,
    Refused: 112,
    InjectEvent: 113,
    EventInjected: 114,
    PerformEvent: 128,
    EventPerformed: 129,
    EventTriggered: 130,
    HoldVcpu: 160,
    LetVcpuGo: 161,
    StepVcpu: 162,
    ReadVcpu: 163,
    WriteVcpu: 164,
    PeekMemory: 165,
    PokeMemory: 166,
    TranslateAddress: 167,
    SetStops: 168,
    DebugDone: 169,
    VcpuHit: 170,
    DebuggerReady: 171,
    NodeHello: 192,
    NodePing: 193,
    NodePong: 194,
    PageAsked: 195,
    PageRecalled: 196,
    PageYielded: 197,
    PageGranted: 198,
    Posted: 199,
    PostsDone: 200,
    PowerChanged: 201,
    VcpuTold: 202,
    StopHost: 203,
    HostStopped: 204,
    ResumeHost: 205,
    HostReady: 224,
    HostPlan: 225,
    HostBeat: 227,
    HostStatus: 228,
    HostStop: 229,
    HostEnded: 230,
    JournalsBegun: 231,
    JournalPiece: 232,
    JournalTaken: 233,
    KillVcpu: 234,
    VcpuKilled: 235,
}

# Who says what to whom, as (sender's role, receiver's role). A server drops what does not come on its route.
_TO_COORDINATOR = tuple(
    (role, ROLE_COORDINATOR) for role in (ROLE_WORKER, ROLE_LAUNCHER, ROLE_OPERATOR, ROLE_DEBUGGER, ROLE_NODE)
)
_TO_DEVICES = tuple((role, ROLE_DEVICES) for role in (ROLE_WORKER, ROLE_COORDINATOR, ROLE_LAUNCHER))
_GREETING = _TO_COORDINATOR + _TO_DEVICES
_ANSWER = tuple((receiver, sender) for sender, receiver in _GREETING)
_WORLD = tuple((role, ROLE_COORDINATOR) for role in (ROLE_WORKER, ROLE_OPERATOR, ROLE_DEBUGGER))
_OPERATION = ((ROLE_OPERATOR, ROLE_COORDINATOR),)
_OUTCOME = ((ROLE_COORDINATOR, ROLE_OPERATOR),)
_DEBUGGING = ((ROLE_DEBUGGER, ROLE_COORDINATOR), (ROLE_COORDINATOR, ROLE_WORKER))
_BETWEEN_NODES = ((ROLE_NODE, ROLE_NODE),)
_FROM_HOST = ((ROLE_HOST, ROLE_LAUNCHER),)
_TO_HOST = ((ROLE_LAUNCHER, ROLE_HOST),)
_DEBUGGED = tuple((receiver, sender) for sender, receiver in reversed(_DEBUGGING))

ROUTES: dict[type[Message], tuple[tuple[int, int], ...]] = {
    Hello: _GREETING,
    Welcome: _ANSWER,
    Ping: _GREETING,
    Pong: _ANSWER,
    Shutdown: (
        (ROLE_LAUNCHER, ROLE_COORDINATOR),
        (ROLE_COORDINATOR, ROLE_WORKER),
        (ROLE_COORDINATOR, ROLE_DEVICES),
        (ROLE_COORDINATOR, ROLE_DEBUGGER),
    ),
    MmioRequest: ((ROLE_WORKER, ROLE_DEVICES),),
    MmioReply: ((ROLE_DEVICES, ROLE_WORKER),),
    PpiLevel: ((ROLE_WORKER, ROLE_DEVICES),),
    PpiReply: ((ROLE_DEVICES, ROLE_WORKER),),
    ConsoleInput: ((ROLE_LAUNCHER, ROLE_DEVICES),),
    ConsoleInputTaken: ((ROLE_DEVICES, ROLE_LAUNCHER),),
    HostCall: ((ROLE_WORKER, ROLE_DEVICES),),
    HostReturn: ((ROLE_DEVICES, ROLE_WORKER),),
    GuestFinished: ((ROLE_DEVICES, ROLE_COORDINATOR),),
    GuestFailed: ((ROLE_WORKER, ROLE_COORDINATOR),),
    Violated: ((ROLE_WORKER, ROLE_COORDINATOR), (ROLE_DEVICES, ROLE_COORDINATOR)),
    ComponentFailed: ((ROLE_WORKER, ROLE_COORDINATOR), (ROLE_DEVICES, ROLE_COORDINATOR)),
    RunEnded: ((ROLE_COORDINATOR, ROLE_LAUNCHER), (ROLE_COORDINATOR, ROLE_DEBUGGER)),
    PsciCall: ((ROLE_WORKER, ROLE_COORDINATOR),),
    PsciReturn: ((ROLE_COORDINATOR, ROLE_WORKER),),
    PowerOn: ((ROLE_COORDINATOR, ROLE_WORKER),),
    StopWorld: _WORLD,
    WorldStopped: tuple((receiver, sender) for sender, receiver in _WORLD),
    ReleaseWorld: _WORLD,
    WorldRefused: ((ROLE_COORDINATOR, ROLE_OPERATOR),),
    Boot: ((ROLE_LAUNCHER, ROLE_COORDINATOR),),
    MembersReady: ((ROLE_COORDINATOR, ROLE_LAUNCHER), (ROLE_COORDINATOR, ROLE_DEBUGGER)),
    ProcessLost: ((ROLE_LAUNCHER, ROLE_COORDINATOR),),
    QueryStatus: _OPERATION,
    Status: _OUTCOME,
    PauseMachine: _OPERATION,
    MachinePaused: _OUTCOME,
    ResumeMachine: _OPERATION,
    MachineResumed: _OUTCOME,
    ReadRegisters: _OPERATION,
    Registers: _OUTCOME,
    DumpState: ((ROLE_COORDINATOR, ROLE_WORKER),),
    StateDumped: ((ROLE_WORKER, ROLE_COORDINATOR),),
    ReadMemory: _OPERATION,
    Memory: _OUTCOME,
    FlushTlbs: _OPERATION,
    TlbsFlushed: _OUTCOME,
    PerformEvent: ((ROLE_COORDINATOR, ROLE_WORKER), (ROLE_COORDINATOR, ROLE_DEVICES)),
    EventPerformed: ((ROLE_WORKER, ROLE_COORDINATOR), (ROLE_DEVICES, ROLE_COORDINATOR)),
    EventTriggered: ((ROLE_WORKER, ROLE_COORDINATOR),),
    InjectEvent: _OPERATION,
    EventInjected: _OUTCOME,
    StopRun: (*_OPERATION, (ROLE_DEBUGGER, ROLE_COORDINATOR)),
    RunStopped: (*_OUTCOME, (ROLE_COORDINATOR, ROLE_DEBUGGER)),
    Refused: (*_OUTCOME, (ROLE_COORDINATOR, ROLE_DEBUGGER)),
    HoldVcpu: _DEBUGGING,
    LetVcpuGo: _DEBUGGING,
    StepVcpu: _DEBUGGING,
    ReadVcpu: _DEBUGGING,
    WriteVcpu: _DEBUGGING,
    PeekMemory: _DEBUGGING,
    PokeMemory: _DEBUGGING,
    TranslateAddress: _DEBUGGING,
    SetStops: _DEBUGGING,
    DebugDone: _DEBUGGED,
    VcpuHit: _DEBUGGED,
    DebuggerReady: ((ROLE_DEBUGGER, ROLE_COORDINATOR),),
    NodeHello: _BETWEEN_NODES,
    NodePing: _BETWEEN_NODES,
    NodePong: _BETWEEN_NODES,
    PageAsked: _BETWEEN_NODES,
    PageRecalled: _BETWEEN_NODES,
    PageYielded: _BETWEEN_NODES,
    PageGranted: _BETWEEN_NODES,
    Posted: _BETWEEN_NODES,
    PostsDone: _BETWEEN_NODES,
    PowerChanged: _BETWEEN_NODES,
    VcpuTold: (*_BETWEEN_NODES, *_FROM_HOST),
    StopHost: ((ROLE_COORDINATOR, ROLE_NODE),),
    HostStopped: ((ROLE_NODE, ROLE_COORDINATOR),),
    ResumeHost: ((ROLE_COORDINATOR, ROLE_NODE),),
    HostReady: _FROM_HOST,
    HostPlan: _TO_HOST,
    HostBeat: (*_FROM_HOST, *_TO_HOST),
    HostStatus: _FROM_HOST,
    KillVcpu: (*_OPERATION, (ROLE_COORDINATOR, ROLE_LAUNCHER), *_TO_HOST),
    VcpuKilled: (*_FROM_HOST, (ROLE_LAUNCHER, ROLE_COORDINATOR), *_OUTCOME),
    HostStop: _TO_HOST,
    HostEnded: _FROM_HOST,
    JournalsBegun: _FROM_HOST,
    JournalPiece: _FROM_HOST,
    JournalTaken: _TO_HOST,
}
