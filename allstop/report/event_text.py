# SPDX-License-Identifier: GPL-2.0-or-later
"""A journal record in words, for reports and traces. Data from the guest appears only as numbers here."""

from __future__ import annotations

from allstop.vm.arm.decoder import decode
from allstop.vm.arm.instruction import UndecodableError
from allstop.vm.arm.psci import PsciFunction
from allstop.vm.config.policies import TLB_DISCIPLINES
from allstop.vm.control import control
from allstop.vm.journal.format import EXIT_NAMES, NO_VCPU, NOTHING, Event, Kind
from allstop.vm.wire.messages import ROLE_NAMES, VERDICTS

_ADDRESSES = ("pc", "ipa", "hdfar", "hsr", "address", "entry", "executed", "fetched", "instruction", "function")
_FLAGS = ("is_write", "may_share", "mixed", "execute", "prefetch", "thumb", "ipi", "news")
_STATUSES = ("", ", no device there", ", the device failed", ", not understood")
_FLUSHES = {
    control.TLB_FLUSH: "translations",
    control.TLB_PAGES: "translations of single pages",
    control.CODE_FLUSH: "translated code",
}


def instruction_text(word: int, thumb: bool) -> str:
    """`ldr r0, [r1] (0xe5910000)`, or a description of another word."""
    if word == NOTHING:
        return "nothing"
    try:
        return f"{decode(word, thumb)} ({word:#x})"
    except UndecodableError:
        return f"{word:#x}, no load or store"


def title(event: Event) -> str:
    """A short name for the record, one of a few."""
    kind = event.kind
    if kind is Kind.EXIT:
        return f"exit {name_of(EXIT_NAMES, event.operand('exit_kind'))}"
    if kind in (Kind.MMIO, Kind.ACCESS):
        return "write" if event.operand("is_write") else "read"
    if kind is Kind.PSCI or kind is Kind.PSCI_CALLED:
        return f"PSCI {_psci(event.operand('function'))}"
    return _TITLES.get(kind, kind.name.lower().replace("_", " "))


_TITLES = {
    Kind.FETCHED: "fetch",
    Kind.STOP_GRANTED: "wait for the world",
    Kind.WORLD_HELD: "hold the world",
    Kind.SLEPT: "WFI",
    Kind.STOPPED: "stop the world",
    Kind.FLUSHED: "flush",
    Kind.FLIPPED: "W^X toggle",
    Kind.LINE_TAKEN: "interrupt line",
    Kind.ABORTED: "abort injected",
    Kind.LINE_SET: "interrupt line",
    Kind.PAGED: "wait for a page",
}


def details(event: Event) -> str:
    """The rest of the record, in words."""
    kind, get = event.kind, event.operand
    match kind:
        case Kind.EXIT:
            at = f"at {get('pc'):#010x}"
            return f"{at}, IPA {get('ipa'):#010x}" if get("ipa") else at
        case Kind.MMIO | Kind.ACCESS:
            what = f"{get('size')} bytes" if get("size") != 1 else "1 byte"
            said = f"{what} at {get('ipa'):#010x}: {get('value'):#x}{name_of(_STATUSES, get('status'))}"
            return said if kind is Kind.MMIO else f"{said}, for vCPU {event.vcpu}"
        case Kind.FETCHED:
            match_ = "as executed" if get("fetched") == get("executed") else f"executed {_word(get('executed'))}"
            return f"{_word(get('fetched'))} at {get('pc'):#010x}, {match_}"
        case Kind.VIOLATION:
            thumb = bool(get("thumb"))
            return (
                f"executed {instruction_text(get('executed'), thumb)} at {get('pc'):#010x}, fetched "
                f"{instruction_text(get('fetched'), thumb)}"
            )
        case Kind.TLBI:
            stale = f", {get('stale')} vCPUs may use what was invalidated" if get("stale") else ""
            return f"{name_of(TLB_DISCIPLINES, get('discipline'))} at {get('pc'):#010x}{stale}"
        case Kind.SHOOTDOWN:
            which = "and of those handling exits" if get("ipi") else "of those in the guest"
            return f"{_flushed(get('requests'))} {which}, invalidation {get('invalidation')}"
        case Kind.FLUSHED:
            return _flushed(get("requests"))
        case Kind.FLIPPED:
            to = "writable and executable" if get("mixed") else "executable" if get("execute") else "writable"
            return f"{get('ipa'):#010x} becomes {to}"
        case Kind.PAGED:
            to = "execute" if get("execute") else "write" if get("is_write") else "read"
            return f"{get('ipa'):#010x} of another host's, to {to} at {get('pc'):#010x}"
        case Kind.LINE_TAKEN | Kind.LINE_SET:
            levels = ("none", "IRQ", "FIQ", "IRQ and FIQ")[get("line") & 3]
            return levels if kind is Kind.LINE_TAKEN else f"{levels}, for vCPU {event.vcpu}"
        case Kind.ABORTED:
            what = "prefetch abort" if get("prefetch") else "data abort"
            return f"{what} for {get('address'):#010x} at {get('pc'):#010x}"
        case Kind.LOST:
            return f"{name_of(ROLE_NAMES, get('role'))}: {event.text}"
        case Kind.ENDED:
            return f"{name_of(VERDICTS, get('verdict'))}: {event.text}"
    said = ", ".join(
        f"{name} {text}" for name, text in arguments(event).items() if name not in ("function", "says", "for")
    )
    whose = f"vCPU {event.vcpu}" if Kind.STOP_QUEUED <= kind < Kind.ACCESS and event.vcpu != NO_VCPU else ""
    return "; ".join(filter(None, (whose, said, event.text)))


def arguments(event: Event) -> dict[str, str | int]:
    """Each operand but the duration, by name; addresses in hexadecimal."""
    found: dict[str, str | int] = {}
    for name, value in zip(event.kind.operands, event.operands, strict=True):
        if name == "took_ns":
            continue
        if name == "exit_kind":
            found[name] = name_of(EXIT_NAMES, value)
        elif value == NOTHING:
            found[name] = "none"
        elif name in _FLAGS:
            found[name] = "yes" if value else "no"
        else:
            found[name] = f"{value:#010x}" if name in _ADDRESSES or value > 0xFFFF else value
    if event.kind is Kind.PSCI or event.kind is Kind.PSCI_CALLED:
        found["function"] = _psci(event.operand("function"))
    if event.kind >= Kind.STOP_QUEUED and event.vcpu != NO_VCPU:
        found["for"] = f"vCPU {event.vcpu}"
    if event.text:
        found["says"] = event.text
    return found


def name_of(names: tuple[str, ...], index: int) -> str:
    """A name by its index; the index itself if it has none."""
    return names[index] if index < len(names) else str(index)


def _psci(function: int) -> str:
    try:
        return PsciFunction(function).name
    except ValueError:
        return f"{function:#010x}"


def _flushed(requests: int) -> str:
    return " and ".join(text for bit, text in _FLUSHES.items() if requests & bit)


def _word(word: int) -> str:
    return "nothing" if word == NOTHING else f"{word:#x}"
