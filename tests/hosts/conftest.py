# SPDX-License-Identifier: GPL-2.0-or-later
"""Hosts made of network namespaces, joined by a bridge in a namespace of its own: all of it goes with the namespaces.

Names carry the process that made them, so that what a killed test process left is found and removed by the next one.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from allstop.deploy.processes.processes import child_environment
from tests.hosts.wire import Quality, Wire, WireError, make_wire

NAMES = ("here", "there", "yonder", "beyond")
_PREFIX = "allstop-test-"
_FOLDER = Path("/run/netns")
LEAVE_S = 5.0


class NoNetworkError(RuntimeError):
    """Network namespaces cannot be made here: the text says why."""


def ip(*words: str) -> str:
    """Run ip(8). Raises NoNetworkError with its own words."""
    try:
        done = subprocess.run(("ip", *words), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    except OSError as error:
        raise NoNetworkError(f"ip cannot be started: {error.strerror}") from None
    if done.returncode:
        raise NoNetworkError(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def remove_leftovers() -> None:
    """Remove the namespaces of test processes that are gone, and the processes in them."""
    for path in _FOLDER.glob(f"{_PREFIX}*") if _FOLDER.is_dir() else ():
        owner = path.name.removeprefix(_PREFIX).split("-")[0]
        if not Path(f"/proc/{owner}").exists():
            _remove(path.name)


def _remove(name: str) -> None:
    for pid in pids_in(name):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(NoNetworkError):
        ip("netns", "delete", name)


def pids_in(namespace: str) -> list[int]:
    """The processes in a namespace."""
    with contextlib.suppress(NoNetworkError):
        return [int(word) for word in ip("netns", "pids", namespace).split()]
    return []


class Network:
    """Some hosts and the wires between them; one for each process. Raises NoNetworkError where it cannot be made."""

    def __init__(self, hosts: int) -> None:
        remove_leftovers()
        self._stem = f"{_PREFIX}{os.getpid()}-"
        self._switch = f"{self._stem}switch"
        self.namespaces = [f"{self._stem}{name}" for name in NAMES[:hosts]]
        self.addresses = [f"10.77.0.{number + 1}" for number in range(hosts)]
        try:
            ip("netns", "add", self._switch)
            ip("-n", self._switch, "link", "add", "bridge", "type", "bridge")
            ip("-n", self._switch, "link", "set", "bridge", "up")
            for number, namespace in enumerate(self.namespaces):
                ip("netns", "add", namespace)
                ip("-n", namespace, "link", "set", "lo", "up")
                ip(
                    "-n",
                    namespace,
                    "link",
                    "add",
                    "wire",
                    "type",
                    "veth",
                    "peer",
                    "name",
                    f"port{number}",
                    "netns",
                    self._switch,
                )
                ip("-n", self._switch, "link", "set", f"port{number}", "master", "bridge", "up")
                ip("-n", namespace, "address", "add", f"{self.addresses[number]}/24", "dev", "wire")
                ip("-n", namespace, "link", "set", "wire", "up")
        except NoNetworkError:
            self.close()
            raise

    def close(self) -> None:
        """Remove it."""
        for name in (*self.namespaces, self._switch):
            _remove(name)

    def cut(self, host: int) -> None:
        """Pull the host's cable: nothing gets through, and no process is told."""
        ip("-n", self._switch, "link", "set", f"port{host}", "nomaster")

    def mend(self, host: int) -> None:
        """Plug it in again."""
        ip("-n", self._switch, "link", "set", f"port{host}", "master", "bridge", "up")

    @contextlib.contextmanager
    def parted(self, one: int, other: int) -> Iterator[None]:
        """Nothing gets from one of the two hosts to the other one; all others reach both."""
        with contextlib.ExitStack() as stack:
            for near, far in ((one, other), (other, one)):
                words = ("blackhole", self.addresses[far])
                ip("-n", self.namespaces[near], "route", "add", *words)
                stack.callback(ip, "-n", self.namespaces[near], "route", "delete", *words)
            yield

    def enter(self, host: int) -> list[str]:
        """What to put before a command that is to run on the host."""
        return ["ip", "netns", "exec", self.namespaces[host]]

    def clean(self) -> None:
        """Remove what killed test processes have left."""
        remove_leftovers()

    def leave(self) -> str:
        """Make a namespace as a test process that was killed leaves it; its name."""
        with subprocess.Popen(("true",)) as process:
            process.wait()
        name = f"{_PREFIX}{process.pid}-here"
        ip("netns", "add", name)
        return name

    def left(self, hosts: int | None = None) -> list[str]:
        """The processes on the hosts, by what they are."""
        found = []
        for namespace in self.namespaces[:hosts]:
            for pid in pids_in(namespace):
                with contextlib.suppress(OSError):
                    words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    found.append(f"{namespace.removeprefix(self._stem)}: {pid} {words.strip()}")
        return found

    def await_empty(self, deadline_s: float) -> None:
        """Fail unless all processes are gone within the deadline."""
        end_s = time.monotonic() + deadline_s
        while left := self.left():
            assert time.monotonic() < end_s, "left on the hosts: " + "; ".join(left)
            time.sleep(0.02)

    def members(self, host: int) -> dict[str, int]:
        """A host's processes of the machine, by module (`vcpu-N` for workers): their numbers."""
        found = {}
        for pid in pids_in(self.namespaces[host]):
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue
            if "--vcpu" in words:
                found[f"vcpu-{words[words.index('--vcpu') + 1]}"] = pid
            elif "-m" in words:
                found[words[words.index("-m") + 1].removeprefix("allstop.")] = pid
        return found

    def kill_all(self) -> None:
        """Kill what is left on the hosts."""
        for namespace in self.namespaces:
            for pid in pids_in(namespace):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


