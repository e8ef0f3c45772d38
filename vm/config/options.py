# SPDX-License-Identifier: GPL-2.0-or-later
"""The options of a run: one row each.

A row is a field of a dataclass with an `Option` beside its default. Everything that knows an option reads it from here:
`allstop run`'s command line and help, `Machine`'s arguments, the checks, what the machine's processes are told
(`MachineConfig` inherits `GuestOptions`), the plan for other hosts, the axes of campaigns, README's table. A new option
is a row here or in `allstop.deploy.options.options.RunOptions`, and its use.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from allstop.vm.config.kinds import (
    WORD_MAX,
    Choice,
    CommandLine,
    Device,
    Drive,
    Function,
    Kind,
    Many,
    Size,
    Switch,
    Whole,
)
from allstop.vm.config.limits import MAX_TIME_DILATION, MAX_VCPUS
from allstop.vm.config.policies import DECODERS, FETCH_POLICIES, FETCH_ROWS, TLB_DISCIPLINES
from allstop.vm.errors import UsageError

if TYPE_CHECKING:
    import argparse

_KEY = "option"


@dataclass(frozen=True, eq=False, repr=False)  # which saves each process of a machine a millisecond
class Option:
    """What a row says besides its name, type and default.

    `kind` reads and checks values. `what` names the option in sentences. `word` is its name in Python and in campaign
    specs, where that differs from the field's; `flag` is the command line's, where that is not the word's. `needs` and
    `excludes` name another field that must, or must not, be given with it. `axis` lets campaigns vary it; `axis_kind`
    is the kind for campaigns, where they allow less. `hidden` keeps it out of help and documents. `stays` is for what
    concerns the first host alone: the processes of other hosts are told the default.
    """

    kind: Kind
    what: str
    help: str
    metavar: str = ""
    word: str = ""
    flag: str = ""
    needs: str = ""
    excludes: str = ""
    axis: bool = False
    axis_kind: Kind | None = None
    hidden: bool = False
    stays: bool = False


@dataclass(frozen=True, eq=False, repr=False)
class Row:
    """One option with its names: `field` in the dataclass, `word` in Python, `flag` on the command line."""

    field: str
    word: str
    flag: str
    default: Any
    option: Option

    @property
    def kind(self) -> Kind:
        return self.option.kind


def option(default: Any, kind: Kind, what: str, help: str, metavar: str = "", **more: Any) -> Any:
    """A dataclass field that is a row of the table; the rest as in `Option`."""
    return dataclasses.field(default=default, metadata={_KEY: Option(kind, what, help, metavar, **more)})


def rows(table: type[Any]) -> tuple[Row, ...]:
    """The rows of a dataclass, its bases' first."""
    found = []
    for field in dataclasses.fields(table):
        if _KEY in field.metadata:
            row: Option = field.metadata[_KEY]
            word = row.word or field.name
            flag = row.flag or f"--{word.replace('_', '-')}"
            found.append(Row(field.name, word, flag, field.default, row))
    return tuple(found)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class GuestOptions:
    """The options that the processes of a machine are told."""

    vcpus: int = option(
        1, Whole(1, MAX_VCPUS), "number of vCPUs", "number of vCPUs, each a process of its own", "N", axis=True
    )
    fetch: str = option(
        FETCH_POLICIES[0],
        Choice(FETCH_POLICIES),
        "fetch policy",
        "how the hypervisor fetches an instruction without syndrome",
        "POLICY",
        axis=True,
        axis_kind=Choice([row.name for row in FETCH_ROWS if not row.needs_handler]),  # which is code on one host's disk
    )
    fetch_handler: Any = option(
        None,
        Function(),
        "fetch handler",
        "with --fetch user: the function that gives each such instruction",
        "FILE.py:FUNCTION",
    )
    tlb: str = option(
        TLB_DISCIPLINES[0],
        Choice(TLB_DISCIPLINES),
        "TLB discipline",
        "which vCPUs a TLB invalidation waits for",
        "DISCIPLINE",
        axis=True,
    )
    decode: str = option(
        DECODERS[0],
        Choice(DECODERS),
        "decoder",
        "which instructions without syndrome are emulated; kvm refuses what the patch of 2013 refused",
        "DECODER",
        axis=True,
    )
    memory_bytes: int = option(
        64 << 20,
        Size(),
        "memory",
        "guest memory in steps of 2M, such as 64M or 1G; sparse: it costs what is touched",
        "SIZE",
        word="memory",
        axis=True,
    )
    parameter: int = option(
        0, Whole(0, WORD_MAX), "parameter", "a number that the guest reads from the test device", "N", axis=True
    )
    seed: int = option(
        0, Whole(0, WORD_MAX), "seed", "the guest's seed, from the test device; events draw from it too", "N", axis=True
    )
    time_dilation: int = option(
        1,
        Whole(1, MAX_TIME_DILATION),
        "time dilation",
        "the guest's clock goes N times slower than the host's",
        "N",
        axis=True,
    )
    append: str = option(
        "", CommandLine(), "command line", "the command line of the guest's kernel", "TEXT", axis=True, stays=True
    )
    keep_going: bool = option(
        False, Switch(), "keep_going", "count violations and do not end the run at the first one", axis=True
    )
    pin: bool = option(
        False,
        Switch(),
        "pin",
        "keep each vCPU on one core: vCPU N on core N modulo the host's cores",
        axis=True,
    )
    journal: bool = option(
        False,
        Switch(),
        "journal",
        "have every process keep a journal in the run folder, for report and trace",
        needs="run_dir",
    )
    devices: tuple[Any, ...] = option(
        (),
        Many(Device(), "FILE.py:Class@ADDRESS"),
        "devices",
        "add a device of your own; may be repeated",
        "FILE.py:Class@ADDRESS",
        flag="--device",
        stays=True,
    )
    drives: tuple[Any, ...] = option(
        (),
        Many(Drive(), "FILE or FILE,MODE"),
        "drives",
        "a virtio disk; MODE is cow (default: writes are gone with the run), ro or rw; may be repeated",
        "FILE[,MODE]",
        flag="--drive",
        stays=True,
    )
    virtio_console: bool = option(
        False, Switch(), "virtio_console", "a virtio console, which prints on the console", axis=True
    )
    rng: bool = option(False, Switch(), "rng", "a virtio entropy device, which --seed determines", axis=True)
    testdev: bool = option(
        False, Switch(), "testdev", "a virtio console on which kvm-unit-tests end the run with their status", axis=True
    )
    virtio_legacy: bool = option(
        False, Switch(), "virtio_legacy", "legacy (version 1) virtio transports, as QEMU's default", axis=True
    )
    exit_status_line: bool = option(
        False,
        Switch(),
        "exit_status_line",
        "take the verdict from the line EXIT: STATUS=N that the guest prints",
        axis=True,
    )
    as_shipped: bool = option(
        False, Switch(), "as_shipped", "run the library without what makes it fit for several processes", hidden=True
    )

    def told(self) -> dict[str, Any]:
        """These options by field: what every process of the machine is told."""
        return {row.field: getattr(self, row.field) for row in rows(GuestOptions)}


