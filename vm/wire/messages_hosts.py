# SPDX-License-Identifier: GPL-2.0-or-later
"""The messages of a machine on several hosts: between nodes, and between the launcher and the hosts' agents.

Part of `allstop.vm.wire.messages`, which says who may send them. Pages are numbered by IPA / 4096. A Blob of a
page is its 4096 bytes, or empty for a page of zeros. The protocol of the pages is in
`coordinator/node/page_directory.py`.
"""

from __future__ import annotations

from typing import NamedTuple

from allstop.vm.wire.fields import U8, U16, U32, U64, Blob, Flag, Text


class NodeHello(NamedTuple):
    """The first message on a connection between nodes. Nodes of another version or another machine are refused."""

    version: U16
    token: Blob
    host: U16


class NodePing(NamedTuple):
    """Answer with NodePong: to know that the other host lives, and what its clock shows."""

    nonce: U32


class NodePong(NamedTuple):
    """`now_ns` is the answering host's CLOCK_MONOTONIC, `base_ns` when the guest's counters were 0 by that."""

    nonce: U32
    now_ns: U64
    base_ns: U64


class PageAsked(NamedTuple):
    """To the page's home: this host needs the page, to read or to write, for an access at `offset` in it."""

    page: U32
    write: Flag
    offset: U16 = 0


class PageRecalled(NamedTuple):
    """From the home: give the page back, or with `share` stop writing to it. `after` is the transaction by which this
    host got it: if that has not arrived yet, this has overtaken it. `data`: send what is in it."""

    page: U32
    transaction: U32
    after: U32
    share: Flag
    data: Flag


class PageYielded(NamedTuple):
    """To the home: done. `data` as it was asked for."""

    page: U32
    transaction: U32
    data: Blob


class PageGranted(NamedTuple):
    """From the home: the page is yours, to write or to read. Without `fresh` you have what is in it."""

    page: U32
    transaction: U32
    write: Flag
    fresh: Flag
    data: Blob


class Posted(NamedTuple):
    """Requests to vCPUs of that host, all that came together. `posts`: for each 14 bytes, little-endian: vCPU (u16),
    request bits (u32; STOP is not told so, see StopHost), line word (u64). Answered by PostsDone when each of them has
    left the guest, or was outside."""

    number: U32
    posts: Blob


class PostsDone(NamedTuple):
    """See Posted."""

    number: U32


class StopHost(NamedTuple):
    """From the coordinator: keep the vCPUs of this host outside the guest, but for `exempt` (u16 each,
    little-endian)."""

    hold: U32
    exempt: Blob


class HostStopped(NamedTuple):
    """They are outside, and cannot enter before ResumeHost. `hold` is that of the StopHost."""

    hold: U32


class ResumeHost(NamedTuple):
    """The world goes on."""


class PowerChanged(NamedTuple):
    """A vCPU of this host was switched on or off. To the first host, whose coordinator knows best, only ON is
    news."""

    vcpu: U16
    power: U8


class VcpuTold(NamedTuple):
    """What a vCPU's process tells of itself: a part of its slot in the control page, as it is there."""

    vcpu: U16
    told: Blob


class HostReady(NamedTuple):
    """An agent is there: it listens for other nodes at `endpoint`. `engine` and `package` are the versions that it
    would run; `fence` is the lease under which it was started: another one is an agent of the past."""

    host: U16
    fence: U64
    version: U16
    package: Text
    engine: Text
    endpoint: Text
    pid: U32


class HostPlan(NamedTuple):
    """All hosts are there: this is what this one is to do, its MachineConfig as JSON."""

    config: Blob


class HostBeat(NamedTuple):
    """I am here. Whoever hears none for the agreed time takes the other for cut off, and ends its part."""

    nonce: U32


class HostStatus(NamedTuple):
    """A process of this host is lost, or cannot be started: the run is over, for this reason."""

    role: U8
    vcpu: U16
    sentence: Text


class KillVcpu(NamedTuple):
    """Kill the process of this vCPU, which is not on the first host: an operator's wish, which the coordinator passes
    to the launcher, and that to the agent of the vCPU's host. Answered by VcpuKilled."""

    vcpu: U16


class VcpuKilled(NamedTuple):
    """Answer to KillVcpu, the same way back: process `pid` has been killed, or `sentence` says why not. An operator
    gets Refused for the latter."""

    vcpu: U16
    pid: U32
    sentence: Text


class HostStop(NamedTuple):
    """The run is over: end your processes, and say HostEnded."""


class JournalsBegun(NamedTuple):
    """The journals of this host's vCPUs follow, piece by piece. `base_ns` is when the guest's counters were 0 by this
    host's CLOCK_MONOTONIC, which has the journals' times, off by `error_ns` at most (0: nobody has measured it)."""

    base_ns: U64
    error_ns: U64


class JournalPiece(NamedTuple):
    """A part of the journal of a vCPU of this host, which is `size` bytes long, from `offset` on: 262144 bytes, or what
    is left. Each begins where the one before has ended. No more than four are sent before JournalTaken."""

    vcpu: U16
    size: U64
    offset: U64
    data: Blob


class JournalTaken(NamedTuple):
    """To the agent: another piece may come, in the place of one that was kept or refused."""


class HostEnded(NamedTuple):
    """Nothing of the run is left on this host. `report` is JSON: what else is to be told of it."""

    report: Blob
