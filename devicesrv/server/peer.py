# SPDX-License-Identifier: GPL-2.0-or-later
"""Those who talk to the device server."""

from __future__ import annotations

from allstop.devicesrv.server.reply_cache import ReplyCache
from allstop.vm.wire.messages import Hello


class Peer:
    """Somebody who said a good Hello. `vcpu` counts for workers only, and `awaited`: the number of the next access."""

    __slots__ = ("awaited", "called", "memory", "pid", "role", "vcpu")

    def __init__(self, hello: Hello) -> None:
        self.role = hello.role
        self.vcpu = hello.vcpu
        self.pid = hello.pid
        self.memory = ReplyCache()
        self.awaited = 1
        self.called = (0, b"")  # the last HostCall's number, and the answer
