# SPDX-License-Identifier: GPL-2.0-or-later
"""The vCPUs' accesses to devices: each performed once, whatever becomes of its request and its reply on the way.

The order of effects. An access may change the interrupt lines of several vCPUs. The requester's own line is in its
reply; those of others are set in the control page, and their vCPUs asked to look, before the reply leaves: a vCPU that
knows its access to be done (an SGI sent, say) knows the others to be interrupted.

Nothing that a device raises may raise out of here: the vCPU is told MMIO_FAILED, and the coordinator gets one sentence.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable

from allstop.devicesrv.board import Board
from allstop.devicesrv.bus import WIDTHS
from allstop.devicesrv.server.lines import InterruptLines
from allstop.devicesrv.server.peer import Peer
from allstop.vm.control.control import ACTIVITY_DEVICE, ACTIVITY_IDLE, COUNT_MMIO_WRONG, ControlPage
from allstop.vm.journal.recorder import Recorder
from allstop.vm.process.user_code import text_of
from allstop.vm.telemetry.step import Telemetry
from allstop.vm.wire.codec import encode
from allstop.vm.wire.messages import (
    MMIO_FAILED,
    MMIO_MALFORMED,
    MMIO_OK,
    MMIO_UNASSIGNED,
    ROLE_DEVICES,
    ComponentFailed,
    Message,
    MmioReply,
    MmioRequest,
    Violated,
)


class Accesses:
    """Those to one board. `tell(message)` tells the coordinator. With `keep_going` an access that was lost is counted,
    and the run goes on."""

    def __init__(
        self,
        board: Board,
        control_page: ControlPage,
        telemetry: Telemetry,
        lines: InterruptLines,
        tell: Callable[[Message], None],
        keep_going: bool,
    ) -> None:
        self._bus = board.bus
        self._input = board.input
        self._control_page = control_page
        self._telemetry = telemetry
        self._access = telemetry.step(activity=ACTIVITY_DEVICE, record=Recorder.ACCESS)
        self._lines = lines
        self._tell = tell
        self._keep_going = keep_going

    def answer(self, peer: Peer, request: MmioRequest) -> bytes:
        """The encoded reply to a worker's request, which is performed unless it was before; empty where there is none.
        Other vCPUs' changed lines are set when this returns."""
        if request.seq == peer.awaited:
            peer.awaited += 1
        elif request.seq > peer.awaited:
            self._skipped(peer, request)
        reply = peer.replies.recall(request.seq)
        if reply is None:
            reply = self._perform(peer.vcpu, request)
            peer.replies.remember(request.seq, reply)
        else:
            self._telemetry.note(Recorder.REPEATED, peer.vcpu, request.seq)
        return reply

    def _perform(self, vcpu: int, request: MmioRequest) -> bytes:
        seq, ipa, size, is_write, value = request
        if size not in WIDTHS:
            return encode(MmioReply(seq, MMIO_MALFORMED, 0, self._lines.of_reply(vcpu)))
        began_ns = self._access.begin(ipa)
        try:
            answer = self._bus.access(ipa, size, is_write, value, vcpu)
            status = MMIO_OK
            if answer is None:
                answer, status = 0, MMIO_UNASSIGNED
        except BaseException as error:  # also a KeyboardInterrupt: Ctrl-C is the launcher's, so it is the device's own
            self._device_failed(vcpu, request, error)
            answer, status = 0, MMIO_FAILED
        if self._input.waiting:
            self._input.pump()  # the access may have made room
        self._telemetry.activity(ACTIVITY_IDLE)
        self._access.end(began_ns, vcpu, ipa, size, is_write, value if is_write else answer, status)
        return encode(MmioReply(seq, status, answer, self._lines.of_reply(vcpu)))

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
        self._control_page.count(peer.vcpu, COUNT_MMIO_WRONG)
        if not self._keep_going:
            self._tell(Violated(peer.vcpu, sentence))

    def _device_failed(self, vcpu: int, request: MmioRequest, error: BaseException) -> None:
        region = self._bus.find(request.ipa)
        name = region.name if region else "no device"
        access = (
            f"{request.size}-byte write of 0x{request.value:x} to"
            if request.is_write
            else f"{request.size}-byte read of"
        )
        traceback.print_exception(error, file=sys.stderr)
        sentence = (
            f"device {name} raised {type(error).__name__} at vCPU {vcpu}'s {access} 0x{request.ipa:08x}: "
            f"{text_of(error)}"
        )[:1000]
        operands = (request.ipa, request.size, request.is_write, request.value)
        self._telemetry.note(Recorder.DEVICE_FAILED, vcpu, *operands, text=sentence)
        self._tell(ComponentFailed(ROLE_DEVICES, vcpu, sentence))
