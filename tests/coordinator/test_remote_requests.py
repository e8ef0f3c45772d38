# SPDX-License-Identifier: GPL-2.0-or-later
"""Requests to vCPUs between two hosts' couriers, on real control pages; messages are carried by hand."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import pytest

from allstop.coordinator.node.remote_requests import POST, RemoteRequests
from allstop.vm.config.machine import HostsSpec
from allstop.vm.control import control
from allstop.vm.wire.messages import Message
from allstop.vm.wire.messages_hosts import Posted, PostsDone, PowerChanged
from tests.coordinator.node_host import HERE, THERE, Host, node_host


class Side:
    """One host, its remote_requests, and the messages that this has sent."""

    def __init__(self, index: int, host: Host) -> None:
        self.host = host
        self.sent: list[tuple[int, Message]] = []
        spec = HostsSpec(index, ("a", "b"), (0, 1), ("x", "y"), "s", -1, ())
        self.remote_requests = RemoteRequests(
            spec, self.host.memory, False, lambda host, message: self.sent.append((host, message))
        )

    def take(self) -> list[Message]:
        """What has been sent since this was asked last."""
        sent, self.sent = [message for _, message in self.sent], []
        return sent


@pytest.fixture
def sides() -> Iterator[tuple[Side, Side]]:
    """The first host, which has vCPU 0, and the second, which has vCPU 1."""
    with node_host(True) as first, node_host(False) as second:
        yield Side(0, first), Side(1, second)


def post(host: Host, bits: int) -> None:
    host.page.post(THERE, bits)


@pytest.mark.parametrize(
    "touch",
    [
        lambda host: post(host, control.EVENT),
        lambda host: post(host, control.TLB_FLUSH),
        lambda host: post(host, control.INTERRUPT),
        lambda host: host.page.set_line(THERE, 1 << 2 | 1),
        lambda host: host.page.set_power(THERE, control.POWER_PENDING),
        lambda host: host.page.resume(),
        lambda host: host.page.stop({HERE}, 0),
    ],
)
def test_a_stopped_vcpu_elsewhere_stays_stopped_whatever_its_slot_here_is_told(
    sides: tuple[Side, Side], touch: Callable[[Host], None]
) -> None:
    """Would break: anything that carries another opinion about STOP to the vCPU than StopHost and ResumeHost."""
    here, there = sides
    said = []
    there.remote_requests.stop((), lambda: said.append(True))
    assert said and there.host.page.requests(THERE) & control.STOP
    touch(here.host)
    here.remote_requests.carry()
    for message in here.take():
        if isinstance(message, Posted):
            there.remote_requests.deliver(0, message.number, message.posts)
    assert there.host.page.requests(THERE) & control.STOP
    there.remote_requests.resume()
    assert not there.host.page.requests(THERE) & control.STOP


def test_a_post_is_carried_and_its_answer_ends_the_stay(sides: tuple[Side, Side]) -> None:
    here, there = sides
    post(here.host, control.TLB_FLUSH)
    here.remote_requests.carry()
    (posted,) = here.take()
    assert isinstance(posted, Posted)
    there.remote_requests.deliver(0, posted.number, posted.posts)
    assert there.host.page.requests(THERE) & control.TLB_FLUSH
    assert there.take() == [PostsDone(posted.number)]
    here.remote_requests.done(1, posted.number)
    here.remote_requests.carry()
    assert here.take() == []


def test_only_the_spared_stay_in(sides: tuple[Side, Side]) -> None:
    _, there = sides
    said = []
    there.remote_requests.stop({THERE}, lambda: said.append(True))
    assert said and not there.host.page.requests(THERE) & control.STOP


def test_what_was_switched_on_is_told_to_the_other_hosts(sides: tuple[Side, Side]) -> None:
    here, there = sides
    here.host.page.set_power(THERE, control.POWER_OFF)  # of another host's vCPU: nothing to be told
    here.remote_requests.carry()
    assert here.take() == []
    there.host.page.set_power(THERE, control.POWER_ON)
    there.remote_requests.carry()
    assert there.take() == [PowerChanged(THERE, control.POWER_ON)]


def test_with_the_coordinator_off_is_what_the_coordinator_says(sides: tuple[Side, Side]) -> None:
    """Would break: an old OFF that arrives when the vCPU has been switched on again, and is then not flushed."""
    here, there = sides
    here.host.page.set_power(THERE, control.POWER_PENDING)
    here.host.memory.set_power(THERE, control.POWER_OFF)
    assert here.host.page.power(THERE) == control.POWER_PENDING
    here.host.memory.set_power(THERE, control.POWER_ON)
    assert here.host.page.power(THERE) == control.POWER_ON
    here.host.page.set_power(THERE, control.POWER_OFF)
    here.host.memory.set_power(THERE, control.POWER_ON)
    assert here.host.page.power(THERE) == control.POWER_OFF, "this ON is from before"
    there.host.memory.set_power(HERE, control.POWER_OFF)
    assert there.host.page.power(HERE) == control.POWER_OFF


@pytest.mark.parametrize(
    "posts, sentence",
    [
        (POST.pack(THERE, control.STOP | control.EVENT, 0), "coordinator's to say"),
        (POST.pack(HERE, control.EVENT, 0), "not here"),
        (POST.pack(7, control.EVENT, 0), "not here"),
        (struct.pack("<H", THERE), "no whole number"),
    ],
)
def test_bad_posts_do_nothing(sides: tuple[Side, Side], posts: bytes, sentence: str) -> None:
    _, there = sides
    good = POST.pack(THERE, control.EVENT, 0)
    with pytest.raises(ValueError, match=sentence):
        there.remote_requests.deliver(0, 1, good + posts)
    assert there.host.page.requests(THERE) == 0 and there.take() == []
