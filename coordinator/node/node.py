# SPDX-License-Identifier: GPL-2.0-or-later
"""A host's node, one on each host of a machine that has several.

It has the host's pages (`PageCache`), the directory of those whose home this host is (`PageDirectory`), and carries
requests to vCPUs of other hosts there. This is the file with I/O: sockets, shared memory, the clock. One thread.

Two things wake it: its doorbell, an event descriptor that the host's other processes write to, and messages of other
nodes, which come to one `Server`; there is one DEALER to each of them (`NodeLinks`).

Being woken costs more than what is then to do. So for a moment after it had something to do the node does not sleep but
looks again and again, as KVM does before it halts a vCPU, where its host has a core on which no vCPU computes.

Nothing here waits for anything that may wait for this node. A vCPU in the guest leaves it without help, so where one
has to leave, the node waits a moment on the spot; where others have to be waited for, or that takes long, it goes on
and looks again.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import struct
import time
from collections import deque
from functools import partial

import zmq

from allstop.coordinator.node.clock_sync import HostClock
from allstop.coordinator.node.links import NodeError, NodeGate, NodeLinks
from allstop.coordinator.node.memory import node_memory
from allstop.coordinator.node.memory.node_memory import NodeMemory
from allstop.coordinator.node.page_cache import Effect, Have, Install, PageCache, Revoke, Upgrade, Watch, bounded_trip_s
from allstop.coordinator.node.page_directory import PageDirectory, PageMessage, Send, home_of
from allstop.coordinator.node.remote_requests import RemoteRequests
from allstop.vm.config.machine import HostsSpec, MachineConfig
from allstop.vm.control import control
from allstop.vm.control.control import ControlPage
from allstop.vm.wire.admission import Admission, Peer, RefusedError, not_its_to_send
from allstop.vm.wire.channel import Channel, node_identity
from allstop.vm.wire.codec import MalformedError
from allstop.vm.wire.messages import (
    ROLE_NODE,
    HostStopped,
    Message,
    NodeHello,
    NodePing,
    NodePong,
    PageAsked,
    PageGranted,
    PageRecalled,
    PageYielded,
    Posted,
    PostsDone,
    PowerChanged,
    ResumeHost,
    StopHost,
    VcpuTold,
)
from allstop.vm.wire.security import KeyPair
from allstop.vm.wire.server import HostsListener, Server

PAGE_BYTES = 4096
POLL_S = 0.0003
_IDLE_MS = 100
_LOOK_AGAIN_MS = 1
_BEAT_S = 0.5
_TOLD_BOUNCES = 16
_POWERS = (control.POWER_OFF, control.POWER_PENDING, control.POWER_ON)


class Node:
    """The node of one host. `serve` returns when the run is over, and raises NodeError when a host is lost."""

    def __init__(self, config: MachineConfig, hosts: HostsSpec, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        """Listen, and call the other nodes. Raises ChannelError, OSError, ValueError."""
        fds = config.fds
        self._config, self._hosts, self._own = config, hosts, hosts.index
        self._control_page = ControlPage(fds.control)
        self._memory = NodeMemory(fds.control, fds.ram, fds.stage2, fds.swap)
        self._directory = PageDirectory(hosts.index)
        self._cache = PageCache(
            hosts.index,
            len(hosts.endpoints),
            node_memory.DEVICES,
            self._is_here,
            self._memory.progress,
            bounded_trip_s(hosts.trip_s, len(hosts.endpoints), hosts.deadline_s / 4),
            self._memory.is_idle,
        )
        self._share_time()
        self._control_page.set_pid(control.NODE, os.getpid())
        self._control_page.set_activity(control.NODE, control.ACTIVITY_IDLE)
        self._first_vcpu = hosts.own_vcpus[0] if hosts.own_vcpus else 0
        token = bytes.fromhex(config.token)
        self._server = Server(
            context,
            Admission(NodeGate(hosts, token)),
            self._take,
            hosts=HostsListener.of(hosts, 0),
            send_limit=0,
            receive_limit=0,
        )
        self._links = NodeLinks(context, hosts, token)
        self._send = self._links.send
        keys = KeyPair(hosts.public_keys[hosts.index], hosts.secret_key)
        self._coordinator = (
            None
            if hosts.index == 0
            else Channel.connect(
                context,
                hosts.coordinator_endpoint,
                node_identity(hosts.index),
                config.token,
                ROLE_NODE,
                hosts.index,
                hosts.public_keys[0],
                keys,
            )
        )
        self._announced: dict[int, tuple[int, bool, bool]] = {}
        self._to_self: deque[PageMessage] = deque()
        self._remote_requests = RemoteRequests(hosts, self._memory, config.tlb == "ipi", self._send)
        self._coordinator_fd = -1
        self._polls_until_s = 0.0
        self._beat_s = 0.0
        self._ended = False
        self._clock = HostClock()
        self.moved_pages = 0

    def serve(self) -> None:
        """Work until the run is over. Raises NodeError."""
        with select.epoll() as poller:  # a page's way is short, and zmq.Poller is a tenth of it
            # A socket's descriptor tells of changes only: so sockets are read until they are empty, whatever woke us.
            poller.register(int(self._server.socket.getsockopt(zmq.FD)), select.EPOLLIN)
            poller.register(self._hosts.doorbell_fd, select.EPOLLIN)
            if self._coordinator is not None:
                self._coordinator_fd = int(self._coordinator.socket.getsockopt(zmq.FD))
                poller.register(self._coordinator_fd, select.EPOLLIN)
                self._ask_time()
            more = True
            while not self._is_over():
                ready = poller.poll(0) if more else self._wait(poller)
                if ready:
                    self._polls_until_s = time.monotonic() + POLL_S
                more = self._turn({fd for fd, _ in ready})

    def _wait(self, poller: select.epoll) -> list[tuple[int, int]]:
        """Wait until something is ready, or there may be something to do by time alone."""
        until_s = min(self._polls_until_s, time.monotonic() + self._wait_ms() / 1000)
        while self._memory.may_poll() and time.monotonic() < until_s:
            if ready := poller.poll(0):
                return ready
            os.sched_yield()
        return poller.poll(self._wait_ms() / 1000)

    def _turn(self, ready: set[int]) -> bool:
        """Do what there is to do, first what these descriptors tell of. True when messages are left."""
        coordinator = self._coordinator
        told = coordinator is not None and self._coordinator_fd in ready
        if coordinator is not None and told:
            self._take_from_coordinator(coordinator)
        if self._hosts.doorbell_fd in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._hosts.doorbell_fd, 8)
            self._announce_wants()
            self._remote_requests.carry()
        more = self._server.take_waiting()
        waited = self._remote_requests.waits
        self._remote_requests.look()
        if coordinator is not None and (waited or not told):  # sending may clear the socket's signal
            self._take_from_coordinator(coordinator)
        now_s = time.monotonic()
        self._perform(self._cache.look(now_s))
        self._work_off()
        if now_s >= self._beat_s:
            self._beat(now_s)
        return more

    def close(self) -> None:
        """Close the sockets, and tell which pages moved."""
        with contextlib.suppress(OSError):
            os.pwrite(self._config.fds.pages, json.dumps(self._directory.bounces(_TOLD_BOUNCES)).encode(), 0)
        self._links.close()
        if self._coordinator is not None:
            self._coordinator.close()
        self._server.close()
        self._server.report_refusals(self._config, "node")

    def end(self) -> None:
        """Have `serve` return soon. May be called from a signal's handler."""
        self._ended = True

    @property
    def was_ended(self) -> bool:
        """Whether `end` was called."""
        return self._ended

    def _is_over(self) -> bool:
        return self._ended or bool(self._control_page.requests(self._first_vcpu) & control.QUIT)

    def _is_here(self, page: int, write: bool) -> bool:
        return bool(self._memory.is_here(page, write))

    def _wait_ms(self) -> int:
        due_s = self._cache.due_s()
        wait_ms = _LOOK_AGAIN_MS if self._remote_requests.waits else _IDLE_MS
        if due_s is not None:
            wait_ms = min(wait_ms, max(0, int((due_s - time.monotonic()) * 1000 + 0.999)))
        return wait_ms

    # Messages in

    def _take(self, identity: bytes, peer: Peer, message: Message) -> None:
        """Another host's node says something. Raises RefusedError."""
        host = peer.vcpu
        self._links.heard(host)
        if message.__class__ is NodeHello:
            return
        try:
            self._obey(host, message)
        except (ValueError, OverflowError) as error:
            raise RefusedError(str(error)) from None
        self._work_off()

    def _take_from_coordinator(self, coordinator: Channel) -> None:
        """Stops of the world: the coordinator asks every host itself."""
        while True:
            try:
                message = coordinator.receive(0)
            except MalformedError:
                continue
            match message:
                case None:
                    return
                case StopHost(hold, exempt):
                    spared = {vcpu for (vcpu,) in struct.iter_unpack("<H", exempt)} if len(exempt) % 2 == 0 else set()
                    self._remote_requests.stop(spared, partial(coordinator.send, HostStopped(hold)))
                case ResumeHost():
                    self._remote_requests.resume()

    def _obey(self, host: int, message: Message) -> None:
        """Do what another host's node says. Raises ValueError where that cannot be, and has then done nothing."""
        match message:
            case PageAsked() | PageRecalled() | PageYielded() | PageGranted():
                self._check_page(host, message)
                self._obey_page(host, message)
            case Posted(number, posts):
                self._remote_requests.deliver(host, number, posts)
            case PostsDone(number):
                self._remote_requests.done(host, number)
            case PowerChanged(vcpu, power):
                self._check_host_of(vcpu, host)
                if power not in _POWERS:
                    raise ValueError("a power state that there is not")
                self._memory.set_power(vcpu, power)
            case VcpuTold(vcpu, told):
                self._check_host_of(vcpu, host)
                self._memory.tell(vcpu, told)
            case NodePing(nonce):
                self._send(host, NodePong(nonce, time.monotonic_ns(), self._memory.clock_base()))
            case NodePong(nonce, now_ns, base_ns):
                if host == 0:
                    self._set_clock(nonce, now_ns, base_ns)
            case _:
                raise not_its_to_send(message)

    def _check_host_of(self, vcpu: int, host: int) -> None:
        if vcpu >= len(self._hosts.vcpu_hosts) or self._hosts.vcpu_hosts[vcpu] != host:
            raise ValueError("a message about a vCPU that is not on its sender's host")

    def _check_page(self, host: int, message: PageMessage) -> None:
        """Whether this host may say this of the page, now. Raises ValueError."""
        if not self._memory.is_page(message.page):
            raise ValueError("a message about a page that the guest does not have")
        to_home = isinstance(message, PageAsked | PageYielded)
        if home_of(message.page, len(self._hosts.endpoints)) != (self._own if to_home else host):
            raise ValueError("a message about a page that goes to or comes from another home")
        if isinstance(message, PageYielded | PageGranted) and len(message.data) not in (0, PAGE_BYTES):
            raise ValueError("what is in a page, but not of a page's size")
        if isinstance(message, PageGranted):
            if not self._cache.awaits(message.page):
                raise ValueError("a page that this host has not asked for")
            if message.fresh == self._is_here(message.page, False):
                raise ValueError("what is in a page that is here, or not what is in one that is not")

    # Pages

    def _announce_wants(self) -> None:
        for slot, page, write, execute, offset in self._memory.wants():
            if self._announced.get(slot) != (page, write, execute):
                self._announced[slot] = (page, write, execute)
                self._perform(self._cache.wanted(slot, page, write, execute, offset))
        self._work_off()

    def _obey_page(self, host: int, message: PageMessage) -> None:
        match message:
            case PageAsked():
                self._perform(self._directory.asked(host, message))
            case PageYielded():
                self._perform(self._directory.yielded(host, message))
            case PageRecalled():
                self._perform(self._cache.recalled(message, time.monotonic()))
            case PageGranted():
                self._perform(self._cache.granted(message, time.monotonic()))

    def _work_off(self) -> None:
        """Messages to ourselves: this host is the home of some of its pages."""
        while self._to_self:
            self._obey_page(self._own, self._to_self.popleft())

    def _perform(self, effects: list[Send] | list[Effect]) -> None:
        memory = self._memory
        for effect in effects:
            match effect:
                case Send(host, message):
                    if host == self._own:
                        self._to_self.append(message)
                    else:
                        self._send(host, message)
                case Install(page, data, write, execute, had_code):
                    memory.install(page, data, write, execute and not write, had_code)
                    self.moved_pages += 1
                case Upgrade(page):
                    self._try(memory.upgrade, page)
                case Have(slot, page, write):
                    self._announced.pop(slot, None)
                    self._cache.given(slot, page, memory.have(slot, page, write))
                case Revoke(page, _, share, wants_data):
                    found = self._try(memory.revoke, page, share, wants_data)
                    data, had_code = found if found is not None else (b"", False)
                    self._perform(self._cache.revoked(effect, data, had_code))
                case Watch(slot):
                    memory.progress(slot, True)

    def _try(self, do: object, *arguments: object) -> tuple[bytes, bool] | None:
        try:
            return do(*arguments)  # type: ignore[operator, no-any-return]
        except RuntimeError as error:
            raise NodeError(str(error)) from None

    # Beats

    def _beat(self, now_s: float) -> None:
        self._beat_s = now_s + min(_BEAT_S, self._hosts.deadline_s / 8)
        if self._own == 0 or self._clock.is_set:  # workers wait for the first beat
            self._control_page.beat(control.NODE)
        self._links.beat(now_s)
        if self._own:
            for vcpu in self._hosts.own_vcpus:
                self._send(0, VcpuTold(vcpu, self._memory.told(vcpu, False)))

    def _set_clock(self, nonce: int, now_ns: int, base_ns: int) -> None:
        """The guest's counters are the same on all hosts, as far as the quickest answer tells."""
        was_set = self._clock.is_set
        base = self._clock.answered(nonce, now_ns, base_ns, time.monotonic_ns())
        if base is not None:
            self._memory.set_clock_base(base, self._clock.error_ns)
            self._share_time()
        if self._clock.asks_more:
            self._ask_time()
        elif self._clock.is_set and not was_set:
            self._beat_s = 0.0  # at once: workers wait for it

    def _ask_time(self) -> None:
        self._send(0, NodePing(self._clock.ask(time.monotonic_ns())))

    def _share_time(self) -> None:
        """The guest's counters are also the time by which the hosts take turns."""
        self._cache.clock_offset_s = -self._memory.clock_base() / 1e9