class Run(NamedTuple):
    """How a run ended. `verdict` is its JSON, {} where there was none."""

    status: int
    verdict: dict[str, Any]
    console: str
    err: str


class Hosts:
    """Machines on the first hosts of a network."""

    def __init__(self, network: Network, folder: Path) -> None:
        self.network = network
        self.folder = folder
        self.addresses = network.addresses

    def file(
        self,
        hosts: int = 2,
        vcpus: list[int] | None = None,
        extra: str = "",
        agents: dict[int, tuple[str, ...]] | None = None,
    ) -> Path:
        """A hosts file with the first `hosts`; `vcpus` says how many each of them has. `extra` precedes them. `agents`
        are Python programs that are started in the place of a host's agent."""
        tables = [extra]
        for number in range(hosts):
            tables.append(f'[[host]]\nname = "{NAMES[number]}"\naddress = "{self.addresses[number]}"')
            if number:
                words = self.network.enter(number)
                if agents and number in agents:
                    words = [*words, sys.executable, *agents[number]]
                tables.append(f"command = {json.dumps(words)}")
            if vcpus is not None:
                tables.append(f"vcpus = {vcpus[number]}")
        path = self.folder / "hosts.toml"
        path.write_text("\n".join(tables) + "\n")
        return path

    def start(self, *arguments: object, **options: Any) -> subprocess.Popen[bytes]:
        """Start `allstop` on the first host."""
        given: dict[str, Any] = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "env": child_environment(),
        }
        words = (*self.network.enter(0), sys.executable, "-P", "-m", "allstop.cli.main", *map(str, arguments))
        return subprocess.Popen(words, **(given | options))

    def finish(self, process: subprocess.Popen[bytes], deadline_s: float = 90.0) -> Run:
        """Wait for a run that was started with --json, and see that it leaves no process on any host."""
        try:
            out, err = process.communicate(timeout=deadline_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
        self.network.await_empty(LEAVE_S)
        text = out.decode()
        said = err.decode()
        verdict = json.loads(text) if text.startswith("{") else {}
        return Run(
            process.returncode,
            verdict,
            "".join(line for line in said.splitlines(True) if not line.startswith("allstop: ")),
            said,
        )

    def run(self, image: Path, *arguments: object, hosts: Path | None = None, deadline_s: float = 90.0) -> Run:
        """Run a guest to its end."""
        where = () if hosts is None else ("--hosts", hosts)
        return self.finish(self.start("run", "--json", image, *where, *arguments), deadline_s)


@pytest.fixture(scope="session")
def network() -> Iterator[Network]:
    """Four hosts and their wires, for all tests of this process."""
    try:
        made = Network(len(NAMES))
    except NoNetworkError as error:
        pytest.skip(f"hosts cannot be made of network namespaces here: {error}")
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def hosts(network: Network, tmp_path: Path) -> Iterator[Hosts]:
    """The hosts, with nothing on them before and after the test."""
    yield Hosts(network, tmp_path)
    for number in range(len(NAMES)):
        network.mend(number)
    try:
        network.await_empty(LEAVE_S)
    finally:
        network.kill_all()


@pytest.fixture
def bad_wire(hosts: Hosts) -> Iterator[Callable[..., Wire]]:
    """`bad_wire(quality, hosts, seed)` puts the first hosts on a bad wire until the test ends."""
    with contextlib.ExitStack() as stack:

        def lay(quality: Quality, count: int, seed: int) -> Wire:
            try:
                wire = make_wire(hosts.network, count, quality, seed)
            except WireError as error:
                pytest.skip(f"a bad wire cannot be made here: {error}")
            stack.callback(wire.close)
            hosts.addresses = wire.addresses
            return wire

        yield lay


def wait_for(condition: Callable[[], Any], what: str, deadline_s: float = 30.0) -> Any:
    """Poll until the condition holds, and return what it gave."""
    end = time.monotonic() + deadline_s
    while not (value := condition()):
        assert time.monotonic() < end, f"timed out waiting for {what}"
        time.sleep(0.005)
    return value


@pytest.fixture
def until() -> Callable[..., Any]:
    """`wait_for`, for tests."""
    return wait_for
