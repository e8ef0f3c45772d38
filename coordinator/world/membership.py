# SPDX-License-Identifier: GPL-2.0-or-later
"""Who belongs to the machine: who said a good Hello, who is still awaited, who is lost.

Events in, effects out, no I/O. A machine is ready when each worker has said Hello, the device server has welcomed
the coordinator, and the launcher is there to be told.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from allstop.vm.wire.channel import DEVICES, identity_fits
from allstop.vm.wire.messages import (
    PROTOCOL_VERSION,
    ROLE_DEBUGGER,
    ROLE_DEVICES,
    ROLE_LAUNCHER,
    ROLE_NODE,
    ROLE_OPERATOR,
    ROLE_WORKER,
    Hello,
)

MAX_OPERATORS = 256


class StrangerError(Exception):
    """A Hello that is not accepted; the text says why."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Somebody whose Hello was accepted. `vcpu` is a worker's, or the host of a node."""

    role: int
    vcpu: int
    pid: int


# Events


@dataclass(frozen=True, slots=True)
class Greeted:
    """A peer that connected as `identity` said `hello`."""

    identity: bytes
    hello: Hello


@dataclass(frozen=True, slots=True)
class DevicesReached:
    """The device server has welcomed us."""


@dataclass(frozen=True, slots=True)
class Departed:
    """The process of `role` (and `vcpu`, for a worker) is dead."""

    role: int
    vcpu: int


# Effects


@dataclass(frozen=True, slots=True)
class Accept:
    """Answer `identity` with Welcome."""

    identity: bytes


@dataclass(frozen=True, slots=True)
class AllHere:
    """The machine is ready: tell the launcher. Comes once."""


Event: TypeAlias = Greeted | DevicesReached | Departed
Effect: TypeAlias = Accept | AllHere


class Membership:
    """The members of one machine of `vcpus` vCPUs, which `token` opens. `hosts` are the numbers of its other hosts."""

    def __init__(self, vcpus: int, token: bytes, hosts: Iterable[int] = ()) -> None:
        self.peers: dict[bytes, Peer] = {DEVICES: Peer(ROLE_DEVICES, 0, 0)}  # it is we who called
        self.awaited = set(range(vcpus))
        """vCPUs whose worker has not said Hello."""
        self.lost: set[tuple[int, int]] = set()
        """(role, vcpu) of the dead."""
        self.awaited_hosts = set(hosts)
        """Other hosts whose node has not."""
        self._vcpus = vcpus
        self._token = token
        self._devices_reached = False
        self._announced = False

    def handle(self, event: Event) -> list[Effect]:
        """Take one event. Raises StrangerError for a Hello that is not accepted, and then nothing has changed."""
        match event:
            case Greeted(identity, hello):
                self._admit(identity, hello)
                return [Accept(identity), *self._announce()]
            case DevicesReached():
                self._devices_reached = True
                return self._announce()
            case Departed(role, vcpu):
                self.lost.add((role, vcpu if role == ROLE_WORKER else 0))
                return []

    def _admit(self, identity: bytes, hello: Hello) -> None:
        if not hmac.compare_digest(hello.token, self._token):
            raise StrangerError("a Hello with a wrong token")
        if hello.version != PROTOCOL_VERSION:
            raise StrangerError(f"a Hello of protocol version {hello.version}, not {PROTOCOL_VERSION}")
        if hello.role not in (ROLE_WORKER, ROLE_LAUNCHER, ROLE_OPERATOR, ROLE_DEBUGGER, ROLE_NODE):
            raise StrangerError(f"a Hello of role {hello.role}, which does not connect to the coordinator")
        if hello.role == ROLE_WORKER and hello.vcpu >= self._vcpus:
            raise StrangerError(f"a Hello of vCPU {hello.vcpu}, which the machine does not have")
        if not identity_fits(identity, hello):
            raise StrangerError("a Hello under an identity that is not its own")
        if hello.role == ROLE_OPERATOR:
            self._make_room()
        self.peers[identity] = Peer(hello.role, hello.vcpu, hello.pid)
        if hello.role == ROLE_WORKER:
            self.awaited.discard(hello.vcpu)
        if hello.role == ROLE_NODE:
            self.awaited_hosts.discard(hello.vcpu)

    def _make_room(self) -> None:
        """Operators come for a moment, and nothing tells that they have gone: the oldest is forgotten for a new one."""
        operators = [identity for identity, peer in self.peers.items() if peer.role == ROLE_OPERATOR]
        for identity in operators[: max(0, len(operators) + 1 - MAX_OPERATORS)]:
            self.forget(identity)

    def _announce(self) -> list[Effect]:
        launcher_here = any(peer.role == ROLE_LAUNCHER for peer in self.peers.values())
        awaited = self.awaited or self.awaited_hosts or not self._devices_reached or not launcher_here
        if self._announced or awaited or self.lost:
            return []
        self._announced = True
        return [AllHere()]

    def forget(self, identity: bytes) -> None:
        """An operator is gone: it would have to say Hello again."""
        self.peers.pop(identity, None)
