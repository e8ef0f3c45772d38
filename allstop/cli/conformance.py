# SPDX-License-Identifier: GPL-2.0-or-later
"""`allstop conformance`: show that the machine is an SMP machine, across its processes."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from allstop.cli.speech import write_all
from allstop.conformance.conformance import CHECKS, FULL_RUNS, HOSTS_RUNS, QUICK_RUNS, Finding, run_check
from allstop.vm.config.kinds import number
from allstop.vm.errors import UsageError

SUMMARY = "prove exclusives, barriers, TLB maintenance and code writes between processes"
_STDOUT = 1
_STDERR = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `conformance`."""
    parser.epilog = "exit status: 0 every check holds, 1 one does not"
    parser.add_argument("--runs", metavar="N", help=f"runs of the litmus tests (default {FULL_RUNS:,})")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_RUNS:,} runs: seconds, not a minute")
    parser.add_argument(
        "--as-shipped",
        action="store_true",
        help="run Unicorn as shipped, without the engine's interposed functions, to see the gate fail",
    )
    parser.add_argument(
        "--decoder", metavar="N", help="check the decoder instead: N random loads and stores, executed and emulated"
    )
    parser.add_argument("--seed", metavar="N", default="1", help="seed of --decoder (default %(default)s)")
    parser.add_argument("--timeout", metavar="S", default="300", help="seconds for each check (default %(default)s)")
    parser.add_argument(
        "--hosts",
        metavar="FILE.toml",
        type=Path,
        help=f"between vCPUs of different hosts: docs/hosts.md (then {HOSTS_RUNS:,} runs by default)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, and nothing else")


def execute(arguments: argparse.Namespace) -> int:
    """Run the checks; the exit status. Raises UsageError, HarnessError."""
    if arguments.decoder is not None:
        cases, seed = number("number of cases", arguments.decoder), number("seed", arguments.seed)
        return _check_decoder(cases, seed, arguments.json)
    runs = QUICK_RUNS if arguments.quick else FULL_RUNS
    if arguments.hosts is not None:
        runs = HOSTS_RUNS
        if arguments.as_shipped:
            raise UsageError("--as-shipped needs one host: it shows what happens between the processes of one")
    if arguments.runs is not None:
        runs = number("number of runs", arguments.runs)
        if not 1 <= runs < 1 << 32:
            raise UsageError(f"the number of runs must be 1 to 4294967295, not {runs}")
    try:
        timeout_s = float(arguments.timeout)
    except ValueError:
        raise UsageError(f"the timeout must be a number of seconds, not {arguments.timeout!r}") from None
    findings: dict[str, Finding] = {}
    for check in CHECKS:
        findings[check.name] = finding = run_check(check, runs, timeout_s, arguments.as_shipped, arguments.hosts)
        if not arguments.json:
            state = "holds" if finding.holds else "FAILS"
            write_all(
                _STDOUT,
                f"{state}  {check.name:8} {check.claim}\n       {'':8} {finding.cases:,} cases; {finding.seen}\n",
            )
    good = all(finding.holds for finding in findings.values())
    if arguments.json:
        rows = [
            {"check": name, "holds": finding.holds, "cases": finding.cases, "seen": finding.seen}
            for name, finding in findings.items()
        ]
        write_all(_STDOUT, json.dumps({"holds": good, "as_shipped": arguments.as_shipped, "checks": rows}) + "\n")
    return 0 if good else 1


def _check_decoder(cases: int, seed: int, as_json: bool) -> int:
    from allstop.conformance.decoder import Report, campaign  # loads the engine, which only this needs

    if cases < 1:
        raise UsageError(f"the number of cases must be positive, not {cases}")
    report = Report()
    for report in campaign(cases, seed):
        if os.isatty(_STDERR) and not as_json:
            write_all(_STDERR, f"\r{report.by_class.total():,} of {cases:,} ")
    good = not report.failures
    classes = len(report.by_class)
    if as_json:
        write_all(
            _STDOUT,
            json.dumps(
                {
                    "holds": good,
                    "seed": seed,
                    "cases": report.by_class.total(),
                    "trapped": report.trapped.total(),
                    "classes": {name: report.trapped[name] for name in sorted(report.by_class)},
                    "unseen": report.unseen,
                    "failures": report.failures,
                }
            )
            + "\n",
        )
        return 0 if good else 1
    least = min(report.trapped.values(), default=0)
    write_all(
        _STDOUT,
        f"{'holds' if good else 'FAILS'}  decoder  emulated and native execution leave the same\n"
        f"                {report.by_class.total():,} cases, {report.trapped.total():,} trapped and "
        f"emulated; {classes} classes, at least {least:,} of each, {len(report.unseen)} classes unseen; "
        f"seed {seed}\n",
    )
    for failure in report.failures:
        write_all(_STDOUT, f"  {failure}\n")
    return 0 if good else 1
