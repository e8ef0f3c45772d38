# SPDX-License-Identifier: GPL-2.0-or-later
"""Which hosts have a page: the directory of the pages whose home is this host. A state machine without I/O.

A page is with one host that may write to it, or with any number that may read it. A host that needs it asks its home
(`home_of`). The home serves one transaction on a page after the other:

    to read    the owner, or one that has it, is recalled to share it, and sends what is in it    -> granted to read
    to write   all others that have it are recalled; one of them sends what is in it if needed    -> granted to write

Messages may overtake each other. A grant carries its transaction, and a recall carries the transaction by which that
host got the page: a host that has not seen it yet keeps the recall until it has. Answers carry the transaction that
they are for. All hosts live, or the run is over: nothing here times out. At the machine's start host 0 owns every page.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from allstop.vm.wire.messages_hosts import PageAsked, PageGranted, PageRecalled, PageYielded

_NAMED = 4

PageMessage: TypeAlias = PageAsked | PageRecalled | PageYielded | PageGranted


class Send(NamedTuple):
    """Have this host's node get the message; it may be this one's own."""

    host: int
    message: PageMessage


class Bounce(NamedTuple):
    """A page that went from host to host. `between` are (from, to, times), `touched` (host, offset in the page, times)
    of accesses that asked for it."""

    page: int
    moves: int
    between: list[tuple[int, int, int]]
    touched: list[tuple[int, int, int]]


def home_of(page: int, hosts: int) -> int:
    """The host that keeps the directory of this page."""
    return page % hosts


@dataclass
class _Page:
    """One page. `holders` have it; `owned` says that the only one of them may write."""

    holders: set[int]
    owned: bool
    transaction: int = 0
    granted: dict[int, int] = field(default_factory=dict)  # host: the transaction by which it got the page
    asker: int | None = None  # of the transaction that is under way
    write: bool = False
    waiting: set[int] = field(default_factory=set)
    source: int | None = None
    data: bytes = b""
    queue: deque[tuple[int, bool]] = field(default_factory=deque)
    moves: Counter[tuple[int, int]] = field(default_factory=Counter)  # (from, to): how often the page went there
    touched: Counter[tuple[int, int]] = field(default_factory=Counter)  # (host, offset): what made it ask


class PageDirectory:
    """The pages whose home is `host`."""

    def __init__(self, host: int) -> None:
        self._host = host
        self._pages: dict[int, _Page] = {}

    def asked(self, host: int, message: PageAsked) -> list[Send]:
        """A host needs a page."""
        page = self._pages.get(message.page)
        if page is None:
            page = self._pages[message.page] = _Page({0}, True)
        page.queue.append((host, message.write))
        page.touched[host, message.offset] += 1
        return list(self._go_on(message.page, page))

    def yielded(self, host: int, message: PageYielded) -> list[Send]:
        """A host has done what it was recalled for. An answer to another transaction is ignored."""
        page = self._pages.get(message.page)
        if page is None or page.transaction != message.transaction or host not in page.waiting:
            return []
        page.waiting.discard(host)
        if host == page.source:
            page.data = message.data
        if page.waiting:
            return []
        return [*self._finish(message.page, page), *self._go_on(message.page, page)]

    def holders(self, page: int) -> tuple[frozenset[int], bool]:
        """The hosts that have the page between two transactions, and whether the only one of them may write."""
        known = self._pages.get(page)
        return (frozenset({0}), True) if known is None else (frozenset(known.holders), known.owned)

    def bounces(self, limit: int) -> list[Bounce]:
        """The pages that moved most, most first."""
        moved = sorted(
            ((page.moves.total(), number) for number, page in self._pages.items() if page.moves), reverse=True
        )
        return [
            Bounce(
                number,
                total,
                [(a, b, n) for (a, b), n in self._pages[number].moves.most_common(_NAMED)],
                [(host, offset, n) for (host, offset), n in self._pages[number].touched.most_common(_NAMED)],
            )
            for total, number in moved[:limit]
        ]

    def _go_on(self, number: int, page: _Page) -> Iterator[Send]:
        """Begin the next transactions that are waiting, until one has to wait for others."""
        while page.asker is None and page.queue:
            host, write = page.queue.popleft()
            page.asker, page.write = host, write
            page.transaction = page.transaction % 0xFFFF_FFFF + 1
            page.data = b""
            others = page.holders - {host}
            if host in page.holders:
                page.source = None
                page.waiting = others if write else set()
            elif write:
                page.source = self._nearest(others)
                page.waiting = others
            else:
                page.source = self._nearest(others)
                page.waiting = {page.source}
            page.waiting = set(page.waiting)
            for other in sorted(page.waiting):
                yield Send(
                    other,
                    PageRecalled(number, page.transaction, page.granted.get(other, 0), not write, other == page.source),
                )
            if not page.waiting:
                yield from self._finish(number, page)

    def _finish(self, number: int, page: _Page) -> Iterator[Send]:
        host = page.asker
        assert host is not None
        fresh = page.source is not None
        if page.source is not None:
            page.moves[page.source, host] += 1
        if page.write:
            page.holders, page.owned = {host}, True
        elif host not in page.holders:
            page.holders.add(host)
            page.owned = False
        page.granted[host] = page.transaction
        page.asker = page.source = None
        yield Send(host, PageGranted(number, page.transaction, page.owned, fresh, page.data))
        page.data = b""

    def _nearest(self, hosts: set[int]) -> int:
        """The host that is to send the page's contents: this host itself costs no message."""
        return self._host if self._host in hosts else min(hosts)
