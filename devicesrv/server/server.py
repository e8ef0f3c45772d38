# SPDX-License-Identifier: GPL-2.0-or-later
"""The device server's loop: one ROUTER socket, one thread, one message after the other.

Rules for this file. It is the only one that touches a socket. Nothing that a peer sends may raise out of the
loop: what is not understood, or not from whom it should be, is counted in `refused` and forgotten. Nothing
that a device raises may either: the vCPU is told MMIO_FAILED, the coordinator gets one sentence, and the loop
serves on until Shutdown.

The order of effects. An access may change the interrupt lines of several vCPUs. The requester's own line is
in its reply; those of others are set in the control page, and their vCPUs asked to look, before the reply leaves: a
vCPU that knows its access to be done (an SGI sent, say) knows the others to be interrupted.
"""

from __future__ import annotations

import hmac
import json
import math
import os
import sys
import time
import traceback
from collections import Counter

import zmq

from allstop.devicesrv.board import Board
from allstop.devicesrv.bus import WIDTHS
from allstop.devicesrv.console.console import Console
from allstop.devicesrv.console.exit_line import ExitLine
from allstop.devicesrv.console.input_line import InputLine
from allstop.devicesrv.device import Wiring
from allstop.devicesrv.semihosting.semihosting import Semihosting
from allstop.devicesrv.server.guest_time import GuestTime
from allstop.devicesrv.server.page import Page
from allstop.devicesrv.server.peer import Peer
from allstop.devicesrv.server.records import Records
from allstop.devicesrv.server.reply_events import Reply, ReplyEvents
from allstop.vm.config.machine import MachineConfig
from allstop.vm.events.scenario import Scenario
from allstop.vm.events.vocabulary import DEVICE_STEP, event
from allstop.vm.journal.open import open_journal
from allstop.vm.process.user_code import text_of
from allstop.vm.wire.admission import admit_hosts, is_at_home, report_refusals
from allstop.vm.wire.channel import COORDINATOR, LAUNCHER, identity_fits, listen
from allstop.vm.wire.codec import MalformedError, decode, encode
from allstop.vm.wire.messages import (
    MAX_TEXT,
    MMIO_FAILED,
    MMIO_MALFORMED,
    MMIO_OK,
    MMIO_UNASSIGNED,
    PROTOCOL_VERSION,
    ROLE_COORDINATOR,
    ROLE_DEVICES,
    ROLE_LAUNCHER,
    ROLE_WORKER,
    ComponentFailed,
    ConsoleInput,
    ConsoleInputTaken,
    EventPerformed,
    GuestFinished,
    Hello,
    HostCall,
    Message,
    MmioReply,
    MmioRequest,
    PerformEvent,
    Ping,
    Pong,
    PpiLevel,
    PpiReply,
    Shutdown,
    Violated,
    Welcome,
)
from allstop.vm.wire.security import KnownSenders, key_of

# A wait and the time between two rounds of chores add up to the longest silence of the heartbeat: 250 ms at most.
WAIT_MS = 100
CHORES_S = 0.1
# The launcher waits half a second for us after Shutdown.
CONSOLE_DEADLINE_S = 0.3
LINGER_MS = 100
_NOT_AT_HOME = "a Hello of a process of another host"
_NOT_ITS_NAME = "a message of another host than its name's"
MAX_NOTES = 32  # in the verdict; all of them are in the log


