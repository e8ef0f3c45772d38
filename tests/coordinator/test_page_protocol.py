# SPDX-License-Identifier: GPL-2.0-or-later
"""The pages of several hosts, by their real state machines, over a network that delivers in any order: one writer or
many readers, every read sees the last write, no vCPU waits forever, and hosts that fight for pages all make
progress."""

from __future__ import annotations

import heapq
import random
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from allstop.coordinator.node.page_cache import TRIP_S, TURN_S
from tests.coordinator.page_hosts import WORDS, Access, Hosts, Input, Kind, Message, Vcpu

PAGES = (0x40000, 0x40001, 0x40003)
MOST_STEPS = 20_000
accesses = st.builds(Access, st.sampled_from(PAGES), st.sampled_from(Kind), st.integers(0, WORDS - 1))
instructions = st.lists(accesses, min_size=1, max_size=3).map(tuple)


class PageProtocol(RuleBasedStateMachine):
    """Any order between any two inputs that are under way; time passes when it likes."""

    @initialize(count=st.integers(2, 5), vcpus=st.integers(1, 3))
    def make(self, count: int, vcpus: int) -> None:
        self.waiting: list[Input] = []
        self.hosts = Hosts(count, vcpus, PAGES, self.waiting.append)
        self.all = list(self.hosts.vcpus.values())

    @rule(which=st.integers(0, 1000), instruction=instructions)
    def execute(self, which: int, instruction: tuple[Access, ...]) -> None:
        vcpu = self.all[which % len(self.all)]
        if not vcpu.instruction:
            if vcpu.slot >= 1000:
                instruction = tuple(access for access in instruction[:1] if access.kind is not Kind.EXECUTE)
            self.hosts.begin(vcpu, instruction)
        self.hosts.run(vcpu)

    @rule(which=st.integers(0, 1000))
    def run_again(self, which: int) -> None:
        waiting = [vcpu for vcpu in self.all if vcpu.instruction and vcpu.wants is None]
        if waiting:
            self.hosts.run(waiting[which % len(waiting)])

    @precondition(lambda self: self.waiting)
    @rule(which=st.integers(0, 1000))
    def arrive(self, which: int) -> None:
        self.hosts.arrive(self.waiting.pop(which % len(self.waiting)))

    @precondition(lambda self: self.waiting)
    @rule()
    def the_last_arrives(self) -> None:
        self.hosts.arrive(self.waiting.pop())

    @rule(microseconds=st.sampled_from([10, 400, 2_000, 20_000]))
    def time_passes(self, microseconds: int) -> None:
        self.hosts.pass_time(self.hosts.now_s + microseconds / 1e6)

    @invariant()
    def holds(self) -> None:
        if hasattr(self, "hosts"):
            self.hosts.check()

    def teardown(self) -> None:
        """Nothing new comes: everything that is wanted is served, and every instruction retires."""
        if not hasattr(self, "hosts"):
            return
        for _ in range(MOST_STEPS):
            if self.waiting:
                self.hosts.arrive(self.waiting.pop(0))
            elif not any([self.hosts.run(vcpu) for vcpu in self.all]) and not self.waiting:
                due_s = self.hosts.due_s()
                if due_s is None:
                    break
                self.hosts.pass_time(due_s)
            self.hosts.check()
        self.hosts.check_quiet()
        assert not any(vcpu.instruction for vcpu in self.all), "an instruction never retires"


PageProtocol.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestPageProtocol = PageProtocol.TestCase


class Wire(NamedTuple):
    """How long a message takes between two hosts, and what was measured for there and back."""

    least_s: float = 20e-6
    most_s: float = 300e-6
    trip_s: float = 0.0


NEAR = Wire()


class Network:
    """Virtual time: each message takes its time, and each vCPU tries again when it has what it waited for."""

    def __init__(self, hosts: int, vcpus: int, draw: random.Random, wire: Wire) -> None:
        self._draw = draw
        self._wire = wire
        self._queue: list[tuple[float, int, Input | Vcpu]] = []
        self._number = 0
        self.now_s = 0.0
        self.hosts = Hosts(hosts, vcpus, PAGES, self._post, wire.trip_s)
        self.vcpus = [vcpu for vcpu in self.hosts.vcpus.values() if vcpu.slot < 1000]

    def _post(self, given: Input) -> None:
        own = not isinstance(given, Message) or given.source == given.target
        self.later(2e-6 if own else self._draw.uniform(self._wire.least_s, self._wire.most_s), given)

    def later(self, seconds: float, what: Input | Vcpu) -> None:
        """It happens then."""
        self._number += 1
        heapq.heappush(self._queue, (self.now_s + seconds, self._number, what))

    def step(self) -> Vcpu | None:
        """The next thing happens; the vCPU that had its turn, if it was one."""
        due_s = self.hosts.due_s()
        if due_s is not None and (not self._queue or due_s <= self._queue[0][0]):
            self.now_s = max(self.now_s, due_s)
            self.hosts.pass_time(self.now_s)
            self._wake()
            return None
        at_s, _, what = heapq.heappop(self._queue)
        self.now_s = max(self.now_s, at_s)
        self.hosts.pass_time(self.now_s)
        turn = None
        if isinstance(what, Vcpu):
            turn = what
            self.hosts.run(what)
        else:
            self.hosts.arrive(what)
        self._wake()
        return turn

    def _wake(self) -> None:
        asleep = {id(what) for _, _, what in self._queue if isinstance(what, Vcpu)}
        for vcpu in self.vcpus:
            if vcpu.instruction and vcpu.wants is None and id(vcpu) not in asleep:
                self.later(self._draw.uniform(1e-6, 20e-6), vcpu)


