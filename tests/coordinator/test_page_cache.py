# SPDX-License-Identifier: GPL-2.0-or-later
"""The pages of one host, rule by rule: which host is asked for which page, and how long a page stays."""

from __future__ import annotations

import pytest

from allstop.coordinator.node.page_cache import (
    GRACE_S,
    PATIENCE_S,
    RESIDENCE_S,
    Effect,
    Have,
    Install,
    PageCache,
    Revoke,
    Upgrade,
    Watch,
    bounded_trip_s,
)
from allstop.coordinator.node.page_directory import Send
from allstop.vm.wire.messages_hosts import PageAsked, PageGranted, PageRecalled, PageYielded

PAGE, OTHER, HOME = 0x40000, 0x40003, 1
DEVICE = 1000


class Host:
    """Host 0 of three. What is here is what a test says."""

    def __init__(self) -> None:
        self.here: dict[int, bool] = {}
        self.progress = {0: 0, 1: 0}
        self.idle = False
        self.cache = PageCache(
            0,
            3,
            DEVICE,
            lambda page, write: self.here.get(page, False) or (page in self.here and not write),
            self.progress.__getitem__,
            is_idle=lambda: self.idle,
        )

    def get(self, slot: int, page: int, write: bool, transaction: int, now_s: float) -> list[Effect]:
        """The slot wants the page, and is given it at once."""
        self.cache.wanted(slot, page, write, False)
        effects = self.cache.granted(PageGranted(page, transaction, write, page not in self.here, b""), now_s)
        self.here[page] = write
        for effect in effects:
            if isinstance(effect, Have):
                self.cache.given(effect.slot, effect.page, self.progress.get(effect.slot, 0))
        return effects


@pytest.fixture
def host() -> Host:
    return Host()


def recalled(transaction: int, after: int, share: bool = False) -> PageRecalled:
    return PageRecalled(PAGE, transaction, after, share, True)


def revoke(transaction: int, share: bool = False) -> Revoke:
    return Revoke(PAGE, transaction, share, True)


def test_a_page_that_is_here_is_asked_of_nobody(host: Host) -> None:
    """Would break: a message for each access."""
    host.here[PAGE] = True
    assert host.cache.wanted(0, PAGE, True, False) == [Have(0, PAGE, True)]


def test_several_that_want_a_page_ask_once(host: Host) -> None:
    """Would break: two requests of one host under way."""
    assert host.cache.wanted(0, PAGE, False, False) == [Send(HOME, PageAsked(PAGE, False))]
    assert host.cache.wanted(1, PAGE, False, True) == []
    assert host.cache.granted(PageGranted(PAGE, 1, False, True, b"x"), 0.0) == [
        Install(PAGE, b"x", False, True, False),
        Have(0, PAGE, False),
        Have(1, PAGE, False),
    ]


def test_who_wants_to_write_asks_again_where_only_reading_was_granted(host: Host) -> None:
    """Would break: a writer that waits forever."""
    host.cache.wanted(0, PAGE, False, False)
    host.cache.wanted(1, PAGE, True, False)
    assert host.cache.granted(PageGranted(PAGE, 1, False, True, b""), 0.0) == [
        Install(PAGE, b"", False, False, False),
        Have(0, PAGE, False),
        Send(HOME, PageAsked(PAGE, True)),
    ]
    assert host.cache.granted(PageGranted(PAGE, 2, True, False, b""), 0.0) == [Upgrade(PAGE), Have(1, PAGE, True)]


def test_a_page_stays_until_its_instruction_has_retired(host: Host) -> None:
    """Would break: a page that is taken before it was used."""
    host.get(0, PAGE, True, 1, 1.0)
    late_s = 1.0 + (RESIDENCE_S + PATIENCE_S) / 2
    assert host.cache.recalled(recalled(2, 1), late_s) == [Watch(0)]
    assert host.cache.due_s() == 1.0 + PATIENCE_S
    host.progress[0] += 1
    assert host.cache.look(late_s) == [revoke(2)]
    assert host.cache.due_s() is None


def test_patience_ends(host: Host) -> None:
    """Would break: a vCPU that never runs again keeps its page forever."""
    host.get(0, PAGE, True, 1, 1.0)
    host.cache.recalled(recalled(2, 1), 1.0)
    assert host.cache.look(1.0 + PATIENCE_S) == [revoke(2)]


def test_a_page_to_write_stays_a_while_though_its_instruction_has_retired(host: Host) -> None:
    """Would break: one instruction a journey."""
    host.get(0, PAGE, True, 1, 1.0)
    host.progress[0] += 1
    assert host.cache.recalled(recalled(2, 1), 1.0) == []
    assert host.cache.look(1.0 + RESIDENCE_S) == [revoke(2)]


def test_a_page_stays_a_while_after_its_vcpu_has_got_the_last_that_it_waited_for(host: Host) -> None:
    """Would break: a vCPU that has both its pages for no time at all, since the first has waited for the second."""
    host.get(0, PAGE, True, 1, 1.0)
    served_s = 1.0 + RESIDENCE_S / 2
    host.get(0, OTHER, True, 1, served_s)
    host.progress[0] += 1
    assert host.cache.recalled(recalled(2, 1), 1.0 + RESIDENCE_S) == []
    assert host.cache.look(served_s + RESIDENCE_S) == [revoke(2)]


