# SPDX-License-Identifier: GPL-2.0-or-later
"""Scenarios: what is right comes back as it was, what is wrong is told by line and key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allstop.vm.events.scenario import Scenario, ScenarioError, parse
from allstop.vm.events.selector import Selector
from allstop.vm.events.vocabulary import ACTIONS, DEVICES, STEPS, Event, EventError, event

GOOD = """\
seed = 7

[[event]]
action = "swap-out"
page = "pc"
step = "before-read"
every = 3
times = 10

[[event]]
name = "late answers"
action = "reply-delay"
for_ms = 5
step = "before-reply"
probability = 0.25
"""


def test_a_good_scenario() -> None:
    scenario = parse(GOOD, "x.toml")
    assert scenario.seed == 7
    assert scenario.events[0] == Event("swap-out", "swap-out-1", step="before-read", page="pc", every=3, times=10)
    assert scenario.events[1].performer == DEVICES
    assert Scenario.from_json(scenario.to_json()) == scenario
    assert Scenario.from_json("") == Scenario()


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("", "x.toml", "one [[event]]"),
        ("seed = ", "x.toml", "no TOML"),
        ("sed = 1\n[[event]]\naction='kill'\nat_ms=1", "x.toml:1", "'sed' is no key"),
        ("seed = -1\n[[event]]\naction='kill'\nat_ms=1", "x.toml:1", "32 bits"),
        ("[[event]]\naction = 'swapout'\nat_ms = 1", "x.toml:2: event 1", "'swapout' is no action"),
        ("[[event]]\nat_ms = 1", "x.toml:1: event 1", "no action"),
        ("[[event]]\naction='kill'\n", "x.toml:2: event 1", "no trigger"),
        ("[[event]]\naction='kill'\nat_ms=1\nstep='after-trap'", "x.toml:4", "at_ms and step"),
        (
            "[[event]]\naction='kill'\nat_ms=1\n[[event]]\n# at_ms = 9\naction='kill'\n at_ms = 0",
            "x.toml:7: event 2",
            "positive number",
        ),
        ("[[event]]\naction='kill'\nat_ms=1\nfor_ms=3", "x.toml:4", "does not belong to the action kill"),
        ("[[event]]\naction='kill'\nat_ms=1\nwhen=3", "x.toml:4", "is no key of the action kill"),
        ("[[event]]\naction='kill'\nat_ms=true", "x.toml:3", "positive number"),
        ("[[event]]\naction='stall'\nat_ms=1", "x.toml:2", "needs for_ms"),
        ("[[event]]\naction='swap-out'\nat_ms=1", "x.toml:2", "either page or ipa"),
        ("[[event]]\naction='swap-out'\nat_ms=1\npage=0\nipa=0x40000000", "x.toml:5", "either page or ipa"),
        ("[[event]]\naction='swap-out'\nat_ms=1\npage='pc'", "x.toml:4", "needs a trigger on a vCPU"),
        ("[[event]]\naction='swap-out'\nat_ms=1\nipa=0x40000004", "x.toml:4", "multiple of 4096"),
        ("[[event]]\naction='swap-out'\nstep='before-reply'\nipa=0", "x.toml:3", "is the device server's"),
        ("[[event]]\naction='reply-drop'\nat_ms=1", "x.toml:3", "needs step"),
        ("[[event]]\naction='irq-spurious'\nat_ms=1", "x.toml:2", "needs a target"),
        ("[[event]]\naction='kill'\nat_ms=1\nvcpu=128", "x.toml:4", "whole number from 0"),
        ("[[event]]\naction='kill'\nexit='wfi'", "x.toml:3", "one of mmio"),
        ("[[event]]\naction='kill'\nstep='after-trap'\nevery_ms=1", "x.toml:4", "goes with at_ms"),
        (
            "[[event]]\nname='a'\naction='kill'\nat_ms=1\n[[event]]\nname='a'\naction='kill'\nat_ms=1",
            "x.toml:6",
            "name 'a'",
        ),
        ("event = 3", "x.toml", "one [[event]]"),
        ("[[event]]\naction='kill'\nat_ms=1\n" * 65, "x.toml", "at most 64"),
    ],
)
def test_what_is_wrong_is_told_with_its_line_and_key(text: str, where: str, what: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        parse(text, "x.toml")
    sentence = str(caught.value)
    assert sentence.startswith(where + ":") and what in sentence and "\n" not in sentence


def test_symbols_become_addresses() -> None:
    raw = "[[event]]\naction='swap-out'\npage='counter + 0x10'\nexecutes='main'\n"
    found = parse(raw, "x").resolved({"counter": 0x40001000, "main": 0x40002000}.get).events[0]
    assert (found.page, found.executes) == (0x40001010, 0x40002000)
    with pytest.raises(ScenarioError, match="no symbol 'main'"):
        parse(raw, "x").resolved({"counter": 0x40001000}.get)
    assert parse(GOOD, "x").resolved({}.get).events[0].page == "pc"


def test_an_event_for_now_has_no_trigger() -> None:
    assert event({"action": "swap-out", "ipa": 0x40000000}, immediate=True).trigger is None
    with pytest.raises(EventError, match="no trigger"):
        event({"action": "kill", "at_ms": 1}, immediate=True)
    with pytest.raises(EventError, match="accesses to come"):
        event({"action": "reply-drop"}, immediate=True)


@pytest.mark.fuzz
@given(
    st.dictionaries(
        st.sampled_from(("action", "at_ms", "step", "page", "ipa", "fill", "for_ms", "target", "vcpu", "x")),
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(),
            st.floats(),
            st.text(max_size=8),
            st.lists(st.integers(), max_size=2),
            st.sampled_from((*ACTIONS, *STEPS, "pc")),
        ),
    )
)
def test_nothing_but_an_event_error_comes_of_nonsense(raw: dict[str, object]) -> None:
    try:
        found = event(raw)
    except EventError as error:
        assert "\n" not in str(error)
    else:
        assert event(found.record()) == found


@given(st.integers(0, 5), st.integers(1, 5), st.one_of(st.none(), st.integers(1, 5)))
def test_counts_and_periods(skip: int, every: int, times: int | None) -> None:
    selector = Selector(Event("kill", "k", skip=skip, every=every, times=times), 1, 0, 0)
    taken = [n for n in range(60) if selector.takes()]
    assert taken == list(range(60))[skip::every][:times]


def test_chances_come_from_the_seed() -> None:
    def run(seed: int, vcpu: int = 0) -> list[bool]:
        selector = Selector(Event("kill", "k", probability=0.25), seed, 3, vcpu)
        return [selector.takes() for _ in range(4000)]

    assert run(1) == run(1) != run(2)
    assert run(1) != run(1, vcpu=1)
    assert 800 < sum(run(1)) < 1200
