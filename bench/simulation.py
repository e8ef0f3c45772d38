# SPDX-License-Identifier: GPL-2.0-or-later
"""How faults and stops grow with the number of hosts: `python -m bench.simulation [--hosts N,...] [--write DOCS]`.

The directory, the cache and the barrier are the real ones; hosts, network and time are simulated. A node handles one
message after the other, each in `handling_s`; a message takes `latency_s` and its bytes' time on its sender's one link.
The parameters are assumptions, and options set them: only the shapes are a claim, not the microseconds.
"""

from __future__ import annotations

import argparse
import heapq
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from allstop.coordinator.node.page_cache import Effect, Have, Install, PageCache, Revoke, Upgrade, Watch
from allstop.coordinator.node.page_directory import PageDirectory, PageMessage, Send
from allstop.coordinator.world import barrier
from allstop.vm.wire.codec import encode
from allstop.vm.wire.messages_hosts import PageAsked, PageGranted, PageRecalled, PageYielded, Posted, PostsDone
from bench import chart
from bench.growth import markdown

SIZES = (1, 2, 4, 8, 16, 64, 256, 1000)
VCPUS_EACH = 10
POST_BYTES = 19
PAGE_BYTES = b"\1" * 4096
_FIRST_DEVICE = 1000
_BEGIN = "<!-- table: written by python -m bench.simulation -->"
_END = "<!-- end of the table -->"
_IDLE_S = 0.1  # between two accesses, so that no page has to stay


@dataclass(frozen=True)
class Parameters:
    """A host and its link. `leaving_s`: how long a vCPU that is asked to needs to leave the guest."""

    latency_s: float = 50e-6
    bytes_per_s: float = 125e6
    handling_s: float = 30e-6
    leaving_s: float = 15e-6


class Figures(NamedTuple):
    """What an operation cost between hosts."""

    messages: int
    bytes: int
    us: float


class Network:
    """Virtual time, and nodes that are busy with one message at a time."""

    def __init__(self, parameters: Parameters, hosts: int) -> None:
        self.parameters = parameters
        self.now_s = 0.0
        self.messages = self.bytes = 0
        self._link_free_s = [0.0] * hosts
        self._node_free_s = [0.0] * hosts
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0

    def later(self, at_s: float, do: Callable[[], None]) -> None:
        """Do it then."""
        self._number += 1
        heapq.heappush(self._queue, (at_s, self._number, do))

    def send(self, source: int, target: int, size: int, arrive: Callable[[], None]) -> None:
        """`arrive` is called when the target's node has handled it."""
        at_s = self.now_s
        if source != target:
            self.messages += 1
            self.bytes += size
            begin_s = max(self.now_s, self._link_free_s[source])
            self._link_free_s[source] = begin_s + size / self.parameters.bytes_per_s
            at_s = self._link_free_s[source] + self.parameters.latency_s
        self.later(at_s, lambda: self._handle(target, arrive))

    def _handle(self, target: int, arrive: Callable[[], None]) -> None:
        self._node_free_s[target] = max(self.now_s, self._node_free_s[target]) + self.parameters.handling_s
        self.later(self._node_free_s[target], arrive)

    def run(self, until: Callable[[], bool]) -> None:
        """Let time pass. Raises RuntimeError if nothing happens any more."""
        while not until():
            if not self._queue:
                raise RuntimeError("nothing happens any more, and the operation is not done")
            self.now_s, _, do = heapq.heappop(self._queue)
            do()


