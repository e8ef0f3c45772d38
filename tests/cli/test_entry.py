# SPDX-License-Identifier: GPL-2.0-or-later
"""The command's first moments: a Ctrl-C before anything was started is silent, an ignored one stays ignored."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from allstop.deploy.processes.processes import child_environment

# Sends SIGINT to itself at the moment at which a module is looked for.
INTERRUPTED = """
import os, signal, sys
module, how = sys.argv[1:]
if how == "ignored":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
class Interrupt:
    def find_spec(self, name, path, target=None):
        if name == module:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
from allstop.cli.entry import main
sys.argv = ["allstop", "--version"]
sys.exit(main())
"""
MODULES = ["allstop.cli.main", "allstop.vm.errors", "allstop.cli.run", "zmq", "allstop.cli.ctl"]


def interrupted(module: str, how: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-c", INTERRUPTED, module, how],
        env=child_environment(),
        text=True,
        capture_output=True,
        timeout=60,
    )


@pytest.mark.parametrize("module", MODULES)
def test_ctrl_c_while_the_command_is_loaded_is_silent(module: str) -> None:
    done = interrupted(module, "usual")
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


def test_an_ignored_ctrl_c_does_not_stop_the_loading() -> None:
    for module in ("allstop.cli.main", "zmq"):
        done = interrupted(module, "ignored")
        assert done.returncode == 0 and done.stdout.startswith("allstop ") and done.stderr == ""


def test_nothing_slow_is_loaded_before_ctrl_c_is_seen_to() -> None:
    """`typing`, `signal` and `enum` take longer than all that is left."""
    code = "import sys; before = set(sys.modules); import allstop.cli.entry; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run(
        [sys.executable, "-P", "-S", "-c", code], env=child_environment(), text=True, capture_output=True, timeout=60
    )
    assert done.stdout.split() == ["__future__", "allstop", "allstop.cli", "allstop.cli.entry"], done.stderr


@pytest.mark.parametrize("module", ["allstop", "allstop.cli.main"])
def test_an_ignored_ctrl_c_does_not_end_a_run(guests: Path, module: str) -> None:
    """As nohup and a script's background have it."""
    run = [sys.executable, "-P", "-m", module, "run", str(guests / "spin.elf"), "--quiet", "--timeout", "1"]
    with subprocess.Popen(
        ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *run], env=child_environment(), stderr=subprocess.PIPE, text=True
    ) as launcher:
        while True:
            try:
                _, err = launcher.communicate(timeout=0.2)
                break
            except subprocess.TimeoutExpired:
                launcher.send_signal(signal.SIGINT)
    assert (launcher.returncode, err[:16]) == (5, "allstop: timeout")
