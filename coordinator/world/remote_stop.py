# SPDX-License-Identifier: GPL-2.0-or-later
"""The other hosts of a machine in a stop of the world: one message to each, one from each. Its only I/O is `send`."""

from __future__ import annotations

import struct
from collections.abc import Callable

from allstop.coordinator.world.barrier import Hold
from allstop.vm.config.machine import HostsSpec
from allstop.vm.wire.channel import node_identity
from allstop.vm.wire.messages import Message
from allstop.vm.wire.messages_hosts import ResumeHost, StopHost


class RemoteHosts:
    """The other hosts, and the vCPUs that a stop still waits for there. `hosts` None: there are none."""

    def __init__(self, hosts: HostsSpec | None, send: Callable[[bytes, Message], None]) -> None:
        self._send = send
        self._vcpus: dict[int, frozenset[int]] = {}
        if hosts is not None:
            for vcpu, host in enumerate(hosts.vcpu_hosts):
                if host != hosts.index:
                    self._vcpus[host] = self._vcpus.get(host, frozenset()) | {vcpu}
        self._waiting: set[int] = set()
        self._exempt: frozenset[int] = frozenset()
        self._hold = 0

    def stop(self, hold: Hold) -> None:
        """Have every host stop its vCPUs, but those that are exempt."""
        self._hold, self._exempt = hold.hold, frozenset(hold.exempt)
        self._waiting = set(self._vcpus)
        for host in self._vcpus:
            exempt = struct.pack(f"<{len(self._exempt)}H", *sorted(self._exempt))
            self._send(node_identity(host), StopHost(hold.hold & 0xFFFF_FFFF, exempt))

    def stopped(self, host: int, hold: int) -> bool:
        """A host has stopped its vCPUs; an answer to an older hold is ignored. True when no host is missing."""
        if hold == self._hold & 0xFFFF_FFFF:
            self._waiting.discard(host)
        return not self._waiting

    @property
    def missing(self) -> frozenset[int]:
        """The vCPUs that may still be in the guest."""
        return frozenset().union(*(self._vcpus[host] for host in self._waiting)) - self._exempt

    def resume(self) -> None:
        """The world goes on."""
        self._waiting = set()
        for host in self._vcpus:
            self._send(node_identity(host), ResumeHost())
