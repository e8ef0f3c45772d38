# SPDX-License-Identifier: GPL-2.0-or-later
"""The directory of pages, rule by rule."""

from __future__ import annotations

from allstop.coordinator.node.page_directory import PageDirectory, Send, home_of
from allstop.vm.wire.messages_hosts import PageAsked, PageGranted, PageRecalled, PageYielded

PAGE = 0x40000


def ask(directory: PageDirectory, host: int, write: bool) -> list[Send]:
    return directory.asked(host, PageAsked(PAGE, write))


def yield_(directory: PageDirectory, host: int, transaction: int, data: bytes = b"") -> list[Send]:
    return directory.yielded(host, PageYielded(PAGE, transaction, data))


def test_pages_are_striped_over_the_hosts() -> None:
    """Would break: a home that has all the work."""
    assert [home_of(page, 3) for page in range(6)] == [0, 1, 2, 0, 1, 2]


def test_host_0_owns_all_pages_at_first() -> None:
    """Would break: an image that no host has."""
    directory = PageDirectory(1)
    assert directory.holders(PAGE) == ({0}, True)
    assert ask(directory, 0, True) == [Send(0, PageGranted(PAGE, 1, True, False, b""))]


def test_a_reader_has_the_owner_share() -> None:
    """Would break: an owner that goes on writing."""
    directory = PageDirectory(2)
    assert ask(directory, 1, False) == [Send(0, PageRecalled(PAGE, 1, 0, True, True))]
    assert yield_(directory, 0, 1, b"x") == [Send(1, PageGranted(PAGE, 1, False, True, b"x"))]
    assert directory.holders(PAGE) == ({0, 1}, False)


def test_a_writer_has_all_others_give_up_and_one_of_them_send() -> None:
    """Would break: a copy that stays, or contents sent by every holder."""
    directory = PageDirectory(2)
    for number, host in enumerate((1, 2), 1):
        ask(directory, host, False)
        yield_(directory, min(directory.holders(PAGE)[0]), number, b"x")
    assert ask(directory, 3, True) == [
        Send(0, PageRecalled(PAGE, 3, 0, False, False)),
        Send(1, PageRecalled(PAGE, 3, 1, False, False)),
        Send(2, PageRecalled(PAGE, 3, 2, False, True)),
    ]
    assert yield_(directory, 0, 3) == yield_(directory, 2, 3, b"y") == []
    assert yield_(directory, 1, 3) == [Send(3, PageGranted(PAGE, 3, True, True, b"y"))]
    assert directory.holders(PAGE) == ({3}, True)


def test_a_reader_that_writes_is_sent_nothing_that_it_has() -> None:
    """Would break: an upgrade that overwrites, or costs a page."""
    directory = PageDirectory(0)
    ask(directory, 1, False)
    yield_(directory, 0, 1, b"x")
    assert ask(directory, 1, True) == [Send(0, PageRecalled(PAGE, 2, 0, False, False))]
    assert yield_(directory, 0, 2) == [Send(1, PageGranted(PAGE, 2, True, False, b""))]


def test_one_transaction_after_the_other() -> None:
    """Would break: two writers that are both granted."""
    directory = PageDirectory(0)
    ask(directory, 1, True)
    assert ask(directory, 2, True) == []
    assert yield_(directory, 0, 1, b"x") == [
        Send(1, PageGranted(PAGE, 1, True, True, b"x")),
        Send(1, PageRecalled(PAGE, 2, 1, False, True)),
    ]


def test_an_answer_to_another_transaction_or_of_a_stranger_is_dropped() -> None:
    """Would break: a transaction that ends by an old answer, with old contents."""
    directory = PageDirectory(0)
    assert yield_(directory, 0, 1, b"z") == []
    ask(directory, 1, True)
    assert yield_(directory, 0, 7, b"z") == yield_(directory, 2, 1, b"z") == []
    assert yield_(directory, 0, 1, b"x") == [Send(1, PageGranted(PAGE, 1, True, True, b"x"))]
    assert yield_(directory, 0, 1, b"z") == []


def test_the_pages_that_moved_most() -> None:
    """Would break: a report that blames the wrong page."""
    directory = PageDirectory(0)
    ask(directory, 1, True)
    yield_(directory, 0, 1)
    ask(directory, 0, True)
    yield_(directory, 1, 2)
    directory.asked(1, PageAsked(PAGE + 1, False))
    directory.yielded(0, PageYielded(PAGE + 1, 1, b""))
    assert directory.bounces(1) == [(PAGE, 2, [(0, 1, 1), (1, 0, 1)], [(1, 0, 1), (0, 0, 1)])]
