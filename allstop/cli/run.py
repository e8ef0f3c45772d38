# SPDX-License-Identifier: GPL-2.0-or-later
"""`allstop run`: run one guest to its verdict."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from allstop.cli.speech import say, write_all
from allstop.deploy.errors import HarnessError, UsageError
from allstop.deploy.options.boot_options import boot_options
from allstop.deploy.options.console_place import PLACES, STDIO, ConsolePlace
from allstop.deploy.options.gdb_address import gdb_address
from allstop.deploy.options.options import (
    DEFAULT_MEMORY,
    RAW_SUFFIXES,
    RunOptions,
    device,
    drive,
    handler,
    memory_size,
    number,
    scenario,
)
from allstop.deploy.outcome.verdict import Verdict
from allstop.deploy.run.launcher import Surroundings, run
from allstop.vm.config.machine import DECODERS, FETCH_POLICIES, MAX_VCPUS, TLB_DISCIPLINES
from allstop.vm.events.scenario import Scenario

SUMMARY = "run a guest, every vCPU in a process of its own"
_STDOUT = 1
_STDERR = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `run`. Values stay text here: `RunOptions` checks them, for Python callers as well."""
    parser.epilog = (
        "exit status: 0 the guest passed, 1 it failed, 2 usage, 3 an oracle was violated, "
        "4 the harness failed or was interrupted, 5 timeout"
    )
    parser.add_argument(
        "image",
        metavar="IMAGE",
        type=Path,
        help=f"32-bit ARM ELF executable, zImage, or raw image ({', '.join(RAW_SUFFIXES)}, or with --load)",
    )
    parser.add_argument("--vcpus", metavar="N", default="1", help=f"1 to {MAX_VCPUS} (default %(default)s)")
    parser.add_argument(
        "--memory",
        metavar="SIZE",
        default=DEFAULT_MEMORY,
        help="guest memory in steps of 2M, such as 64M or 1G (default %(default)s)",
    )
    parser.add_argument(
        "--timeout", metavar="S", help="end the run after so many seconds, counted from the guest's first instruction"
    )
    parser.add_argument(
        "--run-dir",
        metavar="DIR",
        type=Path,
        help="keep logs, console and verdict.json in DIR, which must be empty or not exist",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print the verdict as one JSON object on stdout, and nothing else there; the console goes to stderr",
    )
    parser.add_argument(
        "--fetch",
        default=FETCH_POLICIES[0],
        metavar="P",
        help=f"how an instruction without syndrome is fetched: {', '.join(FETCH_POLICIES)}",
    )
    parser.add_argument(
        "--fetch-handler",
        metavar="FILE.py:FUNCTION",
        help="with --fetch user: what is asked about each instruction without syndrome",
    )
    parser.add_argument(
        "--tlb",
        default=TLB_DISCIPLINES[0],
        metavar="D",
        help=f"whom a TLB invalidation waits for: {', '.join(TLB_DISCIPLINES)}",
    )
    parser.add_argument(
        "--decode", default=DECODERS[0], metavar="D", help=f"what such an instruction may be: {', '.join(DECODERS)}"
    )
    parser.add_argument(
        "--device",
        metavar="FILE.py:Class@ADDRESS",
        action="append",
        default=[],
        help="add a device of your own; may be repeated",
    )
    parser.add_argument(
        "--drive",
        metavar="FILE[,MODE]",
        action="append",
        default=[],
        help="a virtio disk with this image; MODE is cow (the default: writes are gone with the run), "
        "ro or rw; may be repeated",
    )
    parser.add_argument("--virtio-console", action="store_true", help="a virtio console, which prints on the console")
    parser.add_argument("--rng", action="store_true", help="a virtio entropy device; --seed decides what it gives")
    parser.add_argument(
        "--testdev", action="store_true", help="a virtio console on which kvm-unit-tests end the run with their status"
    )
    parser.add_argument(
        "--virtio-legacy",
        action="store_true",
        help="legacy (version 1) virtio transports, as QEMU's are unless told otherwise",
    )
    parser.add_argument("--seed", metavar="N", default="0", help="the guest's seed, from the test device")
    parser.add_argument("--parameter", metavar="N", default="0", help="the guest's parameter, from the test device")
    parser.add_argument("--load", metavar="ADDRESS", help="take IMAGE as a raw image and place it at ADDRESS")
    parser.add_argument("--initrd", metavar="FILE", help="an initial RAM disk for the guest's kernel")
    parser.add_argument("--append", metavar="TEXT", default="", help="the command line of the guest's kernel")
    parser.add_argument(
        "--dtb",
        metavar="FILE",
        help="give the guest this device tree, with its memory, command line and initial RAM disk set",
    )
    parser.add_argument("--quiet", action="store_true", help="no status line, no figures; a sentence unless it passes")
    parser.add_argument(
        "--keep-going", action="store_true", help="count violations, and do not end the run at the first one"
    )
    parser.add_argument(
        "--journal",
        action="store_true",
        help="have every process keep a journal in DIR of --run-dir, for report and trace",
    )
    parser.add_argument("--events", metavar="FILE.toml", type=Path, help="disturb the machine as a scenario says")
    parser.add_argument("--events-json", help=argparse.SUPPRESS)
    parser.add_argument(
        "--pin",
        action="store_true",
        help="keep each vCPU on one core of the host: vCPU N on core N modulo their number",
    )
    parser.add_argument(
        "--console", default=STDIO, metavar="PLACE", help=f"where the guest's console is: {', '.join(PLACES)}"
    )
    parser.add_argument(
        "--input", metavar="FILE", type=Path, help="type what FILE holds on the console; - is standard input"
    )
    parser.add_argument(
        "--gdb",
        metavar="[HOST]:PORT",
        help="serve a debugger there (target remote); the host is 127.0.0.1 unless given, port 0 takes "
        "a free one and says which",
    )
    parser.add_argument(
        "--gdb-wait",
        action="store_true",
        help="with --gdb: wait for it before the guest's first instruction; the timeout goes on",
    )
    parser.add_argument(
        "--semihosting", action="store_true", help="take the guest's calls to its host: docs/semihosting.md"
    )
    parser.add_argument(
        "--semihosting-dir",
        metavar="DIR",
        type=Path,
        help="with --semihosting: the one folder in which the guest may open files",
    )
    parser.add_argument(
        "--exit-status-line",
        action="store_true",
        help="take the verdict from the line EXIT: STATUS=N that the guest prints",
    )
    parser.add_argument(
        "--hosts", metavar="FILE.toml", type=Path, help="spread the vCPUs over these hosts: docs/hosts.md"
    )
    parser.add_argument(
        "--cluster",
        metavar="SCHEDULER",
        help="spread the vCPUs over this host and the workers of a Dask cluster, as tcp://HOST:8786",
    )
    parser.add_argument("--cluster-hosts", metavar="N", help="with --cluster: on so many hosts, this one included")
    parser.add_argument(
        "--time-dilation",
        metavar="N",
        default="1",
        help="the guest's clock goes N times slower than the host's (default %(default)s)",
    )
    parser.add_argument("--as-shipped", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--console-fd", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--lifeline-fd", type=int, action="append", default=[], help=argparse.SUPPRESS)


