# SPDX-License-Identifier: GPL-2.0-or-later
"""Which of a machine's other hosts have come, and how far away each is. A state machine without I/O.

    admit     an agent says HostReady, under the key of its host
    came      it was admitted. When the last one has come, each is pinged
    answered  a Pong. The next Ping follows, _TRIPS of them to each host
    missing   empty when all have come and were measured

Hosts are measured only when all of them have come: an agent that is still starting would delay the others' answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from allstop.vm.version import __version__
from allstop.vm.wire.admission import Peer, RefusedError, may_send
from allstop.vm.wire.message import Message
from allstop.vm.wire.messages import PROTOCOL_VERSION, ROLE_HOST, ROLE_LAUNCHER, HostReady, Ping, Pong

_TRIPS = 8  # the quickest counts: a host that is starting is slow


class AgentsError(OSError):
    """The machine cannot have these hosts; one sentence."""


class SendPing(NamedTuple):
    """Send the ping to the agent of this identity."""

    identity: bytes
    ping: Ping


class Gathering:
    """The hosts by their numbers, 1 and up; `titles` name all hosts in sentences, `keys` are their public keys.

    It is the gate of the launcher's server. `identities` are those of the agents that have come, `endpoints` where each
    host's node listens.
    """

    greeting: type[Message] = HostReady

    def __init__(self, titles: Sequence[str], keys: Sequence[str], fence: int, engine: str) -> None:
        self._titles = titles
        self._keys = keys
        self._fence = fence
        self._engine = engine
        self._numbers = range(1, len(titles))
        self._pinged_s: dict[int, float] = {}
        self._trips_s: dict[int, list[float]] = {number: [] for number in self._numbers}
        self.identities: dict[bytes, int] = {}
        self.endpoints = [""] * len(titles)

    @property
    def missing(self) -> list[int]:
        """The hosts that have not come; when all have, those that have not been measured."""
        return [number for number in self._numbers if number not in self.identities.values()] or [
            number for number in self._numbers if len(self._trips_s[number]) < _TRIPS
        ]

    @property
    def trip_s(self) -> float:
        """How long a message takes to the farthest host and back."""
        return max(min(trips_s) for trips_s in self._trips_s.values())

    def admit(self, identity: bytes, key: str | None, message: Message, known: Peer | None) -> Peer:
        """Check an agent's greeting, see allstop.vm.wire.admission.Gate. Raises AgentsError where it is one of this run
        that cannot take part."""
        assert isinstance(message, HostReady)
        host = message.host
        if message.fence != self._fence or host not in self._numbers or key != self._keys[host]:
            raise RefusedError("a HostReady of another run or host")
        if host in self.identities.values():
            raise RefusedError("a HostReady of a host that is here")
        title = self._titles[host]
        if message.version != PROTOCOL_VERSION or message.package != __version__:
            raise AgentsError(
                f"{title} has allstop {message.package} (protocol {message.version}) and this host "
                f"{__version__} (protocol {PROTOCOL_VERSION}): install the same on both"
            )
        if message.engine != self._engine:
            raise AgentsError(
                f"{title} has the engine {message.engine} and this host {self._engine}: install the same on both"
            )
        self.identities[identity] = host
        self.endpoints[host] = message.endpoint
        return Peer(ROLE_HOST, host, message.pid, may_send(ROLE_HOST, ROLE_LAUNCHER) - {HostReady} | {Pong})

    def came(self, now_s: float) -> list[SendPing]:
        """An agent was admitted: when it is the last, all are pinged."""
        if len(self.identities) < len(self._numbers):
            return []
        return [self._ping(each, now_s) for each in self.identities]

    def answered(self, identity: bytes, nonce: int, now_s: float) -> list[SendPing]:
        """An agent has answered a ping."""
        number = self.identities.get(identity)
        if number is None or number not in self._pinged_s or nonce != len(self._trips_s[number]):
            return []
        self._trips_s[number].append(now_s - self._pinged_s[number])
        return [self._ping(identity, now_s)] if nonce + 1 < _TRIPS else []

    def _ping(self, identity: bytes, now_s: float) -> SendPing:
        number = self.identities[identity]
        self._pinged_s[number] = now_s
        return SendPing(identity, Ping(len(self._trips_s[number])))
