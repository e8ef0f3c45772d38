# SPDX-License-Identifier: GPL-2.0-or-later
"""What is said on each connection: who is there, and the end."""

from __future__ import annotations

from allstop.vm.wire.fields import U8, U16, U32, U64, Blob
from allstop.vm.wire.message import Message, message
from allstop.vm.wire.routes import COORDINATOR, DEBUGGER, DEVICES, LAUNCHER, NODE, OPERATOR, WORKER

PROTOCOL_VERSION = 1
TO_COORDINATOR = (WORKER | LAUNCHER | OPERATOR | DEBUGGER | NODE) >> COORDINATOR
GREETING = TO_COORDINATOR | (WORKER | COORDINATOR | LAUNCHER) >> DEVICES


@message(1, GREETING)
class Hello(Message):
    """First message of every peer on every connection. A peer whose token is wrong is ignored and counted."""

    version: U16
    token: Blob
    role: U8
    vcpu: U16
    pid: U32


@message(2, GREETING.back)
class Welcome(Message):
    """Answer to a Hello that was accepted."""

    version: U16
    pid: U32


@message(3, GREETING)
class Ping(Message):
    """Are you there? Servers, and the agents of other hosts, answer it with Pong."""

    nonce: U64


@message(4, GREETING.back)
class Pong(Message):
    """Answer to Ping."""

    nonce: U64


@message(5, LAUNCHER >> COORDINATOR | COORDINATOR >> (WORKER | DEVICES | DEBUGGER))
class Shutdown(Message):
    """Leave now, cleanly."""
