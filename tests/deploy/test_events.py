# SPDX-License-Identifier: GPL-2.0-or-later
"""Events on whole machines: each does what it says, the oracles see what is wrong, and the cures cure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from allstop.deploy.outcome.verdict import Verdict
from allstop.machine import Machine
from allstop.vm.errors import UsageError

pytestmark = pytest.mark.processes

IMAGES = Path(__file__).parents[2] / "guests" / "images"
EXAMPLES = Path(__file__).parents[2] / "examples"
TIMEOUT_S = 90.0


def run(image: str, *events: dict[str, Any], **named: Any) -> Verdict:
    named.setdefault("keep_going", True)
    with Machine(IMAGES / f"{image}.elf", timeout=TIMEOUT_S, events=events, **named) as machine:
        return machine.wait()


def done(verdict: Verdict) -> list[int]:
    return [event["done"] for event in verdict.events]


SWAP_BEFORE_READ = {"action": "swap-out", "page": "pc", "step": "before-read"}


def test_with_a_trigger_the_unprotected_fetch_fails_every_time() -> None:
    """One vCPU, so that no other vCPU uses the page when it is to be swapped out."""
    verdict = run("mmio", SWAP_BEFORE_READ, fetch="unprotected")
    assert verdict.fetches.count > 100
    assert verdict.counters["fetch_wrong"] == verdict.fetches.count


def test_without_keep_going_that_is_a_violation_with_its_story() -> None:
    verdict = run("mmio", SWAP_BEFORE_READ, fetch="unprotected", keep_going=False)
    assert verdict.exit_code == 3
    assert "executed" in verdict.sentence and "0xe7f000f0" in verdict.sentence


@pytest.mark.parametrize(
    ("fetch", "tlb"),
    [
        ("stop-world", "broadcast"),
        ("stop-world", "ipi"),
        ("validate", "broadcast"),
        ("validate", "ipi"),
        ("unprotected", "ipi"),
    ],
)
@pytest.mark.parametrize("step", ["after-trap", "after-translate", "before-read", "before-retire"])
def test_the_cures_hold_at_every_step(fetch: str, tlb: str, step: str) -> None:
    verdict = run("mmio", {**SWAP_BEFORE_READ, "step": step, "every": 5}, fetch=fetch, tlb=tlb, vcpus=2)
    assert verdict.verdict == "pass", verdict.sentence
    assert verdict.counters["fetch_wrong"] == 0
    assert done(verdict)[0] > 20
    assert verdict.counters["swap_in"] > 0


@pytest.mark.parametrize("image", ["boot", "tlb", "smp-counter", "ipi"])
def test_any_guest_runs_while_its_pages_are_swapped(image: str) -> None:
    """All pages of its image, its stacks and its tables among them."""
    verdict = run(
        image,
        *(
            {"action": "swap-out", "ipa": 0x40010000 + 4096 * page, "at_ms": 5 + page, "every_ms": 7}
            for page in range(40)
        ),
        vcpus=4,
    )
    assert verdict.verdict == "pass", verdict.sentence
    assert verdict.counters["swap_out"] > 20
    assert verdict.counters["swap_written"] == 0


@pytest.mark.parametrize("action", ["invalidate-late", "invalidate-dropped"])
def test_a_spoiled_invalidation_is_a_violation(action: str) -> None:
    """Where the other vCPU is in the guest just then, which takes two cores: tried until it is. The guest's vCPUs meet
    at barriers, and one of them invalidates between two, while the other spins at the second."""
    for _ in range(10):
        verdict = run("tlb", {"action": action, "executes": "barrier_wait"}, vcpus=2, pin=True, keep_going=False)
        assert sum(done(verdict)) > 0
        if verdict.counters["stale_tlb"]:
            break
    assert (verdict.verdict, verdict.exit_code) == ("violation", 3)


@pytest.mark.parametrize(
    "event",
    [
        {"action": "invalidate-doubled", "exit": "mmio"},
        {"action": "flush-tlb", "target": "all", "exit": "mmio"},
        {"action": "flush-tlb", "target": 1, "at_ms": 1, "every_ms": 1},
        {"action": "stall", "for_ms": 20, "exit": "mmio", "times": 3},
        {"action": "stall", "for_ms": 20, "instructions": 20000, "times": 2},
    ],
    ids=lambda event: event["action"],
)
def test_a_right_guest_does_not_notice(event: dict[str, Any]) -> None:
    verdict = run("ipi", event, vcpus=2)
    assert verdict.verdict == "pass", verdict.sentence
    assert done(verdict)[0] > 0


@pytest.mark.parametrize(
    ("event", "counter"),
    [
        ({"action": "reply-drop", "step": "before-reply", "every": 50, "times": 2}, "mmio_resent"),
        ({"action": "reply-repeat", "step": "before-reply", "probability": 0.2}, "mmio_stale_reply"),
        ({"action": "reply-delay", "for_ms": 700, "step": "before-reply", "skip": 20, "times": 1}, "mmio_resent"),
    ],
)
def test_replies_that_are_late_lost_or_doubled_change_nothing(event: dict[str, Any], counter: str) -> None:
    verdict = run("ipi", event, vcpus=2, keep_going=False)
    assert verdict.verdict == "pass", verdict.sentence
    assert done(verdict)[0] > 0
    assert verdict.counters[counter] > 0
    assert verdict.counters["mmio_wrong"] == 0


@pytest.mark.parametrize(
    "event",
    [
        {"action": "irq-spurious", "target": "all", "at_ms": 1, "every_ms": 2},
        {"action": "irq-spurious", "step": "before-reply", "every": 20},
        {"action": "irq-withhold", "for_ms": 5, "target": 1, "at_ms": 1, "every_ms": 20},
        {"action": "irq-withhold", "for_ms": 5, "target": 0, "exit": "mmio", "every": 30},
    ],
)
def test_interrupts_that_come_or_do_not(event: dict[str, Any]) -> None:
    verdict = run("ipi", event, vcpus=2)
    assert verdict.verdict == "pass", verdict.sentence
    assert done(verdict)[0] > 0


def test_a_killed_vcpu_is_lost_and_the_sentence_says_why() -> None:
    verdict = run("smp-counter", {"action": "kill", "instructions": 1000, "vcpu": 1, "name": "an accident"}, vcpus=2)
    assert (verdict.verdict, verdict.exit_code) == ("lost", 4)
    assert "killed by event an accident" in verdict.sentence


def test_an_event_when_a_symbol_is_executed() -> None:
    verdict = run("ipi", {"action": "stall", "for_ms": 1, "executes": "main", "vcpu": 0, "times": 1}, vcpus=2)
    assert verdict.verdict == "pass" and done(verdict) == [1]


def test_a_trigger_that_never_fires_is_said_in_the_verdict() -> None:
    verdict = run("hello", {"action": "stall", "for_ms": 1, "exit": "smc", "name": "too late"})
    assert verdict.verdict == "pass" and done(verdict) == [0]
    assert any("too late" in note and "never fired" in note for note in verdict.notes)


def test_an_event_that_can_not_happen_is_said_in_the_verdict() -> None:
    verdict = run("hello", {"action": "swap-out", "page": 0x90000000, "exit": "mmio"})
    assert verdict.events[0]["refused"] > 0
    assert any("refused" in note for note in verdict.notes)


@pytest.mark.parametrize(
    ("event", "what"),
    [
        ({"action": "stall", "for_ms": 1, "executes": "no_such_symbol"}, "no symbol"),
        ({"action": "stall", "for_ms": 1, "exit": "mmio", "vcpu": 2}, "vCPUs 0 to 1"),
        ({"action": "fly", "at_ms": 1}, "no action"),
    ],
)
def test_what_can_not_be_is_a_usage_error(event: dict[str, Any], what: str) -> None:
    with pytest.raises(UsageError, match=what):
        Machine(IMAGES / "hello.elf", vcpus=2, events=[event])


def test_too_many_events_and_two_of_one_name_are_usage_errors() -> None:
    """Would break: the control page has a place for 64 events; the processes found out."""
    one = {"action": "swap-out", "ipa": 0x4001_0000, "at_ms": 1}
    with pytest.raises(UsageError, match="at most 64 events, not 65"):
        Machine(IMAGES / "hello.elf", events=[one] * 65)
    with pytest.raises(UsageError, match="two events have the name 'again'"):
        Machine(IMAGES / "hello.elf", events=[one | {"name": "again"}] * 2)


@pytest.mark.parametrize(
    "path",
    [path for path in sorted(EXAMPLES.glob("*.toml")) if "[[event]]" in path.read_text()],
    ids=lambda path: path.name,
)
def test_the_examples_can_be_used(path: Path) -> None:
    with Machine(IMAGES / "mmio.elf", vcpus=2, events=path, timeout=TIMEOUT_S) as machine:
        verdict = machine.wait()
    assert verdict.verdict == "pass", verdict.sentence
    assert any(event["done"] for event in verdict.events)
