# SPDX-License-Identifier: GPL-2.0-or-later
"""A worker's connection to the device server.

The worker asks one question at a time and waits for its answer outside the guest. It repeats a question that is not
answered in time with the same sequence number, and the device server does not perform it twice.
"""

from __future__ import annotations

from typing import TypeVar

import zmq

from allstop.vcpu_worker.devices.oracle import AccessOracle
from allstop.vcpu_worker.liveness import BEAT_S, Liveness
from allstop.vcpu_worker.polling import poll
from allstop.vm import board
from allstop.vm.control.control import (
    ACTIVITY_MMIO,
    ACTIVITY_SEMIHOSTING,
    COUNT_RESENT,
    COUNT_STALE,
    HISTOGRAM_MMIO,
    ControlPage,
)
from allstop.vm.journal.recorder import Recorder
from allstop.vm.telemetry.step import Telemetry
from allstop.vm.wire.channel import Channel
from allstop.vm.wire.codec import MalformedError, decode, encode
from allstop.vm.wire.messages import (
    MMIO_OK,
    MMIO_UNASSIGNED,
    HostCall,
    HostReturn,
    MmioReply,
    MmioRequest,
    PpiLevel,
    PpiReply,
)

RESEND_BEATS = 2
R = TypeVar("R", MmioReply, PpiReply, HostReturn)


class DeviceLink:
    """The device accesses of one vCPU, its private interrupts and its semihosting calls."""

    def __init__(
        self,
        channel: Channel,
        vcpu: int,
        control_page: ControlPage,
        telemetry: Telemetry,
        liveness: Liveness,
        oracle: AccessOracle,
    ) -> None:
        self._vcpu = vcpu
        self._control_page = control_page
        self._telemetry = telemetry
        self._liveness = liveness
        self._oracle = oracle
        channel.socket.rcvtimeo = int(BEAT_S * 1000)
        self._send = channel.socket.send
        self._receive = channel.socket.recv
        self._option = channel.socket.getsockopt
        self._access = telemetry.step(activity=ACTIVITY_MMIO, histogram=HISTOGRAM_MMIO, record=Recorder.MMIO)
        self._accesses = 0
        self._ppis = 0
        self._calls = 0

    def mmio(self, ipa: int, size: int, is_write: bool, value: int) -> MmioReply:
        """One access to a device, performed exactly once. Raises RunIsOver."""
        began_ns = self._access.begin(ipa)
        self._accesses = sequence = self._accesses + 1
        self._control_page.issue_access(self._vcpu)
        reply = self._ask(MmioRequest(sequence, ipa, size, is_write, value), MmioReply, sequence)
        status, moved = reply.status, value if is_write else reply.value
        self._access.end(began_ns, self._vcpu, ipa, size, is_write, moved, status)
        if status in (MMIO_OK, MMIO_UNASSIGNED):  # else the run ends
            self._oracle.complete(ipa, size, is_write, moved, status == MMIO_UNASSIGNED)
        return reply

    def tell_ppi(self, intid: int, level: bool) -> int:
        """Tell the interrupt controller the level of a private interrupt; the vCPU's line, as in MmioReply. Raises
        RunIsOver."""
        self._ppis += 1
        self._telemetry.activity(ACTIVITY_MMIO, board.GICD_BASE)
        return self._ask(PpiLevel(intid, level, self._ppis), PpiReply, self._ppis).line

    def ask_host(self, operation: int, handle: int, number: int, data: bytes, more: bytes) -> HostReturn:
        """Have the device server perform a semihosting call, exactly once. Raises RunIsOver."""
        self._calls += 1
        self._telemetry.activity(ACTIVITY_SEMIHOSTING, operation)
        return self._ask(HostCall(self._calls, operation, handle, number, data, more), HostReturn, self._calls)

    def _ask(self, question: MmioRequest | PpiLevel | HostCall, kind: type[R], sequence: int) -> R:
        """The device server's answer to a question that may be repeated."""
        control_page = self._control_page
        request = encode(question)
        self._send(request)
        if control_page.may_poll(self._vcpu):
            poll(self._option)
        beats = 0
        while True:
            try:
                data = self._receive()
            except zmq.Again:
                self._liveness.beat()
                beats += 1
                if beats % RESEND_BEATS == 0:
                    control_page.count(self._vcpu, COUNT_RESENT)
                    self._send(request)
                continue
            try:
                reply = decode(data)
            except MalformedError:
                reply = None
            if isinstance(reply, kind) and reply.seq == sequence:
                return reply
            control_page.count(self._vcpu, COUNT_STALE)