def told_elsewhere() -> dict[str, Any]:
    """The options by field that concern the first host alone, with what other hosts are told instead."""
    return {row.field: row.default for row in rows(GuestOptions) if row.option.stays}


def add_arguments(parser: argparse.ArgumentParser, table: type[Any]) -> None:
    """Give the parser a flag for each row. Values stay text: `of_arguments` reads them."""
    import argparse  # here, for the processes of a machine need not load it

    for row in rows(table):
        shown_help = argparse.SUPPRESS if row.option.hidden else help_text(row)
        if not row.kind.has_value:
            parser.add_argument(row.flag, dest=row.word, action="store_true", help=shown_help)
        elif row.kind.is_list:
            parser.add_argument(
                row.flag, dest=row.word, metavar=row.option.metavar, action="append", default=[], help=shown_help
            )
        else:
            parser.add_argument(row.flag, dest=row.word, metavar=row.option.metavar, help=shown_help)


def help_text(row: Row) -> str:
    """The row's help with its choices and its default."""
    text = row.option.help
    if isinstance(row.kind, Choice):
        return f"{text}: {', '.join(row.kind.names)} (default {row.default})"
    public = row.kind.public(row.default)
    if row.kind.has_value and public not in (None, "", ()):
        return f"{text} (default {public})"
    return text


def of_arguments(table: type[Any], given: argparse.Namespace) -> dict[str, Any]:
    """The values of a parsed command line, by field. Raises UsageError."""
    values = {}
    for row in rows(table):
        value = getattr(given, row.word)
        if not row.kind.has_value:
            values[row.field] = value
        elif value is not None:
            values[row.field] = row.kind.read(row.option.what, value)
    return values


def of_python(table: type[Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The values of keyword arguments, by field. Raises UsageError, and TypeError for a name that is no option."""
    known = {row.word: row for row in rows(table)}
    values = {}
    for word, value in given.items():
        if word not in known:
            raise TypeError(f"there is no option {word!r}")
        row = known[word]
        if value is not None or row.default is not None:
            values[row.field] = row.kind.accept(row.option.what, value)
    return values


def to_arguments(options: Any) -> list[str]:
    """The words of a command line that ask for the same options; those at their default are left out."""
    words = []
    for row in rows(type(options)):
        value = getattr(options, row.field)
        if value != row.default:
            words += row.kind.arguments(row.flag, value)
    return words


def check(options: Any) -> None:
    """Raise UsageError unless each option is right by itself and those that it needs are given."""
    table = {row.field: row for row in rows(type(options))}
    for row in table.values():
        value = getattr(options, row.field)
        if value is None and row.default is None:
            continue
        row.kind.check(row.option.what, value)
        if value == row.default:
            continue
        if row.option.needs:
            other = table[row.option.needs]
            if getattr(options, other.field) == other.default:
                raise UsageError(f"{row.flag} requires {other.flag}")
        if row.option.excludes:
            other = table[row.option.excludes]
            if getattr(options, other.field) != other.default:
                raise UsageError(f"{row.flag} and {other.flag} exclude each other")
