# SPDX-License-Identifier: GPL-2.0-or-later
"""The launcher's one loop: it waits for everything at once, tells the `Lifecycle`, and does what that says.

Within one turn the order is: signals, the coordinator's messages, the console, then deaths. A signal that ends a whole
process group is thus an interruption and not the loss of a process, and a verdict that was sent before a death counts.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

import zmq

from allstop.deploy.console.port import ConsolePort
from allstop.deploy.console.status_line import StatusLine, status_text
from allstop.deploy.hosts.agents import CUT_OFF_EXIT_CODE, Agents
from allstop.deploy.outcome.telemetry import activity, describe_vcpus
from allstop.deploy.outcome.verdict import USAGE_EXIT_CODE
from allstop.deploy.processes.members import Member
from allstop.deploy.processes.processes import ChildProcess, describe_exit, words_of_the_named
from allstop.deploy.processes.signals import SignalPipe
from allstop.deploy.processes.watchdog import NODE_PATIENCE, Watchdog
from allstop.deploy.processes.zygote import Zygote, ZygoteEndedError
from allstop.deploy.run.lifecycle import Effect, Kill, Lifecycle, Phase
from allstop.vm.config.machine import MachineConfig
from allstop.vm.control import control
from allstop.vm.control.control import ControlPage
from allstop.vm.wire.channel import LAUNCHER
from allstop.vm.wire.codec import MalformedError, decode, encode
from allstop.vm.wire.messages import (
    PROTOCOL_VERSION,
    ROLE_DEVICES,
    ROLE_HOST,
    ROLE_LAUNCHER,
    ROLE_NODE,
    ROLE_WORKER,
    VERDICTS,
    Hello,
    MembersReady,
    Message,
    Ping,
    Pong,
    RunEnded,
)
from allstop.vm.wire.messages_hosts import KillVcpu

LOOK_S = 0.25
PING_S = 0.5
STATUS_S = 0.5
START_POLL_MS = 5
RECONNECT_MS = 5


class Supervisor:
    """Sees one run through. `run` returns when no process of it is left; `close` makes sure of that.

    `start` starts a server, `zygote` all workers.
    """

    def __init__(
        self,
        lifecycle: Lifecycle,
        team: Sequence[Member],
        start: Callable[[Member], ChildProcess],
        zygote: Zygote,
        page: ControlPage,
        console: ConsolePort,
        signals: SignalPipe,
        status: StatusLine | None,
        lifeline_fds: Sequence[int],
        agents: Agents | None = None,
    ) -> None:
        self._lifecycle = lifecycle
        self._team = team
        self._servers = sum(member.is_server for member in team)
        self._agents = agents
        self._start_member = start
        self._zygote = zygote
        self._page = page
        self._console = console
        self._signals = signals
        self._status = status
        self._lifeline_fds = set(lifeline_fds)
        self._started_s = self._ping_s = self._status_s = self._look_s = time.monotonic()
        self._activity = activity(page)
        self._children: dict[int, ChildProcess] = {}
        self._watchdogs: dict[int, Watchdog] = {}
        self._running: set[int] = set()
        self._poller = zmq.Poller()
        self._left = False

    def run(self, config: MachineConfig) -> None:
        """Start the processes and go on until every one of them is gone."""
        context = zmq.Context()
        self._socket = context.socket(zmq.DEALER)
        try:
            self._socket.setsockopt(zmq.IDENTITY, LAUNCHER)
            self._socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
            self._socket.connect(config.coordinator_endpoint)
            for source in (self._socket, self._signals.fd, *self._lifeline_fds):
                self._poller.register(source, zmq.POLLIN)
            if self._agents is not None:
                self._poller.register(self._agents.socket, zmq.POLLIN)
                self._agents.killed = self._send
            self._console.open(context, config)
            self._lifecycle.begun(self._started_s)
            self._send(Hello(PROTOCOL_VERSION, bytes.fromhex(config.token), ROLE_LAUNCHER, 0, os.getpid()))
            self._start_servers()
            while self._lifecycle.phase is not Phase.OVER:
                self._turn()
            if self._agents is not None:
                self._agents.await_reports()
        finally:
            if self._status is not None:
                self._status.clear()
            self._console.close()
            self._socket.close(0)
            context.term()

    def close(self) -> None:
        """Kill and reap whatever is left."""
        for child in self._children.values():
            child.kill()
        for child in self._children.values():
            child.close()

    def _turn(self) -> None:
        self._console.register(self._poller)
        events = dict(self._poller.poll(self._wait_ms()))
        for number in self._signals.take():
            self._perform(self._lifecycle.interrupted(f"interrupted by {number.name}", time.monotonic()))
        for fd in self._lifeline_fds & events.keys():
            self._poller.unregister(fd)
            self._lifeline_fds.discard(fd)
            self._perform(self._lifecycle.interrupted("stopped by the program that had started it", time.monotonic()))
        if self._socket in events:
            self._receive()
        self._console.serve(events)
        if self._console.left and not self._left:
            self._left = True
            self._perform(self._lifecycle.interrupted(self._console.left, time.monotonic()))
        for index in sorted(self._running):
            if self._children[index].pidfd in events:
                self._reap(index)
        now_s = time.monotonic()
        if self._agents is not None:
            self._look_at_hosts(self._agents, now_s)
        if now_s >= self._look_s:
            self._look_s = now_s + LOOK_S
            self._look(now_s)
        if len(self._children) == self._servers and self._lifecycle.phase is Phase.STARTING:
            self._start_workers_when_served()
        if self._lifecycle.deadline_s is not None and now_s >= self._lifecycle.deadline_s:
            self._perform(self._lifecycle.due(now_s, describe_vcpus(self._page)))
        if self._status is not None and now_s >= self._status_s:
            self._status_s = now_s + STATUS_S
            self._draw(self._status, now_s)

    def _look_at_hosts(self, agents: Agents, now_s: float) -> None:
        """What the other hosts say; when the run is over they are told."""
        for sentence in (*agents.receive(), *agents.beat(now_s)):
            self._perform(self._lifecycle.failed(sentence, now_s, "lost"))
        if self._lifecycle.phase is Phase.LEAVING:
            agents.stop()
        if agents.intake is not None and agents.intake.take_progress():
            self._lifecycle.sending(now_s)

    def _wait_ms(self) -> int:
        wake_s = self._look_s
        if self._lifecycle.deadline_s is not None:
            wake_s = min(wake_s, self._lifecycle.deadline_s)
        wait_ms = max(0, int((wake_s - time.monotonic()) * 1000) + 1)
        starting = len(self._children) == self._servers and self._lifecycle.phase is Phase.STARTING
        return min(wait_ms, START_POLL_MS) if starting else wait_ms

    def _start_workers_when_served(self) -> None:
        """Workers connect to the two servers; a hundred of them starting would take those the cores to start on."""
        try:
            servers = self._team[: self._servers]
            workers = [member for member in self._team if member.role == ROLE_WORKER]
            if all(self._page.heartbeat(member.slot) for member in servers) and (
                not workers or self._zygote.is_ready()
            ):
                for child in self._zygote.bear(workers) if workers else ():
                    self._adopt(child)
                for member in self._team[self._servers + len(workers) :]:
                    self._adopt(self._start_member(member))
        except ZygoteEndedError as error:
            self._perform(self._lifecycle.failed(str(error), time.monotonic(), "lost" if error.killed else "error"))
        except OSError as error:
            self._not_started(error)

    def _start_servers(self) -> None:
        try:
            for member in self._team[: self._servers]:
                self._adopt(self._start_member(member))
            if any(member.role == ROLE_WORKER for member in self._team):  # else they are all on other hosts
                self._zygote.open()
        except OSError as error:
            self._not_started(error)

    def _adopt(self, child: ChildProcess) -> None:
        index = len(self._children)
        self._children[index] = child
        patience = NODE_PATIENCE if child.member.role == ROLE_NODE else 1.0
        self._watchdogs[index] = Watchdog(time.monotonic(), patience)
        self._running.add(index)
        self._lifecycle.started(index)
        self._poller.register(child.pidfd, zmq.POLLIN)

    def _not_started(self, error: OSError) -> None:
        sentence = f"{self._team[len(self._children)].name} could not be started: {error}"
        self._perform(self._lifecycle.failed(sentence, time.monotonic()))

    def _perform(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Kill):
                self._children[effect.index].kill()
            else:
                self._send(effect.message)

    def _send(self, message: Message) -> None:
        try:
            self._socket.send(encode(message), zmq.NOBLOCK)
        except zmq.Again:
            self._perform(self._lifecycle.failed("the coordinator takes no messages", time.monotonic()))

    def _receive(self) -> None:
        while True:
            try:
                message = decode(self._socket.recv(zmq.NOBLOCK))
            except zmq.Again:
                return
            except MalformedError:
                continue
            now_s = time.monotonic()
            if isinstance(message, MembersReady):
                self._perform(self._lifecycle.ready(now_s))
            elif isinstance(message, RunEnded):
                if message.verdict == VERDICTS.index("lost"):
                    words = words_of_the_named(message.sentence, self._children.values())
                    message = message._replace(sentence=message.sentence + words)
                self._perform(self._lifecycle.ended(message, now_s))
            elif isinstance(message, KillVcpu) and self._agents is not None:
                self._agents.kill(message.vcpu)
            elif isinstance(message, Ping):
                self._send(Pong(message.nonce))

    def _reap(self, index: int) -> None:
        child = self._children[index]
        status = child.exit_status()
        if status is None:
            return
        self._poller.unregister(child.pidfd)
        self._running.discard(index)
        now_s = time.monotonic()
        if status == USAGE_EXIT_CODE and child.member.role == ROLE_DEVICES and (words := child.last_words()):
            self._perform(self._lifecycle.refused(index, words.removeprefix(f"{child.member.name}: "), now_s))
        else:
            cut_off = child.member.role == ROLE_HOST and status == CUT_OFF_EXIT_CODE
            phrase = "was cut off from this host, and has ended its part" if cut_off else describe_exit(status)
            self._perform(self._lifecycle.gone(index, self._story(child, phrase), status, now_s))

    def _look(self, now_s: float) -> None:
        ping = now_s >= self._ping_s
        if ping:
            self._ping_s = now_s + PING_S
        for index in sorted(self._running):
            child = self._children[index]
            member = child.member
            watchdog = self._watchdogs[index]
            if member.role == ROLE_HOST:
                continue  # its own agent watches there
            if not watchdog.is_silent(now_s, self._page.heartbeat(member.slot)):
                continue
            if ping and member.role == ROLE_WORKER:
                self._page.post(member.slot, control.PING)
            try:
                phrase = watchdog.judge(*child.state())
            except OSError:
                continue  # it has just died: its pidfd will tell
            if phrase is not None:
                self._perform(self._lifecycle.hangs(index, self._story(child, phrase), now_s))

    def _story(self, child: ChildProcess, phrase: str) -> str:
        """Who, what, doing what, last words: one sentence."""
        words = child.last_words()
        said = f'; its last words: "{words}"' if words else ""
        if child.member.role == ROLE_HOST:
            return f"the agent of {child.member.name} {phrase}{said}"
        doing = self._page.describe(child.member.slot)
        return f"{child.member.name} (process {child.pid}) {phrase} while {doing}{said}"

    def _draw(self, status: StatusLine, now_s: float) -> None:
        now = activity(self._page)
        if self._console.is_quiet:
            status.show(status_text(now_s - self._started_s, self._activity, now))
        self._activity = now
