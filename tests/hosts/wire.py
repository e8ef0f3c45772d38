# SPDX-License-Identifier: GPL-2.0-or-later
"""A bad wire between hosts that are network namespaces: latency, jitter, loss, reordering and partition.

The kernel's netem makes it where there is one. Elsewhere it is a proxy of ours, of whole IP packets: each host gets a
TUN device, whose other end is a descriptor of this process, and a thread passes packets on. So it is the hosts' own TCP
that waits, sends again and sorts. A TUN device that was not asked for offloads gets packets with their checksums, none
longer than its MTU; and it goes with its descriptor, however this process ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import select
import socket
import struct
import subprocess
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

HOLD_S = 0.01  # for the next packet, which may be long in coming
DEVICE = "bad"
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_DESTINATION = slice(16, 20)  # in an IPv4 header, which is 20 bytes at least
_HEADER_BYTES = 20
_PACKET_BYTES = 65536
_NAMES = "allstop%d"  # the kernel finds a free number


class WireError(RuntimeError):
    """The wire cannot be made here, or has failed: one sentence."""


class Quality(NamedTuple):
    """How bad a wire is, each way: `delay_s` plus or minus `jitter_s`; the shares of packets that are lost, and that
    come after the packet behind them (netem: before those ahead)."""

    delay_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0
    reorder: float = 0.0


class Counts(NamedTuple):
    """What a wire did with packets. `waited_s` is how long those that passed were on it together. Netem tells neither
    that nor `reordered`: None."""

    passed: int
    dropped: int
    reordered: int | None
    waited_s: float | None


class Network(Protocol):
    """What a wire has to know of a network."""

    namespaces: list[str]
    addresses: list[str]

    def cut(self, host: int) -> None:
        """Pull a cable."""

    def mend(self, host: int) -> None:
        """Plug it in again."""


class Lane:
    """One direction between two hosts. Pure: packets and times come in, and what is due goes out. Two lanes with the
    same seed do the same to the n-th packet."""

    def __init__(self, quality: Quality, seed: str) -> None:
        self._quality = quality
        self._random = random.Random(seed)
        self._queue: deque[tuple[float, float, bytes]] = deque()  # when it is due, when it came
        self._held: tuple[float, float, bytes] | None = None
        self._last_due_s = 0.0
        self.passed = self.dropped = self.reordered = 0
        self.waited_s = 0.0

    def take(self, packet: bytes, now_s: float) -> None:
        """A packet comes in."""
        lost, spread, late = self._random.random(), self._random.uniform(-1, 1), self._random.random()
        quality = self._quality
        if lost < quality.loss:
            self.dropped += 1
            return
        # Jitter is a queue's somewhere on the way, which keeps the order.
        due_s = self._last_due_s = max(self._last_due_s, now_s + quality.delay_s + spread * quality.jitter_s)
        if self._held is not None:
            self._queue += [(due_s, now_s, packet), (due_s, *self._held[1:])]
            self._held = None
            self.reordered += 1
        elif late < quality.reorder:
            self._held = (due_s + HOLD_S, now_s, packet)
        else:
            self._queue.append((due_s, now_s, packet))

    def due_s(self) -> float | None:
        """When the next packet leaves; None when there is none."""
        if self._queue:
            return self._queue[0][0]
        return None if self._held is None else self._held[0]

    def leaving(self, now_s: float) -> list[bytes]:
        """The packets that leave now, in this order."""
        if self._held is not None and self._held[0] <= now_s:
            self._last_due_s = max(self._last_due_s, self._held[0])
            self._queue.append(self._held)
            self._held = None
        packets = []
        while self._queue and self._queue[0][0] <= now_s:
            _, came_s, packet = self._queue.popleft()
            self.waited_s += now_s - came_s
            packets.append(packet)
        self.passed += len(packets)
        return packets


class Wire(Protocol):
    """A bad wire. `addresses` are the hosts' on it."""

    addresses: list[str]

    def cut(self, host: int) -> None:
        """Nothing gets to this host or away from it any more, and no process is told."""

    def mend(self, host: int) -> None:
        """It does again."""

    def counts(self) -> Counts:
        """What it has done until now."""

    def close(self) -> None:
        """Remove it."""


class Proxy:
    """The wire where there is no netem. Raises WireError; what it had made is gone then."""

    def __init__(self, network: Network, hosts: int, quality: Quality, seed: int) -> None:
        self.addresses = [f"10.78.0.{number + 1}" for number in range(hosts)]
        self._hosts = {socket.inet_aton(address): number for number, address in enumerate(self.addresses)}
        self._lanes = {
            (source, target): Lane(quality, f"{seed} {source} {target}")
            for source in range(hosts)
            for target in range(hosts)
            if source != target
        }
        self._cut: frozenset[int] = frozenset()
        self._failure: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._fds: list[int] = []
        self._end_fd = os.eventfd(0)
        try:
            for number in range(hosts):
                self._fds.append(_open_device(network.namespaces[number], self.addresses[number]))
        except BaseException:
            self.close()
            raise
        self._thread = threading.Thread(target=self._run, name="wire", daemon=True)
        self._thread.start()

    def cut(self, host: int) -> None:
        self._cut |= {host}

    def mend(self, host: int) -> None:
        self._cut -= {host}

    def counts(self) -> Counts:
        lanes = self._lanes.values()
        return Counts(
            sum(lane.passed for lane in lanes),
            sum(lane.dropped for lane in lanes),
            sum(lane.reordered for lane in lanes),
            sum(lane.waited_s for lane in lanes),
        )

    def close(self) -> None:
        """Raises what went wrong meanwhile."""
        os.eventfd_write(self._end_fd, 1)
        if self._thread is not None:
            self._thread.join()
        for fd in (*self._fds, self._end_fd):
            os.close(fd)
        if self._failure is not None:
            raise WireError("the wire has failed") from self._failure

    def _run(self) -> None:
        try:
            while True:
                due = [due_s for lane in self._lanes.values() if (due_s := lane.due_s()) is not None]
                wait_s = max(0.0, min(due) - time.monotonic()) if due else None
                ready, _, _ = select.select([self._end_fd, *self._fds], [], [], wait_s)
                if self._end_fd in ready:
                    return
                for fd in ready:
                    self._take(fd)
                self._deliver()
        except BaseException as error:
            self._failure = error

    def _take(self, fd: int) -> None:
        source = self._fds.index(fd)
        with contextlib.suppress(BlockingIOError):
            while packet := os.read(fd, _PACKET_BYTES):
                target = self._hosts.get(packet[_DESTINATION]) if len(packet) >= _HEADER_BYTES else None
                if packet[0] >> 4 == 4 and target is not None and not {source, target} & self._cut:
                    self._lanes[source, target].take(packet, time.monotonic())

    def _deliver(self) -> None:
        for (source, target), lane in self._lanes.items():
            for packet in lane.leaving(time.monotonic()):
                if not {source, target} & self._cut:
                    os.write(self._fds[target], packet)


