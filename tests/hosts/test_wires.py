# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines on bad wires: late, lossy and out of order. They end as on a good one, and a cut in the middle ends them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.hosts.test_losses import DEADLINE_S, IN_TIME_S, LOSSES, QUICK, await_running
from tests.hosts.wire import DEVICE, HOLD_S, Lane, Proxy, Quality, has_netem, netem_words, tcp_counts

pytestmark = pytest.mark.processes

# what it is called: the hosts, and how bad their wire is
WIRES = {
    "late": (2, Quality(delay_s=0.005, jitter_s=0.002)),
    "lossy": (2, Quality(loss=0.02)),
    "out of order": (3, Quality(delay_s=0.001, reorder=0.1)),
    "all of it": (4, Quality(delay_s=0.001, jitter_s=0.001, loss=0.005, reorder=0.02)),
}
STOPPED = ("--fetch", "stop-world")
RUNS = [
    ("late", "smp-counter", 100, ()),
    ("late", "swapper", 3, STOPPED),
    ("late", "ipi", 1, ()),
    ("lossy", "smp-counter", 100, ()),
    ("lossy", "history", 300 << 8 | 1, ()),
    ("lossy", "swapper", 5, STOPPED),
    ("out of order", "smp-counter", 10, ()),
    ("out of order", "history", 150 << 8 | 2, ()),
    ("out of order", "tlb", 3, ()),
    ("all of it", "smp-counter", 2, ()),
    ("all of it", "history", 100 << 8 | 3, ()),
]
SAID = {
    "smp-counter": r"counter=mcs count=(\d+) expected=\1$",
    "swapper": r"^result: ",
    "history": r" back=0 twice=0 missing=0 causal=0",
    "ipi": r"^result: ",
    "tlb": r" stale=0 wrong=0",
}


@pytest.mark.parametrize(("kind", "guest", "parameter", "words"), RUNS)
def test_a_guest_passes_on_a_bad_wire(
    bad_wire: Any, hosts: Any, guests: Path, kind: str, guest: str, parameter: int, words: tuple[str, ...]
) -> None:
    count, quality = WIRES[kind]
    wire = bad_wire(quality, count, seed=1)
    before = tcp_counts(hosts.network.namespaces[:count])
    done = hosts.run(
        guests / f"{guest}.elf",
        "--vcpus",
        count,
        "--parameter",
        parameter,
        *words,
        "--timeout",
        60,
        hosts=hosts.file(count),
    )
    assert (done.status, done.verdict.get("verdict")) == (0, "pass"), done.err
    assert re.search(SAID[guest], done.console, re.MULTILINE), done.console
    for name in ("tlb_stale", "fetch_wrong", "mmio_wrong"):
        assert done.verdict["counters"].get(name, 0) == 0
    if words == STOPPED:
        assert done.verdict["fetches"]["count"] >= parameter and done.verdict["stops"]["count"] >= parameter

    # It was as bad as it was to be: by the wire's own count, by the hosts' TCP, and by what the guest has waited.
    counts, after = wire.counts(), tcp_counts(hosts.network.namespaces[:count])
    seen = {name: after[name] - before[name] for name in ("RetransSegs", "TCPOFOQueue")}
    assert counts.passed > 100
    assert done.verdict["pages"]["p50_us"] >= 2e6 * (quality.delay_s - quality.jitter_s)
    if counts.waited_s is not None:
        assert counts.waited_s / counts.passed >= quality.delay_s * 0.95
    assert (counts.dropped > 0) == (quality.loss > 0) and (not quality.loss or seen["RetransSegs"] > 0)
    if quality.reorder:
        assert seen["TCPOFOQueue"] > 0
    if counts.reordered is not None:
        assert (counts.reordered > 0) == (quality.reorder > 0)


def test_a_partition_in_the_middle_of_latency(bad_wire: Any, hosts: Any, guests: Path, until: Any) -> None:
    """Lost on both sides, within the deadline."""
    quality = WIRES["late"][1]
    wire = bad_wire(quality, 2, seed=1)
    process = hosts.start(
        "run",
        "--json",
        guests / "smp-counter.elf",
        "--vcpus",
        2,
        "--parameter",
        10_000_000,
        "--run-dir",
        hosts.folder / "run",
        "--hosts",
        hosts.file(2, extra=QUICK),
    )
    await_running(hosts, process, until)
    wire.cut(1)
    began_s = time.monotonic()
    done = hosts.finish(process, 30.0)
    assert time.monotonic() - began_s < IN_TIME_S
    assert (done.status, done.verdict["verdict"]) == (4, "lost"), done.err
    assert re.search(LOSSES["partition"][1].replace("77", "7[78]"), done.verdict["sentence"]), done.verdict
    measured_s = json.loads((hosts.folder / "run" / "run.json").read_text())["config"]["hosts"]["trip_s"]
    assert 2 * (quality.delay_s - quality.jitter_s) <= measured_s < 0.1  # it decides how long pages stay
    log = (hosts.folder / "run" / "host-there.log").read_text()
    assert log.count("\n") == 1 and log.startswith(f"the launcher has been silent for {DEADLINE_S:g} s"), log


# The wires themselves


