# SPDX-License-Identifier: GPL-2.0-or-later
"""Which hosts have come: only those of this run, each once, and all before any of them is measured."""

from __future__ import annotations

import pytest

from allstop.deploy.hosts.gathering import AgentsError, Gathering, SendPing
from allstop.vm.version import __version__
from allstop.vm.wire.admission import RefusedError
from allstop.vm.wire.messages import PROTOCOL_VERSION, HostReady, Ping

FENCE = 77


def gathering() -> Gathering:
    return Gathering(["host here", "host there", "host yonder"], ["k0", "k1", "k2"], FENCE, "unicorn 2")


def ready(host: int = 1, **changes: object) -> HostReady:
    return HostReady(host, FENCE, PROTOCOL_VERSION, __version__, "unicorn 2", f"tcp://{host}", 1)._replace(**changes)


def came(hosts: Gathering, identity: bytes, message: HostReady, key: str, now_s: float = 0.0) -> list[SendPing]:
    assert hosts.admit(identity, key, message, None).vcpu == message.host
    return hosts.came(now_s)


def test_all_come_and_then_each_is_measured() -> None:
    hosts = gathering()
    assert hosts.missing == [1, 2]
    assert came(hosts, b"a", ready(1), "k1") == [] and hosts.missing == [2]
    pings = came(hosts, b"b", ready(2), "k2", 1.0)
    assert pings == [SendPing(b"a", Ping(0)), SendPing(b"b", Ping(0))]
    for identity, trip_s in ((b"a", 0.25), (b"b", 0.5)):
        now_s, nonce = 1.0, 0
        while next_ping := hosts.answered(identity, nonce, now_s + trip_s):
            now_s, nonce = now_s + trip_s, nonce + 1
            assert next_ping == [SendPing(identity, Ping(nonce))]
    assert hosts.missing == []
    assert hosts.trip_s == 0.5, "the farthest one's"
    assert hosts.identities == {b"a": 1, b"b": 2} and hosts.endpoints[1:] == ["tcp://1", "tcp://2"]


@pytest.mark.parametrize(
    ("message", "key"),
    [
        (ready(fence=FENCE - 1), "k1"),
        (ready(0), "k0"),
        (ready(3), "k1"),
        (ready(1), "k2"),
        (ready(1), ""),
    ],
)
def test_an_agent_that_is_not_of_this_run_is_not_heard(message: HostReady, key: str) -> None:
    """Would break: an agent of an earlier run, or another host's, that takes part."""
    hosts = gathering()
    with pytest.raises(RefusedError, match="another run or host"):
        hosts.admit(b"a", key, message, None)
    assert hosts.identities == {}


def test_a_host_comes_once() -> None:
    hosts = gathering()
    came(hosts, b"a", ready(1), "k1")
    with pytest.raises(RefusedError, match="a host that is here"):
        hosts.admit(b"b", "k1", ready(1, endpoint="tcp://elsewhere"), None)
    assert hosts.identities == {b"a": 1} and hosts.endpoints[1] == "tcp://1"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"version": PROTOCOL_VERSION + 1}, "install the same on both"),
        ({"package": "0"}, "host there has allstop 0 "),
        ({"engine": "unicorn 1"}, "host there has the engine unicorn 1 and this host unicorn 2"),
    ],
)
def test_another_installation_is_one_sentence(changes: dict[str, object], words: str) -> None:
    with pytest.raises(AgentsError, match=words):
        gathering().admit(b"a", "k1", ready(**changes), None)


def test_an_answer_to_another_ping_counts_for_nothing() -> None:
    hosts = gathering()
    assert hosts.answered(b"a", 0, 0.0) == [], "of an agent that has not come"
    came(hosts, b"a", ready(1), "k1")
    assert hosts.answered(b"a", 0, 0.0) == [], "that was not pinged"
    came(hosts, b"b", ready(2), "k2")
    assert hosts.answered(b"a", 1, 0.0) == []
    assert hosts.missing == [1, 2]
