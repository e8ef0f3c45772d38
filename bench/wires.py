# SPDX-License-Identifier: GPL-2.0-or-later
"""The cost of bad wires: `python -m bench.wires [--hosts N] [--seed N] [--results DIR]`.

Guests on hosts that are network namespaces, on the wires that the tests have (`tests/hosts/wire.py`): a page of another
host's and a page that goes to and fro (guest `pages`), a stop of the world (`swapper`), a TLB invalidation (`tlb`).
Each wire once; the figures come from the runs' verdicts. Needs root and `ip`, and /dev/net/tun where there is no
netem.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from allstop.vm.boot.bundled import IMAGES
from bench import environment
from tests.hosts.conftest import Hosts, Network, NoNetworkError
from tests.hosts.wire import Quality, WireError, make_wire

WIRES = {
    "as it is": None,
    "5 ms": Quality(delay_s=0.005),
    "5 ms, 2 more or less": Quality(delay_s=0.005, jitter_s=0.002),
    "2 % lost": Quality(loss=0.02),
    "1 ms, 10 % out of order": Quality(delay_s=0.001, reorder=0.1),
}
_TIMEOUT_S = 300


def measure(hosts: Hosts, count: int) -> dict[str, float]:
    """Microseconds."""

    def run(guest: str, parameter: int, *words: str) -> tuple[dict[str, Any], str]:
        done = hosts.run(
            IMAGES / f"{guest}.elf",
            "--vcpus",
            count,
            "--parameter",
            parameter,
            "--timeout",
            _TIMEOUT_S,
            *words,
            hosts=hosts.file(count),
            deadline_s=_TIMEOUT_S + 30,
        )
        if done.status:
            raise WireError(f"{guest}: {done.err}")
        return done.verdict, done.console

    pages, console = run("pages", 100)
    turn = re.search(r"pingpong turns=\d+ each_ns=(\d+)", console)
    assert turn is not None
    stops, _ = run("swapper", 5, "--fetch=stop-world")
    shootdowns, _ = run("tlb", 3)
    return {
        "page_p50": pages["pages"]["p50_us"],
        "page_p99": pages["pages"]["p99_us"],
        "stop_p50": stops["stops"]["p50_us"],
        "tlbi_p50": shootdowns["shootdowns"]["p50_us"],
        "turn": int(turn[1]) / 1000,
    }


def main() -> int:
    """Print a table for docs/hosts.md."""
    parser = argparse.ArgumentParser(prog="python -m bench.wires", description=str(__doc__).partition("\n")[0])
    parser.add_argument("--hosts", type=int, default=2, choices=(2, 3, 4))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--results", type=Path)
    arguments = parser.parse_args()
    rows = {}
    try:
        network = Network(arguments.hosts)
        try:
            for name, quality in WIRES.items():
                with tempfile.TemporaryDirectory() as folder:
                    hosts = Hosts(network, Path(folder))
                    wire = None if quality is None else make_wire(network, arguments.hosts, quality, arguments.seed)
                    try:
                        hosts.addresses = network.addresses if wire is None else wire.addresses
                        rows[name] = measure(hosts, arguments.hosts)
                    finally:
                        if wire is not None:
                            wire.close()
                print(f"{name}: done", file=sys.stderr)
        finally:
            network.close()
    except (NoNetworkError, WireError) as error:
        print(f"bench.wires: {error}", file=sys.stderr)
        return 1
    print(
        "| each way | a page, p50 | p99 | a stop, p50 | a TLB invalidation, p50 | a page that moves to and fro, "
        "one move |\n|---|--:|--:|--:|--:|--:|"
    )
    for name, row in rows.items():
        cells = (f"{value / 1000:.{1 if value < 10_000 else 0}f} ms" for value in row.values())
        print(f"| {name} | " + " | ".join(cells) + " |")
    if arguments.results is not None:
        arguments.results.mkdir(parents=True, exist_ok=True)
        path = arguments.results / f"wires-{time.strftime('%Y%m%d-%H%M%S')}.json"
        path.write_text(
            json.dumps({"environment": environment.describe(), "hosts": arguments.hosts, "us": rows}, indent=1) + "\n"
        )
        print(f"raw results: {path}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
