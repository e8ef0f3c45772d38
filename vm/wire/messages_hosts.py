# SPDX-License-Identifier: GPL-2.0-or-later
"""The messages of a machine on several hosts: between nodes, and between the launcher and the hosts' agents.

Pages are numbered by IPA / 4096. A Blob of a page is its 4096 bytes, or empty for a page of zeros. The protocol of the
pages is in `coordinator/node/page_directory.py`.
"""

from __future__ import annotations

from allstop.vm.wire.fields import U8, U16, U32, U64, Blob, Flag, Text
from allstop.vm.wire.message import Message, message
from allstop.vm.wire.routes import AGENT, COORDINATOR, LAUNCHER, NODE, OPERATOR


@message(192, NODE >> NODE)
class NodeHello(Message):
    """The first message on a connection between nodes. Nodes of another version or another machine are refused."""

    version: U16
    token: Blob
    host: U16


@message(193, NODE >> NODE)
class NodePing(Message):
    """Answer with NodePong: to know that the other host lives, and what its clock shows."""

    nonce: U32


@message(194, NODE >> NODE)
class NodePong(Message):
    """`now_ns` is the answering host's CLOCK_MONOTONIC, `base_ns` when the guest's counters were 0 by that."""

    nonce: U32
    now_ns: U64
    base_ns: U64


@message(195, NODE >> NODE)
class PageAsked(Message):
    """To the page's home: this host needs the page, to read or to write, for an access at `offset` in it."""

    page: U32
    write: Flag
    offset: U16 = 0


@message(196, NODE >> NODE)
class PageRecalled(Message):
    """From the home: give the page back, or with `share` stop writing to it. `after` is the transaction by which this
    host got it: if that has not arrived yet, this has overtaken it. `data`: send what is in it."""

    page: U32
    transaction: U32
    after: U32
    share: Flag
    data: Flag


@message(197, NODE >> NODE)
class PageYielded(Message):
    """To the home: done. `data` as it was asked for."""

    page: U32
    transaction: U32
    data: Blob


@message(198, NODE >> NODE)
class PageGranted(Message):
    """From the home: the page is yours, to write or to read. Without `fresh` you have what is in it."""

    page: U32
    transaction: U32
    write: Flag
    fresh: Flag
    data: Blob


@message(199, NODE >> NODE)
class Posted(Message):
    """Requests to vCPUs of that host, all that came together. `posts`: for each 14 bytes, little-endian: vCPU (u16),
    request bits (u32; STOP is not told so, see StopHost), line word (u64). Answered by PostsDone when each of them has
    left the guest, or was outside."""

    number: U32
    posts: Blob


@message(200, NODE >> NODE)
class PostsDone(Message):
    """See Posted."""

    number: U32


@message(203, COORDINATOR >> NODE)
class StopHost(Message):
    """From the coordinator: keep the vCPUs of this host outside the guest, but for `exempt` (u16 each,
    little-endian)."""

    hold: U32
    exempt: Blob


@message(204, NODE >> COORDINATOR)
class HostStopped(Message):
    """They are outside, and cannot enter before ResumeHost. `hold` is that of the StopHost."""

    hold: U32


@message(205, COORDINATOR >> NODE)
class ResumeHost(Message):
    """The world goes on."""


@message(201, NODE >> NODE)
class PowerChanged(Message):
    """A vCPU of this host was switched on or off. To the first host, whose coordinator knows best, only ON is
    news."""

    vcpu: U16
    power: U8


@message(202, NODE >> NODE | AGENT >> LAUNCHER)
class VcpuTold(Message):
    """What a vCPU's process tells of itself: a part of its slot in the control page, as it is there."""

    vcpu: U16
    told: Blob


@message(224, AGENT >> LAUNCHER)
class HostReady(Message):
    """An agent is there: it listens for other nodes at `endpoint`. `engine` and `package` are the versions that it
    would run; `fence` is the lease under which it was started: another one is an agent of the past."""

    host: U16
    fence: U64
    version: U16
    package: Text
    engine: Text
    endpoint: Text
    pid: U32


@message(225, LAUNCHER >> AGENT)
class HostPlan(Message):
    """All hosts are there: this is what this one is to do, its MachineConfig as JSON."""

    config: Blob


@message(227, AGENT >> LAUNCHER | LAUNCHER >> AGENT)
class HostBeat(Message):
    """I am here. A side that hears none for the agreed time takes the other for cut off, and ends its part."""

    nonce: U32


@message(228, AGENT >> LAUNCHER)
class HostStatus(Message):
    """A process of this host is lost, or cannot be started: the run is over, for this reason."""

    role: U8
    vcpu: U16
    sentence: Text


@message(234, OPERATOR >> COORDINATOR | COORDINATOR >> LAUNCHER | LAUNCHER >> AGENT)
class KillVcpu(Message):
    """Kill the process of this vCPU, which is not on the first host: an operator's wish, which the coordinator passes
    to the launcher, and that to the agent of the vCPU's host. Answered by VcpuKilled."""

    vcpu: U16


@message(235, AGENT >> LAUNCHER | LAUNCHER >> COORDINATOR | COORDINATOR >> OPERATOR)
class VcpuKilled(Message):
    """Answer to KillVcpu, the same way back: process `pid` has been killed, or `sentence` says why not. An operator
    gets Refused for the latter."""

    vcpu: U16
    pid: U32
    sentence: Text


@message(229, LAUNCHER >> AGENT)
class HostStop(Message):
    """The run is over: end your processes, and say HostEnded."""


@message(231, AGENT >> LAUNCHER)
class JournalsBegun(Message):
    """The journals of this host's vCPUs follow, piece by piece. `base_ns` is when the guest's counters were 0 by this
    host's CLOCK_MONOTONIC, which has the journals' times, off by `error_ns` at most (0: it was not measured)."""

    base_ns: U64
    error_ns: U64


@message(232, AGENT >> LAUNCHER)
class JournalPiece(Message):
    """A part of the journal of a vCPU of this host, which is `size` bytes long, from `offset` on: 262144 bytes, or what
    is left. Each begins where the one before has ended. No more than four are sent before JournalTaken."""

    vcpu: U16
    size: U64
    offset: U64
    data: Blob


@message(233, LAUNCHER >> AGENT)
class JournalTaken(Message):
    """To the agent: another piece may come, in the place of one that was kept or refused."""


@message(230, AGENT >> LAUNCHER)
class HostEnded(Message):
    """Nothing of the run is left on this host. `report` is JSON: the host's notes, logs and counts."""

    report: Blob
