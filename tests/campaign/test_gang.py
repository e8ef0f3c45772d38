# SPDX-License-Identifier: GPL-2.0-or-later
"""One machine on a Dask cluster: all of its places or none, and a sentence where they cannot be had."""

from __future__ import annotations

import json
import time
from pathlib import Path

from tests.campaign.conftest import Cluster
from tests.conftest import Command

QUICK_S = 20.0


def workers(cluster: Cluster) -> int:
    """How many the scheduler knows."""
    import distributed

    with distributed.Client(cluster.address, timeout=5, set_as_default=False) as client:
        return len(client.scheduler_info(n_workers=-1)["workers"])


def await_workers(cluster: Cluster, count: int) -> None:
    deadline_s = time.monotonic() + 30
    while workers(cluster) < count:
        assert time.monotonic() < deadline_s, "the workers did not come"


def test_a_machine_runs_on_this_host_and_on_the_clusters(cluster: Cluster, command: Command, guests: Path) -> None:
    await_workers(cluster, 2)
    done = command(
        "run",
        guests / "smp-counter.elf",
        "--vcpus",
        3,
        "--parameter",
        50,
        "--json",
        "--cluster",
        cluster.address,
        "--timeout",
        60,
        deadline_s=90.0,
    )
    assert done.returncode == 0, done.stderr
    verdict = json.loads(done.stdout)
    assert {host for bounce in verdict["bounces"] for host, _, _ in bounce["touched"]} == {"here", "place-1", "place-2"}
    assert verdict["pages"]["count"] > 0
    again = command(
        "run",
        guests / "hello.elf",
        "--vcpus",
        2,
        "--json",
        "--cluster",
        cluster.address,
        "--timeout",
        60,
        deadline_s=90.0,
    )
    assert again.returncode == 0, again.stderr  # the leases were given back


def test_too_few_places_are_a_sentence_and_no_wait(cluster: Cluster, command: Command, guests: Path) -> None:
    await_workers(cluster, 2)
    began_s = time.monotonic()
    done = command("run", guests / "hello.elf", "--vcpus", 8, "--cluster", cluster.address, "--cluster-hosts", 5)
    assert done.returncode == 2
    assert "has 2 places for other hosts, and 4 are needed: start more dask workers" in done.stderr
    assert time.monotonic() - began_s < QUICK_S


def test_a_place_that_is_taken_is_no_place(cluster: Cluster, command: Command, guests: Path) -> None:
    import distributed

    await_workers(cluster, 2)
    with distributed.Client(cluster.address, timeout=5) as client:
        first = min(client.scheduler_info(n_workers=-1)["workers"])
        lease = distributed.Semaphore(max_leases=1, name=f"allstop-{first}")
        assert lease.acquire(timeout=5)
        done = command("run", guests / "hello.elf", "--vcpus", 3, "--cluster", cluster.address, deadline_s=60.0)
        assert lease.release()
    assert done.returncode == 4
    assert "is taken by another machine" in done.stderr and "Traceback" not in done.stderr


def test_no_scheduler_is_a_sentence(command: Command, guests: Path) -> None:
    for scheduler, said in (("tcp://127.0.0.1:9", "does not answer"), ("nonsense", "is given by its scheduler")):
        done = command("run", guests / "hello.elf", "--vcpus", 2, "--cluster", scheduler)
        assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr
    done = command("run", guests / "hello.elf", "--vcpus", 2, "--cluster-hosts", 2)
    assert done.returncode == 2 and "--cluster" in done.stderr
