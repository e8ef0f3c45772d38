# SPDX-License-Identifier: GPL-2.0-or-later
"""`allstop ctl`: look into a running machine, pause it, disturb it, end it."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from allstop.cli.speech import say, write_all
from allstop.deploy.outcome.telemetry import EXIT_KINDS
from allstop.operator_link import OperatorLink, RefusedError
from allstop.vm.config.kinds import number
from allstop.vm.errors import HarnessError, UsageError
from allstop.vm.wire.channel import ChannelError

SUMMARY = "look into a running machine, pause it, disturb it, end it"
_STDOUT = 1
_REFUSED = 1
_ROW_BYTES = 16
_WORDS_PER_LINE = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `ctl`: a run folder, and a command of its own."""
    parser.epilog = "exit status: 0 done, 1 the machine refused, 2 usage error, or the run is over, 4 no answer"
    parser.add_argument("run_dir", metavar="RUN-DIR", type=Path, help="the folder of a run's --run-dir")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", title="commands", dest="what")

    def command(name: str, summary: str) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = commands.add_parser(
            name, help=summary, description=summary, allow_abbrev=False
        )
        return added

    status = command("status", "print what each vCPU does")
    status.add_argument("--json", action="store_true", help="as one JSON object")
    command("pause", "stop the world until resume; the run's timeout keeps counting")
    command("resume", "end a pause")
    registers = command("registers", "print registers, of all vCPUs in one stop")
    registers.add_argument("--vcpu", metavar="N", help="of this one only")
    registers.add_argument("--json", action="store_true", help="as one JSON object")
    memory = command("memory", "print guest RAM; pause first for a consistent copy")
    memory.add_argument("ipa", metavar="IPA", help="physical address, as the guest sees it")
    memory.add_argument("length", metavar="LENGTH", help="in bytes")
    form = memory.add_mutually_exclusive_group()
    form.add_argument("--hex", action="store_true", help="as lines of hexadecimal bytes (default)")
    form.add_argument("--raw", action="store_true", help="as it is")
    command("tlb", "have every vCPU flush its TLB, which no correct guest notices")
    swap = command("swap", "swap a page of the guest out to the swap file, or back in")
    swap.add_argument("direction", choices=("out", "in"))
    swap.add_argument("ipa", metavar="IPA", help="physical address of the page, as the guest sees it")
    swap.add_argument("--fill", metavar="WORD", help="fill the frame with this word meanwhile")
    inject = command("inject", "inject an event now, written as in scenarios: action=stall for_ms=50")
    inject.add_argument("--vcpu", metavar="N", help="on this vCPU (default: any)")
    inject.add_argument("event", metavar="KEY=VALUE", nargs="+")
    kill = command("kill", "kill the process of a vCPU, as an accident would: the run is lost")
    kill.add_argument("--vcpu", metavar="N", required=True)
    command("stop", "end the run with verdict error")


def execute(arguments: argparse.Namespace) -> int:
    """Do it; the exit status. Raises UsageError, HarnessError, OSError."""
    try:
        with OperatorLink(arguments.run_dir) as link:
            _COMMANDS[arguments.what](link, arguments)
    except RefusedError as error:
        say(str(error))
        return _REFUSED
    except ChannelError as error:
        raise HarnessError(str(error)) from None
    return 0


def _status(link: OperatorLink, arguments: argparse.Namespace) -> None:
    report = link.status()
    if arguments.json:
        _print(json.dumps(report))
        return
    vcpus = report["vcpus"]
    _print(
        f"{'paused' if report['paused'] else 'running'}, {len(vcpus)} {'vCPU' if len(vcpus) == 1 else 'vCPUs'}, "
        f"{report['stops']:,} {'stop' if report['stops'] == 1 else 'stops'}"
    )
    for n, vcpu in enumerate(vcpus):
        counters = vcpu["counters"]
        exits = sum(counters[kind] for kind in EXIT_KINDS)
        mmio = counters["mmio_read"] + counters["mmio_write"]
        _print(
            f"vCPU {n:<3} process {vcpu['pid']:<8} {vcpu['power']:<7} PC {vcpu['pc']:#010x}  {exits:,} exits, "
            f"{mmio:,} MMIO, {vcpu['doing']}"
        )
    for name, key in (("coordinator", "coordinator"), ("device server", "devices")):
        _print(f"{name}, process {report[key]['pid']}, {report[key]['doing']}")


