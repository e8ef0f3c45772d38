# SPDX-License-Identifier: GPL-2.0-or-later
"""What a campaign gains over runs one after the other, and what it adds to each: `python -m bench.campaign`.

Three ways to perform the same runs alternate, so that a change of the host's speed affects all of them: `Machine` in a
loop, a campaign with one job, and a campaign with a job for each core. The first two differ by the cost of the store
and of the campaign's own process; `start` is that process itself, measured with an empty campaign.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from allstop.deploy.processes.processes import child_environment
from allstop.machine import Machine
from allstop.vm.boot.bundled import IMAGES
from bench.environment import describe


def sequential(image: Path, runs: int, parameter: int) -> float:
    """Seconds for this many runs, one after the other, without a campaign."""
    began_s = time.monotonic()
    for _ in range(runs):
        with Machine(image, timeout=300, parameter=parameter) as machine:
            assert machine.wait().verdict == "pass"
    return time.monotonic() - began_s


def campaign(image: Path, runs: int, parameter: int, jobs: int) -> tuple[float, float]:
    """Seconds for the same runs as a campaign, and for starting it a second time, when it has nothing left to do."""
    with tempfile.TemporaryDirectory(prefix="allstop-bench-") as folder:
        spec = Path(folder) / "spec.toml"
        spec.write_text(
            f'repetitions = {runs}\ntimeout_s = 300\n[[guest]]\nimage = "{image}"\n[axes]\nparameter = {parameter}\n'
        )
        took_s = []
        for _ in range(2):
            began_s = time.monotonic()
            subprocess.run(
                [sys.executable, "-P", "-m", "allstop", "campaign", str(spec), "--jobs", str(jobs)],
                cwd=folder,
                env=child_environment(),
                stdout=subprocess.DEVNULL,
                check=True,
            )
            took_s.append(time.monotonic() - began_s)
    return took_s[0], took_s[1]


def measure(image: Path, runs: int, parameter: int, rounds: int, jobs: int) -> dict[str, object]:
    """The record; times are medians of the rounds, in seconds for each run but for `start_s`."""
    plain, one, many, idle = [], [], [], []
    for _ in range(rounds):
        plain.append(sequential(image, runs, parameter))
        for into, at_once in ((one, 1), (many, jobs)):
            took_s, start_s = campaign(image, runs, parameter, at_once)
            into.append(took_s)
            idle.append(start_s)
    start_s = median(idle)
    return {
        "image": image.name,
        "parameter": parameter,
        "runs": runs,
        "rounds": rounds,
        "jobs": jobs,
        "sequential_s": median(plain) / runs,
        "one_job_s": median(one) / runs,
        "jobs_s": median(many) / runs,
        "start_s": start_s,
        "overhead_s": (median(one) - start_s - median(plain)) / runs,
        "gain": median(a / b for a, b in zip(plain, many, strict=True)),
        "gains": [round(a / b, 2) for a, b in zip(plain, many, strict=True)],
    }


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], prog="python -m bench.campaign")
    parser.add_argument("--runs", type=int, default=10, help="runs of each batch (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="batches of each kind (default %(default)s)")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument(
        "--guest",
        metavar="NAME:PARAMETER",
        action="append",
        help="may be repeated (default hello:0, which is all start, and smp-counter:3000000, which computes)",
    )
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows: list[dict[str, object]] = []
    for guest in arguments.guest or ["hello:0", "smp-counter:3000000"]:
        name, _, parameter = guest.partition(":")
        rows.append(
            measure(IMAGES / f"{name}.elf", arguments.runs, int(parameter or 0), arguments.rounds, arguments.jobs)
        )
    if arguments.json:
        print(json.dumps({"environment": describe(), "rows": rows}))
        return
    for row in rows:
        print(
            "  ".join(
                f"{key} {value:.3f}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()
            )
        )


if __name__ == "__main__":
    main()
