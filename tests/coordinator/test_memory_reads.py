# SPDX-License-Identifier: GPL-2.0-or-later
"""What operators read of pages that come and go: the first of two hosts, whose node is this test."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from allstop.coordinator.node.memory import node_memory
from allstop.coordinator.operators.memory_reads import PAGE_S, READ_S, MemoryReads
from allstop.vm.config.limits import RAM_BASE
from allstop.vm.config.machine import HostsSpec, MachineConfig, SharedFds
from allstop.vm.memory import stage2
from allstop.vm.wire.messages import Memory, Message, Refused
from tests.coordinator.node_host import RAM_BYTES, Host, node_host

PAGE = RAM_BASE // 4096
COORDINATOR = 128
OLD, NEW = b"o" * 4096, b"n" * 4096
BROKEN = 1 << 61
OPERATOR = b"op-1"


def said(hosts: int) -> HostsSpec:
    names = ("here", "there", "yonder")[:hosts]
    return HostsSpec(0, ("",) * hosts, (0, 1), ("",) * hosts, "", -1, (), "", "", 7.5, names)


@dataclass
class Asker:
    """MemoryReads on real shared memory, and the answers that it gave."""

    config: MachineConfig
    host: Host
    answers: list[tuple[bytes, Message]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.memory, self.rang = self.host.memory, self.host.rang
        self.reads = MemoryReads(
            self.config, self.host.page, lambda operator, message: self.answers.append((operator, message))
        )

    def take_away(self, number: int) -> None:
        assert self.memory.revoke(number, False, True) is not None

    def bring(self, number: int, data: bytes) -> int:
        """What the node does when the page comes."""
        self.memory.install(number, data, False, False, False)
        return self.memory.have(COORDINATOR, number, False)


@contextlib.contextmanager
def make(hosts: int) -> Iterator[Asker]:
    with node_host(True) as host:
        for number in range(4):
            os.pwrite(host.fds[1], bytes([number + 1]) * 4096, number * 4096)
        config = MachineConfig(
            vcpus=2,
            memory_bytes=RAM_BYTES,
            token="",
            coordinator_endpoint="",
            devices_endpoint="",
            fds=SharedFds(*host.fds[:3]),
            cores=2,
            launcher_pid=1,
            hosts=said(hosts),
        )
        yield Asker(config, host)


@pytest.fixture
def asker() -> Iterator[Asker]:
    with make(2) as made:
        yield made


def test_what_is_here_is_read_at_once_and_nobody_is_asked(asker: Asker) -> None:
    asker.reads.ask(OPERATOR, RAM_BASE + 4090, 12, 0.0)
    assert asker.answers == [(OPERATOR, Memory(RAM_BASE + 4090, b"\1" * 6 + b"\2" * 6))]
    assert asker.memory.wants() == [] and not asker.rang() and asker.reads.wait_ms(200) == 200


def test_a_page_that_is_away_is_brought_here_and_read_then(asker: Asker) -> None:
    asker.take_away(PAGE + 1)
    asker.reads.ask(OPERATOR, RAM_BASE + 4090, 12, 0.0)
    assert asker.answers == [] and asker.rang() and asker.reads.wait_ms(200) == 1
    assert asker.memory.wants() == [(COORDINATOR, PAGE + 1, False, False, 0)]
    asker.reads.look(0.1)
    assert asker.answers == [] and not asker.rang()  # it was said once
    asker.bring(PAGE + 1, NEW)
    asker.reads.look(0.2)
    assert asker.answers == [(OPERATOR, Memory(RAM_BASE + 4090, b"\1" * 6 + b"n" * 6))]
    assert asker.memory.wants() == [] and asker.reads.wait_ms(200) == 200


def test_a_page_that_came_stays_until_it_is_read_as_it_would_for_a_vcpu(asker: Asker) -> None:
    """Else hosts that fight for it would mostly have taken it away again before the coordinator looked."""
    assert node_memory.DEVICES > COORDINATOR  # those from DEVICES on keep nothing
    asker.take_away(PAGE)
    asker.reads.ask(OPERATOR, RAM_BASE, 4, 0.0)
    given = asker.bring(PAGE, NEW)
    assert asker.memory.progress(COORDINATOR, True) == given
    asker.rang()
    asker.reads.look(0.1)
    assert asker.memory.progress(COORDINATOR) == given + 1 and asker.rang()


def test_a_page_that_is_gone_again_is_wanted_again(asker: Asker) -> None:
    asker.take_away(PAGE)
    asker.reads.ask(OPERATOR, RAM_BASE, 4, 0.0)
    asker.bring(PAGE, NEW)
    asker.take_away(PAGE)
    assert asker.rang() and asker.memory.wants() == []
    asker.reads.look(0.1)
    assert asker.answers == [] and asker.rang()
    assert asker.memory.wants() == [(COORDINATOR, PAGE, False, False, 0)]


def between(asker: Asker, monkeypatch: pytest.MonkeyPatch, *steps: bytes | None) -> None:
    """While a page is read for the first time, have these contents come, or it leave, after half of it was read."""
    read_guest = stage2.read_guest
    left = list(steps)

    def read(config: MachineConfig, ipa: int, length_bytes: int) -> bytes:
        half = read_guest(config, ipa, length_bytes // 2)
        for data in left:
            if data is None:
                asker.take_away(PAGE)
            else:
                asker.memory.install(PAGE, data, False, False, False)
        left.clear()
        return half + read_guest(config, ipa + len(half), length_bytes - len(half))

    monkeypatch.setattr(stage2, "read_guest", read)


def test_a_page_that_leaves_and_comes_back_half_way_is_read_again(
    asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entry is the same before and after."""
    asker.take_away(PAGE)
    asker.memory.install(PAGE, OLD, False, False, False)
    before = asker.memory.entry(PAGE)
    between(asker, monkeypatch, None, NEW)
    asker.reads.ask(OPERATOR, RAM_BASE, 4096, 0.0)
    assert asker.memory.entry(PAGE) == before and asker.answers == []
    asker.reads.look(0.1)
    assert asker.answers == [(OPERATOR, Memory(RAM_BASE, NEW))]


