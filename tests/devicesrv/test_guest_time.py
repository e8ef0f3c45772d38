# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's time of day, by clocks that are moved by hand."""

from __future__ import annotations

import time

import pytest

from allstop.devicesrv.guest_time import GuestTime

ORIGIN_S = 1_700_000_000


class Clocks:
    """The host's."""

    now_ns = 5_000_000_000
    day_ns = ORIGIN_S * 1_000_000_000


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    made = Clocks()
    monkeypatch.setattr(time, "monotonic_ns", lambda: made.now_ns)
    monkeypatch.setattr(time, "time_ns", lambda: made.day_ns)
    return made


@pytest.mark.parametrize("dilation", [1, 10, 1000])
def test_it_goes_as_much_slower_as_it_is_told(clocks: Clocks, dilation: int) -> None:
    guest = GuestTime(dilation)
    assert (guest.elapsed_ns(), guest.seconds()) == (0, ORIGIN_S)
    assert guest.host_seconds_until(ORIGIN_S + 2) == 2 * dilation
    clocks.now_ns += 3_000_000_000 * dilation
    assert (guest.elapsed_ns(), guest.seconds()) == (3_000_000_000, ORIGIN_S + 3)
    assert guest.host_seconds_until(ORIGIN_S + 2) == -dilation
    clocks.now_ns += dilation * 1_000_000_000 - 1
    assert guest.seconds() == ORIGIN_S + 3
    clocks.now_ns += 1
    assert guest.seconds() == ORIGIN_S + 4


def test_whoever_sets_the_hosts_clock_does_not_set_the_guests(clocks: Clocks) -> None:
    guest = GuestTime()
    clocks.day_ns += 86_400 * 1_000_000_000
    clocks.now_ns += 1_000_000_000
    assert guest.seconds() == ORIGIN_S + 1
