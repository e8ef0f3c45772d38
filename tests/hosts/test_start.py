# SPDX-License-Identifier: GPL-2.0-or-later
"""Hosts that cannot be used: one sentence that names the host, and nothing is left on those that could. On loopback."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from allstop.deploy.processes.processes import child_environment
from allstop.vm.wire.messages import PROTOCOL_VERSION

STUB = [sys.executable, str(Path(__file__).parent / "stub_agent.py")]
THERE = "host there (127.0.0.1)"


def hosts_file(folder: Path, start_s: float = 20.0, first: str = "127.0.0.1", **changes: Any) -> Path:
    """Three hosts on loopback; the second is changed."""
    host = {"name": "there", "address": "127.0.0.1"} | changes
    second = "\n".join(f"{key} = {json.dumps(value)}" for key, value in host.items())
    path = folder / "hosts.toml"
    path.write_text(
        f'[machine]\nstart_s = {start_s}\n[[host]]\nname = "here"\naddress = "{first}"\n'
        f'[[host]]\n{second}\n[[host]]\nname = "yonder"\naddress = "127.0.0.1"\n'
    )
    return path


def told(**fields: Any) -> dict[str, Any]:
    """A host whose agent says this of itself."""
    return {"command": [*STUB, "told", json.dumps(fields)]}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (told(package="9.9"), f"{THERE} has allstop 9.9 (protocol {PROTOCOL_VERSION}) and this host "),
        (told(version=999), "(protocol 999)"),
        (told(engine="unicorn 9.9.9"), f"{THERE} has the engine unicorn 9.9.9 and this host unicorn "),
        ({"command": ["/no/such/command"]}, f"{THERE} cannot be used: [Errno 2] No such file or directory"),
        ({"command": ["false"]}, f"{THERE} cannot be used: its agent exited with status 1"),
        (
            {"command": ["sh", "-c", "echo no way there >&2; exit 9"]},
            f'{THERE} cannot be used: its agent exited with status 9; its last words: "no way there"',
        ),
        ({"command": ["head", "-c", "70000", "/dev/urandom"]}, f"{THERE} cannot be used: its agent exited with"),
        ({"python": "/no/python"}, f"{THERE} cannot be used: [Errno 2] No such file or directory: '/no/python'"),
        (
            {"address": "203.0.113.7"},
            "host there (203.0.113.7) cannot be used: its agent exited with status 1; its "
            'last words: "203.0.113.7 is not an address of this host: Cannot assign requested',
        ),
    ],
)
def test_a_host_that_cannot_be_used(
    command: Any, guests: Path, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    done = command("run", guests / "hello.elf", "--vcpus", 3, "--quiet", "--hosts", hosts_file(tmp_path, **changes))
    assert done.returncode == 4, done.stderr
    assert words in done.stderr and done.stderr.startswith("allstop: error: ") and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "changes",
    [
        told(fence=1),
        told(host=2),
        told(host=0),
        {"command": ["sh", "-c", "exec sleep 60"]},
        {"command": ["sh", "-c", "while echo garbage; do sleep 0.1; done"]},
    ],
)
def test_a_host_that_does_not_answer(command: Any, guests: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    """Also one that is of another run, and one that takes itself for another host: its key is not that host's."""
    done = command(
        "run", guests / "hello.elf", "--vcpus", 3, "--quiet", "--hosts", hosts_file(tmp_path, 8.0, **changes)
    )
    assert done.returncode == 4, done.stderr
    assert done.stderr == (
        f"allstop: error: {THERE} did not answer within 8 s: is 127.0.0.1 an address of this host "
        "that the others reach?\n"
    )


def test_an_address_that_is_not_ours(command: Any, guests: Path, tmp_path: Path) -> None:
    done = command(
        "run", guests / "hello.elf", "--vcpus", 3, "--quiet", "--hosts", hosts_file(tmp_path, first="203.0.113.1")
    )
    assert (done.returncode, done.stderr.count("\n")) == (4, 1)
    assert "203.0.113.1, the address of host here, is not an address of this host: Cannot assign" in done.stderr


def test_logs_of_other_hosts_come_back(command: Any, guests: Path, tmp_path: Path) -> None:
    done = command(
        "run", guests / "hello.elf", "--vcpus", 3, "--run-dir", tmp_path / "run", "--hosts", hosts_file(tmp_path)
    )
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "run" / "there").iterdir()} == {"node.log", "vcpu-1.log"}
    assert {path.name for path in (tmp_path / "run" / "yonder").iterdir()} == {"node.log", "vcpu-2.log"}


def test_ssh_gets_us_there(command: Any, guests: Path, tmp_path: Path) -> None:
    """ssh hands the words after the destination to a shell, joined by spaces: so does this one, after a look at all."""
    folder = tmp_path / "bin"
    folder.mkdir()
    python = tmp_path / "a 'folder' with $HOME" / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    ssh = folder / "ssh"
    ssh.write_text(
        '#!/bin/sh\n[ "$1 $2 $3 $4 $5" = "-T -o BatchMode=yes -- me@there" ] || exit 77\nshift 5\n'
        f'printf "%s\\n" "$*" > {tmp_path}/said\nexec sh -c "$*"\n'
    )
    ssh.chmod(0o755)
    environment = child_environment() | {"PATH": f"{folder}:{os.environ['PATH']}"}
    done = command(
        "run",
        guests / "hello.elf",
        "--vcpus",
        3,
        "--hosts",
        hosts_file(tmp_path, ssh="me@there", python=str(python)),
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "said").read_text().endswith("-P -m allstop.deploy.hosts.agent\n")


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="this host has no IPv6")
def test_hosts_with_ipv6_addresses(command: Any, guests: Path, tmp_path: Path) -> None:
    file = tmp_path / "hosts.toml"
    file.write_text("".join(f'[[host]]\nname = "{name}"\naddress = "::1"\n' for name in ("here", "there", "yonder")))
    done = command("run", guests / "hello.elf", "--vcpus", 3, "--hosts", file)
    assert done.returncode == 0, done.stderr
    assert "hello from vCPU 2 of 3" in done.stdout
