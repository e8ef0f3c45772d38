# SPDX-License-Identifier: GPL-2.0-or-later
"""The agent of another host (`python -m allstop.deploy.hosts.agent`): it serves the launcher as one host's part.

The launcher starts it on that host, directly, through ssh, or through a scheduler. It reads one line of JSON from
standard input (`Bootstrap`), connects to the launcher and says HostReady. Then it gets its plan, makes this host's
part of the machine, and watches it. It ends, and leaves nothing behind, when the launcher says so, when standard input
ends, when the launcher is silent for the deadline, and when a process of this host is lost.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import time
from dataclasses import replace

import zmq

from allstop.deploy.hosts.agreement import CUT_OFF_EXIT_CODE, Bootstrap, beat_s, engine
from allstop.deploy.hosts.journal_files import PIECES_AHEAD, JournalFiles
from allstop.deploy.processes.host_part import LOOK_S, START_POLL_MS, HostPart, NotStartedError, memory_log
from allstop.deploy.processes.processes import describe_exit
from allstop.deploy.processes.subreaper import Subreaper
from allstop.vm.config.machine import MachineConfig
from allstop.vm.version import __version__
from allstop.vm.wire.codec import MalformedError, decode, encode
from allstop.vm.wire.messages import PROTOCOL_VERSION, ROLE_HOST, Message, Ping, Pong
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
_LEAVE_S = 1.0
_BOOTSTRAP_BYTES = 8192
_REPORT_BYTES = 900_000
_LINGER_MS = 2000  # for the last words, on a bad wire


class AgentError(RuntimeError):
    """This host cannot take part, or not any more; one sentence."""


class CutOffError(AgentError):
    """The launcher is gone, or cannot be reached."""


class Agent:
    """The connection to the launcher, and this host's part of one machine. `serve` returns when the launcher ends it,
    and raises AgentError."""

    def __init__(self, bootstrap: Bootstrap, stack: contextlib.ExitStack) -> None:
        self._number = bootstrap.host
        self._deadline_s = bootstrap.deadline_s
        self._start_s = bootstrap.start_s
        self._stack = stack
        address = bootstrap.address
        listener = stack.enter_context(socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET))
        try:
            listener.bind((address, 0))
            listener.listen()
        except OSError as error:
            raise AgentError(f"{address} is not an address of this host: {error.strerror}") from None
        self._listen_fd = listener.fileno()
        shown = f"[{address}]" if ":" in address else address
        context = zmq.Context()
        stack.callback(context.term)
        self._socket = context.socket(zmq.DEALER)
        stack.callback(self._socket.close, _LINGER_MS)
        self._socket.setsockopt(zmq.IDENTITY, f"h{self._number}-{bootstrap.fence}".encode())
        keys = KeyPair(bootstrap.public, bootstrap.secret)
        secure(self._socket, keys, bootstrap.launcher_key, bootstrap.launcher)
        self._socket.connect(bootstrap.launcher)
        self._send(
            HostReady(
                self._number,
                bootstrap.fence,
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
        self._look_s = 0.0
        self._part: HostPart | None = None
        self._journals: JournalFiles | None = None
        self._pieces_ahead = 0
        self._over = False
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(sys.stdin.fileno(), zmq.POLLIN | zmq.POLLERR)

    def serve(self) -> None:
        """Until the launcher says that it is over."""
        while not self._over:
            starting = self._part is not None and self._part.is_starting
            now_s = self._hear(START_POLL_MS if starting else _POLL_MS)
            if self._part is not None:
                self._watch(self._part, now_s)

    def end(self) -> None:
        """End every process of this host, and send the launcher what they had to tell."""
        part = self._part
        if part is None:
            self._send(HostEnded(_report([], {}, [], [])))
            return
        part.quit(_LEAVE_S)
        report = self._report(part)
        part.end()
        assert part.config.hosts is not None
        for vcpu in part.config.hosts.own_vcpus:
            self._send(VcpuTold(vcpu, part.memory.node_memory.told(vcpu, True)))
        with contextlib.suppress(AgentError, OSError):  # a launcher that is gone gets no journals, and says so
            self._send_journals(part)
        self._send(HostEnded(report))

    def lament(self, sentence: str) -> None:
        """Tell the launcher why this host cannot go on."""
        self._send(HostStatus(ROLE_HOST, self._number, sentence))

    def _hear(self, wait_ms: int) -> float:
        """Take what the launcher says, and send it a sign of life; the time. Raises AgentError when it is gone."""
        ready = dict(self._poller.poll(wait_ms))
        if sys.stdin.fileno() in ready and not os.read(sys.stdin.fileno(), 1):
            raise CutOffError("the launcher is gone")
        if self._socket in ready:
            self._take()
        now_s = time.monotonic()
        patience_s = self._deadline_s if self._part is not None else max(self._deadline_s, self._start_s)
        if now_s - self._heard_s > patience_s:
            raise CutOffError(
                f"the launcher has been silent for {patience_s:g} s: it is dead, hangs or is "
                "cut off, so this host's part of the machine ends"
            )
        if now_s >= self._beat_s:
            self._beat_s = now_s + beat_s(self._deadline_s)
            self._beats += 1
            self._send(HostBeat(self._beats))
        return now_s

    def _take(self) -> None:
        while self._socket.poll(0):
            self._heard_s = time.monotonic()
            try:
                message = decode(self._socket.recv())
            except MalformedError:
                continue
            if isinstance(message, HostPlan) and self._part is None:
                self._begin(MachineConfig.from_json(message.config.decode()))
            elif isinstance(message, KillVcpu):
                self._kill(message.vcpu)
            elif isinstance(message, Ping):
                self._send(Pong(message.nonce))
            elif isinstance(message, HostStop):
                self._over = True
            elif isinstance(message, JournalTaken):
                self._pieces_ahead = max(0, self._pieces_ahead - 1)

    def _begin(self, plan: MachineConfig) -> None:
        """Make this host's part of the machine, and start it."""
        assert plan.hosts is not None
        hosts = replace(plan.hosts, listen_fds=(self._listen_fd,))
        if plan.journal:
            try:
                self._journals = JournalFiles(hosts.own_vcpus, self._stack)
            except OSError as error:
                raise AgentError(f"journals cannot be kept on this host: {error}") from None
            hosts = replace(hosts, journal_fds=self._journals.fds)
        try:
            self._part = self._stack.enter_context(HostPart(replace(plan, hosts=hosts), memory_log))
            self._part.begin()
        except NotStartedError as error:
            raise AgentError(str(error)) from None
        except OSError as error:
            raise AgentError(f"this host refuses memory or descriptors: {error}") from None
        self._poller.register(self._part.fd, zmq.POLLIN)

    def _watch(self, part: HostPart, now_s: float) -> None:
        """Go on with the start; raise AgentError when a process of this host is lost."""
        try:
            if part.is_starting:
                part.go_on()
        except NotStartedError as error:
            raise AgentError(str(error)) from None
        for death in part.deaths():
            if death.status != 0:  # a process that exits with status 0 was asked to
                raise AgentError(part.story(death.index, describe_exit(death.status)))
        if now_s >= self._look_s:
            self._look_s = now_s + LOOK_S
            for _, sentence in part.hangs(now_s):
                raise AgentError(sentence)

    def _kill(self, vcpu: int) -> None:
        """Kill a worker as an accident would: its death is seen as any other is. The launcher gets the answer first."""
        worker = None if self._part is None else self._part.worker(vcpu)
        if worker is None:
            self._send(VcpuKilled(vcpu, 0, f"vCPU {vcpu} has no process"))
        elif worker.exit_status() is not None:
            self._send(VcpuKilled(vcpu, worker.pid, f"the process of vCPU {vcpu} is dead already"))
        else:
            worker.kill()
            self._send(VcpuKilled(vcpu, worker.pid, ""))

    def _send_journals(self, part: HostPart) -> None:
        if self._journals is None:
            return
        memory = part.memory.node_memory
        self._send(JournalsBegun(memory.clock_base(), memory.clock_error()))
        for piece in self._journals.pieces():
            while self._pieces_ahead >= PIECES_AHEAD:
                self._hear(_POLL_MS)
            self._send(piece)
            self._pieces_ahead += 1
        while self._pieces_ahead:
            self._hear(_POLL_MS)

    def _report(self, part: HostPart) -> bytes:
        """What HostEnded carries: the notes of this host's processes, the end of each one's log, which pages at home
        here have moved, and how often each event of the scenario was performed and refused here."""
        most_bytes = _REPORT_BYTES // (len(part.children) + 1)
        return _report(
            _tail(part.config.fds.notes, most_bytes).splitlines(),
            {child.member.name: _tail(child.log.fileno(), most_bytes) for child in part.children},
            part.memory.moved_pages(),
            list(part.memory.event_counts()),
        )

    def _send(self, message: Message) -> None:
        with contextlib.suppress(zmq.Again):
            self._socket.send(encode(message), zmq.NOBLOCK)


