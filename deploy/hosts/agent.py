# SPDX-License-Identifier: GPL-2.0-or-later
"""One host's part of a machine (`python -m allstop.deploy.hosts.agent`).

The launcher starts it on another host, or a scheduler does.

It reads one line of JSON from standard input, who it is and whom to call, and then serves the launcher: it says
HostReady, gets its plan, makes this host's memory, starts its node and its workers, and watches them. It ends, and
leaves nothing, when the launcher says so, when standard input ends, when nobody is heard for the deadline, and when a
process of its own is lost.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
import time
from dataclasses import replace
from typing import Any, BinaryIO

import zmq

from allstop.coordinator.node.memory.node_memory import NodeMemory
from allstop.deploy.hosts.agents import CUT_OFF_EXIT_CODE, beat_s, engine
from allstop.deploy.hosts.journal_files import PIECES_AHEAD, JournalFiles
from allstop.deploy.processes.members import Member
from allstop.deploy.processes.processes import ChildProcess, describe_exit
from allstop.deploy.processes.subreaper import Subreaper
from allstop.deploy.processes.watchdog import NODE_PATIENCE, Watchdog
from allstop.deploy.processes.zygote import Zygote, ZygoteEndedError
from allstop.deploy.run.shared_memory import swap_file
from allstop.vm.config.machine import HostsSpec, MachineConfig, SharedFds
from allstop.vm.config.policies import TLB_DISCIPLINES
from allstop.vm.control import control
from allstop.vm.control.control import ControlPage
from allstop.vm.events.scenario import Scenario
from allstop.vm.memory import stage2
from allstop.vm.memory.memory import create_memory
from allstop.vm.version import __version__
from allstop.vm.wire.codec import MalformedError, decode, encode
from allstop.vm.wire.messages import PROTOCOL_VERSION, ROLE_HOST, ROLE_NODE, ROLE_WORKER, Message, Ping, Pong
from allstop.vm.wire.messages_hosts import (
    HostBeat,
    HostEnded,
    HostPlan,
    HostReady,
    HostStatus,
    HostStop,
    JournalsBegun,
    JournalTaken,
    KillVcpu,
    VcpuKilled,
    VcpuTold,
)
from allstop.vm.wire.security import KeyPair, secure

_POLL_MS = 50
_LOOK_S = 0.25
_START_POLL_MS = 5
_LEAVE_S = 1.0
_BOOTSTRAP_BYTES = 8192
_REPORT_BYTES = 900_000
_LINGER_MS = 2000  # for the last words, on a bad wire


class AgentError(RuntimeError):
    """This host cannot take part, or not any more; one sentence."""


class Agent:
    """This host's part of one machine. `serve` returns when it is over, and raises AgentError."""

    def __init__(self, raw: dict[str, Any], stack: contextlib.ExitStack) -> None:
        self._number = int(raw["host"])
        self._deadline_s = float(raw["deadline_s"])
        self._start_s = float(raw["start_s"])
        self._stack = stack
        address = str(raw["address"])
        listener = stack.enter_context(socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET))
        try:
            listener.bind((address, 0))
            listener.listen()
        except OSError as error:
            raise AgentError(f"{address} is no address of this host: {error.strerror}") from None
        self._listen_fd = listener.fileno()
        shown = f"[{address}]" if ":" in address else address
        context = zmq.Context()
        stack.callback(context.term)
        self._socket = context.socket(zmq.DEALER)
        stack.callback(self._socket.close, _LINGER_MS)
        self._socket.setsockopt(zmq.IDENTITY, f"h{self._number}-{raw['fence']}".encode())
        secure(self._socket, KeyPair(raw["public"], raw["secret"]), raw["launcher_key"], raw["launcher"])
        self._socket.connect(raw["launcher"])
        self._send(
            HostReady(
                self._number,
                int(raw["fence"]),
                PROTOCOL_VERSION,
                __version__,
                engine(),
                f"tcp://{shown}:{listener.getsockname()[1]}",
                os.getpid(),
            )
        )
        self._heard_s = time.monotonic()
        self._beat_s = 0.0
        self._beats = 0
        self._children: list[ChildProcess] = []
        self._watchdogs: dict[int, Watchdog] = {}
        self._look_s = 0.0
        self._page: ControlPage | None = None
        self._memory: NodeMemory | None = None
        self._zygote: Zygote | None = None
        self._config: MachineConfig | None = None
        self._workers: list[Member] = []
        self._notes_fd = -1
        self._over = False
        self._pages_fd = -1
        self._journals: JournalFiles | None = None
        self._pieces = 0  # under way
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(sys.stdin.fileno(), zmq.POLLIN | zmq.POLLERR)

    def serve(self) -> None:
        """Until the launcher says that it is over."""
        while not self._over:
            waits = self._zygote is not None
            now_s = self._hear(_START_POLL_MS if waits else _POLL_MS)
            if waits:
                self._start_workers()
            self._look_who_died()
            if now_s >= self._look_s:
                self._look_s = now_s + _LOOK_S
                self._look_who_hangs(now_s)

    def _hear(self, wait_ms: int) -> float:
        """Hear the launcher, and be heard; what time it is then."""
        events = dict(self._poller.poll(wait_ms))
        if sys.stdin.fileno() in events and not os.read(sys.stdin.fileno(), 1):
            raise AgentError("the launcher is gone")
        if self._socket in events:
            self._take()
        now_s = time.monotonic()
        patience_s = self._deadline_s if self._config is not None else max(self._deadline_s, self._start_s)
        if now_s - self._heard_s > patience_s:
            raise AgentError(
                f"the launcher has not been heard of for {patience_s:g} s: it is dead, hangs or is "
                "cut off, so this host's part of the machine ends"
            )
        if now_s >= self._beat_s:
            self._beat_s = now_s + beat_s(self._deadline_s)
            self._beats += 1
            self._send(HostBeat(self._beats))
        return now_s

    def end(self) -> None:
        """End every process of this host, and tell what they had to tell."""
        page, config = self._page, self._config
        if page is not None and config is not None and config.hosts is not None:
            for vcpu in config.hosts.own_vcpus:
                page.post(vcpu, control.QUIT)
                page.clear(vcpu, control.STOP)
            deadline_s = time.monotonic() + _LEAVE_S
            for child in self._children:
                if child.member.role == ROLE_NODE and not config.hosts.own_vcpus:
                    child.terminate()
            while time.monotonic() < deadline_s and any(child.exit_status() is None for child in self._children):
                select.select([child.pidfd for child in self._children if child.exit_status() is None], [], [], 0.05)
        if self._zygote is not None:
            self._zygote.close()
        report = self._report()
        for child in self._children:
            child.close()
        if self._memory is not None and config is not None and config.hosts is not None:
            for vcpu in config.hosts.own_vcpus:
                self._send(VcpuTold(vcpu, self._memory.told(vcpu, True)))
        with contextlib.suppress(AgentError, OSError):  # who does not hear us has none of them, and notices
            self._send_journals()
        self._send(HostEnded(report))

    def _send_journals(self) -> None:
        if self._journals is None or self._memory is None:
            return
        self._send(JournalsBegun(self._memory.clock_base(), self._memory.clock_error()))
        for piece in self._journals.pieces():
            while self._pieces >= PIECES_AHEAD:
                self._hear(_POLL_MS)
            self._send(piece)
            self._pieces += 1
        while self._pieces:
            self._hear(_POLL_MS)

    def _report(self) -> bytes:
        """What HostEnded tells: the notes of this host's processes, the end of what each of them has said, which of the
        pages whose home this is have moved, and how often each event of the scenario was performed and refused here."""
        most_bytes = _REPORT_BYTES // (len(self._children) + 1)
        logs = {child.member.name: _tail(child.log.fileno(), most_bytes) for child in self._children}
        notes = "" if self._notes_fd < 0 else _tail(self._notes_fd, most_bytes)
        pages: list[Any] = []
        if self._pages_fd >= 0:
            with contextlib.suppress(ValueError):
                pages = json.loads(os.pread(self._pages_fd, os.fstat(self._pages_fd).st_size, 0) or b"[]")
        events = []
        if self._page is not None and self._config is not None:
            count = len(Scenario.from_json(self._config.scenario).events)
            events = [self._page.event_counts(index) for index in range(count)]
        return json.dumps({"notes": notes.splitlines(), "logs": logs, "pages": pages, "events": events}).encode()

    def lament(self, sentence: str) -> None:
        """Tell the launcher why this host cannot go on."""
        self._send(HostStatus(ROLE_HOST, self._number, sentence))

    def _take(self) -> None:
        while self._socket.poll(0):
            self._heard_s = time.monotonic()
            try:
                message = decode(self._socket.recv())
            except MalformedError:
                continue
            if isinstance(message, HostPlan) and self._config is None:
                self._begin(MachineConfig.from_json(message.config.decode()))
            elif isinstance(message, KillVcpu):
                self._kill(message.vcpu)
            elif isinstance(message, Ping):
                self._send(Pong(message.nonce))
            elif isinstance(message, HostStop):
                self._over = True
            elif isinstance(message, JournalTaken):
                self._pieces = max(0, self._pieces - 1)

    def _kill(self, vcpu: int) -> None:
        """As an accident would: that it is dead is seen as any death is, and the launcher hears this first."""
        worker = next(
            (child for child in self._children if child.member.role == ROLE_WORKER and child.member.vcpu == vcpu), None
        )
        if worker is None:
            self._send(VcpuKilled(vcpu, 0, f"vCPU {vcpu} has no process"))
        elif worker.exit_status() is not None:
            self._send(VcpuKilled(vcpu, worker.pid, f"the process of vCPU {vcpu} is dead already"))
        else:
            worker.kill()
            self._send(VcpuKilled(vcpu, worker.pid, ""))

    def _begin(self, plan: MachineConfig) -> None:
        """Make this host's memory, and start its node and the zygote."""
        assert plan.hosts is not None
        stack = self._stack
        doorbell_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        stack.callback(os.close, doorbell_fd)
        hosts: HostsSpec = replace(plan.hosts, doorbell_fd=doorbell_fd, listen_fds=(self._listen_fd,))
        cores = len(os.sched_getaffinity(0))
        control_fd = self._memory_file("control", ControlPage.size_bytes(plan.vcpus))
        self._page = ControlPage.create(
            control_fd, plan.vcpus, cores, TLB_DISCIPLINES.index(plan.tlb), plan.time_dilation
        )
        ram_fd = self._memory_file("ram", plan.memory_bytes)
        stage2_fd = self._memory_file("stage2", stage2.size_bytes(plan.memory_bytes))
        stage2.build_in(stage2_fd, plan.memory_bytes)
        swap_fd = swap_file(None, stack)
        self._notes_fd = os.memfd_create("allstop-notes", os.MFD_CLOEXEC)
        stack.callback(os.close, self._notes_fd)
        self._memory = NodeMemory(control_fd, ram_fd, stage2_fd, swap_fd)
        own = hosts.own_vcpus
        if plan.journal:
            try:
                self._journals = JournalFiles(own, stack)
            except OSError as error:
                raise AgentError(f"there is no place for journals: {error}") from None
            hosts = replace(hosts, journal_fds=self._journals.fds)
        self._memory.share(doorbell_fd, [vcpu for vcpu in range(plan.vcpus) if vcpu not in own], False)
        self._pages_fd = os.memfd_create("allstop-pages", os.MFD_CLOEXEC)
        stack.callback(os.close, self._pages_fd)
        fds = SharedFds(control_fd, ram_fd, stage2_fd, -1, swap_fd, self._notes_fd, self._pages_fd)
        config = replace(plan, hosts=hosts, fds=fds, cores=cores, launcher_pid=os.getpid())
        text = config.to_json().encode()
        config_fd = self._memory_file("config", len(text))
        os.pwrite(config_fd, text, 0)
        self._config = config
        inherited = (
            control_fd,
            ram_fd,
            stage2_fd,
            swap_fd,
            doorbell_fd,
            self._notes_fd,
            self._pages_fd,
            *hosts.journal_fds.values(),
        )
        try:
            self._children.append(ChildProcess(Member.node(), config_fd, (*inherited, self._listen_fd), _log("node")))
            if own:
                self._workers = [Member.worker(vcpu) for vcpu in own]
                self._zygote = Zygote(config_fd, inherited, lambda member: _log(member.name))
                self._zygote.open()
        except OSError as error:
            raise AgentError(f"a process could not be started: {error}") from None

    def _start_workers(self) -> None:
        assert self._zygote is not None and self._page is not None
        try:
            if self._page.heartbeat(control.NODE) and self._zygote.is_ready():
                zygote, self._zygote = self._zygote, None
                self._stack.callback(zygote.close)
                self._children += zygote.bear(self._workers)
        except (ZygoteEndedError, OSError) as error:
            raise AgentError(f"its workers could not be started: {error}") from None

    def _look_who_died(self) -> None:
        for child in self._children:
            status = child.exit_status()
            if status is None or (status == 0 and child.member.role != ROLE_HOST):
                continue
            words = child.last_words()
            said = f'; its last words: "{words}"' if words else ""
            doing = "" if self._page is None else f" while {self._page.describe(child.member.slot)}"
            raise AgentError(f"{child.member.name} (process {child.pid}) {describe_exit(status)}{doing}{said}")

    def _look_who_hangs(self, now_s: float) -> None:
        """As the launcher looks after its own."""
        page = self._page
        for child in self._children if page is not None else ():
            assert page is not None
            watchdog = self._watchdogs.setdefault(
                child.pid, Watchdog(now_s, NODE_PATIENCE if child.member.role == ROLE_NODE else 1.0)
            )
            if not watchdog.is_silent(now_s, page.heartbeat(child.member.slot)):
                continue
            if child.member.role == ROLE_WORKER:
                page.post(child.member.slot, control.PING)
            try:
                phrase = watchdog.judge(*child.state())
            except OSError:
                continue  # it has just died, which is seen elsewhere
            if phrase is not None:
                raise AgentError(
                    f"{child.member.name} (process {child.pid}) {phrase} while {page.describe(child.member.slot)}"
                )

    def _memory_file(self, name: str, size_bytes: int) -> int:
        fd = create_memory(f"allstop-{name}", size_bytes)
        self._stack.callback(os.close, fd)
        return fd

    def _send(self, message: Message) -> None:
        with contextlib.suppress(zmq.Again):
            self._socket.send(encode(message), zmq.NOBLOCK)


def _tail(fd: int, most_bytes: int) -> str:
    """The end of a memory file, as text whose JSON takes no more than `most_bytes`."""
    size = os.fstat(fd).st_size
    text = os.pread(fd, most_bytes, max(0, size - most_bytes)).decode(errors="replace")
    while len(json.dumps(text)) > most_bytes:
        text = text[len(text) // 2 + 1 :]
    return text


def _log(name: str) -> BinaryIO:
    return os.fdopen(os.memfd_create(f"allstop-{name}.log", os.MFD_CLOEXEC), "r+b", buffering=0)


def main() -> int:
    """Serve one machine. The exit status: 0; 1 after one sentence on stderr; 3 when the launcher was cut off."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the launcher's
    line = os.read(sys.stdin.fileno(), _BOOTSTRAP_BYTES)
    try:
        raw = json.loads(line)
    except ValueError:
        print(
            "this is started by the launcher, which says on standard input what to do: use allstop run --hosts",
            file=sys.stderr,
        )
        return 2
    with Subreaper(), contextlib.ExitStack() as stack:
        try:
            agent = Agent(raw, stack)
        except (AgentError, OSError, KeyError, ValueError) as error:
            print(f"{error}", file=sys.stderr)
            return 1
        try:
            try:
                agent.serve()
            except AgentError as error:
                print(f"{error}", file=sys.stderr, flush=True)
                agent.lament(str(error))
                return CUT_OFF_EXIT_CODE if "launcher" in str(error) else 1
        finally:
            agent.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
