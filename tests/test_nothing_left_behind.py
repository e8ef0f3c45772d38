# SPDX-License-Identifier: GPL-2.0-or-later
"""The fixture that looks for what a test leaves behind finds each kind of thing, and blames nobody else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from allstop.deploy.processes.processes import child_environment

LEAKS = """
import os, socket, subprocess, tempfile, time
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


def test_each_kind_of_leak_fails_its_test_and_no_other(tmp_path: Path) -> None:
    conftest = (Path(__file__).parent / "conftest.py").read_text()
    assert "DEADLINE_S = 5.0" in conftest
    (tmp_path / "conftest.py").write_text(conftest.replace("DEADLINE_S = 5.0", "DEADLINE_S = 0.2"))
    (tmp_path / "test_leaks.py").write_text(LEAKS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-rA", "--tb=line", "."],
        cwd=tmp_path,
        env=child_environment() | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    told = [line.partition("left behind: ")[2] for line in done.stdout.splitlines() if line.startswith("E ")]
    assert len(told) == 5, done.stdout
    for line, what in zip(told, ("process", "process", "descriptor", "socket @allstop-leak", "file "), strict=True):
        assert what in line, done.stdout
    assert "PASSED test_leaks.py::test_clean" in done.stdout and "ERROR test_leaks.py::test_clean" not in done.stdout