def _open_device(namespace: str, address: str) -> int:
    """Make a host's TUN device; the descriptor that it is gone with."""
    try:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    except OSError as error:
        raise WireError(f"/dev/net/tun cannot be opened: {error.strerror}") from None
    try:
        answer = fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", _NAMES.encode(), _IFF_TUN | _IFF_NO_PI))
        _command("ip", "link", "set", answer[:16].split(b"\0")[0].decode(), "netns", namespace, "name", DEVICE)
        _command("ip", "-n", namespace, "link", "set", DEVICE, "addrgenmode", "none")
        _command("ip", "-n", namespace, "address", "add", f"{address}/24", "dev", DEVICE)
        _command("ip", "-n", namespace, "link", "set", DEVICE, "up")
    except OSError as error:
        os.close(fd)
        raise WireError(f"a TUN device cannot be made: {error.strerror}") from None
    except WireError:
        os.close(fd)
        raise
    return fd


class Netem:
    """The wire of kernels that have netem: on what each host sends. Raises WireError where there is none."""

    def __init__(self, network: Network, hosts: int, quality: Quality) -> None:
        self.addresses = network.addresses[:hosts]
        self._network = network
        self._namespaces: list[str] = []
        try:
            for namespace in network.namespaces[:hosts]:
                _command("tc", "-n", namespace, "qdisc", "add", "dev", "wire", "root", "netem", *netem_words(quality))
                self._namespaces.append(namespace)
        except BaseException:
            self.close()
            raise

    def cut(self, host: int) -> None:
        self._network.cut(host)

    def mend(self, host: int) -> None:
        self._network.mend(host)

    def counts(self) -> Counts:
        said = [
            json.loads(_command("tc", "-n", namespace, "-s", "-j", "qdisc", "show", "dev", "wire"))
            for namespace in self._namespaces
        ]
        ours: list[dict[str, Any]] = [each for one in said for each in one if each["kind"] == "netem"]
        return Counts(sum(each["packets"] for each in ours), sum(each["drops"] for each in ours), None, None)

    def close(self) -> None:
        for namespace in self._namespaces:
            _command("tc", "-n", namespace, "qdisc", "delete", "dev", "wire", "root")


def netem_words(quality: Quality) -> list[str]:
    """What tc is told of a quality."""
    words = ["limit", "10000", "delay", f"{quality.delay_s * 1e6:.0f}us"]
    if quality.jitter_s:
        words.append(f"{quality.jitter_s * 1e6:.0f}us")
    if quality.loss:
        words += ["loss", f"{quality.loss:.3%}"]
    if quality.reorder:
        words += ["reorder", f"{quality.reorder:.3%}"]
    return words


def has_netem(namespace: str) -> bool:
    """Whether the kernel of this namespace has netem. Its loopback device is asked."""
    try:
        _command("tc", "-n", namespace, "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms")
    except WireError:
        return False
    _command("tc", "-n", namespace, "qdisc", "delete", "dev", "lo", "root")
    return True


def make_wire(network: Network, hosts: int, quality: Quality, seed: int) -> Wire:
    """A bad wire between the first hosts. `seed` is the proxy's: tc of today has none. Raises WireError."""
    if has_netem(network.namespaces[0]):
        return Netem(network, hosts, quality)
    return Proxy(network, hosts, quality, seed)


def tcp_counts(namespaces: Sequence[str]) -> dict[str, int]:
    """What the hosts' TCP has seen together, since they were made, by the kernel's names (TCPOFOQueue: segments that
    came before those ahead of them; RetransSegs: those that were sent again)."""
    found: dict[str, int] = {}
    for namespace in namespaces:
        lines = _command("ip", "netns", "exec", namespace, "cat", "/proc/net/snmp", "/proc/net/netstat").splitlines()
        for names, values in zip(lines[::2], lines[1::2], strict=True):
            kind, *words = names.split()
            if kind in ("Tcp:", "TcpExt:"):
                for name, value in zip(words, values.split()[1:], strict=True):
                    found[name] = found.get(name, 0) + int(value)
    return found


def _command(*words: str) -> str:
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    except OSError as error:
        raise WireError(f"{words[0]} cannot be started: {error.strerror}") from None
    if done.returncode:
        raise WireError(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout
