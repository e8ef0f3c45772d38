# SPDX-License-Identifier: GPL-2.0-or-later
"""The command's first moments: a Ctrl-C before anything was started is silent, an ignored one stays ignored."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from allstop.deploy.processes.processes import child_environment

pytestmark = pytest.mark.processes

SCRIPT = Path(__file__).parents[2] / "deploy" / "bin" / "allstop"

# Executes the command's script, and sends SIGINT to itself when the script looks for a module.
INTERRUPTED = """
import os, signal, sys
script, module, how = sys.argv[1:]
if how == "ignored":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
class Interrupt:
    def find_spec(self, name, path, target=None):
        if name == module:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
sys.argv = ["allstop", "--version"]
exec(compile(open(script).read(), script, "exec"), {"__name__": "__main__"})
"""

# Executes the script as far as its first look for the package; prints the modules that are loaded by then.
FIRST_LOOK = """
import sys
before = set(sys.modules)
class Look:
    def find_spec(self, name, path, target=None):
        if name == "allstop":
            print(*sorted(set(sys.modules) - before))
            raise SystemExit
sys.meta_path.insert(0, Look())
exec(compile(open(sys.argv[1]).read(), sys.argv[1], "exec"), {"__name__": "__main__"})
"""
MODULES = [
    "allstop",
    "allstop.machine",
    "allstop.cli.entry",
    "allstop.cli.main",
    "allstop.vm.errors",
    "allstop.cli.run",
    "zmq",
    "allstop.cli.ctl",
]


def interrupted(module: str, how: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-c", INTERRUPTED, SCRIPT, module, how],
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
    for module in ("allstop", "allstop.cli.main", "zmq"):
        done = interrupted(module, "ignored")
        assert done.returncode == 0 and done.stdout.startswith("allstop ") and done.stderr == ""


def test_the_script_loads_nothing_before_it_has_seen_to_ctrl_c() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-S", "-c", FIRST_LOOK, SCRIPT],
        env=child_environment(),
        text=True,
        capture_output=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")


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
