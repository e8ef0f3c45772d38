# SPDX-License-Identifier: GPL-2.0-or-later
"""The one vocabulary of events, which scenario files, `allstop ctl` and the Python API share.

An event is an action, what it acts on, and a trigger. Everything that is wrong with one is found by `event`, from
the tables below: a key that is not in them, or does not belong to the action, is refused by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

WORKER = "worker"
DEVICES = "devices"
"""Who performs an action."""

STEPS = ("after-trap", "after-translate", "before-read", "before-retire")
"""Steps of the hypervisor, in their order, on the way of an instruction without a syndrome."""
DEVICE_STEP = "before-reply"
"""The step of the device server: an access has been performed, its reply has yet to leave."""
EXITS = ("mmio", "nisv", "hvc", "smc", "cp15", "fetch", "walk")
"""Exits from the guest that a worker handles in Python, by their names in the verdict's counters or the engine's."""
TRIGGERS = ("at_ms", "instructions", "exit", "executes", "step")
MAX_EVENTS = 64
UDF = 0xE7F0_00F0
"""What a frame is filled with: permanently undefined as an ARM instruction."""


class EventError(ValueError):
    """An event cannot be as it is written. `key` is the key that is to blame, where one is."""

    def __init__(self, sentence: str, key: str | None = None) -> None:
        super().__init__(sentence)
        self.key = key


@dataclass(frozen=True)
class Action:
    """What may be said of an action: its keys, those it needs, and who performs it."""

    performer: str
    keys: tuple[str, ...]
    needs: tuple[str, ...] = ()
    meaning: str = ""


ACTIONS: dict[str, Action] = {
    "swap-out": Action(WORKER, ("page", "ipa", "fill"), (), "write a page to the swap file, and reuse its frame"),
    "swap-in": Action(WORKER, ("page", "ipa"), (), "bring a page back, as its next use would"),
    "remap": Action(
        WORKER,
        ("page", "to", "fill"),
        ("to",),
        "map a virtual page to the frame `to`, a copy, and reuse the frame it had, as the guest's kernel would",
    ),
    "flush-tlb": Action(WORKER, ("target",), (), "have vCPUs forget their translations"),
    "invalidate-late": Action(WORKER, (), (), "the vCPU's next TLB invalidation is over before others have flushed"),
    "invalidate-dropped": Action(WORKER, (), (), "the vCPU's next TLB invalidation reaches nobody else"),
    "invalidate-doubled": Action(WORKER, (), (), "the vCPU's next TLB invalidation is done twice"),
    "stall": Action(WORKER, ("for_ms",), ("for_ms",), "the vCPU does nothing for a while"),
    "kill": Action(WORKER, (), (), "the vCPU's process dies by SIGKILL"),
    "irq-spurious": Action(DEVICES, ("target",), (), "signal an interrupt to a vCPU which has none pending"),
    "irq-withhold": Action(DEVICES, ("target", "for_ms"), ("for_ms",), "keep interrupts from a vCPU for a while"),
    "reply-delay": Action(DEVICES, ("device", "for_ms"), ("for_ms",), "the reply to an access comes late"),
    "reply-drop": Action(DEVICES, ("device",), (), "the reply to an access is lost; the worker asks again"),
    "reply-repeat": Action(DEVICES, ("device",), (), "the reply to an access comes twice"),
}


@dataclass(frozen=True)
class Event:
    """One event of a scenario. Numbers of milliseconds are positive; addresses are guest addresses of 32 bits.

    Exactly one of the triggers is set: `at_ms` after the machine's start (and again each `every_ms`); `instructions`
    that the vCPU has executed; an `exit`; `executes`: the instruction at an address is about to be executed; a
    `step`. `vcpu` limits it to one vCPU. Of the occasions, `skip` pass, then each `every`th is taken with
    `probability`, at most `times` times (each vCPU counts for itself).

    `page` is a virtual address, or "pc": that of the vCPU that performs the event; `ipa` a physical one. `to` is the
    frame for a remap. `fill` is the word that a frame is filled with. `target` is a vCPU, "self" or "all". `device`
    limits a reply's event to accesses of the page at this physical address.
    """

    action: str
    name: str
    at_ms: float | None = None
    every_ms: float | None = None
    instructions: int | None = None
    exit: str | None = None
    executes: int | str | None = None
    step: str | None = None
    vcpu: int | None = None
    skip: int = 0
    every: int = 1
    times: int | None = None
    probability: float = 1.0
    page: int | str | None = None
    ipa: int | None = None
    to: int | None = None
    fill: int = UDF
    target: int | str = "self"
    device: int | None = None
    for_ms: float = 0.0

    @property
    def performer(self) -> str:
        """WORKER or DEVICES."""
        return ACTIONS[self.action].performer

    @property
    def trigger(self) -> str | None:
        """The name of the trigger; None when it is for now."""
        return next((name for name in TRIGGERS if getattr(self, name) is not None), None)

    def record(self) -> dict[str, Any]:
        """What `event` makes this of."""
        defaults = Event(self.action, "")
        return {
            key: value
            for key, value in asdict(self).items()
            if key in ("action", "name") or value != getattr(defaults, key)
        }


def _whole(low: int, high: int) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        good = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        return "" if good else f"must be a whole number from {low} to {high:#x}"

    return check


def _milliseconds(value: Any) -> str:
    good = (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and math.isfinite(value)
        and (0 < value <= 86_400_000)
    )
    return "" if good else "must be a positive number of milliseconds, at most a day"


def _probability(value: Any) -> str:
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= 1
    return "" if good else "must be a number above 0, at most 1"


def _choice(*choices: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        return "" if value in choices else f"must be one of {', '.join(choices)}"

    return check


def _text(value: Any) -> str:
    return (
        ""
        if isinstance(value, str) and 0 < len(value) <= 64 and value.isprintable()
        else ("must be a name of 1 to 64 characters")
    )


_WORD = _whole(0, 0xFFFF_FFFF)
_VCPU = _whole(0, 127)


def _address(value: Any) -> str:
    if isinstance(value, str):
        return _text(value)
    return _WORD(value) and "must be a 32-bit address or a symbol of the image (symbol+offset)"


def _target(value: Any) -> str:
    return "" if value in ("self", "all") else _VCPU(value) and 'must be the number of a vCPU, "self" or "all"'


_CHECKS: dict[str, Callable[[Any], str]] = {
    "name": _text,
    "at_ms": _milliseconds,
    "every_ms": _milliseconds,
    "instructions": _whole(1, (1 << 63) - 1),
    "exit": _choice(*EXITS),
    "executes": _address,
    "step": _choice(*STEPS, DEVICE_STEP),
    "vcpu": _VCPU,
    "skip": _whole(0, (1 << 63) - 1),
    "every": _whole(1, (1 << 63) - 1),
    "times": _whole(1, (1 << 63) - 1),
    "probability": _probability,
    "page": _address,
    "ipa": _WORD,
    "to": _WORD,
    "fill": _WORD,
    "target": _target,
    "device": _WORD,
    "for_ms": _milliseconds,
}
_COMMON = ("action", "name", *TRIGGERS, "every_ms", "vcpu", "skip", "every", "times", "probability")


def event(raw: Mapping[str, Any], number: int = 1, immediate: bool = False) -> Event:
    """The event that `raw` describes, the `number`th of its scenario. `immediate`: it is for now, and has no trigger.

    Raises EventError.
    """
    name = raw.get("action")
    if not isinstance(name, str) or name not in ACTIONS:
        missing = "has no action" if name is None else f"{name!r} is no action"
        raise EventError(f"{missing}: choose one of {', '.join(ACTIONS)}", "action")
    action = ACTIONS[name]
    for key, value in raw.items():
        if key not in _COMMON and key not in action.keys:
            known = key in _CHECKS
            raise EventError(
                f"{key!r} {'does not belong to' if known else 'is no key of'} the action {name}: it takes "
                f"{', '.join((*action.keys, *_COMMON[1:]))}",
                key,
            )
        if key != "action" and (wrong := _CHECKS[key](value)):
            raise EventError(f"{key} {wrong}, not {value!r}", key)
    for key in action.needs:
        if key not in raw:
            raise EventError(f"the action {name} needs {key}", "action")
    found = Event(**{"name": f"{name}-{number}", **raw})
    _check_trigger(found, immediate)
    _check_place(found)
    return found


def _check_trigger(found: Event, immediate: bool) -> None:
    triggers = [name for name in TRIGGERS if getattr(found, name) is not None]
    if immediate:
        if triggers:
            raise EventError(f"an event that is for now has no trigger ({triggers[0]})", triggers[0])
        if found.action.startswith("reply-"):
            raise EventError(
                f'the action {found.action} is for accesses to come: it needs step = "{DEVICE_STEP}" in a scenario',
                "action",
            )
        return
    if len(triggers) != 1:
        said = f"has {' and '.join(triggers)}" if triggers else "has no trigger"
        raise EventError(f"{said}: give one of {', '.join(TRIGGERS)}", triggers[1] if triggers else "action")
    if found.every_ms is not None and found.at_ms is None:
        raise EventError("every_ms goes with at_ms", "every_ms")
    on_reply = found.step == DEVICE_STEP
    if found.action.startswith("reply-") and not on_reply:
        raise EventError(f'the action {found.action} needs step = "{DEVICE_STEP}"', triggers[0])
    if on_reply and found.performer != DEVICES:
        raise EventError(f"the step {DEVICE_STEP} is the device server's: {found.action} is a worker's", "step")


def _check_place(found: Event) -> None:
    if found.action in ("swap-out", "swap-in") and (found.page is None) == (found.ipa is None):
        blamed = "ipa" if found.ipa is not None else "action"
        raise EventError(f"the action {found.action} needs either page or ipa", blamed)
    if found.action == "remap" and found.page is None:
        raise EventError("the action remap needs page", "action")
    if found.page == "pc" and found.trigger in (None, "at_ms"):
        raise EventError('page = "pc" needs a trigger on a vCPU, which a time is not', "page")
    for key in ("ipa", "to", "device"):
        value = getattr(found, key)
        if value is not None and value % 4096:
            raise EventError(f"{key} must be the address of a page, a multiple of 4096, not {value:#x}", key)
    if found.target == "self" and found.performer == DEVICES and found.trigger in (None, "at_ms"):
        raise EventError(f"the action {found.action} needs a target, since a time is on no vCPU", "action")