def execute(arguments: argparse.Namespace) -> int:
    """Run it; the exit status. Raises UsageError, HarnessError."""
    options = RunOptions(
        image=arguments.image,
        vcpus=number("number of vCPUs", arguments.vcpus),
        memory_bytes=memory_size(arguments.memory),
        timeout_s=_seconds(arguments.timeout),
        run_dir=arguments.run_dir,
        fetch=arguments.fetch,
        tlb=arguments.tlb,
        decode=arguments.decode,
        seed=number("seed", arguments.seed),
        parameter=number("parameter", arguments.parameter),
        devices=tuple(map(device, arguments.device)),
        load_ipa=None if arguments.load is None else number("load address", arguments.load),
        as_shipped=arguments.as_shipped,
        keep_going=arguments.keep_going,
        journal=arguments.journal,
        events=_events(arguments),
        fetch_handler=None if arguments.fetch_handler is None else handler(arguments.fetch_handler),
        pin=arguments.pin,
        boot=boot_options(arguments.initrd, arguments.append, arguments.dtb),
        drives=tuple(map(drive, arguments.drive)),
        virtio_console=arguments.virtio_console,
        rng=arguments.rng,
        testdev=arguments.testdev,
        virtio_legacy=arguments.virtio_legacy,
        console=ConsolePlace.parse(arguments.console),
        input=arguments.input,
        gdb=None if arguments.gdb is None else gdb_address(arguments.gdb),
        gdb_wait=arguments.gdb_wait,
        semihosting=arguments.semihosting,
        semihosting_dir=arguments.semihosting_dir,
        exit_status_line=arguments.exit_status_line,
        hosts=arguments.hosts,
        cluster=arguments.cluster,
        cluster_hosts=None if arguments.cluster_hosts is None else number("number of hosts", arguments.cluster_hosts),
        time_dilation=number("time dilation", arguments.time_dilation),
    )
    console_fd = arguments.console_fd
    if console_fd is None:
        console_fd = _STDERR if arguments.json else _STDOUT
    watched = os.isatty(_STDERR) and not arguments.quiet
    verdict = run(
        options,
        Surroundings(
            console_fd,
            _STDERR if watched else None,
            arguments.console_fd if options.console.kind != STDIO else None,
            say,
            tuple(arguments.lifeline_fd),
        ),
    )
    _report(verdict, arguments.json, arguments.quiet)
    return verdict.exit_code


def _report(verdict: Verdict, as_json: bool, quiet: bool) -> None:
    if as_json:
        try:
            write_all(_STDOUT, verdict.to_json() + "\n")
        except OSError as error:
            raise HarnessError(f"the verdict ({verdict.verdict}) could not be written: {error.strerror}") from None
    if not (as_json or quiet):
        say(verdict.summary())
    elif verdict.exit_code:
        say(f"{verdict.verdict}: {verdict.sentence}")
    for note in verdict.notes:
        say(f"note: {note}")


def _seconds(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        raise UsageError(f"the timeout must be a number of seconds, not {text!r}") from None


def _events(arguments: argparse.Namespace) -> Scenario:
    if arguments.events is not None:
        return scenario(arguments.events)
    return Scenario.from_json(arguments.events_json or "")
