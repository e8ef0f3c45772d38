# SPDX-License-Identifier: GPL-2.0-or-later
"""Which vCPUs run: PSCI calls and power, and stops of the world."""

from __future__ import annotations

from allstop.vm.wire.fields import U32, U64, Flag, Text
from allstop.vm.wire.message import Message, message
from allstop.vm.wire.routes import COORDINATOR, DEBUGGER, OPERATOR, WORKER


@message(48, WORKER >> COORDINATOR)
class PsciCall(Message):
    """A PSCI call that a vCPU made by HVC: r0 to r3."""

    function: U32
    argument1: U32
    argument2: U32
    argument3: U32


@message(49, COORDINATOR >> WORKER)
class PsciReturn(Message):
    """The value for r0. A call that does not return (CPU_OFF, SYSTEM_OFF) gets none: the vCPU waits for PowerOn
    or Shutdown."""

    value: U32


@message(50, COORDINATOR >> WORKER)
class PowerOn(Message):
    """Start the vCPU: PC = entry (bit 0 selects Thumb), r0 = context, SVC mode, MMU off. r1 and r2 are 0 but on the
    boot vCPU, which gets the machine number and the address of the device tree there."""

    entry: U32
    r0: U32
    r1: U32
    r2: U32


@message(64, (WORKER | OPERATOR | DEBUGGER) >> COORDINATOR)
class StopWorld(Message):
    """Ask for the world. Requests queue. Owners that only read guest memory say so by `may_share`: they may hold
    the same stop together. `reason` is for a user who asks why the machine waits. An operator that has the world must
    say something now and then (a Ping will do), or it loses the world."""

    reason: Text
    may_share: Flag


@message(65, COORDINATOR >> (WORKER | OPERATOR | DEBUGGER))
class WorldStopped(Message):
    """Every vCPU is out of the guest and stays out until ReleaseWorld."""

    epoch: U64


@message(66, (WORKER | OPERATOR | DEBUGGER) >> COORDINATOR)
class ReleaseWorld(Message):
    """The owner of stop `epoch` is done."""

    epoch: U64


@message(67, COORDINATOR >> OPERATOR)
class WorldRefused(Message):
    """The request for the world will not be granted, or the world was taken back from an owner that went silent.
    A worker is not told: its machine is about to get Shutdown."""

    sentence: Text
