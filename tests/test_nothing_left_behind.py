# SPDX-License-Identifier: GPL-2.0-or-later
"""The fixture that looks for what a test leaves behind finds each kind of thing, and blames no other test."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from allstop.deploy.processes.processes import child_environment

pytestmark = pytest.mark.processes

LEAKS = """
import os, pytest, socket, subprocess, tempfile, time
pytestmark = pytest.mark.processes
kept = []
def test_process(): kept.append(subprocess.Popen(["sleep", "2"]))
def test_orphan(): subprocess.run(["sh", "-c", "sleep 2 & exit 0"], close_fds=True)
def test_descriptor(): kept.append(os.open("/dev/null", os.O_RDONLY))
def test_socket():
    kept.append(socket.socket(socket.AF_UNIX)); kept[-1].bind(f"\\0allstop-leak-{os.getpid()}")
def test_file(): kept.append(tempfile.NamedTemporaryFile(prefix="allstop-leak"))
def test_clean(tmp_path):
    assert subprocess.run(["sleep", "0"]).returncode == 0
    (tmp_path / "allstop").write_text("a test's own folder is its own affair")
"""

UNMARKED = """
import os, pytest, subprocess
def test_popen(): subprocess.run(["true"])
def test_hidden():
    try:
        subprocess.run(["true"])
    except Exception:
        pass
def test_fork():
    if os.fork() == 0:
        os._exit(0)
@pytest.fixture
def started(): return subprocess.run(["true"])
def test_fixture(started): pass
@pytest.fixture
def command(): return subprocess.run(["true"])
def test_known_fixture(command): pass
@pytest.mark.processes
def test_marked(started): pass
def test_none(): pass
"""


def run_pytest(folder: Path, tests: str) -> subprocess.CompletedProcess[str]:
    """Run `tests` with our conftest.py, with shorter waits."""
    conftest = (Path(__file__).parent / "conftest.py").read_text()
    assert "DEADLINE_S = 5.0" in conftest
    (folder / "conftest.py").write_text(conftest.replace("DEADLINE_S = 5.0", "DEADLINE_S = 0.2"))
    (folder / "test_these.py").write_text(tests)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-rA", "--tb=line", "."],
        cwd=folder,
        env=child_environment() | {"TMPDIR": str(folder)},
        capture_output=True,
        text=True,
    )


def test_a_test_that_starts_a_process_needs_the_mark(tmp_path: Path) -> None:
    """Would break: a `make check` that gets slower by each test of a whole machine without the mark."""
    done = run_pytest(tmp_path, UNMARKED)
    outcome = {
        line.split("::")[1].split()[0]: line.split()[0]
        for line in done.stdout.splitlines()
        if line.startswith(("PASSED", "FAILED", "ERROR"))
    }
    assert outcome == {
        "test_popen": "FAILED",
        "test_hidden": "FAILED",
        "test_fork": "FAILED",
        "test_fixture": "ERROR",
        "test_known_fixture": "PASSED",
        "test_marked": "PASSED",
        "test_none": "PASSED",
    }, done.stdout
    assert done.stdout.count("mark it with pytest.mark.processes") >= 4, done.stdout


def test_each_kind_of_leak_fails_its_test_and_no_other(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, LEAKS)
    told = [line.partition("left behind: ")[2] for line in done.stdout.splitlines() if line.startswith("E ")]
    assert len(told) == 5, done.stdout
    for line, what in zip(told, ("process", "process", "descriptor", "socket @allstop-leak", "file "), strict=True):
        assert what in line, done.stdout
    assert "PASSED test_these.py::test_clean" in done.stdout and "ERROR test_these.py::test_clean" not in done.stdout
