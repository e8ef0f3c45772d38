# SPDX-License-Identifier: GPL-2.0-or-later
"""The hosts of an existing Dask cluster: which there are, and a lease on each while a machine uses it.

A machine is gang-scheduled: it gets all of its places at once or none; a place is a Dask worker. For each place the
launcher starts a process of this module (`python -m allstop.deploy.hosts.cluster SCHEDULER WORKER`), as it would start
ssh. That process reads the agent's first line from standard input, takes the lease on the Dask worker, runs the agent
there as one task, and ends with it. A lease is a semaphore of the scheduler, which takes it back when the holder dies.
A task is never retried, there or on another worker.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import select
import socket
import subprocess
import sys
from typing import Any
from urllib.parse import urlsplit

from allstop.deploy.hosts.hosts_file import HostEntry
from allstop.vm.errors import UsageError

CONNECT_S = 5.0
LEASE_S = 5.0
_POLL_S = 0.1
_KEPT_BYTES = 4096
_NEEDED = "a cluster needs Dask, which is not installed: pip install 'allstop[cluster]'"


def cluster_hosts(scheduler: str, count: int | None, vcpus: int) -> tuple[HostEntry, ...]:
    """This host and hosts of the cluster, `count` in all; by default as many as there are, at most one for each vCPU.

    Raises UsageError when the scheduler does not answer within CONNECT_S, or has too few places."""
    try:
        dask = importlib.import_module("distributed")
    except ImportError:
        raise UsageError(_NEEDED) from None
    if urlsplit(scheduler).scheme not in ("tcp", "tls") or urlsplit(scheduler).port is None:
        raise UsageError(f"a cluster is given by its scheduler, as in tcp://10.0.0.1:8786, not {scheduler!r}")
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    try:
        with dask.Client(scheduler, timeout=CONNECT_S, set_as_default=False) as client:
            workers: list[str] = sorted(client.scheduler_info(n_workers=-1)["workers"])
    except (OSError, TimeoutError) as error:
        raise UsageError(f"the scheduler {scheduler} does not answer: {_first_line(error)}") from None
    by_address: dict[str, str] = {}
    for worker in workers:
        by_address.setdefault(urlsplit(worker).hostname or "", worker)
    ours = _own_address(scheduler)
    loopback = ours.startswith("127.")
    places = workers if loopback else list(by_address.values())
    wanted = min(len(places) + 1, vcpus) if count is None else count
    if not 2 <= wanted <= len(places) + 1:
        raise UsageError(
            f"the cluster at {scheduler} has {len(places)} places for other hosts, and "
            f"{max(wanted - 1, 1)} are needed: start more dask workers, or ask for fewer hosts"
        )
    others = (
        HostEntry(
            f"place-{number}",
            urlsplit(worker).hostname or "",
            arguments=("-P", "-m", "allstop.deploy.hosts.cluster", scheduler, worker),
        )
        for number, worker in enumerate(places[: wanted - 1], 1)
    )
    return (HostEntry("here", ours), *others)


def be_host(first_line: str) -> tuple[int, str]:
    """On a Dask worker: run a host's agent to its end; its exit status, and the end of its output."""
    agent = subprocess.Popen(
        (sys.executable, "-P", "-m", "allstop.deploy.hosts.agent"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert agent.stdin is not None and agent.stdout is not None
    agent.stdin.write(first_line.encode())
    agent.stdin.flush()
    said = agent.stdout.read()[-_KEPT_BYTES:]
    status = agent.wait()
    agent.stdin.close()
    return status, said.decode(errors="replace")


def main() -> int:
    """Run the agent on WORKER of SCHEDULER. The agent's exit status, or 1 after one sentence."""
    scheduler, worker = sys.argv[1:3]
    first_line = os.read(0, 8192).decode()
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    try:
        dask = importlib.import_module("distributed")
    except ImportError:
        print(_NEEDED, file=sys.stderr)
        return 1
    try:
        with dask.Client(scheduler, timeout=CONNECT_S) as client:
            lease = dask.Semaphore(max_leases=1, name=f"allstop-{worker}")
            if not lease.acquire(timeout=LEASE_S):
                print(f"the place {worker} is taken by another machine", file=sys.stderr)
                return 1
            try:
                return _lead(client, worker, first_line)
            finally:
                with contextlib.suppress(Exception):  # the scheduler takes it back anyway
                    lease.release()
    except Exception as error:  # Dask raises a dozen kinds; each of them means no place
        print(f"the place {worker} cannot be used: {_first_line(error)}", file=sys.stderr)
        return 1


def _lead(client: Any, worker: str, first_line: str) -> int:
    future = client.submit(
        be_host,
        first_line,
        workers=[worker],
        allow_other_workers=False,
        retries=0,
        pure=False,
        key=f"allstop-host-{os.urandom(8).hex()}",
    )
    while future.status == "pending":
        if select.select([0], [], [], _POLL_S)[0] and not os.read(0, 1):
            future.cancel()  # the agent notices that its launcher is gone
            return 1
    if future.status != "finished":
        error = future.exception() if future.status == "error" else "the Dask worker is gone"
        print(f"the place {worker} is lost: {_first_line(error)}", file=sys.stderr)
        return 1
    status, said = future.result()
    print(said, end="", file=sys.stderr)
    return int(status)


def _own_address(scheduler: str) -> str:
    """The address under which the cluster reaches this host: the local one of a connection to the scheduler."""
    parts = urlsplit(scheduler)
    with socket.create_connection((parts.hostname or "", parts.port or 0), CONNECT_S) as probe:
        return str(probe.getsockname()[0])


def _first_line(error: object) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


if __name__ == "__main__":
    sys.exit(main())
