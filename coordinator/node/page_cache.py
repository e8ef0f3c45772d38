# SPDX-License-Identifier: GPL-2.0-or-later
"""The pages that are on this host, and those that its vCPUs, devices or coordinator wait for. A state machine, no I/O.

A host's state of a page is its stage-2 entry, which this does not copy: effects change the entry, and tell what they
found. This state machine keeps which slots wait for which pages, the last grant of each page, and how long a page
stays.

A page that a vCPU was given stays until the instruction that wanted it has retired, for `PATIENCE_S` at most, or else
two hosts would take it from each other forever, and neither would execute its instruction. And a page that may be
written to stays `RESIDENCE_S` at least after its vCPU has got the last page that it waited for, so that a host does
some work before its pages move on, several times what the journey takes. (A guest with three spin locks, a vCPU on each
of three hosts, needed 0.4 s instead of 25.) But not where all vCPUs of the host sleep: a vCPU that waits for its next
interrupt has done its work.

An instruction may need several pages, so that hosts may each keep what another waits for. Only one host at a time may
do that for long: hosts take turns, by the clock that they share (`clock_offset_s`). In its turn a host keeps the pages
of a vCPU that waits for one more; all others let go of theirs after a moment (`GRACE_S`), so what the host waits for
comes to it. Mostly each host makes progress in a round of turns; it may take a few rounds where many queue for several
pages. Clocks that differ cost time only. The moment is not the same for all hosts, so that two of them need not wait
for their turns.

All these times are for hosts whose messages take `TRIP_S` at most to each other and back. Where they take longer the
times are longer in proportion: if a turn ends before the page arrives, no vCPU makes progress. (In a test's network
with 5 ms each way, two hosts that fought for two pages made none.)

Time comes in with each call, in seconds of a monotonic clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from allstop.coordinator.node.page_directory import Send, home_of
from allstop.vm.wire.messages_hosts import PageAsked, PageGranted, PageRecalled, PageYielded

RESIDENCE_S = 0.002
PATIENCE_S = 0.004
GRACE_S = 0.001
TURN_S = 0.002  # for each host that there is
TRIP_S = 0.0003
_RANKS = 4


def bounded_trip_s(trip_s: float, hosts: int, longest_s: float) -> float:
    """`trip_s`, or the longest with which no page stays for more than `longest_s` when another host wants it."""
    return min(trip_s, TRIP_S * longest_s / (TURN_S * hosts + PATIENCE_S))


class Install(NamedTuple):
    """The page is here now, which it was not; b"" is a page of zeros. `had_code`: it was executed here before."""

    page: int
    data: bytes
    write: bool
    execute: bool
    had_code: bool


class Upgrade(NamedTuple):
    """The page that is here may be written to."""

    page: int


class Have(NamedTuple):
    """The slot waits no more. To be answered by `given`."""

    slot: int
    page: int
    write: bool


class Revoke(NamedTuple):
    """Take the page away, or with `share` stop writes to it. To be answered by `revoked`."""

    page: int
    transaction: int
    share: bool
    data: bool


class Watch(NamedTuple):
    """Have `got_on` called when this vCPU has made progress."""

    slot: int


Effect: TypeAlias = Send | Install | Upgrade | Have | Revoke | Watch


@dataclass
class _Page:
    """A page that a slot here waits for, or that was granted once."""

    seen: int = 0  # the last grant's transaction
    asked: bool = False  # a request is under way,
    asked_write: bool = False  # ... to write
    wants: dict[int, tuple[bool, bool]] = field(default_factory=dict)  # slot: (write, execute)
    offset: int = 0  # of the last access that wanted it
    recall: PageRecalled | None = None
    keepers: dict[int, int] = field(default_factory=dict)  # slot: its progress when it was given the page
    granted_s: float = 0.0
    recalled_s: float = 0.0
    owned: bool = False  # by the last grant
    had_code: bool = False


class PageCache:
    """The pages of `host`, one of `hosts`. `is_here(page, write)` says what the stage-2 entry allows; `progress(slot)`
    how far a vCPU is; slots from `first_device` on are devices, which keep nothing. `trip_s` is how long a message
    takes to another host and back, the same to all hosts: they have the same turns. `is_idle()`: all vCPUs here
    sleep."""

    def __init__(
        self,
        host: int,
        hosts: int,
        first_device: int,
        is_here: Callable[[int, bool], bool],
        progress: Callable[[int], int],
        trip_s: float = 0.0,
        is_idle: Callable[[], bool] = lambda: False,
    ) -> None:
        self._host = host
        self._hosts = hosts
        self._first_device = first_device
        self._is_here = is_here
        self._progress = progress
        self._is_idle = is_idle
        slower = max(1.0, trip_s / TRIP_S)
        self._residence_s = RESIDENCE_S * slower
        self._patience_s = PATIENCE_S * slower
        self._grace_s = GRACE_S * slower * (1 + (hosts - 1 - host) % _RANKS)
        self._turn_s = TURN_S * slower * hosts
        self._pages: dict[int, _Page] = {}
        self._recalled: set[int] = set()
        self._waiting: Counter[int] = Counter()  # slot: the pages that it waits for
        self._served_s: dict[int, float] = {}  # slot: when it last got a page
        self._now_s = 0.0
        self.clock_offset_s = 0.0
        """What to add to this host's time to have the time that the machine's hosts share."""

    def wanted(self, slot: int, page: int, write: bool, execute: bool, offset: int = 0) -> list[Effect]:
        """A slot here waits for a page, for an access at `offset` in it. Called once for each wait."""
        state = self._page(page)
        if self._is_here(page, write):
            return [Have(slot, page, write)]
        self._waiting[slot] += slot not in state.wants
        state.wants[slot] = (write, execute)
        state.offset = offset
        return list(self._ask(page, state))

    def awaits(self, page: int) -> bool:
        """Whether a request of ours for this page is under way."""
        state = self._pages.get(page)
        return state is not None and state.asked

    def granted(self, message: PageGranted, now_s: float) -> list[Effect]:
        """The home gives us the page."""
        state = self._page(message.page)
        state.seen = message.transaction
        state.asked = False
        effects: list[Effect] = []
        execute = any(execute for _, execute in state.wants.values())
        if message.fresh:
            effects.append(Install(message.page, message.data, message.write, execute, state.had_code))
        elif message.write:
            effects.append(Upgrade(message.page))
        self._now_s = state.granted_s = now_s
        state.owned = message.write
        for slot, (write, _) in list(state.wants.items()):
            if message.write or not write:
                del state.wants[slot]
                self._waiting[slot] -= 1
                effects.append(Have(slot, message.page, write))
        effects += self._ask(message.page, state)
        return effects

    def given(self, slot: int, page: int, progress: int) -> None:
        """The slot has what it waited for; `progress` is how far it is."""
        if slot < self._first_device:
            self._page(page).keepers[slot] = progress
            self._served_s[slot] = self._now_s

    def recalled(self, message: PageRecalled, now_s: float) -> list[Effect]:
        """The home wants the page."""
        state = self._page(message.page)
        state.recall = message
        state.recalled_s = self._now_s = now_s
        self._recalled.add(message.page)
        return list(self._let_go(message.page, state, now_s))

    def revoked(self, effect: Revoke, data: bytes, had_code: bool) -> list[Effect]:
        """It was done; `data` is what was in the page."""
        state = self._page(effect.page)
        state.had_code = state.had_code or had_code
        return [Send(self._home(effect.page), PageYielded(effect.page, effect.transaction, data))]

    def look(self, now_s: float) -> list[Effect]:
        """Time has passed, or a vCPU made progress: recalled pages may go now."""
        self._now_s = now_s
        effects: list[Effect] = []
        for page in sorted(self._recalled):
            effects += self._let_go(page, self._pages[page], now_s)
        return effects

    def due_s(self) -> float | None:
        """When `look` has something to do, at the latest; None when no page is recalled."""
        waiting = [self._pages[page] for page in self._recalled]
        return min((self._stays_until_s(state) for state in waiting if self._can_go(state)), default=None)

    def _let_go(self, page: int, state: _Page, now_s: float) -> Iterator[Effect]:
        recall = state.recall
        if recall is None or not self._can_go(state):
            return
        if now_s < self._stays_until_s(state):
            yield from map(Watch, self._keepers(state))
            return
        state.recall = None
        state.keepers = {}
        self._recalled.discard(page)
        yield Revoke(page, recall.transaction, recall.share, recall.data)

    def _can_go(self, state: _Page) -> bool:
        """Whether the recall is of the grant that was seen last: else it has overtaken the grant, which will come."""
        return state.recall is not None and state.recall.after == state.seen

    def _stays_until_s(self, state: _Page) -> float:
        """When a page that is recalled goes, if nothing else happens."""
        until_s = state.granted_s
        if state.owned and not self._is_idle():
            until_s += self._residence_s
            for slot in state.keepers:
                if not self._waiting[slot]:
                    until_s = max(until_s, min(self._served_s[slot], state.recalled_s) + self._residence_s)
        for slot in self._keepers(state):
            if not self._waiting[slot]:
                until_s = max(until_s, self._served_s[slot] + self._patience_s)
            else:
                until_s = max(until_s, state.granted_s + self._grace_s, self._turn_ends_s())
        return min(until_s, state.recalled_s + self._turn_s + self._patience_s)

    def _turn_ends_s(self) -> float:
        """When this host's turn ends; 0.0 when it has none now."""
        turn, into_s = divmod(self._now_s + self.clock_offset_s, self._turn_s)
        return self._now_s + self._turn_s - into_s if int(turn) % self._hosts == self._host else 0.0

    def _keepers(self, state: _Page) -> list[int]:
        """The slots that were given the page and have not got on since."""
        return [slot for slot, progress in state.keepers.items() if self._progress(slot) == progress]

    def _ask(self, page: int, state: _Page) -> Iterator[Effect]:
        if state.asked or not state.wants:
            return
        state.asked = True
        state.asked_write = any(write for write, _ in state.wants.values())
        yield Send(self._home(page), PageAsked(page, state.asked_write, state.offset))

    def _home(self, page: int) -> int:
        return home_of(page, self._hosts)

    def _page(self, page: int) -> _Page:
        state = self._pages.get(page)
        if state is None:
            state = self._pages[page] = _Page()
        return state