class Pages:
    """One page of `hosts`, whose home is host 0."""

    def __init__(self, network: Network, hosts: int) -> None:
        self.network = network
        self.entries: dict[int, bool] = {0: True}  # host: may write
        self.progress = [0] * hosts
        self.served = 0
        self._directory = PageDirectory(0)
        self._caches = [
            PageCache(host, hosts, _FIRST_DEVICE, self._is_here(host), self._progress(host)) for host in range(hosts)
        ]

    def access(self, host: int, write: bool) -> None:
        """A vCPU of that host makes the access; time passes until it has made progress."""
        served = self.served
        self.network.later(self.network.now_s, lambda: self._obey(host, self._caches[host].wanted(0, 0, write, False)))
        self.network.run(lambda: self.served > served)
        self.progress[host] += 1
        self._look(host)

    def _is_here(self, host: int) -> Callable[[int, bool], bool]:
        return lambda _, write: host in self.entries and (self.entries[host] or not write)

    def _progress(self, host: int) -> Callable[[int], int]:
        return lambda _: self.progress[host]

    def _arrive(self, source: int, target: int, message: PageMessage) -> None:
        now_s = self.network.now_s
        match message:
            case PageAsked():
                self._obey(target, self._directory.asked(source, message))
            case PageYielded():
                self._obey(target, self._directory.yielded(source, message))
            case PageRecalled():
                self._obey(target, self._caches[target].recalled(message, now_s))
            case PageGranted():
                self._obey(target, self._caches[target].granted(message, now_s))
        self._look(target)

    def _look(self, host: int) -> None:
        cache = self._caches[host]
        self._obey(host, cache.look(self.network.now_s))
        due_s = cache.due_s()
        if due_s is not None:
            self.network.later(
                max(due_s, self.network.now_s + 1e-6), lambda: self._obey(host, cache.look(self.network.now_s))
            )

    def _obey(self, host: int, effects: list[Effect] | list[Send]) -> None:
        for effect in effects:
            match effect:
                case Send(target, message):
                    self.network.send(host, target, len(encode(message)), self._arrival(host, target, message))
                case Install(_, _, write):
                    self.entries[host] = write
                case Upgrade():
                    self.entries[host] = True
                case Have(slot, page, _):
                    self._caches[host].given(slot, page, self.progress[host])
                    self.served += 1
                case Revoke(_, _, share, data):
                    if share:
                        self.entries[host] = False
                    else:
                        del self.entries[host]
                    self._obey(host, self._caches[host].revoked(effect, PAGE_BYTES if data else b"", False))
                case Watch():
                    pass  # its vCPU made progress before time passed

    def _arrival(self, source: int, target: int, message: PageMessage) -> Callable[[], None]:
        return lambda: self._arrive(source, target, message)


def fault(parameters: Parameters, hosts: int, write: bool, readers: int) -> Figures:
    """The last host's access to a page which `readers` others read, or where there is none, host 0 owns."""
    network = Network(parameters, hosts)
    pages = Pages(network, hosts)
    for reader in range(1, readers + 1):
        pages.access(reader, False)
        network.now_s += _IDLE_S
    messages, size, begin_s = network.messages, network.bytes, network.now_s
    pages.access(hosts - 1, write)
    return Figures(network.messages - messages, network.bytes - size, (network.now_s - begin_s) * 1e6)