def _pause(link: OperatorLink, arguments: argparse.Namespace) -> None:
    _print(f"paused, by stop {link.pause()}; `allstop ctl {arguments.run_dir} resume` ends it")


def _resume(link: OperatorLink, arguments: argparse.Namespace) -> None:
    link.resume()
    _print("resumed")


def _registers(link: OperatorLink, arguments: argparse.Namespace) -> None:
    found = link.registers(None if arguments.vcpu is None else _vcpu(link, arguments.vcpu))
    if arguments.json:
        _print(json.dumps(found))
        return
    for vcpu, registers in found.items():
        _print(f"vCPU {vcpu}")
        cells = [f"{name:>12} {value:08x}" for name, value in registers.items()]
        for first in range(0, len(cells), _WORDS_PER_LINE):
            _print("".join(cells[first : first + _WORDS_PER_LINE]))


def _memory(link: OperatorLink, arguments: argparse.Namespace) -> None:
    ipa = number("address", arguments.ipa)
    length_bytes = number("length", arguments.length)
    if not 0 <= ipa < 1 << 32:
        raise UsageError(f"a guest's physical address has 32 bits: {ipa:#x} has more, or is negative")
    if not 0 < length_bytes <= 1 << 32:
        raise UsageError(f"the length must be 1 byte or more, and no more than a guest can have, not {length_bytes}")
    for data in link.memory(ipa, length_bytes):
        if arguments.raw:
            while data:
                data = data[os.write(_STDOUT, data) :]
            continue
        rows = (data[start : start + _ROW_BYTES] for start in range(0, len(data), _ROW_BYTES))
        _print(
            "\n".join(
                f"{ipa + _ROW_BYTES * n:08x}  {row.hex(' '):<{3 * _ROW_BYTES}} {_readable(row)}"
                for n, row in enumerate(rows)
            )
        )
        ipa += len(data)


def _readable(row: bytes) -> str:
    return "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in row)


def _tlb(link: OperatorLink, arguments: argparse.Namespace) -> None:
    link.flush_tlbs()
    _print(f"asked {link.vcpus} {'vCPU' if link.vcpus == 1 else 'vCPUs'} to flush")


def _swap(link: OperatorLink, arguments: argparse.Namespace) -> None:
    ipa = number("address", arguments.ipa) & ~0xFFF
    event: dict[str, Any] = {"action": f"swap-{arguments.direction}", "ipa": ipa}
    if arguments.fill is not None:
        event["fill"] = number("fill", arguments.fill)
    link.inject(event)
    _print(f"the page at {ipa:#010x} is {arguments.direction}")


def _inject(link: OperatorLink, arguments: argparse.Namespace) -> None:
    event: dict[str, Any] = {}
    for text in arguments.event:
        key, equals, value = text.partition("=")
        if not equals or key in event:
            raise UsageError(f"an event is given as KEY=VALUE, each key once, not {text!r}")
        event[key] = _value(value)
    link.inject(event, None if arguments.vcpu is None else _vcpu(link, arguments.vcpu))
    _print("it has happened")


def _value(text: str) -> int | float | str:
    for kind in (lambda word: int(word, 0), float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _kill(link: OperatorLink, arguments: argparse.Namespace) -> None:
    vcpu = _vcpu(link, arguments.vcpu)
    host = link.host_of(vcpu)
    _print(f"killed vCPU {vcpu}, process {link.kill(vcpu)}{f' of host {host}' if host else ''}")


def _stop(link: OperatorLink, arguments: argparse.Namespace) -> None:
    link.stop()
    _print("the run ends")


def _vcpu(link: OperatorLink, text: str) -> int:
    vcpu = number("number of the vCPU", text)
    if not 0 <= vcpu < link.vcpus:
        raise UsageError(f"the machine has vCPUs 0 to {link.vcpus - 1}, not {vcpu}")
    return vcpu


def _print(text: str) -> None:
    write_all(_STDOUT, text + "\n")


_COMMANDS = {
    "status": _status,
    "pause": _pause,
    "resume": _resume,
    "registers": _registers,
    "memory": _memory,
    "tlb": _tlb,
    "swap": _swap,
    "inject": _inject,
    "kill": _kill,
    "stop": _stop,
}
