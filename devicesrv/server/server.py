# SPDX-License-Identifier: GPL-2.0-or-later
"""The device server: one socket, one thread, one message after the other.

Accesses to devices are in `accesses`; here are the loop, what else peers say, and the server's chores. A device may
raise anything: the loop serves on until Shutdown.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
import traceback

import zmq

from allstop.devicesrv.board import Board
from allstop.devicesrv.console.console import Console
from allstop.devicesrv.console.exit_line import ExitLine
from allstop.devicesrv.console.input_line import InputLine
from allstop.devicesrv.device import Wiring
from allstop.devicesrv.guest_time import GuestTime
from allstop.devicesrv.semihosting.semihosting import Semihosting
from allstop.devicesrv.server.accesses import Accesses
from allstop.devicesrv.server.lines import InterruptLines
from allstop.devicesrv.server.peer import Peer
from allstop.devicesrv.server.records import Records
from allstop.devicesrv.server.reply_events import Reply, ReplyEvents
from allstop.vm.config.machine import MachineConfig
from allstop.vm.control.control import ACTIVITY_IDLE, DEVICES, ControlPage
from allstop.vm.events.scenario import Scenario
from allstop.vm.events.vocabulary import DEVICE_STEP, event
from allstop.vm.journal.open import open_journal
from allstop.vm.journal.recorder import Recorder
from allstop.vm.process.user_code import text_of
from allstop.vm.telemetry.step import NO_VCPU, Telemetry
from allstop.vm.wire.admission import Admission, HelloGate, RefusedError, not_its_to_send
from allstop.vm.wire.channel import COORDINATOR, LAUNCHER
from allstop.vm.wire.codec import decode, encode
from allstop.vm.wire.messages import (
    MAX_TEXT,
    ROLE_COORDINATOR,
    ROLE_DEVICES,
    ROLE_LAUNCHER,
    ROLE_OPERATOR,
    ROLE_WORKER,
    ComponentFailed,
    ConsoleInput,
    ConsoleInputTaken,
    EventPerformed,
    GuestFinished,
    Hello,
    HostCall,
    Message,
    MmioRequest,
    PerformEvent,
    Ping,
    PpiLevel,
    PpiReply,
    Shutdown,
    Violated,
)
from allstop.vm.wire.server import HostsListener, Server

# A wait and the time between two rounds of chores add up to the longest silence of the heartbeat: 250 ms at most.
WAIT_MS = 100
CHORES_S = 0.1
# The launcher waits half a second for us after Shutdown.
CONSOLE_DEADLINE_S = 0.3
LINGER_MS = 100
MAX_NOTES = 32  # in the verdict; all of them are in the log
_PRIVATE_INTERRUPTS = range(16, 32)


class DeviceServer:
    """Serves one machine's devices. Construct, `serve()`, `close()`.

    The constructor builds the board and raises BusError or PluginError where that cannot be done; it binds the socket
    last, and raises ChannelError where it cannot.
    """

    def __init__(
        self, config: MachineConfig, control_page: ControlPage, context: zmq.Context[zmq.Socket[bytes]]
    ) -> None:
        self._config = config
        self._control_page = control_page
        also: dict[int, frozenset[type[Message]]] = {ROLE_OPERATOR: frozenset(), ROLE_LAUNCHER: frozenset({Shutdown})}
        gate = HelloGate(ROLE_DEVICES, bytes.fromhex(config.token), config.vcpus, Peer, config.hosts, also)
        self._admission = Admission(gate)
        self._console = Console(config.fds.console)
        self._records = Records(config.run_dir)
        self._telemetry = Telemetry(control_page, DEVICES, open_journal(config, "devicesrv", ROLE_DEVICES))
        self._notes_left = MAX_NOTES
        self._written_while_out = 0
        self._untold: list[bytes] = []  # for the coordinator, until it says Hello
        self._stop = False
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
        self._board.bus.witness = control_page.perform_access
        self._lines = InterruptLines(control_page, self._telemetry, self._board.gic)
        self._accesses = Accesses(
            self._board, control_page, self._telemetry, self._lines, self._tell, config.keep_going
        )
        self._exit_line = ExitLine() if config.exit_status_line else None
        self._host = (
            None
            if config.semihosting is None
            else Semihosting(config.semihosting, self._print, self._finish, guest_time=self._time)
        )
        scenario = Scenario.from_json(config.scenario)
        self._reply_events = ReplyEvents(scenario, config.seed, config.vcpus, self._board.gic, self._happened)
        self._disturbed = any(event.step == DEVICE_STEP for event in scenario.events)
        self._server = Server(
            context,
            self._admission,
            self._obey,
            config.devices_endpoint,
            HostsListener.of(config.hosts, 2),
            send_limit=0,  # at a limit a ROUTER drops, and a dropped reply hangs a guest
        )
        self._send = self._server.send

    def serve(self) -> None:
        """Answer until Shutdown."""
        self._telemetry.activity(ACTIVITY_IDLE)
        self._server.wait_at_most(WAIT_MS)
        take, clock = self._server.take, time.monotonic
        reply_events, rtc = self._reply_events, self._board.clock
        chores_at = 0.0
        is_due = False
        while not self._stop:
            now = clock()
            if now >= chores_at:
                self._do_chores()
                chores_at = now + CHORES_S
            if is_due or reply_events.next_due_s is not None or rtc.due_s is not None:
                is_due = self._do_what_is_due(now)
            take()

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
        self._server.close(LINGER_MS)
        self._server.report_refusals(self._config, "devicesrv")
        self._telemetry.close()

    def _obey(self, identity: bytes, peer: Peer, message: Message) -> None:
        """Do what an admitted peer says. Raises RefusedError."""
        if message.__class__ is MmioRequest:
            reply = self._accesses.answer(peer, message)
            if reply and self._disturbed:
                self._disturb(Reply(identity, peer.vcpu, reply), message.ipa)
            elif reply:
                self._server.send_encoded(identity, reply)
            return
        match message:
            case PpiLevel(intid, level, seq):
                self._set_private_interrupt(identity, peer.vcpu, intid, level, seq)
            case ConsoleInput(data):
                fits = self._input.feed(data)
                self._lines.set()
                if not fits:
                    raise RefusedError("console input beyond what may be under way")
            case PerformEvent(nonce, number, vcpu, text):
                wanted = event(json.loads(text), immediate=True)
                sentence = self._reply_events.perform(number, wanted, vcpu, time.monotonic())
                self._lines.set()
                self._send(identity, EventPerformed(nonce, sentence))
            case HostCall():
                self._call_host(identity, peer, message)
            case Hello() if peer.role == ROLE_COORDINATOR:
                untold, self._untold = self._untold, []
                for data in untold:
                    self._server.send_encoded(COORDINATOR, data)
            case Hello() | Ping():
                pass  # the server has answered
            case Shutdown():
                self._stop = True
            case _:
                raise not_its_to_send(message)

    def _disturb(self, reply: Reply, ipa: int) -> None:
        """Send a reply as the scenario's events have it: late, never or twice."""
        if reply.vcpu in self._reply_events.held:
            return
        times = self._reply_events.replies(reply, ipa, time.monotonic())
        self._lines.set()
        for _ in range(times):
            self._server.send_encoded(reply.identity, reply.data)

    def _set_private_interrupt(self, identity: bytes, vcpu: int, intid: int, level: bool, seq: int) -> None:
        if intid not in _PRIVATE_INTERRUPTS:
            raise RefusedError("a level of an interrupt that is not private")
        self._board.gic.set_level(intid, level, vcpu)
        if seq:
            self._send(identity, PpiReply(seq, self._lines.of_reply(vcpu)))
        else:
            self._lines.set()

    def _input_failed(self, error: BaseException) -> None:
        traceback.print_exception(error, file=sys.stderr)
        self._tell(
            ComponentFailed(
                ROLE_DEVICES, 0, f"the console's device raised {type(error).__name__} at input: {text_of(error)}"[:1000]
            )
        )

    def _call_host(self, identity: bytes, peer: Peer, call: HostCall) -> None:
        """Once: a worker that is in doubt asks again, with the same number, and has one call under way at a time."""
        if self._host is None:
            raise RefusedError("a semihosting call in a machine without semihosting")
        if call.seq > peer.called[0]:
            peer.called = call.seq, encode(self._host.perform(peer.vcpu, call))
        if call.seq == peer.called[0]:
            self._server.send_encoded(identity, peer.called[1])

    def _print(self, data: bytes) -> None:
        self._console.write(data)
        if self._exit_line is not None and (code := self._exit_line.feed(data)) is not None:
            self._finish(code & 0xFFFF_FFFF, f"the guest printed EXIT: STATUS={code << 1 | 1}, which is code {code}")

    def _do_chores(self) -> None:
        self._control_page.beat(DEVICES)
        self._console.drain()
        self._flush_records()
        self._look_at_swapped_pages()
        self._board.clock.tick()
        self._lines.set()

    def _do_what_is_due(self, now_s: float) -> bool:
        """Send what was held back until now, have the clock tick. True while the wait is shorter than usual."""
        wait_ms = WAIT_MS
        if self._reply_events.next_due_s is not None:
            for reply in self._reply_events.due(now_s):
                self._server.send_encoded(reply.identity, reply.data)
            self._lines.set()
            if (next_s := self._reply_events.next_due_s) is not None:
                wait_ms = min(WAIT_MS, max(1, int((next_s - now_s) * 1000)))
        if (alarm_s := self._board.clock.due_s) is not None:
            left_ms = math.ceil(self._time.host_seconds_until(alarm_s) * 1000)
            if left_ms <= 0:
                self._board.clock.tick()
                self._lines.set()
            else:
                wait_ms = min(wait_ms, left_ms)
        self._server.wait_at_most(wait_ms)
        return wait_ms != WAIT_MS

    def _happened(self, index: int, vcpu: int, sentence: str) -> None:
        self._control_page.count_event(index, not sentence)
        self._telemetry.note(Recorder.EVENT_REFUSED if sentence else Recorder.EVENT_DONE, vcpu, index, text=sentence)

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

    def _finish(self, status: int, detail: str) -> None:
        message = GuestFinished(status, detail[:MAX_TEXT])
        decode(encode(message))  # a device may have said anything: the coordinator would drop it in silence
        self._telemetry.note(Recorder.FINISHED, NO_VCPU, status, text=detail)
        self._tell(message)

    def _tell(self, message: Message) -> None:
        """To the coordinator, now or when it has said Hello."""
        data = encode(message)
        if COORDINATOR in self._admission.peers:
            self._server.send_encoded(COORDINATOR, data)
        else:
            self._untold.append(data)

    def _record_summary(self) -> None:
        """One line in devices.jsonl: what was refused, and what each device answered that a guest should not
        ask."""
        workers = [peer.replies for peer in self._admission.peers.values() if peer.role == ROLE_WORKER]
        self._records.write(
            "devices",
            {
                "refused": dict(self._server.refused),
                "repeats": sum(replies.repeats for replies in workers),
                "stale": sum(replies.stale for replies in workers),
                "unassigned": self._board.bus.unassigned,
                "guest_mistakes": {region.name: region.device.guest_mistakes for region in self._board.bus},
            },
        )
