# SPDX-License-Identifier: GPL-2.0-or-later
"""A gdb server's decisions, without I/O: inputs in, effects out. `commands` has the packets themselves.

Theory of operation
-------------------

A debugger stops the world in two steps. The barrier (`allstop.coordinator.world.barrier`) has every vCPU leave the
guest; then HoldVcpu keeps each one out, and the server releases the world. From then on the debugger holds vCPUs, not
the world, so one of them can finish an exit for which it needs the stopped world itself, execute one instruction, or
run alone.

    RUNNING   --- Ctrl-C, a hit, a client that comes --->   a task stops the world   --->   STOPPED
    RUNNING   <--- a task lets the vCPUs go: c, D, a client that has gone ---------------   STOPPED

Work that takes more than one message is a task: a generator that yields conditions to wait for, with a deadline. One
task runs at a time; packets wait meanwhile. A vCPU that does not answer in time is busy: until it
answers, the server refuses requests for it. So no client and no vCPU can make the server wait forever.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from allstop.vm.wire.messages import (
    HIT_BREAKPOINT,
    VERDICTS,
    DebugDone,
    DebuggerReady,
    HoldVcpu,
    LetVcpuGo,
    MembersReady,
    Message,
    ReleaseWorld,
    RunEnded,
    Shutdown,
    StopWorld,
    VcpuHit,
    WorldStopped,
)

ANSWER_S = 2.0
_MAX_WAITING_PACKETS = 256
_SIGTERM = 15

# Inputs


@dataclass(frozen=True, slots=True)
class Attached:
    """A client has connected. `doing` says what each vCPU does."""

    doing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Received:
    """A packet of the client's."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The client's Ctrl-C."""


@dataclass(frozen=True, slots=True)
class Gone:
    """The client's connection is over."""


@dataclass(frozen=True, slots=True)
class Told:
    """A message from the coordinator. `doing` says what each vCPU does at this moment, where it is WorldStopped."""

    message: Message
    doing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Passed:
    """Time has passed."""


# Effects


@dataclass(frozen=True, slots=True)
class Reply:
    """Send the client a packet."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Ask:
    """Send the coordinator a message."""

    message: Message


@dataclass(frozen=True, slots=True)
class NoAcks:
    """From now on neither side acknowledges packets."""


@dataclass(frozen=True, slots=True)
class HangUp:
    """Close the client's connection after the last packet."""


@dataclass(frozen=True, slots=True)
class Say:
    """Print a line for the user of the run."""

    sentence: str


Input: TypeAlias = Attached | Received | Interrupted | Gone | Told | Passed
Effect: TypeAlias = Reply | Ask | NoAcks | HangUp | Say


@dataclass(frozen=True, slots=True)
class Until:
    """A task waits until `holds`, `within_s` seconds at most."""

    holds: Callable[[], bool]
    within_s: float | None = None


Task: TypeAlias = Generator[Until, None, None]
VcpuCommand: TypeAlias = Callable[[int], Message]


class Answers(Protocol):
    """The interface that answers packets: see `commands.Commands`."""

    def serve(self, payload: bytes) -> Task:
        """Answer a packet, in a stopped world. May raise BusyError."""
        ...

    def sync(self, vcpus: Iterable[int]) -> Task:
        """Tell vCPUs their breakpoints and watchpoints."""
        ...

    def forget(self) -> None:
        """The client has gone."""
        ...

    def report(self, hit: VcpuHit | None, vcpu: int | None) -> bytes:
        """The stop reply for a hit, a step of `vcpu`, or Ctrl-C."""
        ...


class BusyError(Exception):
    """The vCPU does not answer."""


