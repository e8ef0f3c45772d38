# SPDX-License-Identifier: GPL-2.0-or-later
"""How costs grow with the number of hosts, by the real protocols over a simulated network."""

from __future__ import annotations

import pytest

from bench import simulation
from bench.simulation import Parameters

pytestmark = [pytest.mark.bench, pytest.mark.processes]

SIZES = (1, 2, 4, 8, 100)


def test_a_stop_is_two_messages_for_each_other_host() -> None:
    """Would break: a message for each vCPU."""
    found = {hosts: simulation.stop(Parameters(), hosts) for hosts in SIZES}
    assert {hosts: figures.messages for hosts, figures in found.items()} == {hosts: 2 * (hosts - 1) for hosts in SIZES}
    assert found[2].us > 2 * 50


def test_a_fault_does_not_depend_on_the_number_of_hosts() -> None:
    """Would break: a fault that asks every host."""
    found = {simulation.fault(Parameters(), hosts, write, 0)[:2] for hosts in SIZES[1:] for write in (False, True)}
    assert len(found) == 1
    assert simulation.fault(Parameters(), 8, False, 0).messages == 2


def test_a_write_has_each_reader_give_up_and_one_send() -> None:
    """Would break: contents from every reader."""
    found = simulation.fault(Parameters(), 8, True, 6)
    assert found.messages == 2 + 2 * 6
    assert 4096 < found.bytes < 2 * 4096


def test_a_page_that_two_hosts_write_to_stays_a_while() -> None:
    """Would break: a page that does nothing but travel."""
    assert 1_000 < simulation.ping_pong(Parameters(), 3).us < 10_000


def test_time_follows_the_parameters() -> None:
    """Would break: a simulation that does not use them."""
    near, far = (simulation.fault(Parameters(latency_s=latency_s), 2, False, 0).us for latency_s in (50e-6, 1e-3))
    assert far - near == pytest.approx(2 * 950)
