# SPDX-License-Identifier: GPL-2.0-or-later
"""Which peers a server admits, and which messages it takes from them.

What may live here: decisions. Messages come in with the name and the key of their connection; out comes the peer that
sent one, or RefusedError. There is no socket, no clock and no control page.

A connection has a *name*, the ZeroMQ identity that its peer chose, and between hosts a *key*, which CURVE has proved.
The peer's first message is its greeting (Hello; between nodes NodeHello, from an agent HostReady). A `Gate` checks it,
and what it says of the peer holds from then on: the peer may send what the routes of the messages let its role send.

A name belongs to the key that was first admitted under it. ZeroMQ gives a name that has become free to the next
connection that asks for it, so a new connection makes every name unsure: the next message of each is compared with the
key once. Between two connections a name that was found right is *sure*, and its messages cost one look into a set.

A message that is refused has no effect and no answer; the server counts it under the reason that RefusedError gives.
"""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from typing import Generic, Protocol, TypeVar

from allstop.vm.config.machine import HostsSpec
from allstop.vm.wire.channel import identity_fits
from allstop.vm.wire.message import ROUTES, Message
from allstop.vm.wire.messages import (
    PROTOCOL_VERSION,
    ROLE_NAMES,
    ROLE_NODE,
    ROLE_OPERATOR,
    ROLE_WORKER,
    Hello,
    Ping,
)

MAX_OPERATORS = 256

MALFORMED = "a malformed message"
SEVERAL_FRAMES = "a message of several frames"
WITHOUT_KEY = "a connection without a key of this run"
WRONG_KEY = "a message of another host than its name's"
NOT_AT_HOME = "a Hello of a process of another host"


class RefusedError(ValueError):
    """A message that a server does not take; the text is the reason. Nothing has changed."""


class Peer:
    """A process whose greeting was accepted. `vcpu` is a worker's, or the host of a node or an agent; `may_send` are
    the messages that the server takes from it."""

    __slots__ = ("may_send", "pid", "role", "vcpu")

    def __init__(self, role: int, vcpu: int, pid: int, may_send: frozenset[type[Message]]) -> None:
        self.role = role
        self.vcpu = vcpu
        self.pid = pid
        self.may_send = may_send


P = TypeVar("P", bound=Peer)


class Gate(Protocol[P]):
    """Checks greetings."""

    greeting: type[Message]

    def admit(self, identity: bytes, key: str | None, message: Message, known: P | None) -> P:
        """The peer that greets with `message`, which is of the kind `greeting`. `known` is the peer that has the name
        already. `key` is None where the name is sure. Raises RefusedError."""


class Admission(Generic[P]):
    """The peers of one server. `callees` are the servers that it connects to itself, under names that it gives them."""

    def __init__(self, gate: Gate[P], callees: Mapping[bytes, P] | None = None) -> None:
        self.peers: dict[bytes, P] = dict(callees or {})
        self.refused: Counter[str] = Counter()
        """How many messages were refused, by reason."""
        self.sure: set[bytes] = set()
        """The names whose connections are those of the peers they belong to."""
        self._gate = gate
        self._keys = dict.fromkeys(self.peers, "")

    def connected(self) -> None:
        """A new connection has come: any name may be another peer's."""
        self.sure.clear()

    def judge(self, identity: bytes, message: Message, key: str | None) -> P:
        """The peer that sends a message under the name `identity`. `key` is that of its connection, "" for one of this
        host, or None where the name is sure. A greeting admits its peer. Raises RefusedError."""
        if key is not None:
            self._check_name(identity, key)
        peer = self.peers.get(identity)
        kind = message.__class__
        if peer is not None and kind in peer.may_send:
            return peer
        if kind is self._gate.greeting:
            return self._admit(identity, message, key, peer)
        if peer is None:
            raise RefusedError(f"a message of a stranger, before {self._gate.greeting.__name__}")
        raise not_its_to_send(message)

    def forget(self, identity: bytes) -> None:
        """The peer is gone: it would have to greet again."""
        self.peers.pop(identity, None)
        self._keys.pop(identity, None)
        self.sure.discard(identity)

    def _check_name(self, identity: bytes, key: str) -> None:
        known = self._keys.get(identity)
        if known == key:
            self.sure.add(identity)
        elif known is not None:
            raise RefusedError(WRONG_KEY)

    def _admit(self, identity: bytes, message: Message, key: str | None, known: P | None) -> P:
        peer = self._gate.admit(identity, key, message, known)
        if known is None and peer.role == ROLE_OPERATOR:
            self._make_room()
        self.peers[identity] = peer
        if key is not None:
            self._keys[identity] = key
        return peer

    def _make_room(self) -> None:
        """Operators come for a moment, and nothing tells that they have gone: the oldest is forgotten for a new one."""
        operators = [identity for identity, peer in self.peers.items() if peer.role == ROLE_OPERATOR]
        for identity in operators[: max(0, len(operators) + 1 - MAX_OPERATORS)]:
            self.forget(identity)


