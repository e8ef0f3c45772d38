# SPDX-License-Identifier: GPL-2.0-or-later
"""The launcher's one loop: it waits for everything at once, tells the `Lifecycle`, and performs the effects.

Within one turn the order is: signals, the coordinator's messages, the console, then deaths. So a signal to the whole
process group counts as an interruption and not as the loss of a process, and a verdict that was sent before a death
counts.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

import zmq

from allstop.deploy.console.port import ConsolePort
from allstop.deploy.console.status_line import StatusLine, status_text
from allstop.deploy.hosts.agreement import CUT_OFF_EXIT_CODE
from allstop.deploy.hosts.other_hosts import OtherHosts
from allstop.deploy.outcome.telemetry import activity, describe_vcpus
from allstop.deploy.outcome.verdict import USAGE_EXIT_CODE
from allstop.deploy.processes.host_part import LOOK_S, START_POLL_MS, Death, HostPart, NotStartedError
from allstop.deploy.processes.processes import describe_exit, words_of_the_named
from allstop.deploy.processes.signals import SignalPipe
from allstop.deploy.run.lifecycle import Effect, Kill, Lifecycle, Phase
from allstop.vm.wire.channel import LAUNCHER
from allstop.vm.wire.codec import MalformedError, decode, encode
from allstop.vm.wire.messages import (
    PROTOCOL_VERSION,
    ROLE_DEVICES,
    ROLE_HOST,
    ROLE_LAUNCHER,
    VERDICTS,
    Hello,
    MembersReady,
    Message,
    Ping,
    Pong,
    RunEnded,
)
from allstop.vm.wire.messages_hosts import KillVcpu, VcpuKilled

STATUS_S = 0.5
RECONNECT_MS = 5


class Supervisor:
    """Sees one run through: `run` returns when no process of it is left."""

    def __init__(
        self,
        lifecycle: Lifecycle,
        part: HostPart,
        others: OtherHosts,
        console: ConsolePort,
        signals: SignalPipe,
        status: StatusLine | None,
        lifeline_fds: Sequence[int],
    ) -> None:
        self._lifecycle = lifecycle
        self._part = part
        self._others = others
        self._console = console
        self._signals = signals
        self._status = status
        self._lifeline_fds = set(lifeline_fds)
        self._started_s = self._status_s = self._look_s = time.monotonic()
        self._activity = activity(part.control_page)
        self._poller = zmq.Poller()
        self._left = False

    def run(self) -> None:
        """Start the processes and go on until every one of them is gone."""
        context = zmq.Context()
        self._socket = context.socket(zmq.DEALER)
        config = self._part.config
        try:
            self._socket.setsockopt(zmq.IDENTITY, LAUNCHER)
            self._socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
            self._socket.connect(config.coordinator_endpoint)
            sources = (self._socket, self._signals.fd, self._part.fd, *self._lifeline_fds, *self._others.sockets)
            for source in sources:
                self._poller.register(source, zmq.POLLIN)
            self._console.open(context, config)
            self._lifecycle.begun(self._started_s)
            self._send(Hello(PROTOCOL_VERSION, bytes.fromhex(config.token), ROLE_LAUNCHER, 0, os.getpid()))
            self._start(self._part.begin)
            while self._lifecycle.phase is not Phase.OVER:
                self._turn()
            self._others.await_reports()
        finally:
            if self._status is not None:
                self._status.clear()
            self._console.close()
            self._socket.close(0)
            context.term()

    @property
    def _is_starting(self) -> bool:
        return self._lifecycle.phase is Phase.STARTING and self._part.is_starting

    def _turn(self) -> None:
        self._console.register(self._poller)
        ready = dict(self._poller.poll(self._wait_ms()))
        for number in self._signals.take():
            self._perform(self._lifecycle.interrupted(f"interrupted by {number.name}", time.monotonic()))
        for fd in self._lifeline_fds & ready.keys():
            self._poller.unregister(fd)
            self._lifeline_fds.discard(fd)
            self._perform(self._lifecycle.interrupted("stopped by the program that started it", time.monotonic()))
        if self._socket in ready:
            self._receive()
        self._console.serve(ready)
        if self._console.left and not self._left:
            self._left = True
            self._perform(self._lifecycle.interrupted(self._console.left, time.monotonic()))
        if self._part.fd in ready:
            for death in self._part.deaths():
                self._reap(death)
        now_s = time.monotonic()
        self._serve_others(now_s)
        if now_s >= self._look_s:
            self._look_s = now_s + LOOK_S
            for index, sentence in self._part.hangs(now_s):
                self._perform(self._lifecycle.hangs(index, sentence, now_s))
        if self._is_starting:
            self._start(self._part.go_on)
        if self._lifecycle.deadline_s is not None and now_s >= self._lifecycle.deadline_s:
            self._perform(self._lifecycle.due(now_s, describe_vcpus(self._part.control_page)))
        if self._status is not None and now_s >= self._status_s:
            self._status_s = now_s + STATUS_S
            self._draw(self._status, now_s)

    def _wait_ms(self) -> int:
        wake_s = self._look_s
        if self._lifecycle.deadline_s is not None:
            wake_s = min(wake_s, self._lifecycle.deadline_s)
        wait_ms = max(0, int((wake_s - time.monotonic()) * 1000) + 1)
        return min(wait_ms, START_POLL_MS) if self._is_starting else wait_ms

    def _start(self, step: Callable[[], None]) -> None:
        """Start what this step of the part starts, and tell the lifecycle."""
        part, failure = self._part, None
        before = len(part.children)
        try:
            step()
        except NotStartedError as error:
            failure = error
        for index in range(before, len(part.children)):
            self._lifecycle.started(index)
        if failure is not None:
            verdict = "lost" if failure.lost else "error"
            self._perform(self._lifecycle.failed(str(failure), time.monotonic(), verdict))

    def _serve_others(self, now_s: float) -> None:
        """Hear the other hosts, and have them end when the run is over."""
        for heard in self._others.serve(now_s):
            if isinstance(heard, VcpuKilled):
                self._send(heard)
            else:
                self._perform(self._lifecycle.failed(heard, now_s, "lost"))
        if self._lifecycle.phase is Phase.LEAVING:
            self._others.stop()
        if self._others.take_progress():
            self._lifecycle.sending(now_s)

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
                    words = words_of_the_named(message.sentence, self._part.children)
                    message = message._replace(sentence=message.sentence + words)
                self._perform(self._lifecycle.ended(message, now_s))
            elif isinstance(message, KillVcpu):
                self._others.kill(message.vcpu)
            elif isinstance(message, Ping):
                self._send(Pong(message.nonce))

    def _reap(self, death: Death) -> None:
        index, status = death.index, death.status
        child = self._part.children[index]
        role, now_s = child.member.role, time.monotonic()
        if status == USAGE_EXIT_CODE and role == ROLE_DEVICES and (words := child.last_words()):
            self._perform(self._lifecycle.refused(index, words.removeprefix(f"{child.member.name}: "), now_s))
            return
        cut_off = role == ROLE_HOST and status == CUT_OFF_EXIT_CODE
        phrase = "was cut off from this host, and has ended its part" if cut_off else describe_exit(status)
        self._perform(self._lifecycle.gone(index, self._part.story(index, phrase), status, now_s))

    def _perform(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Kill):
                self._part.kill(effect.index)
            else:
                self._send(effect.message)

    def _send(self, message: Message) -> None:
        try:
            self._socket.send(encode(message), zmq.NOBLOCK)
        except zmq.Again:
            self._perform(self._lifecycle.failed("the coordinator takes no messages", time.monotonic()))

    def _draw(self, status: StatusLine, now_s: float) -> None:
        now = activity(self._part.control_page)
        if self._console.is_quiet:
            status.show(status_text(now_s - self._started_s, self._activity, now))
        self._activity = now
