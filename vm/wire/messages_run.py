# SPDX-License-Identifier: GPL-2.0-or-later
"""A run from boot to verdict, and what ends it."""

from __future__ import annotations

from allstop.vm.wire.fields import U8, U16, U32, Text
from allstop.vm.wire.message import Message, message
from allstop.vm.wire.routes import COORDINATOR, DEBUGGER, DEVICES, LAUNCHER, WORKER

# RunEnded.verdict, in the words that `verdict.json` uses.
VERDICTS = ("pass", "fail", "violation", "lost", "timeout", "error")


@message(32, DEVICES >> COORDINATOR)
class GuestFinished(Message):
    """The guest wrote its exit status to the test device (0 is pass): the run ends with verdict `pass` or `fail`."""

    status: U32
    detail: Text


@message(33, WORKER >> COORDINATOR)
class GuestFailed(Message):
    """The guest cannot go on (it jumped where there is no memory and has no vectors there, say). The run
    ends with verdict `fail`."""

    vcpu: U16
    sentence: Text


@message(34, (WORKER | DEVICES) >> COORDINATOR)
class Violated(Message):
    """An oracle fired. The run ends with verdict `violation`."""

    vcpu: U16
    sentence: Text


@message(35, (WORKER | DEVICES) >> COORDINATOR)
class ComponentFailed(Message):
    """A device or a part of the harness failed: the run ends with verdict `error`. `sentence` says what to do; `vcpu`
    means something where `role` is a worker's."""

    role: U8
    vcpu: U16
    sentence: Text


@message(36, COORDINATOR >> (LAUNCHER | DEBUGGER))
class RunEnded(Message):
    """The run has a verdict: an index into VERDICTS, the guest's own status, and one sentence. Sent
    once: the first reason wins."""

    verdict: U8
    status: U32
    sentence: Text


@message(80, LAUNCHER >> COORDINATOR)
class Boot(Message):
    """All is ready: start the boot vCPU, with no machine number (0xffffffff) in r1 and the guest-physical address of
    its device tree in r2, 0 where it has none."""

    entry: U32
    r1: U32
    r2: U32


@message(81, COORDINATOR >> (LAUNCHER | DEBUGGER))
class MembersReady(Message):
    """Every worker and the device server have said Hello to the coordinator."""

    vcpus: U16


@message(82, LAUNCHER >> COORDINATOR)
class ProcessLost(Message):
    """The launcher saw a process die or hang. The coordinator takes it out of every barrier and ends the
    run with verdict `lost`."""

    role: U8
    vcpu: U16
    sentence: Text