class HelloGate(Generic[P]):
    """Admits the processes of one machine of `vcpus` vCPUs, which `token` opens, to the server of `role`.

    `hosts` are the machine's, if it has several. `also` are roles that may connect beside those on the route of Hello,
    and what a role may send beside the messages that have it on their route. `make` makes a Peer of its arguments."""

    greeting: type[Message] = Hello

    def __init__(
        self,
        role: int,
        token: bytes,
        vcpus: int,
        make: Callable[[int, int, int, frozenset[type[Message]]], P],
        hosts: HostsSpec | None = None,
        also: Mapping[int, frozenset[type[Message]]] | None = None,
    ) -> None:
        self._role = role
        self._token = token
        self._vcpus = vcpus
        self._make = make
        self._hosts = hosts
        self._also = also or {}
        self._roles = {sender for sender, receiver in ROUTES[Hello] if receiver == role}.union(self._also)

    def admit(self, identity: bytes, key: str | None, message: Message, known: P | None) -> P:
        """See Gate. A process that says Hello again keeps its Peer."""
        assert isinstance(message, Hello)
        hello = message
        if key is not None and not is_at_home(self._hosts, key, hello):
            raise RefusedError(NOT_AT_HOME)
        if not hmac.compare_digest(hello.token, self._token):
            raise RefusedError("a Hello with a wrong token")
        if hello.version != PROTOCOL_VERSION:
            raise RefusedError(f"a Hello of protocol version {hello.version}, not {PROTOCOL_VERSION}")
        if hello.role not in self._roles:
            raise RefusedError(f"a Hello of role {hello.role}, which does not connect to the {ROLE_NAMES[self._role]}")
        if hello.role == ROLE_WORKER and hello.vcpu >= self._vcpus:
            raise RefusedError(f"a Hello of vCPU {hello.vcpu}, which the machine does not have")
        if not identity_fits(identity, hello):
            raise RefusedError("a Hello under an identity that is not its own")
        if known is not None and known.pid == hello.pid:
            return known
        kinds = may_send(hello.role, self._role) | self._also.get(hello.role, frozenset()) | {Ping}
        return self._make(hello.role, hello.vcpu, hello.pid, kinds)


@cache
def may_send(sender: int, receiver: int) -> frozenset[type[Message]]:
    """What a peer of one role may send to a server of another, once it is admitted."""
    return frozenset(kind for kind, route in ROUTES.items() if (sender, receiver) in route and kind is not Hello)


def not_its_to_send(message: Message) -> RefusedError:
    """The reason for a message that is not on its sender's route."""
    return RefusedError(f"{message.__class__.__name__}, which is not its sender's to send")


def is_at_home(hosts: HostsSpec | None, key: str, hello: Hello) -> bool:
    """Whether a Hello comes from the host whose process says it: `key` is that of the connection, "" for one of this
    host's own. Another host has workers, of its own vCPUs, and one node."""
    if hosts is None:
        return True
    if key and key not in hosts.public_keys:
        return False
    host = hosts.public_keys.index(key) if key else hosts.index
    if hello.role == ROLE_WORKER:
        return hosts.vcpu_hosts[hello.vcpu : hello.vcpu + 1] == (host,)
    return (hello.role == ROLE_NODE and hello.vcpu == host) if key else hello.role != ROLE_NODE
