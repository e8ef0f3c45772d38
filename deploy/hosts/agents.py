# SPDX-License-Identifier: GPL-2.0-or-later
"""The agents of a machine's other hosts: the launcher gathers them, sends each a plan, hears them, and ends them.

All or nothing: before any process of the machine starts, every agent has said HostReady under the fence of this run;
otherwise the launcher ends them all. An agent that is silent for the deadline is lost, and the run with it: nothing is
tried again.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO

import zmq

from allstop.deploy.hosts.agreement import Bootstrap, beat_s, engine
from allstop.deploy.hosts.bounces import bounces
from allstop.deploy.hosts.gathering import AgentsError, Gathering, SendPing
from allstop.deploy.hosts.hosts_file import HostEntry, HostsFile, place_vcpus
from allstop.deploy.hosts.journal_intake import JournalIntake
from allstop.deploy.hosts.other_hosts import OtherHosts
from allstop.deploy.hosts.reports import HostReports
from allstop.deploy.outcome.run_folder import RunFolder
from allstop.deploy.processes.host_memory import HostMemory
from allstop.deploy.processes.members import Member
from allstop.deploy.processes.processes import ChildProcess, child_environment, describe_exit, last_line, printable
from allstop.vm.config.machine import HostsSpec, MachineConfig
from allstop.vm.wire.admission import Admission, Peer
from allstop.vm.wire.channel import ChannelError
from allstop.vm.wire.messages import (
    HostBeat,
    HostEnded,
    HostPlan,
    HostReady,
    HostStatus,
    HostStop,
    JournalPiece,
    JournalsBegun,
    JournalTaken,
    KillVcpu,
    Message,
    Pong,
    VcpuKilled,
    VcpuTold,
)
from allstop.vm.wire.security import KeyPair
from allstop.vm.wire.server import HostsListener, Server

_MESSAGES_AT_ONCE = 256
_REPORTS_S = 2.0  # a wire that loses packets may need a second
_POLL_MS = 20


def gather(file: HostsFile | None, vcpus: int, create_log: Callable[[str], BinaryIO], stop_fd: int) -> OtherHosts:
    """The machine's other hosts, ready to begin; none without a `file`. Raises AgentsError, also when `stop_fd` becomes
    readable, and UsageError."""
    if file is None:
        return OtherHosts()
    agents = Agents(file, place_vcpus(file.hosts, vcpus))
    try:
        agents.gather(create_log, stop_fd)
    except BaseException:
        agents.close()
        raise
    return agents


class Agents(OtherHosts):
    """The agents of all hosts but the first, which is this one; `hosts[0]` has the address under which the others reach
    it."""

    def __init__(self, file: HostsFile, vcpu_hosts: tuple[int, ...]) -> None:
        """Listen for them. Raises AgentsError."""
        hosts = file.hosts
        self._hosts = hosts
        self._names = tuple(host.name for host in hosts)
        self._vcpu_hosts = vcpu_hosts
        self._deadline_s = file.deadline_s
        self._start_s = file.start_s
        self._keys = [KeyPair.make() for _ in hosts]
        self._fence = secrets.randbits(63)
        self._gathering = Gathering(
            [self._name(number) for number in range(len(hosts))],
            [key.public for key in self._keys],
            self._fence,
            engine(),
        )
        self._reports = HostReports(self._names, vcpu_hosts)
        self._children: dict[int, ChildProcess] = {}
        self._heard_s: dict[int, float] = {}
        self._beat_s = 0.0
        self._beats = 0
        self._stopping = False
        self._memory: HostMemory | None = None
        self._intake: JournalIntake | None = None
        self._heard: list[str | VcpuKilled] = []  # for the supervisor
        with contextlib.ExitStack() as stack:
            sockets = [stack.enter_context(self._listener()) for _ in range(4)]
            self._listen_fds = tuple(each.fileno() for each in sockets)
            self._ports = [each.getsockname()[1] for each in sockets]
            self._context = zmq.Context()
            stack.callback(self._context.term)
            listener = HostsListener(
                self._address(3),
                os.dup(self._listen_fds[3]),
                self._keys[0],
                tuple(key.public for key in self._keys),
                2 * self._deadline_s,
            )
            try:
                self._server = Server(self._context, Admission(self._gathering), self._obey, hosts=listener)
            except ChannelError as error:
                raise AgentsError(str(error)) from None
            stack.callback(self._server.close, 200)
            self.socket = self._server.socket
            self._send = self._server.send
            self._gathering.endpoints[0] = self._address(0)
            self._stack = stack.pop_all()

    @property
    def children(self) -> Mapping[int, ChildProcess]:
        return self._children

    @property
    def sockets(self) -> Sequence[zmq.Socket[bytes]]:
        return (self.socket,)

    @property
    def silent_vcpus(self) -> Sequence[int]:
        return self._reports.silent_vcpus

    def gather(self, create_log: Callable[[str], BinaryIO], stop_fd: int) -> None:
        """Start all agents, wait for them, and measure how far away they are. Raises AgentsError, also when `stop_fd`
        becomes readable."""
        for number, host in enumerate(self._hosts[1:], 1):
            self._children[number] = self._start(number, host, create_log(f"host-{host.name}"))
        deadline_s = time.monotonic() + self._start_s
        while missing := self._gathering.missing:
            if select.select([stop_fd], [], [], 0)[0]:
                raise AgentsError("interrupted while the hosts were gathered")
            if self.socket.poll(_POLL_MS):
                self._server.take(zmq.NOBLOCK)
            self._beat(time.monotonic())  # an agent that came early must not give us up while we wait for the others
            for number, child in self._children.items():
                status = child.exit_status()
                if status is not None:
                    words = last_line(child.log)
                    said = f'; its last words: "{words}"' if words else ""
                    raise AgentsError(f"{self._name(number)} cannot be used: its agent {describe_exit(status)}{said}")
            if time.monotonic() >= deadline_s:
                raise AgentsError(
                    f"{' and '.join(map(self._name, missing))} did not answer within {self._start_s:g} s: "
                    f"is {self._hosts[0].address} an address of this host that the others reach?"
                )
        self._heard_s = dict.fromkeys(self._children, time.monotonic())

    def this_host(self) -> HostsSpec:
        return self._spec(0)

    def begin(self, plan: MachineConfig, memory: HostMemory, folder: RunFolder | None) -> None:
        self._memory = memory
        if folder is not None and plan.journal:
            self._intake = JournalIntake(folder, self._names, self._vcpu_hosts, memory.node_memory.clock_base())
        for identity, number in self._gathering.identities.items():
            self._send(identity, HostPlan(plan.for_host(self._spec(number)).to_json().encode()))

    def serve(self, now_s: float) -> list[str | VcpuKilled]:
        return [*self._receive(), *self._beat(now_s)]

    def kill(self, vcpu: int) -> None:
        for identity, number in self._gathering.identities.items():
            if self._has(number, vcpu):
                self._send(identity, KillVcpu(vcpu))

    def stop(self) -> None:
        if not self._stopping:
            self._stopping = True
            for identity in self._gathering.identities:
                self._send(identity, HostStop())

    def take_progress(self) -> bool:
        return self._intake is not None and self._intake.take_progress()

    def await_reports(self) -> None:
        end_s = time.monotonic() + _REPORTS_S
        while time.monotonic() < end_s and any(
            child.exit_status() in (0, 1) for number, child in self._children.items() if number not in self._reports
        ):
            if self.socket.poll(_POLL_MS):
                self._receive()

    def notes(self, folder: RunFolder | None, verdict: str) -> list[str]:
        notes = self._server.refusals("launcher")
        notes += self._reports.keep(folder)
        if self._intake is not None:
            notes += self._intake.finish()
        if verdict not in ("lost", "error"):  # after those a host without a report is no news
            notes += [
                f"host {self._names[number]} did not report in time what its vCPUs have done: the figures may lack "
                "some, and their accesses to devices were not compared"
                for number in self._reports.silent
            ]
        return notes

    def event_counts(self, index: int) -> tuple[int, int]:
        return self._reports.event_counts(index)

    def bounces(self, own: Sequence[Any], symbols: Callable[[], dict[str, int]]) -> list[dict[str, Any]]:
        return bounces([*self._reports.moved_pages, *own], self._names, symbols())

    def close(self) -> None:
        """Make sure that our processes are gone; an agent without a launcher ends by itself."""
        for child in self._children.values():
            child.close()
        if self._intake is not None:
            self._intake.close()
        self._stack.close()

    def _receive(self) -> list[str | VcpuKilled]:
        self._server.take_waiting(_MESSAGES_AT_ONCE)
        heard, self._heard = self._heard, []
        return heard

    def _obey(self, identity: bytes, peer: Peer, message: Message) -> None:
        """Do what an agent says."""
        number, now_s = peer.vcpu, time.monotonic()
        self._heard_s[number] = now_s
        match message:
            case HostReady():
                self._send_pings(self._gathering.came(now_s))
            case Pong(nonce):
                self._send_pings(self._gathering.answered(identity, nonce, now_s))
            case HostStatus():
                self._heard.append(f"{self._name(number)}: {printable(message.sentence)}")
            case VcpuTold(vcpu, told) if self._has(number, vcpu) and self._memory is not None:
                with contextlib.suppress(ValueError):  # what no vCPU tells of itself
                    self._memory.node_memory.tell(vcpu, told)
            case VcpuKilled(vcpu) if self._has(number, vcpu):
                self._heard.append(message._replace(sentence=printable(message.sentence)))
            case JournalsBegun() | JournalPiece() if self._intake is not None:
                self._intake.take(number, message)
                if isinstance(message, JournalPiece):
                    self._send(identity, JournalTaken())
            case HostEnded(report):
                self._reports.take(number, report)

    def _send_pings(self, pings: list[SendPing]) -> None:
        for identity, ping in pings:
            self._send(identity, ping)

    def _beat(self, now_s: float) -> list[str]:
        """Send a sign of life, from time to time; sentences about hosts that send none."""
        if now_s < self._beat_s:
            return []
        self._beat_s = now_s + beat_s(self._deadline_s)
        self._beats += 1
        for identity in self._gathering.identities:
            self._send(identity, HostBeat(self._beats))
        silent = [
            number
            for number, heard_s in self._heard_s.items()
            if now_s - heard_s > self._deadline_s and number not in self._reports
        ]
        for number in silent:
            self._heard_s[number] = now_s
        return [
            f"{self._name(number)} has been silent for {self._deadline_s:g} s: it is dead, hangs or is cut off"
            for number in silent
        ]

    def _spec(self, number: int) -> HostsSpec:
        """What the processes of this host are told of the others; its own descriptors are added there."""
        return HostsSpec(
            number,
            tuple(self._gathering.endpoints),
            self._vcpu_hosts,
            tuple(key.public for key in self._keys),
            self._keys[number].secret,
            -1,
            self._listen_fds[:3] if number == 0 else (),
            self._address(1),
            self._address(2),
            self._deadline_s * 1.5,
            self._names,
            trip_s=self._gathering.trip_s,
        )

    def _start(self, number: int, host: HostEntry, log: BinaryIO) -> ChildProcess:
        keys = self._keys[number]
        bootstrap = Bootstrap(
            host=number,
            address=host.address,
            launcher=self._address(3),
            launcher_key=self._keys[0].public,
            public=keys.public,
            secret=keys.secret,
            fence=self._fence,
            deadline_s=self._deadline_s,
            start_s=self._start_s,
        )
        try:
            child = ChildProcess.leading(Member.of_host(number, host.name), host.command, log, child_environment())
        except (OSError, ValueError) as error:
            log.close()
            raise AgentsError(f"{self._name(number)} cannot be used: {error}") from None
        with contextlib.suppress(OSError):  # it has exited already: `gather` finds that out, with its last words
            child.say(bootstrap.to_line())
        return child

    def _listener(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._hosts[0].address else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.bind((self._hosts[0].address, 0))
            listener.listen()
        except OSError as error:
            listener.close()
            raise AgentsError(
                f"{self._hosts[0].address}, the address of host {self._hosts[0].name}, is not an "
                f"address of this host: {error.strerror}"
            ) from None
        return listener

    def _address(self, place: int) -> str:
        address = self._hosts[0].address
        return f"tcp://{f'[{address}]' if ':' in address else address}:{self._ports[place]}"

    def _has(self, number: int, vcpu: int) -> bool:
        return self._vcpu_hosts[vcpu : vcpu + 1] == (number,)

    def _name(self, number: int) -> str:
        return f"host {self._hosts[number].name} ({self._hosts[number].address})"