# An instruction with its code, its data and the table that translates it, on pages that all hosts want to write to.
FIGHTS = (
    (Access(PAGES[0], Kind.WRITE), Access(PAGES[1], Kind.WRITE)),
    (Access(PAGES[1], Kind.WRITE), Access(PAGES[0], Kind.WRITE)),
    (Access(PAGES[0], Kind.EXECUTE), Access(PAGES[1], Kind.WRITE), Access(PAGES[2], Kind.WRITE)),
    (Access(PAGES[2], Kind.EXECUTE), Access(PAGES[0], Kind.WRITE), Access(PAGES[1], Kind.WRITE)),
    (Access(PAGES[1], Kind.READ), Access(PAGES[2], Kind.WRITE), Access(PAGES[0], Kind.WRITE)),
)


def fight(
    hosts: int, vcpus: int, seed: int, seconds: float, skew_s: float = 0.0, wire: Wire = NEAR
) -> tuple[float, int]:
    """All vCPUs, each with one of the fights over and over: the longest that one took, and how many retired."""
    draw = random.Random(seed)
    network = Network(hosts, vcpus, draw, wire)
    for cache in network.hosts.caches:
        cache.clock_offset_s = draw.uniform(0.0, skew_s)
    began_s = {}
    longest_s = 0.0
    fights = {id(vcpu): draw.choice(FIGHTS) for vcpu in network.vcpus}
    for vcpu in network.vcpus:
        network.hosts.begin(vcpu, fights[id(vcpu)])
        network.later(0.0, vcpu)
        began_s[id(vcpu)] = 0.0
    while network.now_s < seconds:
        ran = network.step()
        if ran is not None and not ran.instruction:
            longest_s = max(longest_s, network.now_s - began_s[id(ran)])
            began_s[id(ran)] = network.now_s
            network.hosts.begin(ran, fights[id(ran)])
    network.hosts.check()
    return max(longest_s, *(network.now_s - at_s for at_s in began_s.values())), sum(v.retired for v in network.vcpus)


def round_s(hosts: int) -> float:
    """In which each host has had a turn."""
    return TURN_S * hosts * hosts


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32), hosts=st.integers(2, 4), vcpus=st.integers(1, 2))
def test_hosts_that_fight_for_several_pages_all_get_on(seed: int, hosts: int, vcpus: int) -> None:
    """Would break: a page that does not stay until its instruction has retired, or two hosts that keep what the
    other waits for."""
    longest_s, _ = fight(hosts, vcpus, seed, 0.6)  # a vCPU without progress takes all of it
    assert longest_s < 7 * vcpus * round_s(hosts) + 0.02  # of 1,600 fights the longest took 4.8


@pytest.mark.parametrize("seed", range(3))
def test_eight_hosts_that_fight_for_several_pages_all_get_on(seed: int) -> None:
    """Would break: hosts that keep pages by patience alone: five of them retire no instruction a second."""
    longest_s, retired = fight(8, 1, seed, 0.6)
    assert longest_s < 3 * round_s(8)
    assert retired > 100


@pytest.mark.parametrize("skew_s", [0.001, 1000.0])
def test_clocks_that_differ_cost_time_only(skew_s: float) -> None:
    """Would break: turns that need equal clocks: with other clocks no vCPU makes progress."""
    longest_s, retired = fight(4, 1, 7, 1.0, skew_s)
    assert longest_s < 0.5
    assert retired > 100


@pytest.mark.parametrize("hosts", [2, 3, 4])
@pytest.mark.parametrize("wire", [Wire(0.003, 0.007, 0.0075), Wire(0.05, 0.052, 0.1)])
def test_hosts_that_are_far_apart_and_fight_for_several_pages_all_get_on(hosts: int, wire: Wire) -> None:
    """Would break: turns that end before a page arrives: then two hosts never retire an instruction."""
    slower = wire.trip_s / TRIP_S
    longest_s, retired = fight(hosts, 1, 1, 0.6 * slower, 0.001, wire)
    assert longest_s < 7 * slower * round_s(hosts)
    assert retired > 80
