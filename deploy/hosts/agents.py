# SPDX-License-Identifier: GPL-2.0-or-later
"""The other hosts of a machine, as the launcher sees them: their agents are started, gathered, given a plan, heard,
ended.

All or nothing: before anything of the machine itself is started every agent has said HostReady, under the fence of this
run; else all are ended. An agent that is not heard of for the deadline is lost, and so is the run: nothing is tried
again.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import select
import socket
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any, BinaryIO

import zmq

from allstop.deploy.hosts.hosts_file import HostEntry, HostsFile
from allstop.deploy.hosts.journal_intake import JournalIntake
from allstop.deploy.processes.members import Member
from allstop.deploy.processes.processes import ChildProcess, child_environment, describe_exit, last_line, printable
from allstop.vm.config.machine import HostsSpec, MachineConfig
from allstop.vm.version import __version__
from allstop.vm.wire.channel import MAX_FRAME_BYTES
from allstop.vm.wire.codec import MalformedError, decode, encode
from allstop.vm.wire.messages import PROTOCOL_VERSION, Message, Ping, Pong
from allstop.vm.wire.messages_hosts import (
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
    VcpuKilled,
    VcpuTold,
)
from allstop.vm.wire.security import Guard, KeyPair, key_of, open_to_hosts

BEAT_S = 0.5
CUT_OFF_EXIT_CODE = 3
"""An agent's, which has not heard of the launcher for the deadline."""
_BEATS_IN_A_DEADLINE = 5
_MESSAGES_AT_ONCE = 256
_REPORTS_S = 2.0  # a wire that loses packets may need a second
_LOG = re.compile(r"node|vcpu-\d{1,3}")
_POLL_MS = 20
_TRIPS = 8  # of which the quickest counts: a host that is starting is slow


class AgentsError(OSError):
    """The hosts cannot be had; one sentence."""