class Session:
    """The gdb server of a machine of `vcpus`, for one client after the other; `waits` is --gdb-wait.

    `commands` is what answers packets.
    """

    def __init__(self, vcpus: int, waits: bool, commands: Callable[[Session], Answers]) -> None:
        self.vcpus = vcpus
        self.stopped = False
        """Every vCPU is held."""
        self.attached = False
        self.runs = False
        """The client has let vCPUs run, and waits for its stop reply."""
        self.doing: tuple[str, ...] = ("",) * vcpus
        """What each vCPU did when the world was stopped last."""
        self.hits: deque[VcpuHit] = deque()
        """Breakpoints and watchpoints that were hit and not yet reported."""
        self.again: set[int] = set()
        """vCPUs whose hit was not reported and will come again."""
        self._waits = waits
        self._commands = commands(self)
        self._effects: list[Effect] = []
        self._packets: deque[bytes] = deque()
        self._interrupted = False
        self._keep_stopped = waits
        self._up = False
        self._over = False
        self._ended: RunEnded | None = None
        self._epoch: int | None = None
        self._nonce = 0
        self._outstanding: dict[int, int] = {}  # nonce to vCPU
        self._answers: dict[int, DebugDone] = {}
        self._held: set[int] = set()  # got HoldVcpu, whether they have answered or not
        self._client = 0  # counts clients
        self._task: Task | None = None
        self._task_client: int | None = None
        self._until: Until | None = None
        self._until_s: float | None = None
        self._now_s = 0.0

    @property
    def wait_s(self) -> float | None:
        """How long the server may wait; None: without limit."""
        return None if self._until_s is None else max(0.0, self._until_s - self._now_s)

    @property
    def ready(self) -> bool:
        """Whether a client may connect."""
        return self._up and not self._over and (self.stopped or not self._waits)

    def handle(self, given: Input, now_s: float) -> list[Effect]:
        """Take one input. The caller performs the effects in their order."""
        self._now_s = now_s
        self._effects = []
        self._note(given)
        if not self._over:
            self._go_on()
        return self._effects

    # For tasks

    def put(self, effect: Effect) -> None:
        """Add an effect of a task, unless it is for a client that has gone: the next one must not get it."""
        if isinstance(effect, Ask | Say) or self._task_client in (None, self._client):
            self._effects.append(effect)

    def busy(self, vcpu: int) -> bool:
        """Whether the vCPU has yet to answer its last command."""
        return vcpu in self._outstanding.values()

    def ask(self, vcpu: int, command: VcpuCommand) -> Generator[Until, None, DebugDone]:
        """Send a vCPU a command, and wait for the answer. Raises BusyError."""
        if self.busy(vcpu):
            raise BusyError
        nonce = self._send(vcpu, command)
        yield Until(lambda: nonce in self._answers, ANSWER_S)
        if nonce not in self._answers:
            raise BusyError
        return self._answers.pop(nonce)

    def ask_without_end(self, vcpu: int, command: VcpuCommand) -> Generator[Until, None, DebugDone]:
        """The same without a deadline: an instruction may wait for a device, or for an operator's pause."""
        yield Until(lambda: not self.busy(vcpu))
        nonce = self._send(vcpu, command)
        yield Until(lambda: nonce in self._answers)
        return self._answers.pop(nonce)

    def ask_all(
        self, vcpus: Iterable[int], command: Callable[[int, int], Message], within_s: float | None = ANSWER_S
    ) -> Generator[Until, None, list[DebugDone]]:
        """Send several vCPUs command(nonce, vcpu) at once; those that do not answer in time are left out."""
        nonces = [
            self._send(vcpu, lambda nonce, vcpu=vcpu: command(nonce, vcpu))  # type: ignore[misc]
            for vcpu in vcpus
            if not self.busy(vcpu)
        ]
        yield Until(lambda: all(nonce in self._answers for nonce in nonces), within_s)
        return [self._answers.pop(nonce) for nonce in nonces if nonce in self._answers]

    def stop(self) -> Task:
        """Stop the world, and hold every vCPU."""
        self.put(Ask(StopWorld("the debugger", False)))
        yield Until(lambda: self._epoch is not None)
        epoch, self._epoch = self._epoch, None
        wanted = [vcpu for vcpu in range(self.vcpus) if vcpu not in self._held]
        nonces = [self._send(vcpu, functools.partial(HoldVcpu, vcpu=vcpu)) for vcpu in wanted if not self.busy(vcpu)]
        self._held.update(wanted)
        self.put(Ask(ReleaseWorld(epoch or 0)))
        yield Until(lambda: not any(nonce in self._outstanding for nonce in nonces), ANSWER_S)
        for nonce in nonces:
            self._answers.pop(nonce, None)
        self.stopped = True

    def go(self, vcpus: Iterable[int]) -> Task:
        """Let vCPUs go. Wait for a busy one: it must not stay behind."""
        for vcpu in vcpus:
            if vcpu not in self._held:
                continue
            yield Until(lambda vcpu=vcpu: not self.busy(vcpu))  # type: ignore[misc]
            self._send(vcpu, lambda nonce, vcpu=vcpu: LetVcpuGo(nonce, vcpu, vcpu in self.again))  # type: ignore[misc]
            self._held.discard(vcpu)
            self.again.discard(vcpu)
            self.stopped = False
        yield Until(lambda: not self._outstanding)
        self._answers.clear()

    def pause(self, seconds: float) -> Task:
        """Wait."""
        yield Until(lambda: False, seconds)

    def report_stop(self) -> None:
        """Send the client's stop reply: of the hit that came first, or of Ctrl-C."""
        hit = self.hits.popleft() if self.hits else None
        self.postpone_hits()
        self.stop_reply(hit)

    def stop_reply(self, hit: VcpuHit | None, vcpu: int | None = None) -> None:
        """The client's vCPUs have stopped: for a hit, or for a step of `vcpu`, or else for Ctrl-C."""
        self._interrupted = self.runs = False
        self.put(Reply(self._commands.report(hit, vcpu)))

    def postpone_hits(self) -> None:
        """A breakpoint that is not reported now comes again when its vCPU runs; a watched access is reported later."""
        for hit in list(self.hits):
            if hit.cause == HIT_BREAKPOINT:
                self.hits.remove(hit)
                self.again.add(hit.vcpu)

    def detach(self) -> None:
        """The client has detached."""
        self._leave()

    # Inputs

    def _note(self, given: Input) -> None:
        match given:
            case Attached(doing):
                self.doing = doing
                self.attached, self.runs, self._keep_stopped = True, False, False
                self._client += 1
            case Received(payload) if self.attached:
                self._packets.append(payload)
                if len(self._packets) > _MAX_WAITING_PACKETS:
                    self.put(Say("gdb: the client sends more than can be answered: it is dropped"))
                    self.put(HangUp())
                    self._leave()
            case Interrupted():
                self._interrupted = self.attached and (self.runs or bool(self._packets))
            case Gone():
                if self.attached:
                    what = "while the machine was stopped" if self.stopped else "without a good-bye"
                    self.put(Say(f"gdb: the debugger has gone {what}: breakpoints are removed, the machine goes on"))
                self._leave()
            case Told(message, doing):
                self._hear(message, doing)

    def _leave(self) -> None:
        self.attached = self.runs = self._interrupted = False
        self._packets.clear()
        self._commands.forget()

    def _hear(self, message: Message, doing: tuple[str, ...]) -> None:
        match message:
            case MembersReady():
                self._up = True
            case WorldStopped(epoch):
                self._epoch = epoch
                self.doing = doing
            case DebugDone(nonce):
                if self._outstanding.pop(nonce, None) is not None:
                    self._answers[nonce] = message
            case VcpuHit():
                self.hits.append(message)
                self._held.add(message.vcpu)
            case RunEnded():
                self._ended = message
            case Shutdown():
                self._end()

    def _end(self) -> None:
        """The machine has ended. A client that waits for a stop learns how; another one sees the connection end."""
        self._over, self._task, self._task_client = True, None, None
        if not self.attached:
            return
        if self.runs:
            verdict = None if self._ended is None else VERDICTS[self._ended.verdict]
            if self._ended is not None and verdict in ("pass", "fail"):
                self.put(Reply(b"W%02x" % (0 if verdict == "pass" else self._ended.status & 0xFF or 1)))
            else:
                self.put(Reply(b"X%02x" % _SIGTERM))
        self.put(HangUp())
        self.attached = False

    # Tasks

    def _go_on(self) -> None:
        while True:
            if self._task is None:
                self._task, self._task_client = self._next_task(), self._client
                if self._task is None:
                    self._until_s = None
                    return
            elif self._until is not None:
                due = self._until_s is not None and self._now_s >= self._until_s
                if not due and not self._until.holds():
                    return
            try:
                self._until = next(self._task)
                within_s = self._until.within_s
                self._until_s = None if within_s is None else self._now_s + within_s
            except StopIteration:
                self._task = self._until = self._until_s = None

    def _next_task(self) -> Task | None:
        if not self._up:
            return None
        if not self.stopped:
            if self._keep_stopped or self.attached and not self.runs:
                return self._stop_for_client()
            if self._interrupted or self.hits:
                return self._stop_and_report()
            return None
        if not self.attached and not self._keep_stopped:
            return self._let_all_go()
        return self._answer(self._packets.popleft()) if self._packets else None

    def _stop_for_client(self) -> Task:
        yield from self.stop()
        if self._keep_stopped:
            self.put(Ask(DebuggerReady()))

    def _stop_and_report(self) -> Task:
        yield from self.stop()
        if self.attached and self.runs:
            self.report_stop()

    def _let_all_go(self) -> Task:
        self.hits.clear()
        yield from self._commands.sync(range(self.vcpus))
        yield from self.go(range(self.vcpus))

    def _answer(self, payload: bytes) -> Task:
        try:
            yield from self._commands.serve(payload)
        except BusyError:
            self.put(Reply(b"E10"))  # EBUSY

    def _send(self, vcpu: int, command: VcpuCommand) -> int:
        self._nonce = self._nonce + 1 & 0xFFFFFFFF
        self._outstanding[self._nonce] = vcpu
        self.put(Ask(command(self._nonce)))
        return self._nonce
