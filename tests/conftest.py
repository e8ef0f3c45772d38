# SPDX-License-Identifier: GPL-2.0-or-later
"""Nothing may be left behind: after each test the processes, descriptors, sockets and files that it made must be gone.

The test process is made a subreaper, so that a process whose parent died is seen here instead of being adopted by init.

A test that starts a process needs the mark `processes`; one that asks for the fixture `command` has it already. A test
without the mark that starts one fails: `make check` runs every test without it, and has to stay fast.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

import allstop.vcpu_worker.engine  # noqa: F401  the engine must be there before unicorn, which some tests compare with
from allstop.deploy.processes.processes import child_environment

# A busy host is slow, not wrong.
settings.register_profile(
    "allstop",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    max_examples=int(os.environ.get("ALLSTOP_EXAMPLES", "100")),  # fewer in `make check`, more in `make fuzz`
)
settings.load_profile("allstop")

DEADLINE_S = 5.0
_STARTS = frozenset({"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system"})
"""The audit events of a process that starts a process. Source: the table of audit events in Python's manual."""
_STARTING_FIXTURES = frozenset(
    ("browsed", "command", "empty_cluster", "linux", "linux_with_modules")
    + ("machines", "network", "start_rig", "start_server")
)
"""A test that asks for one of these, also by another fixture, starts processes. A test of the engine has a watchdog."""
_PR_SET_CHILD_SUBREAPER = 36
_SHARED_MEMORY_PREFIXES = ("allstop", "psm_", "sem.", "mp-")


class _Tier:
    """Whether the test under way may start processes."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._barred: str | None = None
        sys.addaudithook(self._hear)

    @contextlib.contextmanager
    def of(self, item: pytest.Item) -> Iterator[None]:
        """While `item` runs, with its fixtures."""
        self._barred = None if item.get_closest_marker("processes") else item.nodeid
        try:
            yield
        finally:
            self._barred = None

    def _hear(self, event: str, _: tuple[object, ...]) -> None:
        if self._barred is not None and event in _STARTS and os.getpid() == self._pid:
            # No `except Exception` of the code under test hides pytest's failure.
            pytest.fail(f"{self._barred} starts a process ({event}): mark it with pytest.mark.processes")


_tier = _Tier()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that ask for a fixture whose purpose is to start processes."""
    for item in items:
        if _STARTING_FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker("processes")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    """Hold a test's fixtures to its tier; not their ends, for the last test of a session ends those of others."""
    with _tier.of(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Hold a test to its tier."""
    with _tier.of(item):
        return (yield)


def _children() -> set[int]:
    """Direct children, the adopted and the dead ones included."""
    pids: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            pids.update(map(int, (task / "children").read_text().split()))
    return pids


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return "?"


def _reap_orphans(known: set[int]) -> None:
    """Reap the dead children that no test waits for: adopted ones, and those that a test has forgotten."""
    for pid in _children() - known:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def _kill(pids: set[int]) -> None:
    """What a failed test has left must not disturb the next one."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _descriptors() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


def _our_sockets() -> set[str]:
    """The abstract sockets of ours that this process holds."""
    inodes = {target[len("socket:[") : -1] for target in _descriptors().values() if target.startswith("socket:[")}
    names = set()
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        fields = line.split()
        if len(fields) > 7 and fields[7].startswith("@allstop-") and fields[6] in inodes:
            names.add(fields[7])
    return names


def _our_files() -> set[str]:
    shared = {f"/dev/shm/{name}" for name in os.listdir("/dev/shm") if name.startswith(_SHARED_MEMORY_PREFIXES)}
    folder = tempfile.gettempdir()
    return shared | {f"{folder}/{name}" for name in os.listdir(folder) if name.startswith("allstop")}


@pytest.fixture(scope="session", autouse=True)
def _subreaper() -> None:
    assert ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0


@pytest.fixture(scope="session", autouse=True)
def _own_temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What other test processes have under way there is not ours to judge."""
    os.environ["TMPDIR"] = str(tmp_path_factory.mktemp("temporary"))
    tempfile.tempdir = None


@pytest.fixture(scope="session", autouse=True)
def _signals_are_not_ignored() -> None:
    """A script's background ignores Ctrl-C, nohup ignores SIGHUP, and so would every run that a test starts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fails a test that leaves a process, a descriptor, a socket or a file of ours behind."""
    children, descriptors, sockets, files = _children(), _descriptors(), _our_sockets(), _our_files()
    yield
    deadline = time.monotonic() + DEADLINE_S
    while left := _left(children, descriptors, sockets, files):
        if time.monotonic() > deadline:
            _kill(_children() - children)
            pytest.fail("left behind: " + "; ".join(left))
        gc.collect()
        time.sleep(0.02)


def _left(children: set[int], descriptors: dict[int, str], sockets: set[str], files: set[str]) -> list[str]:
    _reap_orphans(children)
    left = [f"process {pid} ({_command(pid)})" for pid in sorted(_children() - children)]
    left += [
        f"descriptor {fd} ({target})"
        for fd, target in sorted(_descriptors().items())
        if fd not in descriptors and not target.startswith(f"/proc/{os.getpid()}/")
    ]
    left += [f"socket {name}" for name in sorted(_our_sockets() - sockets)]
    left += [f"file {name}" for name in sorted(_our_files() - files)]
    return left


class Command:
    """The `allstop` command as a user has it: in processes of its own."""

    def start(self, *arguments: object, **options: Any) -> subprocess.Popen[bytes]:
        """Start it; stdout and stderr are pipes unless `options` (those of Popen) say otherwise."""
        given: dict[str, Any] = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "env": child_environment(),
        }
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "allstop.cli.main", *map(str, arguments)], **(given | options)
        )

    def __call__(
        self,
        *arguments: object,
        deadline_s: float = 60.0,
        **options: Any,
    ) -> subprocess.CompletedProcess[str]:
        """Run it to its end, at most `deadline_s`."""
        with self.start(*arguments, **options) as process:
            try:
                out, err = process.communicate(timeout=deadline_s)
            except BaseException:
                process.kill()
                raise
        return subprocess.CompletedProcess(
            process.args, process.returncode, (out or b"").decode(), (err or b"").decode()
        )


@pytest.fixture(scope="session")
def command() -> Command:
    """Runs `allstop`."""
    return Command()


@pytest.fixture(scope="session")
def guests() -> Path:
    """The folder of the guests' images."""
    return Path(__file__).parents[1] / "guests" / "images"