class Agents:
    """The agents of all hosts but the first, which is this one. `hosts[0]` says under which address it is reached.

    `began_ns` is when the guest's counters were 0 by our clock; `intake` takes the other hosts' journals, where there
    are any."""

    def __init__(self, file: HostsFile, vcpu_hosts: tuple[int, ...]) -> None:
        """Listen for them. Raises AgentsError."""
        hosts = file.hosts
        self._hosts = hosts
        self._vcpu_hosts = vcpu_hosts
        self._deadline_s = file.deadline_s
        self._start_s = file.start_s
        self._keys = [KeyPair.make() for _ in hosts]
        self._token = secrets.token_hex(16)
        self._fence = secrets.randbits(63)
        self._stack = contextlib.ExitStack()
        self._children: dict[int, ChildProcess] = {}
        self._identities: dict[bytes, int] = {}
        self._endpoints: list[str] = [""] * len(hosts)
        self._heard_s: dict[int, float] = {}
        self._pinged_s: dict[int, float] = {}
        self._trips_s: dict[int, list[float]] = {}
        self._ended: dict[int, bytes] = {}
        self._beat_s = 0.0
        self._beats = 0
        self._stopping = False
        self.bounces: list[Any] = []
        self._events: dict[int, list[tuple[int, int]]] = {}
        self.told: Callable[[int, bytes], None] = lambda vcpu, data: None
        self.killed: Callable[[VcpuKilled], None] = lambda message: None
        self.intake: JournalIntake | None = None
        self.began_ns = 0
        with contextlib.ExitStack() as stack:
            sockets = [stack.enter_context(self._listener()) for _ in range(4)]
            self._listen_fds = tuple(each.fileno() for each in sockets)
            self._ports = [each.getsockname()[1] for each in sockets]
            self._context = zmq.Context()
            stack.callback(self._context.term)
            self._guard = Guard(self._context, [key.public for key in self._keys])
            stack.callback(self._guard.close)
            self.socket = self._context.socket(zmq.ROUTER)
            stack.callback(self.socket.close, 200)
            self.socket.linger = 0
            self.socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
            open_to_hosts(
                self.socket, self._address(3), os.dup(self._listen_fds[3]), self._keys[0], 2 * self._deadline_s
            )
            self._guard.watch(self.socket)
            self._endpoints[0] = self._address(0)
            self._stack = stack.pop_all()

    @property
    def names(self) -> tuple[str, ...]:
        """What the hosts are called."""
        return tuple(host.name for host in self._hosts)

    @property
    def inherited_fds(self) -> tuple[int, ...]:
        """The listening sockets of this host's node and servers."""
        return self._listen_fds[:3]

    @property
    def trip_s(self) -> float:
        """How long a message takes to the farthest host and back."""
        return max(min(trips_s) for trips_s in self._trips_s.values())

    def gather(self, create_log: Callable[[str], BinaryIO], stop_fd: int) -> None:
        """Start all agents, wait for them, and measure how far away they are. Raises AgentsError; also when `stop_fd`
        becomes readable."""
        for number, host in enumerate(self._hosts[1:], 1):
            self._children[number] = self._start(number, host, create_log(f"host-{host.name}"))
        deadline_s = time.monotonic() + self._start_s
        while missing := self._missing():
            if select.select([stop_fd], [], [], 0)[0]:
                raise AgentsError("interrupted while the hosts were gathered")
            if self.socket.poll(_POLL_MS):
                self._gather_one()
            self.beat(time.monotonic())  # who came first must not take us for dead while we wait for others
            for number, child in self._children.items():
                status = child.exit_status()
                if status is not None:
                    words = last_line(child.log)
                    said = f'; its last words: "{words}"' if words else ""
                    raise AgentsError(f"{self._name(number)} could not be had: its agent {describe_exit(status)}{said}")
            if time.monotonic() >= deadline_s:
                raise AgentsError(
                    f"{' and '.join(map(self._name, missing))} did not answer within {self._start_s:g} s: "
                    f"is {self._hosts[0].address} an address of this host that the others reach?"
                )
        self._heard_s = dict.fromkeys(self._children, time.monotonic())

    def spec(self, number: int, doorbell_fd: int = -1) -> HostsSpec:
        """What the processes of this host are told of the others."""
        return HostsSpec(
            number,
            tuple(self._endpoints),
            self._vcpu_hosts,
            tuple(key.public for key in self._keys),
            self._keys[number].secret,
            doorbell_fd,
            self._listen_fds[:3] if number == 0 else (),
            self._address(1),
            self._address(2),
            self._deadline_s * 1.5,
            self.names,
            trip_s=self.trip_s,
        )

    def send_plans(self, config: MachineConfig) -> None:
        """Have every host start its part of the machine."""
        for identity, number in self._identities.items():
            plan = config.for_host(self.spec(number))
            self._send(identity, HostPlan(plan.to_json().encode()))

    def child(self, number: int) -> ChildProcess:
        """The process that is, or leads to, a host's agent."""
        return self._children[number]

    def receive(self) -> list[str]:
        """Take what has come; sentences about what was lost."""
        sentences = []
        for _ in range(_MESSAGES_AT_ONCE):
            if not self.socket.poll(0):
                break
            identity, message, _ = self._take()
            number = self._identities.get(identity)
            if number is None or message is None:
                continue
            self._heard_s[number] = time.monotonic()
            if isinstance(message, HostStatus):
                sentences.append(f"{self._name(number)}: {printable(message.sentence)}")
            elif isinstance(message, VcpuTold) and self._has(number, message.vcpu):
                with contextlib.suppress(ValueError):  # what no vCPU tells of itself
                    self.told(message.vcpu, message.told)
            elif isinstance(message, VcpuKilled) and self._has(number, message.vcpu):
                self.killed(message._replace(sentence=printable(message.sentence)))
            elif isinstance(message, JournalsBegun | JournalPiece) and self.intake is not None:
                self.intake.take(number, message)
                if isinstance(message, JournalPiece):
                    self._send(identity, JournalTaken())
            elif isinstance(message, HostEnded):
                self._ended[number] = message.report
                with contextlib.suppress(ValueError, TypeError, AttributeError, IndexError):  # it can tell anything
                    raw = json.loads(message.report)
                    self.bounces += list(raw.get("pages", []))
                    self._events[number] = [(int(done), int(refused)) for done, refused in raw.get("events", [])]
        return sentences

    def beat(self, now_s: float) -> list[str]:
        """Say that we live, from time to time; sentences about who does not."""
        if now_s < self._beat_s:
            return []
        self._beat_s = now_s + beat_s(self._deadline_s)
        self._beats += 1
        for identity in self._identities:
            self._send(identity, HostBeat(self._beats))
        silent = [
            number
            for number, heard_s in self._heard_s.items()
            if now_s - heard_s > self._deadline_s and number not in self._ended
        ]
        for number in silent:
            self._heard_s[number] = now_s
        return [
            f"{self._name(number)} has not been heard of for {self._deadline_s:g} s: it is dead, hangs or is cut off"
            for number in silent
        ]

    def kill(self, vcpu: int) -> None:
        """Have the host of this vCPU kill its process; `killed` is called with the answer."""
        for identity, number in self._identities.items():
            if self._has(number, vcpu):
                self._send(identity, KillVcpu(vcpu))

    def stop(self) -> None:
        """Have all of them end. Once."""
        if not self._stopping:
            self._stopping = True
            for identity in self._identities:
                self._send(identity, HostStop())

    def await_reports(self) -> None:
        """Give the reports of agents that have left in peace a moment to arrive."""
        end_s = time.monotonic() + _REPORTS_S
        while time.monotonic() < end_s and any(
            child.exit_status() in (0, 1) for number, child in self._children.items() if number not in self._ended
        ):
            if self.socket.poll(_POLL_MS):
                self.receive()

    @property
    def refused(self) -> int:
        """How many connections to the launcher did not come in."""
        return self._guard.refused

    @property
    def untold(self) -> tuple[str, ...]:
        """The hosts that have left without a word on what their vCPUs have done."""
        return tuple(host.name for number, host in enumerate(self._hosts) if number and number not in self._ended)

    @property
    def untold_vcpus(self) -> tuple[int, ...]:
        """The vCPUs of these hosts."""
        untold = self.untold
        return tuple(vcpu for vcpu, number in enumerate(self._vcpu_hosts) if self._hosts[number].name in untold)

    def reports(self) -> Iterator[tuple[str, list[str], dict[str, str]]]:
        """Of each host that has ended in peace: its name, the notes and the logs of its processes."""
        for number, report in sorted(self._ended.items()):
            try:
                raw = json.loads(report)
                notes, logs = [str(note) for note in raw["notes"]], {str(a): str(b) for a, b in raw["logs"].items()}
            except (ValueError, KeyError, TypeError, AttributeError):
                notes, logs = ["its report cannot be read"], {}
            yield self._hosts[number].name, notes, {name: text for name, text in logs.items() if _LOG.fullmatch(name)}

    def event_counts(self, index: int) -> tuple[int, int]:
        """How often an event of the scenario was performed on the other hosts, and refused."""
        counts = [events[index] for events in self._events.values() if index < len(events)]
        return sum(done for done, _ in counts), sum(refused for _, refused in counts)

    def close(self) -> None:
        """Make sure that the processes of ours are gone; an agent whose launcher is gone ends by itself."""
        for child in self._children.values():
            child.close()
        self._stack.close()

    def _take(self) -> tuple[bytes, Message | None, str]:
        """The next message, from which identity and with which key; None for what is no message."""
        identity, *frames = self.socket.recv_multipart(copy=False)
        try:
            return identity.bytes, decode(frames[0].buffer) if len(frames) == 1 else None, key_of(identity)
        except MalformedError:
            return identity.bytes, None, ""

    def _gather_one(self) -> None:
        identity, message, key = self._take()
        if isinstance(message, Pong):
            self._measured(identity, message.nonce)
        if (
            not isinstance(message, HostReady)
            or message.fence != self._fence
            or message.host not in self._children
            or key != self._keys[message.host].public
            or message.host in self._identities.values()
        ):
            return
        name = self._name(message.host)
        if message.version != PROTOCOL_VERSION or message.package != __version__:
            raise AgentsError(
                f"{name} has allstop {message.package} (protocol {message.version}) and this host "
                f"{__version__} (protocol {PROTOCOL_VERSION}): install the same on both"
            )
        if message.engine != engine():
            raise AgentsError(
                f"{name} has the engine {message.engine} and this host {engine()}: install the same on both"
            )
        self._identities[identity] = message.host
        self._endpoints[message.host] = message.endpoint
        if len(self._identities) == len(self._children):  # before, those that are starting would be in the way
            for each in self._identities:
                self._ping(each)

    def _missing(self) -> list[int]:
        """The hosts that have not come, or else those that have not answered often enough."""
        return [number for number in self._children if number not in self._identities.values()] or [
            number for number in self._children if len(self._trips_s[number]) < _TRIPS
        ]

    def _ping(self, identity: bytes) -> None:
        number = self._identities[identity]
        self._pinged_s[number] = time.monotonic()
        self._send(identity, Ping(len(self._trips_s.setdefault(number, []))))

    def _measured(self, identity: bytes, nonce: int) -> None:
        """A host has answered."""
        number = self._identities.get(identity)
        if number is None or number not in self._pinged_s or nonce != len(self._trips_s[number]):
            return
        self._trips_s[number].append(time.monotonic() - self._pinged_s[number])
        if nonce + 1 < _TRIPS:
            self._ping(identity)

    def _start(self, number: int, host: HostEntry, log: BinaryIO) -> ChildProcess:
        keys = self._keys[number]
        bootstrap = json.dumps(
            {
                "host": number,
                "address": host.address,
                "launcher": self._address(3),
                "launcher_key": self._keys[0].public,
                "public": keys.public,
                "secret": keys.secret,
                "fence": self._fence,
                "deadline_s": self._deadline_s,
                "start_s": self._start_s,
            }
        )
        try:
            child = ChildProcess.leading(Member.of_host(number, host.name), host.command, log, child_environment())
        except (OSError, ValueError) as error:
            log.close()
            raise AgentsError(f"{self._name(number)} could not be had: {error}") from None
        with contextlib.suppress(OSError):  # it has left already: what it said is told when that is seen
            child.say(bootstrap + "\n")
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
                f"{self._hosts[0].address}, the address of host {self._hosts[0].name}, is none of this "
                f"host: {error.strerror}"
            ) from None
        return listener

    def _address(self, place: int) -> str:
        address = self._hosts[0].address
        return f"tcp://{f'[{address}]' if ':' in address else address}:{self._ports[place]}"

    def _has(self, number: int, vcpu: int) -> bool:
        return self._vcpu_hosts[vcpu : vcpu + 1] == (number,)

    def _name(self, number: int) -> str:
        return f"host {self._hosts[number].name} ({self._hosts[number].address})"

    def _send(self, identity: bytes, message: Message) -> None:
        self.socket.send_multipart((identity, encode(message)))


def beat_s(deadline_s: float) -> float:
    """How often to say that one lives where the others give up after `deadline_s`."""
    return min(BEAT_S, deadline_s / _BEATS_IN_A_DEADLINE)


def engine() -> str:
    """The engine's library, by name and version."""
    return f"unicorn {version('unicorn')}"
