# SPDX-License-Identifier: GPL-2.0-or-later
"""The MMIO oracle on whole runs: each way in which a device server can fail to do an access once, in order and as it
was asked for is planted in a real one, which a user's device can do, for it is code that the server executes.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from allstop import Machine, Verdict

pytestmark = pytest.mark.processes

HEAD = """
from allstop.vm.wire.codec import decode, encode
from allstop.vm.wire.messages import MMIO_OK, MmioReply, MmioRequest
from allstop.devicesrv.server import accesses, server
from allstop.devicesrv.device import Device
from allstop.devicesrv.server.reply_cache import ReplyCache

class Planted(Device):
    size_bytes = 4096
    widths = (4,)
    def read(self, offset, size, cpu):
        return 0
    def write(self, offset, size, value, cpu):
        pass

perform = accesses.Accesses._perform
count = 0

def due():
    "Whether it is this access's turn: one in the middle of a run, and some later ones."
    global count
    count += 1
    return count % 100 == 50
"""
TWO_TIMES = """
def due():
    global count
    count += 1
    return count in (9, 21)
"""
TWICE = """
def broken(self, vcpu, request):
    if due():
        perform(self, vcpu, request)
    return perform(self, vcpu, request)
accesses.Accesses._perform = broken
"""
DROPPED = """
def broken(self, vcpu, request):
    if due():
        return encode(MmioReply(request.seq, MMIO_OK, 0, self._lines.of_reply(vcpu)))
    return perform(self, vcpu, request)
accesses.Accesses._perform = broken
"""
POSTED = """
kept = {}
def broken(self, vcpu, request):
    "A write is answered at once, and performed after the vCPU's next access."
    if request.is_write and vcpu not in kept and due():
        kept[vcpu] = request
        return encode(MmioReply(request.seq, MMIO_OK, 0, self._lines.of_reply(vcpu)))
    reply = perform(self, vcpu, request)
    if vcpu in kept:
        perform(self, vcpu, kept.pop(vcpu))
    return reply
accesses.Accesses._perform = broken
"""
READ_OTHERWISE = """
def broken(self, vcpu, request):
    reply = decode(perform(self, vcpu, request))
    if not request.is_write and due():
        reply = reply._replace(value=reply.value ^ 1)
    return encode(reply)
accesses.Accesses._perform = broken
"""
WRITTEN_OTHERWISE = """
def broken(self, vcpu, request):
    return perform(self, vcpu, request._replace(value=request.value ^ 1) if request.is_write and due() else request)
accesses.Accesses._perform = broken
"""
ELSEWHERE = """
def broken(self, vcpu, request):
    return perform(self, vcpu, request._replace(ipa=request.ipa ^ 4) if due() else request)
accesses.Accesses._perform = broken
"""
REPLIES_LOST = """
lost = 0
serve = server.DeviceServer.serve
def serve_badly(self):
    send = self._server.send_encoded
    def lossy(identity, data):
        "Two answers never leave."
        global lost
        if lost < 2 and due():
            lost += 1
            data = b"lost"
        send(identity, data)
    self._server.send_encoded = lossy
    serve(self)
server.DeviceServer.serve = serve_badly
"""
FORGETFUL = (
    REPLIES_LOST
    + """
ReplyCache.recall = lambda self, seq: None
ReplyCache.remember = lambda self, seq, reply: None
"""
)
AT_THE_END = """
def broken(self, vcpu, request):
    self.before = vcpu, request
    return perform(self, vcpu, request)
accesses.Accesses._perform = broken
close = server.DeviceServer.close
def close_badly(self):
    perform(self._accesses, *self._accesses.before)
    close(self)
server.DeviceServer.close = close_badly
"""
BEFORE_THE_VERDICT = """
def broken(self, vcpu, request):
    "What ends the run is performed, and the access before it again."
    if request.is_write and request.ipa == 0x0B000000:
        perform(self, vcpu, self.before)
    self.before = request
    return perform(self, vcpu, request)
accesses.Accesses._perform = broken
"""


def play(
    guests: Path, tmp_path: Path, fault: str, vcpus: int = 2, keep_going: bool = False, image: str = "smp-counter.elf"
) -> Verdict:
    """A run with this fault in its device server."""
    file = tmp_path / "planted.py"
    file.write_text(HEAD + fault)
    with Machine(
        guests / image,
        vcpus=vcpus,
        timeout=60,
        keep_going=keep_going,
        devices=[f"{file}:Planted@0x0c000000"],
        parameter=200 if image == "smp-counter.elf" else 0,
    ) as machine:
        return machine.wait()


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (TWICE, "was performed twice"),
        (DROPPED, "was answered and not performed"),
        (POSTED, "was answered and not performed"),
        (READ_OTHERWISE, "is not what was performed"),
        (WRITTEN_OTHERWISE, "is not what was performed"),
        (ELSEWHERE, "is not what was performed"),
        (FORGETFUL, "was performed twice"),
    ],
    ids=[
        "twice",
        "dropped",
        "out of order",
        "another value read",
        "another value written",
        "at another address",
        "twice, for it was asked for again",
    ],
)
def test_what_is_not_done_once_in_order_and_as_asked_ends_the_run(
    guests: Path,
    tmp_path: Path,
    fault: str,
    words: str,
) -> None:
    verdict = play(guests, tmp_path, fault)
    assert (verdict.verdict, verdict.exit_code) == ("violation", 3), verdict.sentence
    assert words in verdict.sentence and verdict.sentence.startswith("vCPU ") and "\n" not in verdict.sentence
    assert verdict.counters["mmio_wrong"] > 0


@pytest.mark.parametrize("fault", [TWICE, DROPPED, WRITTEN_OTHERWISE], ids=["twice", "dropped", "another value"])
def test_to_keep_going_it_counts_each(guests: Path, tmp_path: Path, fault: str) -> None:
    verdict = play(guests, tmp_path, fault + TWO_TIMES, keep_going=True)
    assert verdict.verdict in ("pass", "fail"), verdict.sentence
    assert verdict.counters["mmio_wrong"] == 2


@pytest.mark.parametrize("fault", [AT_THE_END, BEFORE_THE_VERDICT])
def test_what_no_worker_could_tell_in_time_is_found_at_the_end(guests: Path, tmp_path: Path, fault: str) -> None:
    """What is done after the last answer, or just before the access that is the guest's verdict."""
    verdict = play(guests, tmp_path, fault, vcpus=1)
    assert (verdict.verdict, verdict.exit_code) == ("violation", 3), verdict.sentence
    assert "for it where" in verdict.sentence and verdict.sentence.endswith("(the guest's own verdict was pass)")
    assert verdict.counters["mmio_wrong"] == 1


def test_a_lost_answer_is_asked_for_again_and_that_is_no_violation(guests: Path, tmp_path: Path) -> None:
    verdict = play(guests, tmp_path, REPLIES_LOST)
    assert verdict.verdict == "pass", verdict.sentence
    assert verdict.counters["mmio_resent"] >= 2 and verdict.counters["mmio_wrong"] == 0


@pytest.mark.parametrize(("image", "vcpus"), [("mmio.elf", 1), ("mmio.elf", 4), ("smp-counter.elf", 4), ("ipi.elf", 2)])
def test_it_is_silent_where_nothing_is_wrong(guests: Path, tmp_path: Path, image: str, vcpus: int) -> None:
    verdict = play(guests, tmp_path, "", vcpus, image=image)
    assert verdict.verdict == "pass", verdict.sentence
    assert verdict.mmio.count > 100 and verdict.counters["mmio_wrong"] == 0
