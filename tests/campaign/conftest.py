# SPDX-License-Identifier: GPL-2.0-or-later
"""Specs to run, and a Dask cluster that is started by the commands of deploy/kubernetes."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from allstop.campaign.store import Counts, Store
from allstop.deploy.processes.processes import child_environment
from tests.browser import browsed as browsed
from tests.conftest import Command

ROOT = Path(__file__).parents[2]
DEADLINE_S = 60.0


def wait_for(what: str, condition: Callable[[], Any], deadline_s: float = DEADLINE_S) -> Any:
    """The condition's value as soon as it is true."""
    until_s = time.monotonic() + deadline_s
    while not (found := condition()):
        assert time.monotonic() < until_s, f"timed out waiting for {what}"
        time.sleep(0.02)
    return found


def counts(path: Path) -> Counts:
    """The counts of a store that another process is writing; all zero while there is none."""
    try:
        with Store.to_read(path) as store:
            return store.counts()
    except (ValueError, RuntimeError):  # there is no store yet, or its tables are being made
        return Counts(0, 0, 0, 0)


@contextlib.contextmanager
def started(command: Command, *arguments: object, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """`allstop campaign` with these arguments; it is killed when the test fails meanwhile."""
    with command.start("campaign", *arguments, **options) as process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise


@pytest.fixture
def spec(tmp_path: Path, guests: Path) -> Callable[..., Path]:
    """Writes a spec of guests by their names; `text` comes behind them."""

    def write(*names: str, text: str = "", top: str = "", name: str = "spec.toml") -> Path:
        tables = "".join(f'[[guest]]\nimage = "{guests / guest}.elf"\n' for guest in names)
        path = tmp_path / name
        path.write_text(f"{top}\n{tables}\n{text}\n")
        return path

    return write


class Cluster:
    """`dask scheduler` and `dask worker` as processes."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self.port}"
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []

    def placed(self, command: list[str]) -> list[str]:
        """A command of the examples, with this cluster's address and folder instead of theirs, and this Python."""
        places = {
            "tcp://allstop-scheduler:8786": self.address,
            "0.0.0.0": "127.0.0.1",
            "8786": str(self.port),
            "/tmp/dask": str(self._folder / "dask"),
        }
        words = [places.get(word, word) for word in command]
        programs = {"dask": [sys.executable, "-P", "-m", "dask"], "allstop": [sys.executable, "-P", "-m", "allstop"]}
        return [*programs[words[0]], *words[1:]]

    def start(self, command: list[str], **environment: str) -> subprocess.Popen[bytes]:
        """Start one of its programs; it ends with the cluster."""
        log = self._folder / f"log-{len(self._processes)}"
        with log.open("wb") as file:
            process = subprocess.Popen(
                self.placed(command),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=child_environment() | environment,
                cwd=self._folder,
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    def listens(self) -> bool:
        """Whether the scheduler does."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def close(self) -> None:
        """End everything, the scheduler last: workers take their leave of it."""
        for process in self._processes[1:]:
            process.terminate()
        for process in reversed(self._processes):
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def commands_of(name: str) -> list[list[str]]:
    """The commands of the containers in a file of deploy/kubernetes."""
    import yaml

    documents = list(yaml.safe_load_all((ROOT / "deploy" / "kubernetes" / name).read_text()))
    return [
        container["command"]
        for document in documents
        for container in document["spec"].get("template", {}).get("spec", {}).get("containers", [])
    ]


@pytest.fixture
def empty_cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A scheduler without workers."""
    if importlib.util.find_spec("distributed") is None:
        pytest.skip("Dask distributed is not installed: pip install 'allstop[cluster]'")
    running = Cluster(tmp_path)
    try:
        scheduler = running.start(*commands_of("scheduler.yaml"))
        wait_for("the scheduler to listen", lambda: running.listens() or scheduler.poll() is not None)
        yield running
    finally:
        running.close()


@pytest.fixture
def cluster(empty_cluster: Cluster) -> Cluster:
    """A scheduler with two workers; each can have two runs under way."""
    for _ in range(2):
        empty_cluster.start(*commands_of("workers.yaml"))
    return empty_cluster
