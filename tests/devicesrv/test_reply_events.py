# SPDX-License-Identifier: GPL-2.0-or-later
"""Replies and interrupts under a scenario: what is sent, when, and what the GIC's lines are."""

from __future__ import annotations

from allstop.devicesrv.gicv2.state import Gic
from allstop.devicesrv.server.reply_events import Reply, ReplyEvents
from allstop.vm.events.scenario import Scenario
from allstop.vm.events.vocabulary import event


class Scene:
    def __init__(self, *events: dict[str, object], vcpus: int = 2) -> None:
        self.gic = Gic(vcpus)
        self.told: list[tuple[int, int, str]] = []
        scenario = Scenario(tuple(event({"step": "before-reply", **raw}, n) for n, raw in enumerate(events, 1)))
        self.reply_events = ReplyEvents(scenario, 1, vcpus, self.gic, lambda *what: self.told.append(what))

    def reply(self, vcpu: int = 0, ipa: int = 0x0900_0000, now_s: float = 0.0, data: bytes = b"r") -> int:
        return self.reply_events.replies(Reply(b"w", vcpu, data), ipa, now_s)


def test_nothing_happens_without_events() -> None:
    scene = Scene()
    assert scene.reply() == 1 and scene.reply_events.next_due_s is None


def test_dropped_and_repeated_replies() -> None:
    assert [Scene({"action": "reply-drop", "times": 1}).reply() for _ in range(1)] == [0]
    scene = Scene({"action": "reply-repeat", "every": 2})
    assert [scene.reply() for _ in range(4)] == [2, 1, 2, 1]
    assert scene.told == [(0, 0, "")] * 2


def test_only_the_device_that_is_named() -> None:
    scene = Scene({"action": "reply-drop", "device": 0x0A00_0000})
    assert scene.reply(ipa=0x0900_0FFC) == 1
    assert scene.reply(ipa=0x0A00_0FFC) == 0


def test_a_late_reply_comes_once_when_it_is_due() -> None:
    scene = Scene({"action": "reply-delay", "for_ms": 50})
    assert scene.reply(1, now_s=1.0, data=b"late") == 0
    assert scene.reply_events.held == {1}
    assert scene.reply_events.next_due_s == 1.05
    assert scene.reply_events.due(1.04) == []
    assert [late.data for late in scene.reply_events.due(1.06)] == [b"late"]
    assert scene.reply_events.held == set() and scene.reply_events.due(9.0) == []


def test_a_withheld_interrupt_comes_when_the_time_is_over() -> None:
    scene = Scene({"action": "irq-withhold", "for_ms": 10})
    gic, interface = scene.gic, scene.gic.interfaces[0]
    gic.ctlr, interface.ctlr, interface.pmr = 1, 1, 0xFF
    interface.bank.enabled |= 1 << 27
    gic.set_level(27, True, 0)
    assert gic.lines[0] & 3
    scene.reply(0, now_s=0.0)
    assert not gic.lines[0] & 3
    gic.set_level(27, False, 0)
    gic.set_level(27, True, 0)
    assert not gic.lines[0] & 3
    scene.reply_events.due(0.02)
    assert gic.lines[0] & 3


def test_a_spurious_interrupt_goes_with_the_next_look_at_the_interface() -> None:
    scene = Scene({"action": "irq-spurious", "target": "all", "times": 1})
    scene.reply()
    assert [line & 3 for line in scene.gic.lines] == [1, 1]
    assert scene.gic.changed == {0, 1}
    scene.gic.update(scene.gic.interfaces)
    assert [line & 3 for line in scene.gic.lines] == [0, 0]