def passed(quality: Quality, seed: str, packets: int = 2000) -> tuple[Lane, list[tuple[int, float]]]:
    """A lane to which a packet comes every millisecond, and what came out of it: its number, how long it was on it."""
    lane = Lane(quality, seed)
    out = []
    for number in range(packets):
        lane.take(str(number).encode(), number * 0.001)
        while (due_s := lane.due_s()) is not None and due_s < (number + 1) * 0.001:
            out += [(int(packet), due_s - int(packet) * 0.001) for packet in lane.leaving(due_s)]
    while (due_s := lane.due_s()) is not None:
        out += [(int(packet), due_s - int(packet) * 0.001) for packet in lane.leaving(due_s)]
    return lane, out


def test_a_good_lane_passes_all_in_order() -> None:
    lane, out = passed(Quality(), "1")
    assert [number for number, _ in out] == list(range(2000))
    assert (lane.passed, lane.dropped, lane.reordered) == (2000, 0, 0) and lane.waited_s == pytest.approx(0)


def test_a_lane_delays_with_jitter_and_keeps_the_order() -> None:
    lane, out = passed(Quality(delay_s=0.005, jitter_s=0.002), "1")
    assert [number for number, _ in out] == list(range(2000))
    delays = [waited_s for _, waited_s in out]
    assert 0.00299 < min(delays) < 0.0035 and 0.0065 < max(delays) < 0.00701
    assert lane.waited_s == pytest.approx(sum(delays))


def test_a_lane_loses_its_share() -> None:
    lane, out = passed(Quality(loss=0.02), "1")
    assert len(out) == lane.passed == 2000 - lane.dropped and 20 <= lane.dropped <= 60


def test_a_lane_swaps_its_share() -> None:
    lane, out = passed(Quality(reorder=0.1), "1")
    numbers = [number for number, _ in out]
    assert sorted(numbers) == list(range(2000))
    late = [place for place in range(1, 2000) if numbers[place] < numbers[place - 1]]
    assert len(late) == lane.reordered and 120 <= lane.reordered <= 240


def test_a_packet_that_is_held_back_in_vain_goes_on() -> None:
    lane, out = passed(Quality(reorder=1.0), "1", packets=1)
    assert out == [(0, HOLD_S)] and (lane.passed, lane.reordered) == (1, 0)


def test_a_seed_decides_all() -> None:
    quality = Quality(delay_s=0.005, jitter_s=0.002, loss=0.02, reorder=0.1)
    assert passed(quality, "1")[1] == passed(quality, "1")[1] != passed(quality, "2")[1]


def devices(namespace: str) -> str:
    return subprocess.run(["ip", "-n", namespace, "link"], capture_output=True, text=True, check=True).stdout


def test_a_proxy_leaves_nothing(network: Any) -> None:
    """Neither device, thread nor descriptor; and it can be there a second time."""
    before = set(os.listdir("/proc/self/fd"))
    for _ in range(2):
        proxy = Proxy(network, 3, Quality(), 1)
        assert all(DEVICE in devices(namespace) for namespace in network.namespaces[:3])
        proxy.close()
        assert not any(DEVICE in devices(namespace) for namespace in network.namespaces)
    assert not [thread for thread in threading.enumerate() if thread.name == "wire"]
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_cable_of_the_proxy(network: Any) -> None:
    """One round trip takes two delays; through a cut cable no packet comes."""
    proxy = Proxy(network, 3, Quality(delay_s=0.02), 1)
    try:
        assert 0.04 <= round_trip_s(network, proxy.addresses[1], 5.0) < 1.0
        proxy.cut(1)
        assert round_trip_s(network, proxy.addresses[1], 0.3) is None
        assert round_trip_s(network, proxy.addresses[2], 5.0) is not None
        proxy.mend(1)
        assert round_trip_s(network, proxy.addresses[1], 5.0) is not None
        assert proxy.counts().dropped == 0 and proxy.counts().passed >= 6
    finally:
        proxy.close()


def round_trip_s(network: Any, address: str, deadline_s: float) -> float | None:
    """From the first host to this address: a connection that is refused has been there and back. None: it was not."""
    code = (
        "import socket, time\nbegan_s = time.monotonic()\n"
        f"try: socket.create_connection(('{address}', 9), {deadline_s})\n"
        "except ConnectionRefusedError: print(time.monotonic() - began_s)\nexcept OSError: pass"
    )
    done = subprocess.run([*network.enter(0), "python3", "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout) if done.stdout else None


def test_tc_understands_what_it_is_told(network: Any) -> None:
    """Where the kernel has no netem it is the kernel that refuses, and not tc, whose words would be others."""
    quality = Quality(delay_s=0.005, jitter_s=0.002, loss=0.02, reorder=0.1)
    assert netem_words(quality)[2:] == ["delay", "5000us", "2000us", "loss", "2.000%", "reorder", "10.000%"]
    namespace = network.namespaces[0]
    words = ("tc", "-n", namespace, "qdisc", "add", "dev", "lo", "root", "netem", *netem_words(quality))
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if has_netem(namespace) or not done.returncode:
        subprocess.run(("tc", "-n", namespace, "qdisc", "delete", "dev", "lo", "root"), check=True)
    else:
        assert "qdisc kind is unknown" in done.stderr and "What is" not in done.stderr, done.stderr
