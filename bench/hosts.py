# SPDX-License-Identifier: GPL-2.0-or-later
"""What other hosts cost: `python -m bench.hosts [--rounds N] [--hosts FILE] [--results DIR]`.

Pages and stops of a machine on two hosts (and stops on four) against the bare round trip of one page over the same
link: a DEALER/ROUTER echo over TCP with CURVE that answers a PageAsked by a PageGranted of 4096 bytes, or a Posted by a
PostsDone, and does nothing else. Both alternate in one run; the median of the rounds' ratios counts. Without --hosts
the hosts are agents on this one, over its loopback, and all processes share its cores.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import zmq

from allstop.deploy.outcome.verdict import Verdict
from allstop.deploy.processes.processes import child_environment
from allstop.machine import Machine
from allstop.report.run import RecordedRun
from allstop.vm.journal.format import Kind
from allstop.vm.wire.codec import encode
from allstop.vm.wire.messages_hosts import HostStopped, PageAsked, PageGranted, StopHost
from allstop.vm.wire.security import Guard, KeyPair, secure
from bench import environment

IMAGE = Path(__file__).resolve().parent.parent / "guests" / "images" / "pages.elf"
LATENCY = IMAGE.with_name("latency.elf")
_PAGE = (encode(PageAsked(0x40020, False)), encode(PageGranted(0x40020, 1, False, True, bytes(range(256)) * 16)))
_STOP_HOST = (encode(StopHost(1, b"")), encode(HostStopped(1)))
_DEADLINE_S = 120.0
_WARM_UP = 50
_STOP = b""


def answer(address: str, keys: KeyPair, client: str) -> None:
    """Be the answering end: print the port, and answer until an empty request."""
    context = zmq.Context()
    guard = Guard(context, [client])
    socket = context.socket(zmq.ROUTER)
    socket.linger = 0
    socket.setsockopt(zmq.ZAP_DOMAIN, b"allstop")
    socket.setsockopt(zmq.CURVE_SERVER, 1)
    socket.setsockopt_string(zmq.CURVE_SECRETKEY, keys.secret)
    print(socket.bind_to_random_port(f"tcp://{address}"), flush=True)
    replies = dict((_PAGE, _STOP_HOST))
    while True:
        identity, data = socket.recv(), socket.recv()
        if data == _STOP:
            break
        socket.send(identity, zmq.SNDMORE)
        socket.send(replies[data])
    socket.close()
    guard.close()
    context.term()


class Echo:
    """The asking end."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self.socket = socket

    def p50_us(self, request: bytes, samples: int) -> float:
        """The median of this many round trips."""
        times = []
        for _ in range(_WARM_UP + samples):
            before = time.perf_counter_ns()
            self.socket.send(request)
            self.socket.recv()
            times.append(time.perf_counter_ns() - before)
        return median(times[_WARM_UP:]) / 1000


def at_once_us(echoes: list[Echo], request: bytes, samples: int) -> float:
    """The median time until all of them, asked at once, have answered."""
    times = []
    for _ in range(_WARM_UP + samples):
        before = time.perf_counter_ns()
        for each in echoes:
            each.socket.send(request)
        for each in echoes:
            each.socket.recv()
        times.append(time.perf_counter_ns() - before)
    return median(times[_WARM_UP:]) / 1000


@contextlib.contextmanager
def echo(address: str = "127.0.0.1") -> Iterator[Echo]:
    """The yardstick, with its answering end in a process of its own on this host."""
    ours, theirs = KeyPair.make(), KeyPair.make()
    with subprocess.Popen(
        (sys.executable, "-m", "bench.hosts", "--answer", address),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=child_environment(),
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps([theirs, ours.public]) + "\n")
            process.stdin.flush()
            port = int(process.stdout.readline())
            with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
                socket.linger = 500
                socket.rcvtimeo = 10_000
                secure(socket, ours, theirs.public, f"tcp://{address}:{port}")
                socket.connect(f"tcp://{address}:{port}")
                yield Echo(socket)
                socket.send(_STOP)
            process.wait(5)
        finally:
            process.kill()


@dataclass
class Row:
    """One figure over the rounds: ours and the yardstick's, microseconds."""

    title: str
    at_most: float | None
    aim: float | None
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        """Round by round."""
        return [a / b for a, b in zip(self.ours, self.theirs, strict=True)]

    def line(self) -> str:
        """A row of the table."""
        ratio = median(self.ratios)
        goal = (
            ""
            if self.at_most is None
            else f"at most {self.at_most:g}x"
            + (f", aim {self.aim:g}x" if self.aim else "")
            + (": aim met" if self.aim and ratio <= self.aim else ": met" if ratio <= self.at_most else ": **missed**")
        )
        return (
            f"| {self.title} | {median(self.ours):.0f} us | {median(self.theirs):.0f} us | {ratio:.2f} "
            f"({min(self.ratios):.2f} to {max(self.ratios):.2f}) | {goal} |"
        )


def hosts_file(folder: Path, hosts: int) -> Path:
    """This many hosts, all of them this one."""
    path = folder / f"hosts-{hosts}.toml"
    path.write_text("".join(f'[[host]]\nname = "h{number}"\naddress = "127.0.0.1"\n' for number in range(hosts)))
    return path


