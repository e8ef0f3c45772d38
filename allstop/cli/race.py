# SPDX-License-Identifier: GPL-2.0-or-later
"""`allstop race`: the race of 2013 on a real guest, how often the fetch loses it, and the cost of each cure."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

from allstop.cli.speech import say, write_all
from allstop.race.race import DISCIPLINES, FETCHES, PATIENCE_S, RACE, SHOWN, Row, Trial, matrix, run_trial
from allstop.vm.config.kinds import check_choice, number
from allstop.vm.config.policies import FETCH_POLICIES, TLB_DISCIPLINES
from allstop.vm.errors import UsageError

SUMMARY = "measure how often each fetch policy decodes the wrong instruction"
LONG_FETCHES = 200_000
_STDOUT = 1
_TRIAL_TIMEOUT_S = 300.0
_HEAD = (
    f"{'fetch':12} {'tlb':10} {'fetches':>9} {'wrong':>7}  {'wrong, 95 % interval':24} {'retries':>8} "
    f"{'aborts':>7} {'us/fetch':>9} {'us/inval':>9}\n"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `race`."""
    parser.epilog = "exit status: 0 the results are as the theory says, 1 they are not"
    parser.add_argument("--vcpus", metavar="N", default="4", help="vCPUs of the guest (default %(default)s)")
    parser.add_argument(
        "--trials",
        metavar="N",
        default="1",
        help=f"runs of each cell (default %(default)s); unprotected under broadcast runs on, for at "
        f"most {PATIENCE_S:.0f} s, until it has been wrong {SHOWN} times",
    )
    parser.add_argument("--seed", metavar="N", default="1", help="seed of the first trial (default %(default)s)")
    parser.add_argument("--fetch", metavar="P,...", default=",".join(FETCHES), help="policies (default %(default)s)")
    parser.add_argument(
        "--tlb", metavar="D,...", default=",".join(DISCIPLINES), help="disciplines (default %(default)s)"
    )
    parser.add_argument("--parameter", metavar="N", default="0", help="of the guest, see guests/swapper")
    parser.add_argument(
        "--long",
        action="store_true",
        help=f"run until each cell has {LONG_FETCHES:,} fetches: a million over the sound cells",
    )
    parser.add_argument(
        "--page", metavar="FILE", type=Path, help="write one HTML page with the matrix and the story of a wrong decode"
    )
    parser.add_argument("--hosts", metavar="FILE.toml", type=Path, help="with the vCPUs on these hosts: docs/hosts.md")
    parser.add_argument("--json", action="store_true", help="print one JSON object, and nothing else")


def execute(arguments: argparse.Namespace) -> int:
    """Run the matrix; the exit status. Raises UsageError, HarnessError."""
    fetches, disciplines = arguments.fetch.split(","), arguments.tlb.split(",")
    for fetch in fetches:
        check_choice("fetch policy", fetch, FETCH_POLICIES)
    for tlb in disciplines:
        check_choice("TLB discipline", tlb, TLB_DISCIPLINES)
    vcpus, seed = number("number of vCPUs", arguments.vcpus), number("seed", arguments.seed)
    trials, parameter = number("number of trials", arguments.trials), number("parameter", arguments.parameter)
    if trials < 1:
        raise UsageError(f"the number of trials must be positive, not {trials}")

    if arguments.page is not None and arguments.hosts is not None:
        raise UsageError("the page tells the story of one host's race: leave --page or --hosts out")
    if arguments.page is not None and not arguments.page.absolute().parent.is_dir():
        raise UsageError(
            f"the page {arguments.page} cannot be written: there is no folder {arguments.page.absolute().parent}"
        )

    def enough(row: Row) -> bool:
        return row.has_enough(trials) and (not arguments.long or row.fetches >= LONG_FETCHES)

    def trial(fetch: str, tlb: str, which: int) -> Trial:
        return run_trial(
            fetch, tlb, vcpus, seed + which & 0xFFFFFFFF, parameter, _TRIAL_TIMEOUT_S, hosts=arguments.hosts
        )

    rows: list[Row] = []
    if not arguments.json:
        write_all(_STDOUT, _HEAD)
    for row in matrix(fetches, disciplines, enough, trial, arguments.hosts is not None):
        rows.append(row)
        if not arguments.json:
            write_all(_STDOUT, _line(row))
    complaints = [row.complaint for row in rows if row.complaint]
    if arguments.page is not None:
        _write_page(arguments.page, rows, vcpus, seed, parameter)
    if arguments.json:
        write_all(
            _STDOUT,
            json.dumps(
                {
                    "as_the_theory_says": not complaints,
                    "complaints": complaints,
                    "vcpus": vcpus,
                    "seed": seed,
                    "rows": [_record(row) for row in rows],
                }
            )
            + "\n",
        )
    else:
        for complaint in complaints:
            say(complaint)
        if not complaints:
            write_all(_STDOUT, "as the theory says\n")
        if arguments.page is not None:
            write_all(_STDOUT, f"{arguments.page}\n")
    return 1 if complaints else 0


def _write_page(out: Path, rows: list[Row], vcpus: int, seed: int, parameter: int) -> None:
    """The page, with the story of a wrong decode where the rows have the cell of the race. Raises OSError."""
    from allstop.race.page import race_page
    from allstop.race.story import best_story
    from allstop.report.html import write
    from allstop.report.run import RecordedRun

    story = None
    until_s = time.monotonic() + PATIENCE_S
    while RACE in [(row.fetch, row.tlb) for row in rows] and story is None and time.monotonic() < until_s:
        with tempfile.TemporaryDirectory(prefix="allstop-race-") as folder:
            run_trial(*RACE, vcpus, seed, parameter, _TRIAL_TIMEOUT_S, Path(folder) / "run")
            with RecordedRun(Path(folder) / "run") as run:
                story = best_story(run)
        seed = seed + 1 & 0xFFFFFFFF
    write(race_page(rows, vcpus, len(os.sched_getaffinity(0)), story), out)


def _line(row: Row) -> str:
    low, high = row.interval
    return (
        f"{row.fetch:12} {row.tlb:10} {row.fetches:9,} {row.wrong:7,}  {low:10.5%} .. {high:10.5%} "
        f"{row.retries:8,} {row.aborts:7,} {row.p50_us:9.1f} {row.invalidation_p50_us:9.1f}\n"
    )


def _record(row: Row) -> dict[str, object]:
    low, high = row.interval
    return {
        "fetch": row.fetch,
        "tlb": row.tlb,
        "trials": row.trials,
        "fetches": row.fetches,
        "wrong": row.wrong,
        "wrong_low": low,
        "wrong_high": high,
        "retries": row.retries,
        "aborts": row.aborts,
        "took_s": row.took_s,
        "guest_wrong": row.guest_wrong,
        "guest_aborts": row.guest_aborts,
        "p50_us": row.p50_us,
        "invalidation_p50_us": row.invalidation_p50_us,
        "failures": list(row.failures),
    }