def _report(notes: list[str], logs: dict[str, str], pages: list[object], event_counts: list[tuple[int, int]]) -> bytes:
    return json.dumps({"notes": notes, "logs": logs, "pages": pages, "events": event_counts}).encode()


def _tail(fd: int, most_bytes: int) -> str:
    """The end of a memory file, as text whose JSON takes no more than `most_bytes`."""
    size = os.fstat(fd).st_size
    text = os.pread(fd, most_bytes, max(0, size - most_bytes)).decode(errors="replace")
    while len(json.dumps(text)) > most_bytes:
        text = text[len(text) // 2 + 1 :]
    return text


def main() -> int:
    """Serve one machine. The exit status: 0; 1 after one sentence on stderr; 3 when the launcher was cut off."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C at the terminal is for the launcher
    line = os.read(sys.stdin.fileno(), _BOOTSTRAP_BYTES)
    with Subreaper(), contextlib.ExitStack() as stack:
        try:
            bootstrap = Bootstrap.from_line(line)
        except (ValueError, TypeError):
            print("the launcher starts this program, and tells it what to do: use allstop run --hosts", file=sys.stderr)
            return 2
        try:
            agent = Agent(bootstrap, stack)
        except (AgentError, OSError, ValueError) as error:
            print(f"{error}", file=sys.stderr)
            return 1
        try:
            try:
                agent.serve()
            except AgentError as error:
                print(f"{error}", file=sys.stderr, flush=True)
                agent.lament(str(error))
                return CUT_OFF_EXIT_CODE if isinstance(error, CutOffError) else 1
        finally:
            agent.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
