# SPDX-License-Identifier: GPL-2.0-or-later
"""Which processes on other hosts an operator may kill, and what it is told."""

from __future__ import annotations

import pytest

from allstop.coordinator.operators.remote_kills import ANSWER_S, RemoteKills
from allstop.vm.config.machine import HostsSpec
from allstop.vm.wire.channel import LAUNCHER
from allstop.vm.wire.messages import Message, Refused
from allstop.vm.wire.messages_hosts import KillVcpu, VcpuKilled

HOSTS = HostsSpec(0, ("", ""), (0, 1, 1), ("", ""), "", -1, (), "", "", 7.5, ("here", "there"))
ONE, TWO = b"op-1", b"op-2"
Sent = list[tuple[bytes, Message]]


@pytest.fixture
def sent() -> Sent:
    return []


@pytest.fixture
def kills(sent: Sent) -> RemoteKills:
    return RemoteKills(HOSTS, 3, lambda identity, message: sent.append((identity, message)))


def test_a_wish_goes_to_the_launcher_and_the_answer_to_all_who_wait_for_it(kills: RemoteKills, sent: Sent) -> None:
    for operator, vcpu in ((ONE, 1), (TWO, 1), (ONE, 2)):
        kills.ask(operator, vcpu, 0.0)
    assert sent == [(LAUNCHER, KillVcpu(1)), (LAUNCHER, KillVcpu(1)), (LAUNCHER, KillVcpu(2))]
    sent.clear()
    kills.done(VcpuKilled(1, 4711, ""))
    kills.done(VcpuKilled(1, 4711, "the process of vCPU 1 is dead already"))  # no operator waits any more
    kills.done(VcpuKilled(2, 0, "vCPU 2 has no process"))
    assert sent == [
        (ONE, VcpuKilled(1, 4711, "")),
        (TWO, VcpuKilled(1, 4711, "")),
        (ONE, Refused("vCPU 2 has no process")),
    ]
    kills.look(2 * ANSWER_S)
    assert len(sent) == 3


def test_a_host_that_does_not_answer_is_named(kills: RemoteKills, sent: Sent) -> None:
    kills.ask(ONE, 2, 5.0)
    kills.look(5.0 + ANSWER_S - 0.1)
    kills.look(5.0 + ANSWER_S)
    kills.look(5.0 + ANSWER_S)
    assert sent[1:] == [
        (ONE, Refused("host there, which is to kill vCPU 2, has not answered within 3 s: it is slow or stopped"))
    ]


@pytest.mark.parametrize(
    ("hosts", "vcpu", "words"), [(HOSTS, 3, "no vCPU 3"), (HOSTS, 0, "on this host"), (None, 1, "on this host")]
)
def test_what_is_no_other_hosts_vcpu_is_refused(sent: Sent, hosts: HostsSpec | None, vcpu: int, words: str) -> None:
    RemoteKills(hosts, 3, lambda identity, message: sent.append((identity, message))).ask(ONE, vcpu, 0.0)
    ((operator, refused),) = sent
    assert operator == ONE and isinstance(refused, Refused) and words in refused.sentence
