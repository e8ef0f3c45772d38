# SPDX-License-Identifier: GPL-2.0-or-later
"""The control page, between the vCPUs' own processes and those that ask something of them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator

import pytest

from allstop.vm.control import control
from allstop.vm.control.control import ControlPage
from allstop.vm.memory.memory import create_memory

DEADLINE_S = 10.0


@pytest.fixture
def make() -> Iterator[Callable[[int, int], ControlPage]]:
    fds = []

    def create(vcpus: int, cores: int) -> ControlPage:
        fds.append(create_memory("test-control", ControlPage.size_bytes(vcpus)))
        return ControlPage.create(fds[-1], vcpus, cores)

    yield create
    for fd in fds:
        os.close(fd)


Make = Callable[[int, int], ControlPage]


def test_a_head_start_stops_all_the_others_and_grants_nothing(make: Make) -> None:
    page = make(4, 2)
    assert page.set_mode(2, control.IN_GUEST)
    page.head_start(1)
    assert [page.requests(i) & control.STOP for i in range(4)] == [control.STOP, 0, control.STOP, control.STOP]
    assert page.mode(2) == control.EXITING  # asked to leave, not said to have left
    assert page.stop([1], 0.0) == [2]
    page.set_mode(2, control.OUTSIDE)
    assert not page.set_mode(0, control.IN_GUEST)  # no vCPU enters
    page.set_mode(0, control.OUTSIDE)
    assert page.stop([1], DEADLINE_S) == []
    page.resume()
    assert page.set_mode(2, control.IN_GUEST)


def test_a_stop_after_a_head_start_still_waits_for_who_is_inside(make: Make) -> None:
    page = make(2, 2)
    assert page.set_mode(1, control.IN_GUEST)
    page.head_start(0)
    leaver = threading.Timer(0.05, page.set_mode, (1, control.OUTSIDE))
    leaver.start()
    try:
        assert page.stop([0], DEADLINE_S) == []
        assert page.mode(1) == control.OUTSIDE
    finally:
        leaver.join()


@pytest.mark.parametrize(
    ("cores", "busy", "may"), [(1, 0, False), (2, 0, True), (2, 1, False), (4, 2, True), (4, 3, False)]
)
def test_polling_needs_a_core_for_the_vcpu_for_who_answers_and_for_each_that_computes(
    make: Make, cores: int, busy: int, may: bool
) -> None:
    page = make(5, cores)
    for vcpu in range(busy):
        page.set_power(vcpu, control.POWER_ON)
        assert page.set_mode(vcpu, control.IN_GUEST)
    page.set_power(4, control.POWER_ON)
    assert page.may_poll(4) is may


def test_who_is_off_or_asked_to_stop_needs_no_core(make: Make) -> None:
    page = make(3, 2)
    for vcpu in range(2):
        page.set_power(vcpu, control.POWER_ON)
    assert not page.may_poll(0)
    page.set_power(1, control.POWER_OFF)
    assert page.may_poll(0)
    page.set_power(1, control.POWER_ON)
    page.post(1, control.STOP)
    assert page.may_poll(0)
