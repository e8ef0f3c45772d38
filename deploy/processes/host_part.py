# SPDX-License-Identifier: GPL-2.0-or-later
"""One host's part of a machine: its memory and its processes, from the first start to the last exit.

The launcher has one on its own host, and the agent of each other host has one there. Both see a part through the same
few steps: `begin`, `go_on` until the start is complete, then `deaths` when `fd` is readable and `hangs` from time to
time, and `end`.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import BinaryIO

from allstop.deploy.processes.host_memory import HostMemory
from allstop.deploy.processes.members import Member, members_of
from allstop.deploy.processes.processes import ChildProcess
from allstop.deploy.processes.start_order import Fork, LoadZygote, Stage, Start, StartOrder, Step
from allstop.deploy.processes.watchdog import NODE_PATIENCE, Watchdog
from allstop.deploy.processes.zygote import Zygote, ZygoteEndedError
from allstop.vm.config.machine import MachineConfig
from allstop.vm.control import control
from allstop.vm.wire.messages import ROLE_HOST, ROLE_NODE, ROLE_WORKER

LOOK_S = 0.25
"""How often to call `hangs`."""
START_POLL_MS = 5
"""How often to call `go_on`."""
PING_S = 0.5


class NotStartedError(OSError):
    """A process could not be started; one sentence. `lost`: because another process was killed."""

    def __init__(self, sentence: str, lost: bool = False) -> None:
        super().__init__(sentence)
        self.lost = lost


@dataclass(frozen=True, order=True)
class Death:
    """A process has exited; a negative `status` is the signal that killed it."""

    index: int
    status: int


class HostPart:
    """One host's part of a machine, by its plan. Processes are named by their index in `team` and `children`.

    `create_log` makes what a process of this name writes to. `agents` are the processes, already started, that lead to
    the agents of other hosts, by the hosts' numbers.
    """

    def __init__(
        self,
        plan: MachineConfig,
        create_log: Callable[[str], BinaryIO],
        agents: Mapping[int, ChildProcess] | None = None,
    ) -> None:
        """Make the memory. Raises OSError."""
        self.team: Sequence[Member] = members_of(plan)
        self.children: list[ChildProcess] = []
        self._create_log = create_log
        self._agents = agents or {}
        self._order = StartOrder(self.team)
        self._watchdogs: list[Watchdog] = []
        self._running: dict[int, int] = {}  # index of each process that runs, by its pidfd
        self._ping_s = 0.0
        with contextlib.ExitStack() as stack:
            self.memory = HostMemory(plan, stack)
            self._epoll = stack.enter_context(select.epoll())
            self._zygote = Zygote(self.memory.config_fd, self.memory.shared_fds, lambda member: create_log(member.name))
            stack.callback(self._zygote.close)
            self._stack = stack.pop_all()
        self.config = self.memory.config
        self.control_page = self.memory.control_page

    def __enter__(self) -> HostPart:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
        self._stack.close()

    @property
    def fd(self) -> int:
        """Readable when a process has exited."""
        return self._epoll.fileno()

    @property
    def is_starting(self) -> bool:
        """Whether `go_on` is still to be called."""
        return self._order.stage is Stage.LOADING

    def begin(self) -> None:
        """Start the servers, and have the zygote load what workers need. Raises NotStartedError."""
        self._perform(self._order.begin())

    def go_on(self) -> None:
        """Start the workers and the rest when the servers are up. Raises NotStartedError."""
        serving = all(self.control_page.heartbeat(member.slot) for member in self._order.servers)
        try:
            ready = serving and self._order.needs_zygote and self._zygote.is_ready()
        except ZygoteEndedError as error:
            raise NotStartedError(str(error), error.killed) from None
        self._perform(self._order.look(serving, ready))

    def deaths(self) -> list[Death]:
        """The processes that have exited since the last call."""
        found = []
        for pidfd, _ in self._epoll.poll(0):
            index = self._running[pidfd]
            status = self.children[index].exit_status()
            if status is not None:
                self._epoll.unregister(pidfd)
                del self._running[pidfd]
                found.append(Death(index, status))
        return sorted(found)

    def hangs(self, now_s: float) -> list[tuple[int, str]]:
        """The processes that hang, each with a sentence. An idle worker beats when it is pinged."""
        ping = now_s >= self._ping_s
        if ping:
            self._ping_s = now_s + PING_S
        found = []
        for index in sorted(self._running.values()):
            child, watchdog = self.children[index], self._watchdogs[index]
            member = child.member
            if member.role == ROLE_HOST:  # its own agent watches there
                continue
            if not watchdog.is_silent(now_s, self.control_page.heartbeat(member.slot)):
                continue
            if ping and member.role == ROLE_WORKER:
                self.control_page.post(member.slot, control.PING)
            try:
                phrase = watchdog.judge(*child.state())
            except OSError:
                continue  # it has just exited: `deaths` will tell
            if phrase is not None:
                found.append((index, self.story(index, phrase)))
        return found

    def story(self, index: int, phrase: str) -> str:
        """Which process, what happened to it, what it was doing, its last words: one sentence."""
        child = self.children[index]
        words = child.last_words()
        said = f'; its last words: "{words}"' if words else ""
        if child.member.role == ROLE_HOST:
            return f"the agent of {child.member.name} {phrase}{said}"
        doing = self.control_page.describe(child.member.slot)
        return f"{child.member.name} (process {child.pid}) {phrase} while {doing}{said}"

    def worker(self, vcpu: int) -> ChildProcess | None:
        """The process of a vCPU, None where this host has started none."""
        return next(
            (child for child in self.children if (child.member.role, child.member.vcpu) == (ROLE_WORKER, vcpu)), None
        )

    def kill(self, index: int) -> None:
        """Kill a process, unless it has exited."""
        self.children[index].kill()

    def quit(self, wait_s: float) -> None:
        """Ask the workers to leave, and wait for all processes. The node leaves with the workers, if it has any."""
        workers = [member for member in self.team if member.role == ROLE_WORKER]
        for member in workers:
            self.control_page.post(member.slot, control.QUIT)
            self.control_page.clear(member.slot, control.STOP)
        for child in self.children:
            if child.member.role == ROLE_NODE and not workers:
                child.terminate()
        deadline_s = time.monotonic() + wait_s
        while self._running and (left_s := deadline_s - time.monotonic()) > 0:
            select.select([self.fd], [], [], left_s)
            self.deaths()

    def end(self) -> None:
        """Make sure that every process is gone. The memory stays until the part is left."""
        self._zygote.close()
        for child in self.children:
            child.kill()
        for child in self.children:
            child.close()
        self._running.clear()

    def _perform(self, steps: Sequence[Step]) -> None:
        try:
            for step in steps:
                if isinstance(step, LoadZygote):
                    self._zygote.open()
                elif isinstance(step, Fork):
                    for child in self._zygote.bear(step.workers):
                        self._adopt(child)
                else:
                    self._adopt(self._start(step))
        except ZygoteEndedError as error:
            raise NotStartedError(str(error), error.killed) from None
        except OSError as error:
            raise NotStartedError(f"{self.team[len(self.children)].name} could not be started: {error}") from None

    def _start(self, step: Start) -> ChildProcess:
        member = step.member
        if member.role == ROLE_HOST:
            return self._agents[member.vcpu]
        memory = self.memory
        return ChildProcess(member, memory.config_fd, memory.inherited_by(member), self._create_log(member.name))

    def _adopt(self, child: ChildProcess) -> None:
        index = len(self.children)
        self.children.append(child)
        self._watchdogs.append(Watchdog(time.monotonic(), NODE_PATIENCE if child.member.role == ROLE_NODE else 1.0))
        self._epoll.register(child.pidfd, select.EPOLLIN)
        self._running[child.pidfd] = index


def memory_log(name: str) -> BinaryIO:
    """What a process writes to where there is no run folder: memory that is gone with the run."""
    return os.fdopen(os.memfd_create(f"allstop-{name}.log", os.MFD_CLOEXEC), "r+b", buffering=0)
