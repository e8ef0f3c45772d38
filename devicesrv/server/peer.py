# SPDX-License-Identifier: GPL-2.0-or-later
"""The peers of the device server."""

from __future__ import annotations

from allstop.devicesrv.server.reply_cache import ReplyCache
from allstop.vm.wire import admission
from allstop.vm.wire.message import Message


class Peer(admission.Peer):
    """A process whose Hello was accepted, and what the server remembers of a worker: `replies` to accesses, the number
    `awaited` of the next access, and the last semihosting call (`called`: its number and the answer)."""

    __slots__ = ("awaited", "called", "replies")

    def __init__(self, role: int, vcpu: int, pid: int, may_send: frozenset[type[Message]]) -> None:
        super().__init__(role, vcpu, pid, may_send)
        self.replies = ReplyCache()
        self.awaited = 1
        self.called = (0, b"")