def test_a_page_that_leaves_half_way_is_wanted(asker: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    between(asker, monkeypatch, None)
    asker.reads.ask(OPERATOR, RAM_BASE, 4096, 0.0)
    asker.reads.look(0.1)
    assert asker.answers == [] and asker.memory.wants() == [(COORDINATOR, PAGE, False, False, 0)]


@pytest.mark.parametrize(
    ("hosts", "number", "who"),
    [
        (2, PAGE, "host there"),
        (2, PAGE + 1, "host there"),
        (3, PAGE + 1, "host yonder"),
        (3, PAGE, "host there"),
        (3, PAGE + 2, "host there or host yonder"),
    ],
)
def test_a_page_that_does_not_come_is_one_sentence_and_is_wanted_no_more(hosts: int, number: int, who: str) -> None:
    with make(hosts) as asker:
        asker.take_away(number)
        asker.reads.ask(OPERATOR, number * 4096 + 8, 8, 10.0)
        asker.reads.look(10.0 + PAGE_S - 0.1)
        assert asker.answers == []
        asker.reads.look(10.0 + PAGE_S)
        assert asker.answers == [
            (
                OPERATOR,
                Refused(
                    f"the page at {number * 4096:#010x} is on another host and did not "
                    f"come within 3 s: {who} is slow or stopped"
                ),
            )
        ]
        assert asker.memory.wants() == [] and asker.reads.wait_ms(200) == 200


def test_a_page_that_is_being_changed_is_looked_at_again(asker: Asker) -> None:
    at = stage2.LEVEL3_OFFSET
    os.pwrite(asker.config.fds.stage2, struct.pack("<Q", asker.memory.entry(PAGE) | BROKEN), at)
    asker.reads.ask(OPERATOR, RAM_BASE, 4, 0.0)
    asker.reads.ask(b"op-2", RAM_BASE + 4096, 4, 0.0)
    assert asker.answers == [] and asker.memory.wants() == []
    asker.reads.look(PAGE_S)
    (_, refused), second = asker.answers
    assert isinstance(refused, Refused) and "the page at 0x40000000 was being changed" in refused.sentence
    assert second == (b"op-2", Memory(RAM_BASE + 4096, b"\2" * 4))  # the read behind it is served all the same


def test_reads_are_answered_in_their_order(asker: Asker) -> None:
    asker.take_away(PAGE)
    asker.reads.ask(OPERATOR, RAM_BASE, 4, 0.0)
    asker.reads.ask(b"op-2", RAM_BASE + 4096, 4, 0.0)
    assert asker.answers == []
    asker.bring(PAGE, NEW)
    asker.reads.look(0.1)
    assert [operator for operator, _ in asker.answers] == [OPERATOR, b"op-2"]


def test_each_page_has_its_time(asker: Asker) -> None:
    """Would break: pages that all come, each in time, and are refused since there are many."""
    for number in range(3):
        asker.take_away(PAGE + number)
    asker.reads.ask(OPERATOR, RAM_BASE, 3 * 4096, 0.0)
    for number in range(3):
        asker.bring(PAGE + number, NEW)
        asker.reads.look((number + 1) * 0.8 * PAGE_S)
    assert asker.answers == [(OPERATOR, Memory(RAM_BASE, NEW * 3))]


def test_a_read_has_its_time_with_all_its_pages(asker: Asker) -> None:
    for number in range(4):
        asker.take_away(PAGE + number)
    asker.reads.ask(OPERATOR, RAM_BASE, 4 * 4096, 0.0)
    for number in range(2):
        asker.bring(PAGE + number, NEW)
        asker.reads.look((number + 1) * 0.9 * PAGE_S)
    asker.reads.look(READ_S)
    assert asker.answers == [
        (
            OPERATOR,
            Refused("8192 of 16384 bytes at 0x40000000 came within 8 s: ask for less, or when no other operator reads"),
        )
    ]
    assert asker.memory.wants() == []


def test_who_waited_behind_another_has_time_of_its_own(asker: Asker) -> None:
    """Would break: a page of a host that is well is refused since another host's did not come."""
    asker.take_away(PAGE)
    asker.take_away(PAGE + 1)
    asker.reads.ask(OPERATOR, RAM_BASE, 4, 0.0)
    asker.reads.ask(b"op-2", RAM_BASE + 4096, 4, 0.1)
    asker.reads.look(PAGE_S)
    assert [operator for operator, _ in asker.answers] == [OPERATOR]
    asker.bring(PAGE + 1, NEW)
    asker.reads.look(1.5 * PAGE_S)
    assert asker.answers[1] == (b"op-2", Memory(RAM_BASE + 4096, b"n" * 4))
