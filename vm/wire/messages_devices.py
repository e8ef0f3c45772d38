# SPDX-License-Identifier: GPL-2.0-or-later
"""Devices: a vCPU's accesses and private interrupts, the console's input, semihosting calls."""

from __future__ import annotations

from allstop.vm.wire.fields import U8, U16, U32, U64, Blob, Flag
from allstop.vm.wire.message import Message, message
from allstop.vm.wire.routes import DEVICES, LAUNCHER, WORKER

INPUT_WINDOW_BYTES = 4096
"""How much of the console's input a launcher may have sent before it is told that a device took it."""

# MmioReply.status
MMIO_OK = 0
MMIO_UNASSIGNED = 1
MMIO_FAILED = 2
MMIO_MALFORMED = 3


@message(16, WORKER >> DEVICES)
class MmioRequest(Message):
    """A vCPU's access to a device page. `seq` counts the accesses of that vCPU from 1: a request whose
    `seq` equals the last one is answered again and not performed again; an older one is ignored. `size` is 1, 2, 4
    or 8 bytes; `value` is the little-endian number to write (0 for a read)."""

    seq: U64
    ipa: U64
    size: U8
    is_write: Flag
    value: U64


@message(17, DEVICES >> WORKER)
class MmioReply(Message):
    """Answer to the MmioRequest with the same `seq`. `status`: 0 done, 1 no device there (the vCPU takes an
    external abort), 2 the device raised (the run ends), 3 the request was not understood. `line` is the requesting
    vCPU's interrupt line after the access: version << 2 | FIQ << 1 | IRQ. Versions grow with each change of that vCPU's
    line, so that the newest wins whichever way it arrives."""

    seq: U64
    status: U8
    value: U64
    line: U64


@message(19, WORKER >> DEVICES)
class PpiLevel(Message):
    """The level of a private interrupt (timers) of the sending vCPU. A PpiReply answers it unless `seq` is 0."""

    intid: U16
    level: Flag
    seq: U64


@message(20, DEVICES >> WORKER)
class PpiReply(Message):
    """Answer to the PpiLevel with the same `seq`. `line` is the vCPU's interrupt line now, as in MmioReply."""

    seq: U64
    line: U64


@message(21, LAUNCHER >> DEVICES)
class ConsoleInput(Message):
    """What was typed on the console. The launcher may have 4096 bytes under way: it counts what it sends, and
    ConsoleInputTaken gives back what a device has taken. More than that is dropped as a whole, and counted."""

    data: Blob


@message(22, DEVICES >> LAUNCHER)
class ConsoleInputTaken(Message):
    """A device has taken so many bytes of the console's input: the launcher may send as many more."""

    taken_bytes: U32


@message(24, WORKER >> DEVICES)
class HostCall(Message):
    """A guest's semihosting call that the device server performs, from the worker of its vCPU. `seq` counts these calls
    of that vCPU from 1, as MmioRequest's does. `operation` is the call's number; `handle`, `number`, `data` and `more`
    are what it needs: a file's handle, a mode, position or number of bytes, names or bytes to write."""

    seq: U64
    operation: U32
    handle: U32
    number: U32
    data: Blob
    more: Blob


@message(25, DEVICES >> WORKER)
class HostReturn(Message):
    """Answer to the HostCall with the same `seq`: what it returns, an error number where that says so, and bytes."""

    seq: U64
    value: U64
    error: U32
    data: Blob
