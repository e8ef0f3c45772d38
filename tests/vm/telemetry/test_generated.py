# SPDX-License-Identifier: GPL-2.0-or-later
"""What follows from the rows of C tables: the stubs and docs/journal.md are current, and a forgotten row is seen."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from allstop.vm.control import control
from allstop.vm.journal.kind import Kind
from allstop.vm.journal.recorder import KINDS
from allstop.vm.telemetry.generated import COMMAND, ROOT, files, renewed
from allstop.vm.telemetry.histograms import HISTOGRAMS

STUBS = ROOT / "vm/control/control.pyi", ROOT / "vm/journal/recorder.pyi"


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_generated_is_current(path: Path) -> None:
    text = path.read_text()
    assert renewed(text, files()[path]) == text, f"{path.name} is stale: {COMMAND}"


@pytest.mark.parametrize(
    ("stub", "name"),
    [
        (0, "COUNT_ICACHE"),
        (0, "COUNT_SWAP_IN"),
        (0, "COUNT_SWAP_OUT"),
        (0, "COUNT_SWAP_WRITTEN"),
        (0, "HISTOGRAM_PAGE"),
        (1, "PAGED"),
    ],
)
def test_a_name_that_is_missing_in_a_stub_is_seen(stub: int, name: str) -> None:
    """Five of these were missing once, and a type checker said nothing."""
    path = STUBS[stub]
    text = path.read_text()
    without = "".join(line for line in text.splitlines(True) if line.strip() != f"{name}: int")
    assert text.count(f" {name}: int") + text.count(f"\n{name}: int") == text.count("\n") - without.count("\n") > 0
    assert renewed(without, files()[path]) == text


def test_a_part_without_a_place_is_refused() -> None:
    with pytest.raises(ValueError):
        renewed("nothing is generated here\n", [["a line"]])


def test_every_histogram_names_records_with_a_duration() -> None:
    assert [row.record for row in HISTOGRAMS if not Kind[row.record].is_span] == []
    assert len({row.name for row in HISTOGRAMS} | {row.verdict_name for row in HISTOGRAMS}) >= len(HISTOGRAMS)
    assert [getattr(control, f"HISTOGRAM_{row.name.upper()}") for row in HISTOGRAMS] == list(range(len(HISTOGRAMS)))


def test_kinds_are_the_rows_of_c() -> None:
    assert [(kind.name, kind.value, " ".join(kind.operands), kind.meaning, kind.writer) for kind in Kind] == list(KINDS)
    assert len({kind.value for kind in Kind}) == len(Kind)


@pytest.mark.processes
def test_the_command_writes_nothing_where_nothing_is_stale() -> None:
    told = subprocess.run(
        [sys.executable, "-m", "allstop.vm.telemetry.generated"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert told.stdout == ""
