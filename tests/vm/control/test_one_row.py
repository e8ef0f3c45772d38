# SPDX-License-Identifier: GPL-2.0-or-later
"""A counter, a histogram and a kind of record are one row each: one row in C, and the rest of the house knows it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from allstop.vm.telemetry.generated import ROOT

pytestmark = pytest.mark.processes

CONTROL = ["control", "control_requests", "control_telemetry", "control_ledger"]
COUNTER = '    X(THROWN_AWAY, "thrown_away", STEP)'
HISTOGRAM = '    X(THROW, "throw", "throws", "Throw", "throwing it away", "THROWN")'
KIND = '    X(THROWN, 120, "distance took_ns", "it was thrown away")'


def _add_row(header: Path, before: str, row: str) -> None:
    """Add a row behind the row that is the last of its table."""
    text = header.read_text()
    assert text.count(before) == 1
    header.write_text(text.replace(before, f"{before} \\\n{row}"))


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree with three more rows, and the two extensions that hold them built anew."""
    house = tmp_path_factory.mktemp("house")
    for name in ("allstop", "coordinator", "deploy", "devicesrv", "gdbserver", "vcpu_worker", "vm"):
        shutil.copytree(ROOT / name, house / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    (house / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "journal.md", house / "docs")
    (house / "guests").symlink_to(ROOT / "guests")
    rows, kinds = house / "vm/control/rows.h", house / "vm/journal/kinds.h"
    _add_row(rows, 'X(PAGE_WRITE, "page_writes", STEP)', COUNTER)
    _add_row(rows, '"a vCPU\'s wait for a page that is on another host", "PAGED")', HISTOGRAM)
    _add_row(kinds, 'X(FINISHED, 99, "status", "the guest gave its exit status")', KIND)
    for folder, sources, module in (("vm/control", CONTROL, "control"), ("vm/journal", ["recorder"], "recorder")):
        subprocess.run(
            [
                *sysconfig.get_config_var("CC").split()[:1],
                *("-shared", "-fPIC", "-std=gnu11", f"-I{sysconfig.get_paths()['include']}", "-Iallstop"),
                *(f"{folder}/{source}.c" for source in sources),
                *("-o", f"{folder}/{module}{sysconfig.get_config_var('EXT_SUFFIX')}"),
            ],
            cwd=house,
            check=True,
        )
    return house


Ask = Callable[..., str]


@pytest.fixture
def ask(house: Path) -> Ask:
    """What a Python in that house says."""

    def ask(*arguments: str) -> str:
        environment = os.environ | {"PYTHONPATH": str(house), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [sys.executable, "-P", *arguments], cwd=house, env=environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return ask


def test_python_knows_the_names(ask: Ask) -> None:
    said = ask(
        "-c",
        "from allstop.vm.control import control; from allstop.vm.journal.format import Kind; "
        "from allstop.vm.journal.recorder import Recorder; "
        "print(control.COUNTER_NAMES[control.COUNT_THROWN_AWAY], control.ControlPage.COUNT_THROWN_AWAY, "
        "control.HISTOGRAMS[control.HISTOGRAM_THROW][1], Recorder.THROWN, Kind.THROWN.operands, Kind.THROWN.is_span)",
    )
    assert said.split(" ", 2)[0] == "thrown_away" and said.endswith(" throws 120 ('distance', 'took_ns') True\n")


def test_a_run_counts_and_measures_it_and_the_report_draws_it(ask: Ask, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    ask("-m", "allstop", "run", "guests/images/hello.elf", "--run-dir", str(folder), "--quiet")
    verdict: dict[str, Any] = json.loads((folder / "verdict.json").read_text())
    assert verdict["counters"]["thrown_away"] == 0 and "thrown_away" not in verdict["exits"]
    assert verdict["throws"] == {"count": 0, "p50_us": 0.0, "p99_us": 0.0}
    figures: list[dict[str, Any]] = json.loads((folder / "figures.json").read_text())
    assert figures[0]["counters"]["thrown_away"] == 0 and figures[0]["histograms"]["throw"] == []
    figures[0]["histograms"]["throw"] = [[9000.0, 1]]
    (folder / "figures.json").write_text(json.dumps(figures))
    ask("-m", "allstop", "report", str(folder))
    assert "<h3>Throw</h3>" in (folder / "report.html").read_text()


def test_the_stubs_and_the_document_are_told_to_be_stale_and_made_current(ask: Ask, house: Path) -> None:
    stale = ask("-m", "allstop.vm.telemetry.generated").split()
    assert stale == ["vm/control/control.pyi", "vm/journal/recorder.pyi", "vm/journal/kind.pyi", "docs/journal.md"]
    assert "COUNT_THROWN_AWAY: int" in (house / "vm/control/control.pyi").read_text()
    assert "    THROWN = 120\n" in (house / "vm/journal/kind.pyi").read_text()
    assert "| 120 | THROWN | distance, took_ns | it was thrown away |" in (house / "docs/journal.md").read_text()
    assert ask("-m", "allstop.vm.telemetry.generated") == ""
