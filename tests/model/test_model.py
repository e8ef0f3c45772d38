# SPDX-License-Identifier: GPL-2.0-or-later
"""The models in docs/model, checked exhaustively by Spin: the rules hold, and each rule that is broken is found out."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

MODELS = Path(__file__).parents[2] / "docs" / "model"
DEADLINE_S = 600  # 36 s where nothing else runs
MEMORY_MB = 1800

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(shutil.which("spin") is None, reason="Spin is not installed (Debian's package `spin`)"),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="the verifier is C, and there is no gcc"),
]


def verify(folder: Path, model: str, *definitions: str) -> str:
    """What the verifier of a model says, in which all states were looked at unless it found an error."""
    subprocess.run(
        ["spin", "-a", *definitions, MODELS / model], cwd=folder, check=True, capture_output=True, timeout=60
    )
    subprocess.run(
        ["gcc", "-O1", "-w", "-DSAFETY", "-DCOLLAPSE", f"-DMEMLIM={MEMORY_MB}", "-o", "pan", "pan.c"],
        cwd=folder,
        check=True,
        capture_output=True,
        timeout=60,
    )
    said = subprocess.run(
        ["./pan", "-m200000", "-E", "-n"], cwd=folder, capture_output=True, text=True, timeout=DEADLINE_S
    ).stdout
    assert "Search not completed" not in said or "errors: 0" not in said, said
    assert "max search depth too small" not in said, said
    return said


@pytest.mark.parametrize(
    "model, definitions",
    [
        ("pages.pml", ()),
        ("pages.pml", ("-DCRASH", "-DWANTS=1")),
        ("stop.pml", ("-DFLUSHES=1", "-DEVENTS=0")),
        ("stop.pml", ("-DSTOPS=0", "-DFLUSHES=1")),
        ("stop.pml", ("-DSTOPS=0", "-DFLUSHES=2", "-DEVENTS=0")),
        ("stop.pml", ("-DSTOPS=2", "-DFLUSHES=0")),
        ("stop.pml", ("-DREMOTES=2", "-DFLUSHES=0", "-DEVENTS=0")),
        ("stop.pml", ("-DREMOTES=2", "-DFLUSHES=0", "-DEVENTS=0", "-DCRASH")),
    ],
)
def test_the_protocol_holds(tmp_path: Path, model: str, definitions: tuple[str, ...]) -> None:
    """Would break: any order of events that leads to an old value, to a lost post, or to a process that waits
    forever."""
    said = verify(tmp_path, model, *definitions)
    assert "errors: 0" in said, said


@pytest.mark.parametrize(
    "model, rule, definitions",
    [
        ("pages.pml", "OVERTAKE", ()),
        ("pages.pml", "KEEP_COPY", ()),
        ("pages.pml", "KEEP_WRITING", ()),
        ("pages.pml", "OVERLAP", ()),
        ("pages.pml", "STALE", ()),
        ("pages.pml", "LOSE", ()),
        ("pages.pml", "REPLACE", ("-DCRASH", "-DWANTS=1")),
        ("stop.pml", "CHECK_THEN_END", ("-DSTOPS=0", "-DFLUSHES=1")),
        ("stop.pml", "MARK_FIRST", ("-DSTOPS=0", "-DFLUSHES=1")),
        ("stop.pml", "POST_ONCE", ("-DFLUSHES=1", "-DEVENTS=0")),
        ("stop.pml", "DONE_AT_ONCE", ("-DFLUSHES=1", "-DEVENTS=0")),
        ("stop.pml", "STOPPED_AT_ONCE", ("-DFLUSHES=1", "-DEVENTS=0")),
        ("stop.pml", "ENTER_BLINDLY", ("-DFLUSHES=1", "-DEVENTS=0")),
        ("stop.pml", "POST_TELLS_STOP", ("-DFLUSHES=1", "-DEVENTS=0")),
        ("stop.pml", "OLD_ANSWER", ("-DSTOPS=2", "-DFLUSHES=0")),
        ("stop.pml", "IGNORE_LOSS", ("-DREMOTES=2", "-DFLUSHES=0", "-DEVENTS=0", "-DCRASH")),
    ],
)
def test_a_broken_rule_is_found(tmp_path: Path, model: str, rule: str, definitions: tuple[str, ...]) -> None:
    """Would break: a model that holds whatever the protocol does."""
    said = verify(tmp_path, model, f"-D{rule}", *definitions)
    assert "errors: 1" in said and "assertion violated" in said, said
