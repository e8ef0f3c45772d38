# SPDX-License-Identifier: GPL-2.0-or-later
"""Hosts that a real ssh leads to: an sshd of the test's own, on loopback, with keys of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from allstop.deploy.processes.processes import child_environment
from allstop.vm.control.control import POWER_ON
from tests.hosts.test_losses import page_of

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(
        SSHD is None or shutil.which("ssh") is None, reason="there is no sshd (Debian's package `openssh-server`)"
    ),
]
RUN_SSHD = Path("/run/sshd")
ROOT = Path(__file__).parents[2]
DEADLINE_S = 10.0


class Server(NamedTuple):
    """A running sshd; `environment` has an `ssh` that knows it as `there`, and another user's way in as `stranger`."""

    environment: dict[str, str]
    python: Path


def make_key(path: Path) -> Path:
    subprocess.run(
        ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)), check=True, stdin=subprocess.DEVNULL
    )
    return path


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Server]:
    """One that admits a key of the test's."""
    folder = tmp_path / "ssh"
    folder.mkdir()
    host, user, other = (make_key(folder / name) for name in ("host", "user", "other"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (folder / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {host}\nAuthorizedKeysFile {user}.pub\nStrictModes no\n"
        "PidFile none\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n"
    )
    (folder / "known").write_text(f"[127.0.0.1]:{port} {host.with_suffix('.pub').read_text()}")
    (folder / "config").write_text(
        "".join(
            f"Host {name}\n  HostName 127.0.0.1\n  Port {port}\n  IdentityFile {key}\n  IdentitiesOnly yes\n"
            f"  IdentityAgent none\n  UserKnownHostsFile {folder}/known\n  StrictHostKeyChecking yes\n"
            for name, key in (("there", user), ("stranger", other))
        )
    )
    python = tmp_path / "a 'folder' with $HOME" / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" "$@"\n')
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text(f'#!/bin/sh\nexec "{shutil.which("ssh")}" -F "{folder}/config" "$@"\n')
    for path in (python, ssh):
        path.chmod(0o755)
    made = os.getuid() == 0 and not RUN_SSHD.exists()
    if made:
        RUN_SSHD.mkdir(mode=0o755)  # it wants one, and has nothing there
    log = (folder / "log").open("w+b")
    process = subprocess.Popen(
        (str(SSHD), "-D", "-e", "-f", str(folder / "sshd_config")), stdin=subprocess.DEVNULL, stdout=log, stderr=log
    )
    try:
        until_s = time.monotonic() + DEADLINE_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if process.poll() is not None:
                pytest.skip(f"sshd does not start: {(folder / 'log').read_text().strip()}")
            assert time.monotonic() < until_s, "sshd does not listen"
        yield Server(child_environment() | {"PATH": f"{ssh.parent}:{os.environ['PATH']}"}, python)
    finally:
        process.terminate()
        process.wait()
        log.close()
        if made:
            with contextlib.suppress(OSError):  # another test's sshd may have it
                RUN_SSHD.rmdir()


def hosts_file(folder: Path, server: Server, destination: str) -> Path:
    path = folder / "hosts.toml"
    path.write_text(
        '[[host]]\nname = "here"\naddress = "127.0.0.1"\n[[host]]\nname = "there"\naddress = "127.0.0.1"\n'
        f'ssh = "{destination}"\npython = "{server.python}"\n'
    )
    return path


def agents(pid: int) -> list[int]:
    """The ssh processes among the children of a launcher."""
    children = [
        child for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]
    return [int(child) for child in children if b"ssh\0" in Path(f"/proc/{child}/cmdline").read_bytes()]


def test_a_machine_on_a_host_behind_ssh(sshd: Server, command: Any, guests: Path, tmp_path: Path) -> None:
    done = command(
        "run",
        guests / "smp-counter.elf",
        "--vcpus",
        2,
        "--parameter",
        100,
        "--run-dir",
        tmp_path / "run",
        "--hosts",
        hosts_file(tmp_path, sshd, "there"),
        env=sshd.environment,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "there" / "vcpu-1.log").exists()


def test_a_key_that_is_not_admitted(sshd: Server, command: Any, guests: Path, tmp_path: Path) -> None:
    done = command(
        "run",
        "--quiet",
        guests / "hello.elf",
        "--vcpus",
        2,
        "--hosts",
        hosts_file(tmp_path, sshd, "stranger"),
        env=sshd.environment,
    )
    assert done.returncode == 4 and done.stderr.count("\n") == 1
    assert "host there (127.0.0.1) cannot be used: its agent exited with status 255" in done.stderr
    assert "Permission denied (" in done.stderr


def test_an_ssh_that_is_killed_ends_the_run_on_both_sides(
    sshd: Server, command: Any, guests: Path, tmp_path: Path, until: Any
) -> None:
    """What is left on the other side is seen by the fixture that looks for what tests leave behind: it is here."""
    with command.start(
        "run",
        "--json",
        guests / "spin.elf",
        "--vcpus",
        2,
        "--run-dir",
        tmp_path / "run",
        "--hosts",
        hosts_file(tmp_path, sshd, "there"),
        env=sshd.environment,
    ) as process:
        until(lambda: (page := page_of(process.pid)) is not None and page.power(0) == POWER_ON, "the guest")
        (leading,) = agents(process.pid)
        os.kill(leading, signal.SIGKILL)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 4, err
    assert b"host there" in out and b'"lost"' in out
