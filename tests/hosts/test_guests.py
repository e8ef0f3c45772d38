# SPDX-License-Identifier: GPL-2.0-or-later
"""The guests on two, three and four hosts, each vCPU on a host of its own: they say and end as on one host."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

# guest, its parameter: enough for pages to go to and fro, little enough for a test
GUESTS = [("hello", 0), ("smp-counter", 200), ("tlb", 4), ("code", 40), ("ipi", 10), ("atomics", 2000)]
# What a guest counts of its own luck, and the order in which vCPUs speak, differ from run to run.
LUCK = re.compile(r"\b(met|aborts|spins|elsewhere|late|early|faults)=\d+")


def settled(console: str) -> list[str]:
    """What a guest says each time, in an order of its own."""
    return sorted(LUCK.sub(r"\1=", line) for line in console.splitlines())


@pytest.mark.parametrize(
    ("guest", "parameter", "count"),
    [
        *((*guest, 2) for guest in GUESTS),
        *((*guest, 3) for guest in GUESTS[2:5]),
        *((*guest, 4) for guest in GUESTS[:3]),
    ],
)
def test_a_guest_ends_on_hosts_as_on_one(hosts: Any, guests: Path, guest: str, parameter: int, count: int) -> None:
    words = (guests / f"{guest}.elf", "--vcpus", count, "--parameter", parameter, "--timeout", 60)
    alone = hosts.run(*words)
    spread = hosts.run(*words, hosts=hosts.file(count))
    assert (
        (spread.status, spread.verdict["verdict"], spread.verdict["sentence"])
        == (alone.status, alone.verdict["verdict"], alone.verdict["sentence"])
        == (0, "pass", alone.verdict["sentence"])
    )
    assert settled(spread.console) == settled(alone.console)
    assert set(spread.verdict) == set(alone.verdict)
    for name in ("tlb_stale", "fetch_wrong", "mmio_wrong"):
        assert spread.verdict["counters"].get(name, 0) == 0
    assert spread.verdict["exits"]["hvc"] == alone.verdict["exits"]["hvc"]


@pytest.mark.parametrize(
    ("fetch", "tlb"),
    [
        ("unprotected", "broadcast"),
        ("validate", "broadcast"),
        ("stop-world", "broadcast"),
        ("stop-world", "ipi"),
        ("stop-world", "local"),
        ("validate", "early"),
        ("abort", "ipi"),
    ],
)
def test_policies_and_disciplines(hosts: Any, guests: Path, fetch: str, tlb: str) -> None:
    """Fetches on one host from pages that the other one swaps. Under `abort` nothing is fetched, and under `local` and
    `early`, which are wrong on purpose, a guest's luck decides: there the run must end in the guest's own way."""
    done = hosts.run(
        guests / "swapper.elf",
        "--vcpus",
        2,
        "--fetch",
        fetch,
        "--tlb",
        tlb,
        "--parameter",
        40,
        "--keep-going",
        "--timeout",
        60,
        hosts=hosts.file(2),
    )
    assert done.verdict["verdict"] in ("pass", "fail"), done.err
    assert done.verdict["exits"]["nisv"] >= 40
    if fetch != "abort":
        assert done.verdict["fetches"]["count"] >= 40
    if (fetch, tlb) in (("validate", "broadcast"), ("stop-world", "broadcast"), ("stop-world", "ipi")):
        assert (done.status, done.verdict["counters"]["fetch_wrong"]) == (0, 0), done.err


@pytest.mark.parametrize("tlb", ["broadcast", "ipi"])
def test_invalidations_are_obeyed_on_other_hosts(hosts: Any, guests: Path, tlb: str) -> None:
    done = hosts.run(
        guests / "tlb.elf", "--vcpus", 3, "--parameter", 8, "--tlb", tlb, "--timeout", 60, hosts=hosts.file(3)
    )
    assert done.status == 0, done.err
    assert " stale=0 wrong=0" in done.console


def test_several_vcpus_on_each_host(hosts: Any, guests: Path) -> None:
    done = hosts.run(
        guests / "smp-counter.elf", "--vcpus", 5, "--parameter", 50, "--timeout", 80, hosts=hosts.file(3, [1, 3, 1])
    )
    assert done.status == 0, done.err
    assert re.search(r"counter=exclusive count=(\d+) expected=\1$", done.console, re.MULTILINE)


def test_a_first_host_without_vcpus(hosts: Any, guests: Path) -> None:
    done = hosts.run(guests / "hello.elf", "--vcpus", 2, "--timeout", 60, hosts=hosts.file(3, [0, 1, 1]))
    assert done.status == 0, done.err
    assert "hello from vCPU 1 of 2" in done.console


def test_a_host_without_vcpus_is_a_home_for_pages(hosts: Any, guests: Path) -> None:
    done = hosts.run(
        guests / "smp-counter.elf", "--vcpus", 2, "--parameter", 50, "--timeout", 60, hosts=hosts.file(3, [1, 1, 0])
    )
    assert done.status == 0, done.err


@pytest.mark.parametrize(
    ("image", "status", "words"),
    [
        ("fail.elf", 1, "3"),
        ("undefined.elf", 1, "undefined"),
    ],
)
def test_a_guest_that_fails(hosts: Any, guests: Path, image: str, status: int, words: str) -> None:
    done = hosts.run(guests / image, "--vcpus", 2, "--timeout", 30, hosts=hosts.file(2))
    assert done.status == status and words in done.verdict["sentence"]


def test_a_guest_that_hangs(hosts: Any, guests: Path) -> None:
    done = hosts.run(guests / "spin.elf", "--vcpus", 2, "--timeout", 1, hosts=hosts.file(2))
    assert (done.status, done.verdict["verdict"]) == (5, "timeout")