def test_a_host_whose_vcpus_sleep_keeps_no_page_but_for_an_instruction(host: Host) -> None:
    """Would break: a host that waits for an unused page; a page that is taken before it was used."""
    host.get(0, PAGE, True, 1, 1.0)
    host.idle = True
    assert host.cache.recalled(recalled(2, 1), 1.0) == [Watch(0)]
    host.progress[0] += 1
    assert host.cache.look(1.0) == [revoke(2)]


@pytest.mark.parametrize("hosts", [2, 8])
def test_hosts_that_are_very_far_apart_keep_no_page_for_too_long(hosts: int) -> None:
    assert bounded_trip_s(0.005, hosts, 1.0) == 0.005
    cache = PageCache(0, hosts, DEVICE, lambda page, write: False, lambda slot: 0, bounded_trip_s(60.0, hosts, 1.0))
    cache.wanted(0, PAGE, True, False)
    cache.granted(PageGranted(PAGE, 1, True, True, b""), 1.0)
    cache.given(0, PAGE, 0)
    cache.wanted(0, OTHER, True, False)
    assert cache.recalled(recalled(2, 1), 1.0) == [Watch(0)]
    due_s = cache.due_s()
    assert due_s is not None and 1.0 < due_s <= 2.0 + 1e-9


def test_a_page_to_read_does_not(host: Host) -> None:
    """Would break: writers that wait for readers that are done."""
    host.get(0, PAGE, False, 1, 1.0)
    host.progress[0] += 1
    assert host.cache.recalled(recalled(2, 1), 1.0) == [revoke(2)]


def test_devices_keep_nothing(host: Host) -> None:
    """Would break: a page that stays for a slot that tells of no progress."""
    host.get(DEVICE, PAGE, True, 1, 1.0)
    assert host.cache.recalled(recalled(2, 1), 1.0 + RESIDENCE_S) == [revoke(2)]


def test_who_waits_for_another_page_keeps_its_pages_in_its_turn_only(host: Host) -> None:
    """Would break: hosts that each keep what another waits for, so that no vCPU makes progress."""
    grace_s = 3 * GRACE_S
    host.get(0, PAGE, True, 1, 1.0)  # it is host 1's turn: 166 turns of 6 ms have gone, and 4 ms of the next
    host.cache.wanted(0, OTHER, True, False)
    assert host.cache.recalled(recalled(2, 1), 1.0) == [Watch(0)]
    assert host.cache.due_s() == pytest.approx(1.0 + grace_s)
    assert host.cache.look(1.0 + grace_s) == [revoke(2)]
    host.here.pop(PAGE)
    host.get(0, PAGE, True, 3, 1.0081)  # host 0's turn has begun
    host.cache.recalled(recalled(4, 3), 1.0082)
    assert host.cache.look(1.0139) == [Watch(0)]
    assert host.cache.due_s() == pytest.approx(1.014)
    assert host.cache.look(1.0141) == [revoke(4)]


def test_a_recall_that_has_overtaken_its_grant_waits_for_it(host: Host) -> None:
    """Would break: a page that is given up before it is here, with contents that no vCPU ever wrote."""
    host.cache.wanted(0, PAGE, True, False)
    assert host.cache.recalled(recalled(6, 5), 1.0) == []
    assert host.cache.due_s() is None
    host.cache.granted(PageGranted(PAGE, 5, True, True, b"x"), 1.0)
    assert host.cache.look(1.0 + RESIDENCE_S) == [revoke(6)]


def test_transactions_that_begin_again_at_1_are_told_apart(host: Host) -> None:
    """Would break: after 2 ** 32 transactions a recall that overtook its grant is taken for a late one."""
    last = 0xFFFF_FFFF
    host.get(DEVICE, PAGE, True, last, 1.0)
    assert host.cache.recalled(recalled(1, last), 2.0) == [revoke(1)]
    host.here.pop(PAGE)
    host.cache.wanted(0, PAGE, True, False)
    assert host.cache.recalled(recalled(3, 2), 3.0) == []
    host.cache.granted(PageGranted(PAGE, 2, True, True, b"x"), 3.0)
    assert host.cache.look(3.0 + RESIDENCE_S) == [revoke(3)]


def test_a_page_that_was_executed_here_is_flushed_when_it_is_here_again(host: Host) -> None:
    """Would break: the code that was in the page before."""
    host.get(DEVICE, PAGE, True, 1, 1.0)
    effect = revoke(2)
    host.cache.recalled(recalled(2, 1), 2.0)
    assert host.cache.revoked(effect, b"x", True) == [Send(HOME, PageYielded(PAGE, 2, b"x"))]
    host.here.pop(PAGE)
    assert Install(PAGE, b"", True, False, True) in host.get(DEVICE, PAGE, True, 3, 3.0)
    host.cache.revoked(revoke(4), b"", False)  # not executed this time: its old code may still be there
    host.here.pop(PAGE)
    assert Install(PAGE, b"", True, False, True) in host.get(DEVICE, PAGE, True, 5, 4.0)
