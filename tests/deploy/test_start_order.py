# SPDX-License-Identifier: GPL-2.0-or-later
"""The start of a host's processes: servers first, then workers, and every process once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from allstop.deploy.processes.members import members
from allstop.deploy.processes.start_order import Fork, LoadZygote, Stage, Start, StartOrder


def names(steps: list[object]) -> list[str]:
    """What the steps start, in order."""
    out = []
    for step in steps:
        if isinstance(step, Start):
            out.append(step.member.name)
        else:
            out += [member.name for member in step.workers] if isinstance(step, Fork) else ["zygote"]
    return out


def test_servers_start_first_and_the_zygote_loads_meanwhile() -> None:
    order = StartOrder(members(2, gdb=True))
    assert names(order.begin()) == ["coordinator", "devicesrv", "zygote"]
    assert order.look(True, True) == [Fork(members(2)[2:]), Start(members(2, gdb=True)[-1])]
    assert order.stage is Stage.COMPLETE


def test_workers_wait_for_the_servers_and_for_the_zygote() -> None:
    """Would break: workers that take the servers' cores, and a launcher that waits for a zygote and nothing else."""
    order = StartOrder(members(1))
    order.begin()
    for servers_beat, zygote_is_ready in ((False, False), (True, False), (False, True)):
        assert order.look(servers_beat, zygote_is_ready) == []
        assert order.stage is Stage.LOADING
    assert names(order.look(True, True)) == ["vcpu-0"]
    assert order.look(True, True) == []


def test_a_host_without_workers_has_no_zygote() -> None:
    """Would break: a first host whose vCPUs are all elsewhere, which would wait forever."""
    order = StartOrder(members(2, placement=(1, 1), names=("here", "there")))
    assert LoadZygote() not in order.begin()
    assert order.look(True, False) == [] and order.stage is Stage.COMPLETE


def test_another_host_starts_its_node_and_its_own_workers() -> None:
    order = StartOrder(members(3, gdb=True, placement=(0, 1, 1), names=("here", "there"), host=1))
    assert names(order.begin()) == ["node", "zygote"]
    assert names(order.look(True, True)) == ["vcpu-1", "vcpu-2"]


@given(
    st.integers(1, 5),
    st.booleans(),
    st.lists(st.integers(0, 2), min_size=5, max_size=5),
    st.sampled_from((1, 3)),
    st.lists(st.tuples(st.booleans(), st.booleans()), max_size=10),
)
def test_every_process_of_every_host_starts_once(
    vcpus: int, gdb: bool, hosts: list[int], count: int, looks: list[tuple[bool, bool]]
) -> None:
    placement = tuple(hosts[:vcpus]) if count > 1 else ()
    titles = ("here", "there", "yonder") if count > 1 else ()
    started: list[str] = []
    for host in range(count):
        team = members(vcpus, gdb, placement, titles, host)
        order = StartOrder(team)
        steps = order.begin()
        for servers_beat, zygote_is_ready in (*looks, (True, True)):
            steps += order.look(servers_beat, zygote_is_ready)
        assert [name for name in names(steps) if name != "zygote"] == [member.name for member in team]
        started += [name for name in names(steps) if name.startswith("vcpu-")]
    assert sorted(started) == [f"vcpu-{vcpu}" for vcpu in range(vcpus)]
