# SPDX-License-Identifier: GPL-2.0-or-later
"""A debugger's commands to vCPUs, and their answers."""

from __future__ import annotations

from allstop.vm.wire.fields import U8, U16, U32, U64, Blob, Flag, Text
from allstop.vm.wire.message import Message, message
from allstop.vm.wire.routes import COORDINATOR, DEBUGGER, WORKER

# VcpuHit.cause
HIT_BREAKPOINT = 0
HIT_WATCHPOINT = 1

COMMAND = DEBUGGER >> COORDINATOR | COORDINATOR >> WORKER
ANSWER = WORKER >> COORDINATOR | COORDINATOR >> DEBUGGER


@message(160, COMMAND)
class HoldVcpu(Message):
    """Finish the exit under way and stay out of the guest until LetVcpuGo; DebugDone says that it is so. Like all
    commands of a debugger to one vCPU it goes by way of the coordinator, is announced by the request bit EVENT, and
    is answered before the next one to the same vCPU is sent."""

    nonce: U32
    vcpu: U16


@message(161, COMMAND)
class LetVcpuGo(Message):
    """The end of HoldVcpu. `again`: a breakpoint at PC stops the vCPU once more."""

    nonce: U32
    vcpu: U16
    again: Flag


@message(162, COMMAND)
class StepVcpu(Message):
    """Have a vCPU that is held execute one instruction. DebugDone comes at once for one that is switched off; its
    `data` is empty, or the address of a watched access that the instruction made, of 32 bits."""

    nonce: U32
    vcpu: U16


@message(163, COMMAND)
class ReadVcpu(Message):
    """All registers: the `data` of DebugDone is a JSON object in UTF-8, names to numbers, as `allstop.vm.arm.registers`
    names them."""

    nonce: U32
    vcpu: U16


@message(164, COMMAND)
class WriteVcpu(Message):
    """Change one register, by its name there."""

    nonce: U32
    vcpu: U16
    register: Text
    value: U64


@message(165, COMMAND)
class PeekMemory(Message):
    """Read RAM as the vCPU's privileged stage 1 shows it, or by physical address: DebugDone has as much of it as there
    is."""

    nonce: U32
    vcpu: U16
    address: U32
    length_bytes: U32
    physical: Flag


@message(166, COMMAND)
class PokeMemory(Message):
    """Write RAM, likewise, whatever its permissions are. Code that was translated from there is dropped."""

    nonce: U32
    vcpu: U16
    address: U32
    data: Blob
    physical: Flag


@message(167, COMMAND)
class TranslateAddress(Message):
    """What the vCPU's privileged stage 1 makes of a virtual address: the `data` of DebugDone is the physical one, 32
    bits in little-endian order, or nothing where the walk faults."""

    nonce: U32
    vcpu: U16
    address: U32


@message(168, COMMAND)
class SetStops(Message):
    """What stops the vCPU from now on: a JSON object with `breakpoints`, an array of virtual addresses, and
    `watchpoints`, an array of [address, bytes, kinds], kinds 1 for reads, 2 for writes, 3 for both."""

    nonce: U32
    vcpu: U16
    stops: Text


@message(169, ANSWER)
class DebugDone(Message):
    """Answer to the debugger's command with the same `nonce`: done, or `sentence` says why not."""

    nonce: U32
    vcpu: U16
    data: Blob
    sentence: Text


@message(170, ANSWER)
class VcpuHit(Message):
    """The sending vCPU has come to a breakpoint (`cause` 0), before the instruction at `pc`, or has accessed watched
    memory at `address` (1). It stays out of the guest until LetVcpuGo; the others are being stopped, and the debugger
    is to ask for the world."""

    vcpu: U16
    cause: U8
    pc: U32
    address: U32


@message(171, DEBUGGER >> COORDINATOR)
class DebuggerReady(Message):
    """Every vCPU is held before its first instruction: the machine may boot, where it waits for a debugger."""