def results(console: str) -> dict[str, dict[str, str]]:
    """The guest's `result:` lines by operation."""
    lines = [
        dict(item.split("=") for item in line.split()[1:])
        for line in console.splitlines()
        if line.startswith("result: ")
    ]
    return {line["operation"]: line for line in lines if "operation" in line}


def run(image: Path, vcpus: int, parameter: int, hosts: Path | None) -> tuple[dict[str, dict[str, str]], Verdict]:
    """One machine. Raises RuntimeError when it did not pass."""
    with Machine(image, vcpus=vcpus, parameter=parameter, hosts=hosts, timeout=_DEADLINE_S) as machine:
        verdict = machine.wait()
        console = machine.console
    if verdict.verdict != "pass":
        raise RuntimeError(f"the machine that measures did not pass: {verdict.sentence}\n{console}")
    return results(console), verdict


def stops_us(hosts: int, path: Path, folder: Path) -> float:
    """The median time from the coordinator's request until all hosts have stopped, by its journal. The vCPUs of the
    other hosts are off: they would only add their wait for a core."""
    with Machine(
        LATENCY, vcpus=hosts, parameter=100 << 8 | 4, hosts=path, timeout=_DEADLINE_S, run_dir=folder, journal=True
    ) as machine:
        verdict = machine.wait()
    if verdict.verdict != "pass":
        raise RuntimeError(f"the machine that measures did not pass: {verdict.sentence}")
    with RecordedRun(folder) as recorded:
        return (
            median(
                event.took_ns
                for journal in recorded.journals
                if journal.header.process == "coordinator"
                for event in journal.events()
                if event.kind is Kind.STOPPED
            )
            / 1000
        )


def main() -> int:
    """The command; exit status 0 when everything was measured, whatever the figures."""
    parser = argparse.ArgumentParser(prog="bench.hosts", description="Measure what other hosts cost.")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds (default: %(default)s)")
    parser.add_argument("--samples", type=int, default=200, metavar="N", help="pages in each (default: %(default)s)")
    parser.add_argument("--hosts", type=Path, metavar="FILE.toml", help="two hosts; default: this one twice")
    parser.add_argument("--results", type=Path, metavar="DIR", help="keep the raw results in a new file of this folder")
    parser.add_argument("--answer", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.answer is not None:
        keys, client = json.loads(sys.stdin.readline())
        answer(arguments.answer, KeyPair(*keys), client)
        return 0
    pages = {
        operation: Row(title, *goal)
        for operation, title, goal in (
            ("read", "a page of another host's, to read", (3, 1.5)),
            ("fetch", "a page that two hosts have, to write", (3, 1.5)),
            ("write", "the same, asked for by the other host", (3, 1.5)),
        )
    }
    stops = {hosts: Row(f"a stop of the world across {hosts} hosts", 3, None) for hosts in (2, 4)}
    turns, alone, apart, three = [], [], [], []
    with tempfile.TemporaryDirectory() as folder, echo() as yardstick, echo() as second, echo() as third:
        two = arguments.hosts or hosts_file(Path(folder), 2)
        for number in range(arguments.rounds):
            bare = yardstick.p50_us(_PAGE[0], 400)
            found, _ = run(IMAGE, 2, arguments.samples, two)
            bare = (bare + yardstick.p50_us(_PAGE[0], 400)) / 2
            for operation, row in pages.items():
                row.ours.append(int(found[operation]["p50_ns"]) / 1000)
                row.theirs.append(bare)
            turns.append(int(found["pingpong"]["each_ns"]) / 1000)
            apart.append(max(int(found["private"][name]) for name in ("first_ns", "last_ns")))
            here, _ = run(IMAGE, 2, arguments.samples, None)
            alone.append(max(int(here["private"][name]) for name in ("first_ns", "last_ns")))
            for hosts, row in stops.items():
                bare = yardstick.p50_us(_STOP_HOST[0], 400)
                path = two if hosts == 2 else hosts_file(Path(folder), hosts)
                stopped_us = stops_us(hosts, path, Path(folder) / f"stops-{hosts}-{number}")
                bare = (bare + yardstick.p50_us(_STOP_HOST[0], 400)) / 2
                row.ours.append(stopped_us)
                row.theirs.append(bare)
            three.append(stopped_us / at_once_us([yardstick, second, third], _STOP_HOST[0], 400))
            print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr)
    rows = [*pages.values(), *stops.values()]
    print("| | allstop | bare round trip | ratio (rounds) | goal |\n|---|--:|--:|--:|---|")
    for row in rows:
        print(row.line())
    times = median(b / a for a, b in zip(alone, apart, strict=True))
    turn_us = median(turns)
    print(
        f"\nA page that two hosts write to in turns: {1e6 / turn_us:.0f} turns/s ({turn_us:.0f} us each). Computing "
        f"without sharing on two hosts: {times:.3f} times the time on one. A stop across 4 hosts takes "
        f"{median(three):.2f} times as long as three bare round trips at once."
    )
    if arguments.results is not None:
        arguments.results.mkdir(parents=True, exist_ok=True)
        path = arguments.results / f"hosts-{time.strftime('%Y%m%d-%H%M%S')}.json"
        path.write_text(
            json.dumps(
                {
                    "environment": environment.describe(),
                    "turn_us": turns,
                    "alone_ns": alone,
                    "apart_ns": apart,
                    "rows": [{"title": row.title, "ours": row.ours, "theirs": row.theirs} for row in rows],
                },
                indent=1,
            )
            + "\n"
        )
        print(f"raw results: {path}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
