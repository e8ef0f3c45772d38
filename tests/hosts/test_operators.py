# SPDX-License-Identifier: GPL-2.0-or-later
"""`allstop ctl` on a machine on two hosts: all of it works, or says in one sentence that it can not. On loopback."""
from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

COUNTERS = 0x40014000  # the page on which both vCPUs of smp-counter work


@pytest.fixture
def ctl(command: Any, guests: Path, tmp_path: Path, until: Any) -> Iterator[Callable[..., Any]]:
    """Asks a machine whose vCPUs count on two hosts; when it is called without words it ends the machine."""
    file = tmp_path / "hosts.toml"
    file.write_text("".join(f'[[host]]\nname = "{name}"\naddress = "127.0.0.1"\n' for name in ("here", "there")))
    run = tmp_path / "run"
    process: subprocess.Popen[bytes] = command.start(
        "run", "--json", guests / "smp-counter.elf", "--vcpus", 2, "--parameter", 10_000_000, "--run-dir", run,
        "--hosts", file)

    def ask(*words: object) -> Any:
        return command("ctl", run, *words) if words else process.communicate(timeout=30)

    def counts() -> bool:
        if not (run / "control.json").exists():
            return False
        said = ask("status", "--json").stdout
        return bool(said) and all(vcpu["power"] == "on" and vcpu["counters"]["stage2"] > 20
                                  for vcpu in json.loads(said)["vcpus"])

    try:
        until(counts, "both vCPUs to count")
        yield ask
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def test_an_operator_reaches_every_host(ctl: Callable[..., Any]) -> None:
    assert ctl("pause").returncode == 0
    first, second = (ctl("registers", "--json").stdout for _ in range(2))
    assert first == second and len(json.loads(first)) == 2
    assert ctl("registers", "--vcpu", 1).stdout.startswith("vCPU 1\n")
    assert ctl("resume").returncode == 0
    assert ctl("tlb").stdout == "asked 2 vCPUs to flush\n"
    killed = ctl("kill", "--vcpu", 1)
    assert killed.returncode != 0 and "of host there: it can be killed there only" in killed.stderr
    assert ctl("stop").returncode == 0
    out, _ = ctl()
    assert json.loads(out)["verdict"] == "error"


def test_memory_is_what_the_guest_has_or_nothing(ctl: Callable[..., Any]) -> None:
    """While both hosts write to a page it is on the one or the other: old contents are never shown."""
    assert ctl("memory", "0x40010000", 16).returncode == 0
    seen = set()
    for _ in range(40):
        done = ctl("memory", hex(COUNTERS), 16)
        seen.add(done.returncode)
        if done.returncode:
            assert "the page at 0x40014000 is on another host" in done.stderr and done.stderr.count("\n") == 1
            break
    assert seen - {0}, "the page never was on the other host"
    assert ctl("stop").returncode == 0
