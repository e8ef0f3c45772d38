# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands to vCPUs reach them, also when a worker has looked too early, and a machine that waits boots when it may."""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from allstop.coordinator.events import retransmit as retransmit
from allstop.coordinator.operators.debugging import Debugging
from allstop.vm.control.control import EVENT, ControlPage
from allstop.vm.memory.memory import create_memory
from allstop.vm.wire.channel import DEBUGGER, worker_identity
from allstop.vm.wire.messages import Boot, DebugDone, DebuggerReady, HoldVcpu, MembersReady, Message


@pytest.fixture
def page() -> Iterator[ControlPage]:
    fd = create_memory("test-debugging", ControlPage.size_bytes(2))
    yield ControlPage.create(fd, 2, 2, 0)
    os.close(fd)


def make(page: ControlPage, waits: bool) -> tuple[Debugging, list[tuple[bytes, Message]], list[Boot]]:
    sent: list[tuple[bytes, Message]] = []
    boots: list[Boot] = []
    config: Any = SimpleNamespace(vcpus=2, gdb=SimpleNamespace(waits=waits))
    return (
        Debugging(config, page, lambda identity, message: sent.append((identity, message)), boots.append),
        sent,
        boots,
    )


def test_a_command_that_was_not_found_is_announced_again(page: ControlPage, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(retransmit.time, "monotonic", lambda: now[0])
    coordinator, sent, _ = make(page, False)
    assert coordinator.take(HoldVcpu(1, 1), 0)
    assert sent == [(worker_identity(1), HoldVcpu(1, 1))]
    page.clear(1, EVENT)  # the worker looks, and finds nothing yet
    coordinator.look()
    assert not page.requests(1) & EVENT
    now[0] += 1
    coordinator.look()
    assert page.requests(1) & EVENT
    assert coordinator.take(DebugDone(1, 1, b"", ""), 1)
    page.clear(1, EVENT)
    now[0] += 1
    coordinator.look()
    assert not page.requests(1) & EVENT


def test_what_makes_no_sense_is_refused(page: ControlPage) -> None:
    coordinator, sent, _ = make(page, False)
    assert not coordinator.take(HoldVcpu(1, 2), 0)
    assert not coordinator.take(DebugDone(1, 1, b"", ""), 0)
    assert sent == []


@pytest.mark.parametrize("ready_first", [True, False])
def test_a_machine_that_waits_boots_when_the_debugger_is_ready(page: ControlPage, ready_first: bool) -> None:
    coordinator, sent, boots = make(page, True)
    coordinator.joined()
    coordinator.all_here()
    assert sent == [(DEBUGGER, MembersReady(2))]
    boot = Boot(0x40010000, 0, 0)
    if ready_first:
        coordinator.take(DebuggerReady(), 0)
    coordinator.booted(boot)
    if not ready_first:
        assert boots == []
        coordinator.take(DebuggerReady(), 0)
    assert boots == [boot]