def ping_pong(parameters: Parameters, hosts: int, turns: int = 20) -> Figures:
    """Two hosts write to a page alternately, each right after the other: the cost of one turn."""
    network = Network(parameters, hosts)
    pages = Pages(network, hosts)
    for turn in range(turns):
        pages.access(hosts - 1 if turn % 2 == 0 else 0, True)
    return Figures(network.messages // turns, network.bytes // turns, network.now_s / turns * 1e6)


def stop(parameters: Parameters, hosts: int) -> Figures:
    """From the request to the grant: root, nodes, vCPUs. Each node gets one message for all its vCPUs."""
    network = Network(parameters, hosts)
    vcpus = hosts * VCPUS_EACH
    machine = barrier.Barrier(vcpus)
    granted: list[barrier.Effect] = []
    post = len(encode(Posted(1, b"\0" * POST_BYTES * VCPUS_EACH)))
    done = len(encode(PostsDone(1)))
    missing = set(range(vcpus))

    def take(event: barrier.Event) -> None:
        for effect in machine.handle(event):
            if isinstance(effect, barrier.Hold):
                for host in range(hosts):
                    network.send(
                        0,
                        host,
                        post,
                        lambda host=host: network.later(  # type: ignore[misc]
                            network.now_s + parameters.leaving_s,
                            lambda: network.send(host, 0, done, lambda: left(host)),
                        ),
                    )
            else:
                granted.append(effect)

    def left(host: int) -> None:
        missing.difference_update(range(host * VCPUS_EACH, (host + 1) * VCPUS_EACH))
        take(barrier.Left(machine.hold, frozenset(missing)))

    take(barrier.Asked(b"op-1", None, False, "simulated"))
    network.run(lambda: bool(granted))
    return Figures(network.messages, network.bytes, network.now_s * 1e6)


def measure(parameters: Parameters, sizes: tuple[int, ...]) -> dict[str, dict[int, Figures]]:
    """By operation and number of hosts."""
    found: dict[str, dict[int, Figures]] = {}
    for hosts in sizes:
        found.setdefault("stop of the world", {})[hosts] = stop(parameters, hosts)
        if hosts > 1:
            found.setdefault("read fault", {})[hosts] = fault(parameters, hosts, False, 0)
            found.setdefault("write fault, one owner", {})[hosts] = fault(parameters, hosts, True, 0)
            found.setdefault("write fault, all others read", {})[hosts] = fault(parameters, hosts, True, hosts - 2)
            found.setdefault("ping-pong, a turn", {})[hosts] = ping_pong(parameters, hosts)
    return found


def tables(found: dict[str, dict[int, Figures]], sizes: tuple[int, ...]) -> str:
    """Microseconds, messages and bytes."""
    parts = []
    for unit in ("us", "messages", "bytes"):
        figures = {
            name: {hosts: float(getattr(figure, unit)) for hosts, figure in by_size.items()}
            for name, by_size in found.items()
        }
        parts.append(markdown(figures, sizes).replace("| us |", f"| {unit} |", 1).replace(".0 |", " |"))
    return "\n\n".join(parts)


def main() -> int:
    """The command; exit status 0."""
    parser = argparse.ArgumentParser(prog="bench.simulation", description="Simulate what more hosts cost.")
    parser.add_argument(
        "--hosts", default=",".join(map(str, SIZES)), metavar="N,...", help="sizes (default: %(default)s)"
    )
    defaults = Parameters()
    parser.add_argument(
        "--latency-us",
        type=float,
        default=defaults.latency_s * 1e6,
        metavar="US",
        help="of a message (default: %(default)g)",
    )
    parser.add_argument(
        "--handling-us",
        type=float,
        default=defaults.handling_s * 1e6,
        metavar="US",
        help="of a message by a node (default: %(default)g)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the figures")
    parser.add_argument("--write", type=Path, metavar="DOCS", help="write hosts-growth.md and .svg in this folder")
    options = parser.parse_args()
    try:
        sizes = tuple(sorted(set(map(int, options.hosts.split(",")))))
    except ValueError:
        sizes = ()
    if not sizes or not all(1 <= hosts <= 4096 for hosts in sizes):
        parser.error("give sizes of 1 to 4096 hosts")
    parameters = Parameters(latency_s=options.latency_us / 1e6, handling_s=options.handling_us / 1e6)
    found = measure(parameters, sizes)
    table = tables(found, sizes)
    print(table)
    if options.json is not None:
        options.json.write_text(
            json.dumps(
                {
                    "parameters": asdict(parameters),
                    "vcpus_each": VCPUS_EACH,
                    "figures": {
                        name: {hosts: figure._asdict() for hosts, figure in by_size.items()}
                        for name, by_size in found.items()
                    },
                },
                indent=1,
            )
            + "\n"
        )
    if options.write is not None:
        path = options.write / "hosts-growth.md"
        before, _, rest = path.read_text().partition(_BEGIN)
        path.write_text(f"{before}{_BEGIN}\n{table}\n{_END}{rest.partition(_END)[2]}")
        us = {name: {hosts: figure.us for hosts, figure in by_size.items()} for name, by_size in found.items()}
        (options.write / "hosts-growth.svg").write_text(
            chart.svg("What more hosts cost, simulated", us, "hosts", "microseconds")
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
