# SPDX-License-Identifier: GPL-2.0-or-later
"""A host's shared memory as its node uses it: pages, and requests to other hosts' vCPUs. Both sides are here."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from allstop.coordinator.node.memory import node_memory
from allstop.coordinator.node.memory.node_memory import NodeMemory
from allstop.vm.control import control
from allstop.vm.control.control import ControlPage
from allstop.vm.memory.memory import create_memory
from tests.coordinator.node_host import HERE, RAM_BYTES, THERE, Host, node_host

PAGE = 0x40000
VALID, WRITABLE, XN, OWNED = 1, 3 << 6, 1 << 54, 1 << 52
CONTENTS = bytes(range(256)) * 16
COORDINATOR = 128


@pytest.fixture
def host() -> Iterator[Host]:
    """The first of two hosts: vCPU 0 is here, vCPU 1 on the other."""
    with node_host(True) as made:
        yield made


@pytest.fixture
def other() -> Iterator[Host]:
    """The other host: it has vCPU 1, and no page."""
    with node_host(False) as made:
        yield made


def test_at_first_one_host_has_all_pages_and_the_other_none(host: Host, other: Host) -> None:
    assert host.memory.is_here(PAGE, True) and host.memory.entry(PAGE) == OWNED
    assert not other.memory.is_here(PAGE, False) and other.memory.entry(PAGE) == 0
    assert other.memory.revoke(PAGE, False, True) is None


def test_a_page_that_is_taken_away_is_not_here_and_says_what_was_in_it(host: Host) -> None:
    os.pwrite(host.fds[1], CONTENTS, 0)
    assert host.memory.revoke(PAGE, False, True) == (CONTENTS, False)
    assert host.memory.entry(PAGE) == 0 and not host.memory.is_here(PAGE, False)


def test_a_page_that_is_shared_may_be_read_and_not_written_to(host: Host) -> None:
    os.pwrite(host.fds[1], CONTENTS, 0)
    found = host.memory.revoke(PAGE, True, True)
    assert found is not None and found[0] == CONTENTS
    entry = host.memory.entry(PAGE)
    assert entry & VALID and not entry & OWNED and entry & WRITABLE != WRITABLE
    assert host.memory.is_here(PAGE, False) and not host.memory.is_here(PAGE, True)


def test_a_page_of_zeros_travels_as_nothing(host: Host, other: Host) -> None:
    found = host.memory.revoke(PAGE, False, True)
    assert found == (b"", False)
    os.pwrite(other.fds[1], CONTENTS, 0)  # what was here before
    other.memory.install(PAGE, b"", True, False, False)
    assert os.pread(other.fds[1], 4096, 0) == bytes(4096)


@pytest.mark.parametrize(("owned", "execute"), [(False, False), (False, True), (True, False)])
def test_what_is_installed_is_there_with_the_right_that_was_given(other: Host, owned: bool, execute: bool) -> None:
    other.memory.install(PAGE, CONTENTS, owned, execute, False)
    entry = other.memory.entry(PAGE)
    assert os.pread(other.fds[1], 4096, 0) == CONTENTS
    assert entry & VALID and bool(entry & OWNED) is owned and (entry & WRITABLE == WRITABLE) is owned
    assert bool(entry & XN) is not execute  # write-xor-execute: what may be written to is not executed


def test_a_page_that_was_executed_says_so_and_is_flushed_when_it_comes_back(other: Host) -> None:
    other.memory.install(PAGE, CONTENTS, False, True, False)
    assert other.memory.revoke(PAGE, False, False) == (b"", True)
    other.page.clear(THERE, control.CODE_FLUSH)
    other.memory.install(PAGE, CONTENTS, False, True, True)
    assert other.page.requests(THERE) & control.CODE_FLUSH


def test_who_uses_a_page_flushes_before_it_is_another_hosts(other: Host) -> None:
    other.memory.install(PAGE, CONTENTS, True, False, False)
    other.memory.revoke(PAGE, False, True)
    assert other.page.requests(THERE) & control.TLB_FLUSH


def test_an_upgrade_is_of_what_is_here(other: Host) -> None:
    assert not other.memory.upgrade(PAGE)
    other.memory.install(PAGE, CONTENTS, False, False, False)
    assert other.memory.upgrade(PAGE) and other.memory.is_here(PAGE, True)


@pytest.mark.parametrize("page", [0, PAGE - 1, PAGE + RAM_BYTES // 4096, 1 << 20])
def test_there_is_no_page_outside_memory(host: Host, page: int) -> None:
    assert not host.memory.is_page(page)
    with pytest.raises(ValueError, match="not in the guest's memory"):
        host.memory.revoke(page, False, True)
    with pytest.raises(ValueError, match="4096 bytes or none"):
        host.memory.install(PAGE, b"short", True, False, False)


def test_what_is_posted_to_a_vcpu_elsewhere_lies_in_the_outbox_once(host: Host) -> None:
    host.page.post(THERE, control.EVENT)
    host.page.post(THERE, control.TLB_FLUSH)
    assert host.rang()
    ((vcpu, bits, _, _),) = host.memory.take_outbox()
    assert (vcpu, bits) == (THERE, control.EVENT | control.TLB_FLUSH)
    assert host.memory.take_outbox() == []


def test_a_stop_and_its_end_are_for_this_hosts_vcpus(host: Host) -> None:
    """Those of others are told by StopHost and ResumeHost; what went by an outbox as well could overtake these."""
    assert host.page.stop({HERE}, 0) == []
    assert not host.page.requests(THERE) & control.STOP
    host.page.resume()
    assert host.memory.take_outbox() == [] and not host.rang()


def test_a_stay_does_not_end_while_more_lies_in_the_outbox(host: Host) -> None:
    host.page.post(THERE, control.TLB_FLUSH)
    host.memory.take_outbox()
    host.page.post(THERE, control.CODE_FLUSH)
    assert not host.memory.end_guest_entry(THERE)
    host.memory.take_outbox()
    assert host.memory.end_guest_entry(THERE)


def test_posts_are_delivered_to_this_hosts_vcpus_only(other: Host) -> None:
    exiting, ticket = other.memory.deliver(THERE, control.TLB_FLUSH, 0)
    assert exiting == 0 and ticket == 1  # it is outside, and will flush before it enters
    assert other.page.requests(THERE) & control.TLB_FLUSH
    assert other.memory.has_exited(THERE, exiting, ticket, False)
    with pytest.raises(ValueError, match="not on this host"):
        other.memory.deliver(HERE, control.TLB_FLUSH, 0)


def test_a_line_of_an_older_version_changes_nothing(other: Host) -> None:
    other.memory.deliver(THERE, 0, 5 << 2 | 1)
    assert other.page.requests(THERE) & control.INTERRUPT and other.page.line(THERE) == 5 << 2 | 1
    other.memory.deliver(THERE, 0, 4 << 2)
    assert other.page.line(THERE) == 5 << 2 | 1


def test_a_vcpu_elsewhere_tells_of_itself_and_not_of_this_hosts_devices(host: Host, other: Host) -> None:
    other.page.count(THERE, control.COUNT_HVC, 7)
    other.page.set_activity(THERE, control.ACTIVITY_WFI)
    host.page.perform_access(THERE, 0x0900_0000, 4, True, 1, False)
    host.memory.tell(THERE, other.memory.told(THERE, True))
    assert host.page.counters(THERE)[control.COUNT_HVC] == 7
    assert host.page.describe(THERE) == "asleep in WFI"
    assert host.page.accesses(THERE)[1][0] == 1
    with pytest.raises(ValueError, match="another host"):
        host.memory.tell(HERE, other.memory.told(THERE, True))
    with pytest.raises(ValueError, match="another host"):
        host.memory.tell(THERE, bytes(1 << 16))


def test_a_want_is_seen_until_the_slot_has_it(host: Host) -> None:
    assert host.memory.wants() == []
    assert node_memory.DEVICES == 129
    assert host.memory.have(HERE, PAGE, True) == host.memory.progress(HERE)
    host.page.want_page(PAGE << 12)
    assert host.rang() and host.memory.wants() == [(COORDINATOR, PAGE, False, False, 0)]
    host.memory.have(COORDINATOR, PAGE + 1, False)
    host.memory.have(node_memory.DEVICES, PAGE, False)
    assert len(host.memory.wants()) == 1
    assert host.memory.have(COORDINATOR, PAGE, False) == host.memory.progress(COORDINATOR)
    assert host.memory.wants() == []
    with pytest.raises(ValueError, match="no vCPU"):
        host.memory.have(COORDINATOR - 1, PAGE, False)


def test_files_of_other_machines_are_refused() -> None:
    fds = [
        create_memory("control", ControlPage.size_bytes(1)),
        create_memory("ram", RAM_BYTES),
        create_memory("stage2", 4096),
    ]
    ControlPage.create(fds[0], 1, 1, 0)
    with pytest.raises(ValueError, match="one machine"):
        NodeMemory(*fds)
    for fd in fds:
        os.close(fd)


def test_a_host_is_idle_when_its_own_vcpus_sleep_or_are_off(other: Host) -> None:
    assert other.memory.is_idle()  # off
    other.page.set_power(THERE, control.POWER_ON)
    assert not other.memory.is_idle()
    other.page.set_power(HERE, control.POWER_ON)
    other.page.set_power(THERE, control.POWER_OFF)
    assert other.memory.is_idle(), "the vCPU of another host does not count"
