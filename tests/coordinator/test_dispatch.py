# SPDX-License-Identifier: GPL-2.0-or-later
"""Which process is asked to perform which event, when, and what the operator is told."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allstop.coordinator.events.dispatch import AskDevices, AskWorker, EventDispatch, Impossible, Tell
from allstop.vm.events.scenario import Scenario
from allstop.vm.events.vocabulary import event
from allstop.vm.wire.messages import ALL_VCPUS, EventInjected, Refused

OPERATOR = b"op-1"
FLUSH = {"action": "flush-tlb", "target": "all"}


def dispatch(*events: dict[str, object], vcpus: int = 4) -> EventDispatch:
    return EventDispatch(Scenario(tuple(event(raw, n) for n, raw in enumerate(events, 1))), 1, vcpus)


def test_times_come_in_order_and_again() -> None:
    machine = dispatch({**FLUSH, "at_ms": 10, "every_ms": 20, "times": 3}, {**FLUSH, "at_ms": 15, "vcpu": 2})
    assert machine.next_ms == 10
    assert machine.tick(9.9) == []
    [first] = machine.tick(10)
    assert isinstance(first, AskWorker) and (first.vcpu, first.message.number) == (0, 0)
    [second] = machine.tick(29)
    assert isinstance(second, AskWorker) and (second.vcpu, second.message.number) == (2, 1)
    machine.performed(first.message.nonce, "")
    [third] = machine.tick(30)
    assert isinstance(third, AskWorker) and third.message.number == 0
    assert machine.tick(31) == [] == machine.tick(50)  # the last one is still under way
    machine.performed(third.message.nonce, "")
    assert [len(machine.tick(now)) for now in (70, 1000)] == [1, 0]
    assert machine.next_ms is None


def test_a_late_clock_does_not_make_a_storm() -> None:
    machine = dispatch({**FLUSH, "at_ms": 1, "every_ms": 1})
    assert len(machine.tick(100_000)) <= 3
    assert machine.next_ms is not None and machine.next_ms >= 99_999


def test_the_message_has_no_trigger() -> None:
    [ask] = dispatch({**FLUSH, "at_ms": 1, "every_ms": 5}).tick(1)
    assert isinstance(ask, AskWorker)
    assert event(json.loads(ask.message.event), immediate=True).target == "all"


def test_an_operator_learns_what_became_of_its_wish() -> None:
    machine = dispatch()
    for sentence, answer in (("", EventInjected()), ("no", Refused("no"))):
        [ask] = machine.injected(OPERATOR, 3, json.dumps(FLUSH), False)
        assert isinstance(ask, AskWorker) and ask.vcpu == 3
        assert machine.performed(ask.message.nonce, sentence) == [Tell(OPERATOR, answer)]
        assert machine.performed(ask.message.nonce, sentence) == []  # once


def test_who_dies_does_not_answer() -> None:
    machine = dispatch()
    [ask] = machine.injected(OPERATOR, 1, json.dumps(FLUSH), False)
    assert machine.lost(0) == []
    assert machine.lost(1) == [Tell(OPERATOR, Refused("the process of vCPU 1 is lost"))]
    assert machine.injected(OPERATOR, 1, json.dumps(FLUSH), False) == [
        Tell(OPERATOR, Refused("the process of vCPU 1 is lost"))
    ]
    [ask] = machine.injected(OPERATOR, ALL_VCPUS, json.dumps(FLUSH), False)
    assert isinstance(ask, AskWorker) and ask.vcpu == 2  # the first that lives


def test_an_event_on_a_dead_vcpu_is_impossible() -> None:
    machine = dispatch({**FLUSH, "at_ms": 1, "vcpu": 1})
    machine.lost(1)
    [impossible] = machine.tick(1)
    assert isinstance(impossible, Impossible) and "vCPU 1 is lost" in impossible.sentence


def test_a_trigger_on_a_vcpu_for_the_device_server() -> None:
    machine = dispatch({"action": "irq-spurious", "exit": "mmio"}, {**FLUSH, "exit": "mmio"})
    [ask] = machine.triggered(0, 3)
    assert isinstance(ask, AskDevices) and ask.message.vcpu == 3
    assert machine.triggered(1, 3) == [] == machine.triggered(99, 3)  # a worker's own; nonsense of a peer


@pytest.mark.parametrize(
    ("vcpu", "text", "paused", "why"),
    [
        (ALL_VCPUS, "{", False, "cannot be as it is"),
        (ALL_VCPUS, "[]", False, "keys and values"),
        (ALL_VCPUS, json.dumps({"action": "fly"}), False, "is no action"),
        (ALL_VCPUS, json.dumps({"action": "reply-drop"}), False, "accesses to come"),
        (4, json.dumps(FLUSH), False, "vCPUs 0 to 3"),
        (ALL_VCPUS, json.dumps({"action": "flush-tlb", "target": 9}), False, "vCPUs 0 to 3"),
        (ALL_VCPUS, json.dumps(FLUSH), True, "resume it first"),
    ],
)
def test_a_wish_that_can_not_be_is_refused(vcpu: int, text: str, paused: bool, why: str) -> None:
    [tell] = dispatch().injected(OPERATOR, vcpu, text, paused)
    assert isinstance(tell, Tell) and isinstance(tell.message, Refused) and why in tell.message.sentence


@given(st.text(max_size=40))
def test_any_text_of_an_operator_is_answered(text: str) -> None:
    [effect] = dispatch().injected(OPERATOR, ALL_VCPUS, text, False)
    assert isinstance(effect, Tell)