class DeviceServer:
    """Serves one machine's devices. Construct, `serve()`, `close()`.

    The constructor builds the board and raises BusError or PluginError where that cannot be done; it binds
    the socket last, and raises ChannelError where it cannot. `refused` counts messages that were dropped, by reason.
    """

    def __init__(self, config: MachineConfig, page: Page, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        self._config = config
        self._page = page
        self._token = bytes.fromhex(config.token)
        self._console = Console(config.fds.console)
        self._records = Records(config.run_dir)
        self._journal = open_journal(config, "devicesrv", ROLE_DEVICES)
        self._peers: dict[bytes, Peer] = {}
        self._notes_left = MAX_NOTES
        self._written_while_out = 0
        self._untold: list[bytes] = []  # for the coordinator, until it says Hello
        self._stop = False
        self.refused: Counter[str] = Counter()
        self._time = GuestTime(config.time_dilation)
        self._board = Board(
            config,
            Wiring(
                console=self._print,
                record=self._records.write,
                finish=self._finish,
                note=self._note,
                clock_s=self._time.seconds,
            ),
            InputLine(lambda count: self._send(LAUNCHER, ConsoleInputTaken(count)), self._input_failed),
        )
        self._input = self._board.input
        self._board.bus.witness = page.perform_access
        self._exit_line = ExitLine() if config.exit_status_line else None
        self._host = (
            None
            if config.semihosting is None
            else Semihosting(config.semihosting, self._print, self._finish, guest_time=self._time)
        )
        context.setsockopt(zmq.SNDHWM, 0)  # at a limit a ROUTER drops, and a dropped reply hangs a guest
        scenario = Scenario.from_json(config.scenario)
        self._reply_events = ReplyEvents(scenario, config.seed, config.vcpus, self._board.gic, self._happened)
        self._disturbed = any(event.step == DEVICE_STEP for event in scenario.events)
        self._wait_ms = WAIT_MS
        self._socket = listen(context, config.devices_endpoint)
        self._guard = admit_hosts(self._socket, context, config.hosts, 2)
        self._senders = KnownSenders(self._guard)
        self._socket.setsockopt(zmq.RCVTIMEO, WAIT_MS)

    def serve(self) -> None:
        """Answer until Shutdown."""
        self._page.set_activity(self._page.DEVICES, self._page.ACTIVITY_IDLE)
        receive, more, clock = self._socket.recv, zmq.RCVMORE, time.monotonic
        option, handle, sure = self._socket.getsockopt, self._handle, self._senders.are_sure
        reply_events, rtc = self._reply_events, self._board.clock
        chores_at = 0.0
        while not self._stop:
            now = clock()
            if now >= chores_at:
                self._do_chores()
                chores_at = now + CHORES_S
            if reply_events.next_due_s is not None or rtc.due_s is not None or self._wait_ms != WAIT_MS:
                self._do_what_is_due(now)
            try:
                identity = receive()
            except zmq.Again:
                continue
            frame = None if sure(identity) else receive(copy=False)
            payload = receive() if frame is None else frame.bytes
            if option(more):
                self._skip_rest()
                continue
            handle(identity, payload, frame)

    def close(self) -> None:
        """Flush what is on its way, and release everything but the context."""
        self._look_at_swapped_pages()
        try:
            self._record_summary()
            self._records.flush()
        except OSError as error:
            print(f"devicesrv: the last records cannot be written: {error}", file=sys.stderr)
        self._records.abandon()
        if self._host is not None:
            self._host.close()
        unread = self._console.close(CONSOLE_DEADLINE_S)
        if unread or self._console.lost_bytes:
            print(
                f"devicesrv: {unread + self._console.lost_bytes} bytes of the console's output were not read",
                file=sys.stderr,
            )
        self._socket.close(LINGER_MS)
        if self._guard is not None:
            self._guard.close()
            report_refusals(
                self._config,
                "devicesrv",
                Counter(
                    {
                        "a connection without a key of this run": self._guard.refused,
                        _NOT_AT_HOME: self.refused[_NOT_AT_HOME],
                        _NOT_ITS_NAME: self.refused[_NOT_ITS_NAME],
                    }
                ),
            )
        if self._journal is not None:
            self._journal.close()

    def _handle(self, identity: bytes, payload: bytes, frame: zmq.Frame | None = None) -> None:
        """`frame` is that of the payload, where a stranger may have sent it: it knows under which key."""
        key = "" if frame is None else key_of(frame)
        if frame is not None and not self._senders.fit(identity, key):
            self.refused[_NOT_ITS_NAME] += 1
            return
        try:
            message = decode(payload)
        except MalformedError:
            self.refused["malformed"] += 1
            return
        peer = self._peers.get(identity)
        if message.__class__ is MmioRequest and peer is not None and peer.role == ROLE_WORKER:
            if message.seq == peer.awaited:
                peer.awaited += 1
            elif message.seq > peer.awaited:
                self._skipped(peer, message)
            reply = peer.memory.recall(message.seq)
            if reply is None:
                reply = self._perform(peer.vcpu, message)
                peer.memory.remember(message.seq, reply)
            elif self._journal is not None:
                self._journal.event(self._journal.REPEATED, peer.vcpu, message.seq)
            if reply and self._disturbed:
                if peer.vcpu in self._reply_events.held:
                    return
                times = self._reply_events.replies(Reply(identity, peer.vcpu, reply), message.ipa, time.monotonic())
                self._set_lines()
                for _ in range(times):
                    self._socket.send_multipart((identity, reply))
            elif reply:
                self._socket.send(identity, zmq.SNDMORE)
                self._socket.send(reply)
        elif isinstance(message, Hello):
            if frame is not None and not is_at_home(self._config.hosts, key, message):
                self.refused[_NOT_AT_HOME] += 1
            else:
                self._welcome(identity, message)
                if frame is not None and identity in self._peers:
                    self._senders.know(identity, key)
        elif peer is None:
            self.refused["stranger"] += 1
        else:
            self._control(identity, peer, message)

    def _perform(self, vcpu: int, request: MmioRequest) -> bytes:
        """Do the access; the reply to it. Other vCPUs' changed lines are set when this returns."""
        seq, ipa, size, is_write, value = request
        gic = self._board.gic
        if size not in WIDTHS:
            return encode(MmioReply(seq, MMIO_MALFORMED, 0, gic.lines[vcpu]))
        page = self._page
        page.set_activity(page.DEVICES, page.ACTIVITY_DEVICE, ipa)
        began_ns = 0 if self._journal is None else time.perf_counter_ns()
        try:
            answer = self._board.bus.access(ipa, size, is_write, value, vcpu)
            status = MMIO_OK
            if answer is None:
                answer, status = 0, MMIO_UNASSIGNED
        except BaseException as error:  # also a KeyboardInterrupt: Ctrl-C is the launcher's, so it is the device's own
            self._device_failed(vcpu, request, error)
            answer, status = 0, MMIO_FAILED
        if self._input.waiting:
            self._input.pump()  # the access may have made room
        page.set_activity(page.DEVICES, page.ACTIVITY_IDLE)
        if (journal := self._journal) is not None:
            journal.span(journal.ACCESS, vcpu, began_ns, ipa, size, is_write, value if is_write else answer, status)
        if gic.changed:
            gic.changed.discard(vcpu)
            self._set_lines()
        return encode(MmioReply(seq, status, answer, gic.lines[vcpu]))

    def _skipped(self, peer: Peer, request: MmioRequest) -> None:
        """The MMIO oracle's other half. A vCPU numbers its accesses 1, 2, 3 and has one under way at a time: a number
        that is skipped is an access that was lost, or overtaken. One that comes again, however late, is neither."""
        skipped, what = request.seq - peer.awaited, "write to" if request.is_write else "read of"
        sentence = (
            f"vCPU {peer.vcpu}'s access {request.seq}, a {request.size}-byte {what} 0x{request.ipa:08x}, "
            f"reached the device server when its access {peer.awaited} was due: {skipped} "
            f"{'was' if skipped == 1 else 'were'} lost or overtaken"
        )
        peer.awaited = request.seq + 1
        self._page.count(peer.vcpu, self._page.COUNT_MMIO_WRONG)
        if not self._config.keep_going:
            self._tell(Violated(peer.vcpu, sentence))

    def _device_failed(self, vcpu: int, request: MmioRequest, error: BaseException) -> None:
        region = self._board.bus.find(request.ipa)
        name = region.name if region else "no device"
        access = (
            f"{request.size}-byte write of 0x{request.value:x} to"
            if request.is_write
            else (f"{request.size}-byte read of")
        )
        traceback.print_exception(error, file=sys.stderr)
        sentence = (
            f"device {name} raised {type(error).__name__} at vCPU {vcpu}'s {access} 0x{request.ipa:08x}: "
            f"{text_of(error)}"
        )[:1000]
        if (journal := self._journal) is not None:
            journal.event(journal.DEVICE_FAILED, vcpu, request.ipa, request.size, request.is_write, request.value)
            journal.text(sentence)
        self._tell(ComponentFailed(ROLE_DEVICES, vcpu, sentence))

    def _welcome(self, identity: bytes, hello: Hello) -> None:
        if (
            hello.version != PROTOCOL_VERSION
            or not hmac.compare_digest(hello.token, self._token)
            or hello.role == ROLE_DEVICES
            or not identity_fits(identity, hello)
            or hello.role == ROLE_WORKER
            and hello.vcpu >= self._config.vcpus
        ):
            self.refused["hello"] += 1
            return
        known = self._peers.get(identity)
        if known is None or known.pid != hello.pid:  # a process that says Hello again keeps its memory of replies
            self._peers[identity] = Peer(hello)
        self._send(identity, Welcome(PROTOCOL_VERSION, os.getpid()))
        if hello.role == ROLE_COORDINATOR:
            untold, self._untold = self._untold, []
            for data in untold:
                self._socket.send_multipart((COORDINATOR, data))

    def _control(self, identity: bytes, peer: Peer, message: Message) -> None:
        if isinstance(message, Ping):
            self._send(identity, Pong(message.nonce))
        elif isinstance(message, PpiLevel) and peer.role == ROLE_WORKER and 16 <= message.intid < 32:
            gic = self._board.gic
            gic.set_level(message.intid, message.level, peer.vcpu)
            if message.seq:
                gic.changed.discard(peer.vcpu)
                self._send(identity, PpiReply(message.seq, gic.lines[peer.vcpu]))
            self._set_lines()
        elif isinstance(message, ConsoleInput) and peer.role == ROLE_LAUNCHER:
            if not self._input.feed(message.data):
                self.refused["input"] += 1
            self._set_lines()
        elif isinstance(message, PerformEvent) and peer.role == ROLE_COORDINATOR:
            wanted = event(json.loads(message.event), immediate=True)
            sentence = self._reply_events.perform(message.number, wanted, message.vcpu, time.monotonic())
            self._set_lines()
            self._send(identity, EventPerformed(message.nonce, sentence))
        elif isinstance(message, HostCall) and peer.role == ROLE_WORKER and self._host is not None:
            self._call_host(identity, peer, message, self._host)
        elif isinstance(message, Shutdown) and peer.role in (ROLE_COORDINATOR, ROLE_LAUNCHER):
            self._stop = True
        else:
            self.refused["unexpected"] += 1

    def _input_failed(self, error: BaseException) -> None:
        traceback.print_exception(error, file=sys.stderr)
        self._tell(
            ComponentFailed(
                ROLE_DEVICES, 0, f"the console's device raised {type(error).__name__} at input: {text_of(error)}"[:1000]
            )
        )

    def _call_host(self, identity: bytes, peer: Peer, call: HostCall, host: Semihosting) -> None:
        """Once: a worker that is in doubt asks again, with the same number, and has one call under way at a time."""
        if call.seq > peer.called[0]:
            peer.called = call.seq, encode(host.perform(peer.vcpu, call))
        if call.seq == peer.called[0]:
            self._socket.send_multipart((identity, peer.called[1]))

    def _print(self, data: bytes) -> None:
        self._console.write(data)
        if self._exit_line is not None and (code := self._exit_line.feed(data)) is not None:
            self._finish(code & 0xFFFF_FFFF, f"the guest printed EXIT: STATUS={code << 1 | 1}, which is code {code}")

    def _skip_rest(self) -> None:
        """Drop the frames of a message that has too many: left there, the next would pass for an identity."""
        while self._socket.getsockopt(zmq.RCVMORE):
            self._socket.recv()
        self.refused["frames"] += 1

    def _do_chores(self) -> None:
        self._page.beat(self._page.DEVICES)
        self._console.drain()
        self._flush_records()
        self._look_at_swapped_pages()
        self._board.clock.tick()
        self._set_lines()

    def _do_what_is_due(self, now_s: float) -> None:
        wait_ms = WAIT_MS
        if self._reply_events.next_due_s is not None:
            for reply in self._reply_events.due(now_s):
                self._socket.send_multipart((reply.identity, reply.data))
            self._set_lines()
            if (next_s := self._reply_events.next_due_s) is not None:
                wait_ms = min(WAIT_MS, max(1, int((next_s - now_s) * 1000)))
        if (alarm_s := self._board.clock.due_s) is not None:
            left_ms = math.ceil(self._time.host_seconds_until(alarm_s) * 1000)
            if left_ms <= 0:
                self._board.clock.tick()
                self._set_lines()
            else:
                wait_ms = min(wait_ms, left_ms)
        if wait_ms != self._wait_ms:
            self._socket.setsockopt(zmq.RCVTIMEO, wait_ms)
            self._wait_ms = wait_ms

    def _happened(self, index: int, vcpu: int, sentence: str) -> None:
        self._page.count_event(index, not sentence)
        if (journal := self._journal) is not None:
            journal.event(journal.EVENT_REFUSED if sentence else journal.EVENT_DONE, vcpu, index)
            journal.text(sentence)

    def _note(self, sentence: str) -> None:
        """One line of the log, and one for the launcher, which reads the file when the run is over."""
        print(f"devicesrv: {sentence}", file=sys.stderr)
        if self._config.fds.notes >= 0 and self._notes_left:
            self._notes_left -= 1
            os.write(self._config.fds.notes, " ".join(sentence.split()).encode(errors="replace") + b"\n")

    def _look_at_swapped_pages(self) -> None:
        """A device has brought in a page whose frame was written to while it was out: what a worker counts, for it."""
        memory = self._board.memory
        if memory is not None and memory.written_while_out != self._written_while_out:
            self._written_while_out = memory.written_while_out
            sentence = (
                "the frame of a page that was swapped out was written to, through a translation that had been "
                "invalidated; a device has found it so"
            )
            if self._config.keep_going:
                self._note(sentence)
            else:
                self._tell(Violated(0, sentence))

    def _flush_records(self) -> None:
        try:
            self._records.flush()
        except OSError as error:
            self._records.abandon()
            self._tell(
                ComponentFailed(
                    ROLE_DEVICES,
                    0,
                    f"the devices' records cannot be written to {self._config.run_dir}: {error.strerror}",
                )
            )

    def _set_lines(self) -> None:
        gic = self._board.gic
        for vcpu in sorted(gic.changed):
            news = self._page.set_line(vcpu, gic.lines[vcpu])
            if (journal := self._journal) is not None:
                journal.event(journal.LINE_SET, vcpu, gic.lines[vcpu], news)
        gic.changed.clear()

    def _finish(self, status: int, detail: str) -> None:
        message = GuestFinished(status, detail[:MAX_TEXT])
        decode(encode(message))  # a device may have said anything: the coordinator would drop it in silence
        if (journal := self._journal) is not None:
            journal.event(journal.FINISHED, -1, status)
            journal.text(detail)
        self._tell(message)

    def _tell(self, message: Message) -> None:
        """To the coordinator, now or when it has said Hello."""
        data = encode(message)
        if COORDINATOR in self._peers:
            self._socket.send_multipart((COORDINATOR, data))
        else:
            self._untold.append(data)

    def _send(self, identity: bytes, message: Message) -> None:
        self._socket.send_multipart((identity, encode(message)))

    def _record_summary(self) -> None:
        """One line in devices.jsonl: what was refused, and what each device answered that a guest should not
        ask."""
        workers = [peer.memory for peer in self._peers.values() if peer.role == ROLE_WORKER]
        self._records.write(
            "devices",
            {
                "refused": dict(self.refused),
                "repeats": sum(memory.repeats for memory in workers),
                "stale": sum(memory.stale for memory in workers),
                "unassigned": self._board.bus.unassigned,
                "guest_mistakes": {region.name: region.device.guest_mistakes for region in self._board.bus},
            },
        )
