# SPDX-License-Identifier: GPL-2.0-or-later
"""Requests to vCPUs, carried between hosts: what is posted here to those of other hosts, and what others post to ours.

`control_page.h` (cp_post_remote) says how requests get out of a slot, and when a guest entry may end. I/O is the
node's: `send` gives a message to another host's node.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from allstop.coordinator.node.memory import node_memory
from allstop.coordinator.node.memory.node_memory import NodeMemory
from allstop.vm.config.machine import HostsSpec
from allstop.vm.control import control
from allstop.vm.wire.messages import Message
from allstop.vm.wire.messages_hosts import Posted, PostsDone, PowerChanged

POST = struct.Struct("<HIQ")
_ON_THE_SPOT_S = 0.0003


@dataclass
class _Waiting:
    """Requests that were posted to vCPUs here. `say` when those in `left` have left the guest."""

    say: Callable[[], None]
    left: list[tuple[int, int, int]]  # vCPU, and what `has_exited` wants
    ipi: bool = False


class RemoteRequests:
    """Of one host. With `ipi` a flush is also waited for by vCPUs in the middle of an exit."""

    def __init__(self, hosts: HostsSpec, memory: NodeMemory, ipi: bool, send: Callable[[int, Message], None]) -> None:
        self._hosts, self._own = hosts, hosts.index
        self._memory = memory
        self._ipi = ipi
        self._send = send
        self._waiting: list[_Waiting] = []
        self._number = 0
        self._under_way: dict[tuple[int, int], list[int]] = {}  # (host, number of the Posted): its vCPUs
        self._in_flight: Counter[int] = Counter()

    @property
    def waits(self) -> bool:
        """Whether `look` has something to look at."""
        return bool(self._waiting)

    def carry(self) -> None:
        """What was posted here to vCPUs of other hosts: one message for each host."""
        posts: dict[int, list[int]] = {}
        packed: dict[int, bytearray] = {}
        for vcpu, bits, line, power in self._memory.take_outbox():
            host = self._hosts.vcpu_hosts[vcpu]
            if host == self._own:
                for peer in range(len(self._hosts.endpoints)):
                    if peer != self._own:
                        self._send(peer, PowerChanged(vcpu, power))
                continue
            posts.setdefault(host, []).append(vcpu)
            packed.setdefault(host, bytearray()).extend(POST.pack(vcpu, bits, line))
        for host, vcpus in posts.items():
            self._number = self._number % 0xFFFF_FFFF + 1
            self._under_way[host, self._number] = vcpus
            self._in_flight.update(vcpus)
            self._send(host, Posted(self._number, bytes(packed[host])))

    def done(self, host: int, number: int) -> None:
        """A host has done what it was sent."""
        for vcpu in self._under_way.pop((host, number), []):
            self._in_flight[vcpu] -= 1
            if not self._in_flight[vcpu] and not self._memory.end_guest_entry(vcpu):
                self.carry()

    def deliver(self, host: int, number: int, posts: bytes) -> None:
        """Another host's posts to our vCPUs. Raises ValueError for posts that cannot be right, and has then done
        nothing."""
        if len(posts) % POST.size:
            raise ValueError("posts of no whole number")
        items = list(POST.iter_unpack(posts))
        if any(self._hosts.vcpu_hosts[vcpu : vcpu + 1] != (self._own,) for vcpu, *_ in items):
            raise ValueError("posts to a vCPU that is not here")
        if any(bits & control.STOP for _, bits, _ in items):
            raise ValueError("posts of a stop, which is the coordinator's to say")
        flushes = any(bits & node_memory.FLUSHES for _, bits, *_ in items)
        if flushes:
            self._memory.invalidation(False)
        left = []
        for vcpu, bits, line in items:
            exiting, ticket = self._memory.deliver(vcpu, bits, line)
            if exiting or (self._ipi and ticket):
                left.append((vcpu, exiting, ticket))

        def say() -> None:
            if flushes:
                self._memory.invalidation(True)
            self._send(host, PostsDone(number))

        self._wait_for(_Waiting(say, left, self._ipi))

    def stop(self, spared: Iterable[int], say: Callable[[], None]) -> None:
        """Keep our vCPUs outside the guest, except those spared, and `say` when they are."""
        left = [(vcpu, self._memory.stop(vcpu), 0) for vcpu in self._hosts.own_vcpus if vcpu not in set(spared)]
        self._wait_for(_Waiting(say, left))

    def resume(self) -> None:
        """Let them in again."""
        for vcpu in self._hosts.own_vcpus:
            self._memory.resume(vcpu)

    def look(self) -> None:
        """See which vCPUs have left the guest meanwhile."""
        if self._waiting:
            self._waiting = [waiting for waiting in self._waiting if not self._all_left(waiting)]

    def _wait_for(self, waiting: _Waiting) -> None:
        """On the spot where that is a matter of a moment."""
        if not waiting.ipi:
            for vcpu, exiting, _ in waiting.left:
                self._memory.wait_exited(vcpu, exiting, _ON_THE_SPOT_S)
        if not self._all_left(waiting):
            self._waiting.append(waiting)

    def _all_left(self, waiting: _Waiting) -> bool:
        waiting.left = [
            (vcpu, exiting, ticket)
            for vcpu, exiting, ticket in waiting.left
            if not self._memory.has_exited(vcpu, exiting, ticket, waiting.ipi)
        ]
        if not waiting.left:
            waiting.say()
        return not waiting.left
