# SPDX-License-Identifier: GPL-2.0-or-later
"""The one vocabulary of events, which scenario files, `allstop ctl` and the Python API share.

An event is an action, what it acts on, and a trigger. `event` finds everything that is wrong with one, from the tables
below: it refuses by name a key that is not in them or does not belong to the action.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

WORKER = "worker"
DEVICES = "devices"
"""The processes that perform actions."""

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
    """One row: an action, its performer (WORKER or DEVICES), the keys that it takes, and what it does.

    `needs` are keys that it cannot do without, of `either` it takes exactly one. An action that `changes_page` is done
    by an actor beside the vCPU, which the stopped world and the `ipi` discipline hold up. One that is `on_reply` is
    done to the reply of an access, at the step DEVICE_STEP. What performs a row registers under its name: see
    `vm/events/performers.py`.
    """

    name: str
    performer: str
    keys: tuple[str, ...]
    meaning: str
    needs: tuple[str, ...] = ()
    either: tuple[str, ...] = ()
    changes_page: bool = False
    on_reply: bool = False


_ROWS = (
    Action(
        "swap-out",
        WORKER,
        ("page", "ipa", "fill"),
        "break the page's stage-2 entry, flush every vCPU, write the page to the swap file, fill its frame",
        either=("page", "ipa"),
        changes_page=True,
    ),
    Action(
        "swap-in",
        WORKER,
        ("page", "ipa"),
        "bring the page back, as its next use by a vCPU or by the hypervisor does",
        either=("page", "ipa"),
        changes_page=True,
    ),
    Action(
        "remap",
        WORKER,
        ("page", "to", "fill"),
        "copy the page to the frame `to`, change its small-page entry in the guest's tables, invalidate, fill the old "
        "frame; the next `remap` moves it back",
        needs=("to", "page"),
        changes_page=True,
    ),
    Action("flush-tlb", WORKER, ("target",), "post a spurious TLB flush"),
    Action(
        "invalidate-late",
        WORKER,
        (),
        "the vCPU's next TLB invalidation is over before others have flushed, which the TLB oracle reports",
    ),
    Action(
        "invalidate-dropped",
        WORKER,
        (),
        "the vCPU's next TLB invalidation reaches no other vCPU, which the TLB oracle reports",
    ),
    Action("invalidate-doubled", WORKER, (), "the vCPU's next TLB invalidation is done twice, which is harmless"),
    Action("stall", WORKER, ("for_ms",), "the vCPU stays outside the guest", needs=("for_ms",)),
    Action("kill", WORKER, (), "the vCPU's process dies by SIGKILL: the run is lost"),
    Action(
        "irq-spurious", DEVICES, ("target",), "the vCPU's IRQ line rises with nothing pending; the guest reads 1023"
    ),
    Action("irq-withhold", DEVICES, ("target", "for_ms"), "the line stays low", needs=("for_ms",)),
    Action(
        "reply-delay",
        DEVICES,
        ("device", "for_ms"),
        "the reply to an access comes late (after half a second the worker repeats its request, which changes nothing)",
        needs=("for_ms",),
        on_reply=True,
    ),
    Action(
        "reply-drop",
        DEVICES,
        ("device",),
        "the reply is lost; the worker repeats its request, and the access is performed once",
        on_reply=True,
    ),
    Action("reply-repeat", DEVICES, ("device",), "the reply comes twice; the access is performed once", on_reply=True),
)
ACTIONS = {row.name: row for row in _ROWS}
"""Every action, by its name. A new one is a row here and what performs it."""


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
    def row(self) -> Action:
        """The action's."""
        return ACTIONS[self.action]

    @property
    def performer(self) -> str:
        """WORKER or DEVICES."""
        return self.row.performer

    @property
    def trigger(self) -> str | None:
        """The name of the trigger; None when it is for now."""
        return next((name for name in TRIGGERS if getattr(self, name) is not None), None)

    def record(self) -> dict[str, Any]:
        """The mapping from which `event` makes this."""
        defaults = Event(self.action, "")
        return {
            key: value
            for key, value in asdict(self).items()
            if key in ("action", "name") or value != getattr(defaults, key)
        }

    def immediate_record(self) -> dict[str, Any]:
        """The same without its trigger, for the process that performs it now."""
        return {key: value for key, value in self.record().items() if key not in (*TRIGGERS, "every_ms")}


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
_LONGEST_SHOWN = 100
_COMMON = ("action", "name", *TRIGGERS, "every_ms", "vcpu", "skip", "every", "times", "probability")


def shown(value: object) -> str:
    """A value of a scenario in a sentence, cut after `_LONGEST_SHOWN` characters."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # nested too deeply, or a number of thousands of digits
        return f"a {type(value).__name__} of that size"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def event(raw: Mapping[str, Any], number: int = 1, immediate: bool = False) -> Event:
    """The event that `raw` describes, the `number`th of its scenario. `immediate`: it is for now, and has no trigger.

    Raises EventError.
    """
    name = raw.get("action")
    if not isinstance(name, str) or name not in ACTIONS:
        missing = "has no action" if name is None else f"{shown(name)} is no action"
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
            raise EventError(f"{key} {wrong}, not {shown(value)}", key)
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
        if found.row.on_reply:
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
    if found.row.on_reply and not on_reply:
        raise EventError(f'the action {found.action} needs step = "{DEVICE_STEP}"', triggers[0])
    if on_reply and found.performer != DEVICES:
        raise EventError(f"the step {DEVICE_STEP} is the device server's: {found.action} is a worker's", "step")


def _check_place(found: Event) -> None:
    given = [key for key in found.row.either if getattr(found, key) is not None]
    if found.row.either and len(given) != 1:
        blamed = given[-1] if given else "action"
        raise EventError(f"the action {found.action} needs either {' or '.join(found.row.either)}", blamed)
    if found.page == "pc" and found.trigger in (None, "at_ms"):
        raise EventError('page = "pc" needs a trigger on a vCPU, which a time is not', "page")
    for key in ("ipa", "to", "device"):
        value = getattr(found, key)
        if value is not None and value % 4096:
            raise EventError(f"{key} must be the address of a page, a multiple of 4096, not {value:#x}", key)
    if found.target == "self" and found.performer == DEVICES and found.trigger in (None, "at_ms"):
        raise EventError(f"the action {found.action} needs a target, since a time is on no vCPU", "action")
