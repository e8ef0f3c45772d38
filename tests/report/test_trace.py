# SPDX-License-Identifier: GPL-2.0-or-later
"""Traces, from real runs: every record is there, nested as it happened, in the form that the viewers document."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from allstop.cli.main import main
from allstop.report.run import RecordedRun
from allstop.vm.journal.format import Journal, Kind

PHASES = {"X", "i", "M", "b", "e"}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, command: Any, guests: Path) -> Path:
    """The folder of a run of `mmio` with journals: fetches, stops, accesses, invalidations."""
    folder = tmp_path_factory.mktemp("recorded") / "run"
    done = command(
        "run", guests / "mmio.elf", "--vcpus", 2, "--run-dir", folder, "--journal", "--timeout", 100, deadline_s=120.0
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_a_trace_has_every_event(recorded: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "t.json"
    assert main(["trace", str(recorded), "-o", str(out)]) == 0
    trace = json.loads(out.read_text())
    rows = trace["traceEvents"]
    counted = 0
    with RecordedRun(recorded) as run:
        assert run.conditions == []
        for journal in run.journals:
            counted += sum(1 + (event.kind is Kind.STOPPED) for event in journal.events())
    assert len([row for row in rows if row["ph"] != "M"]) == counted > 1000
    assert f"{counted:,} events" in capfd.readouterr().out
    names = {row["pid"]: row["args"]["name"] for row in rows if row["name"] == "process_name"}
    assert [names[pid].partition(" ")[0] for pid in sorted(names)] == ["coordinator", "devicesrv", "vcpu-0", "vcpu-1"]
    for row in rows:
        assert row["ph"] in PHASES and row["ts"] >= 0 and row["pid"] in names
        assert row["ph"] != "X" or row["dur"] >= 0


def test_what_a_process_did_is_nested(recorded: Path, tmp_path: Path) -> None:
    """On one track, complete events contain each other or do not touch: viewers draw nothing else rightly."""
    assert main(["trace", str(recorded), "-o", str(tmp_path / "t.json")]) == 0
    tracks = defaultdict(list)
    for row in json.loads((tmp_path / "t.json").read_text())["traceEvents"]:
        if row["ph"] == "X":
            began_ns = round(row["ts"] * 1000)
            tracks[row["pid"]].append((began_ns, -round(row["dur"] * 1000), row["name"]))
    assert len(tracks) >= 3
    for track in tracks.values():
        open_until: list[tuple[int, str]] = []
        for began_ns, minus_ns, name in sorted(track):
            ended_ns = began_ns - minus_ns
            while open_until and open_until[-1][0] <= began_ns:
                open_until.pop()
            assert not open_until or ended_ns <= open_until[-1][0], (name, open_until)
            open_until.append((ended_ns, name))


def test_journal_and_counters_agree(recorded: Path) -> None:
    """Nothing that the control page counts is missing in the journals."""
    with RecordedRun(recorded) as run:
        assert run.verdict is not None
        found: dict[Kind, int] = defaultdict(int)
        for journal in run.journals:
            for event in journal.events():
                found[event.kind] += 1
        verdict = run.verdict
    assert found[Kind.MMIO] == verdict.mmio.count == verdict.exits["mmio_read"] + verdict.exits["mmio_write"]
    assert found[Kind.ACCESS] == found[Kind.MMIO]
    assert found[Kind.STOP_ASKED] == found[Kind.STOP_GRANTED] == found[Kind.STOPPED] == verdict.stops.count > 0
    assert found[Kind.TLBI] == verdict.exits["tlbi"] and found[Kind.SHOOTDOWN] == verdict.shootdowns.count
    assert found[Kind.PARKED] == verdict.counters["stopped"]
    assert found[Kind.ENDED] == found[Kind.FINISHED] == 1


def test_killed_processes_lose_nothing(tmp_path: Path, command: Any, guests: Path) -> None:
    """A worker dies in the middle of its accesses: what the device server performed for it, it has journalled itself,
    but for the one under way."""
    folder = tmp_path / "run"
    with command.start(
        "run", guests / "mmio.elf", "--vcpus", 1, "--run-dir", folder, "--journal", "--parameter", 1000
    ) as launcher:
        path = folder / "journal" / "vcpu-0.journal"
        try:
            end = time.monotonic() + 30.0
            while not (pid := _busy(path)):
                assert time.monotonic() < end and launcher.poll() is None
                time.sleep(0.005)
            os.kill(pid, signal.SIGKILL)
            launcher.communicate(timeout=30)
        finally:
            if launcher.poll() is None:
                launcher.kill()
    with RecordedRun(folder) as run:
        assert run.verdict is not None and run.verdict.verdict == "lost"
        assert len(run.conditions) == 1 and "vcpu-0.journal was not closed" in run.conditions[0]
        events = {journal.header.process: list(journal.events()) for journal in run.journals}
    mine = [event.operands[:4] for event in events["vcpu-0"] if event.kind is Kind.MMIO]
    theirs = [event.operands[:4] for event in events["devicesrv"] if event.kind is Kind.ACCESS]
    assert mine == theirs[: len(mine)] and len(theirs) - len(mine) <= 1 and len(mine) > 50
    assert [event.text for event in events["coordinator"] if event.kind is Kind.LOST] == [run.verdict.sentence]
    assert main(["trace", str(folder)]) == main(["report", str(folder)]) == 0


def _busy(path: Path) -> int:
    """The writer of a journal, when it has journalled some accesses."""
    if not path.exists():
        return 0
    try:
        with Journal(path) as journal:
            return journal.header.pid if journal.count > 400 else 0
    except ValueError:
        return 0


def test_a_run_without_journals_has_no_trace(tmp_path: Path, command: Any, guests: Path) -> None:
    folder = tmp_path / "run"
    assert command("run", guests / "hello.elf", "--run-dir", folder).returncode == 0
    assert not (folder / "journal").exists()
    done = command("trace", folder)
    assert (done.returncode, done.stdout) == (2, "") and "run with --journal" in done.stderr
    assert command("report", folder).returncode == 0


def test_a_journal_needs_a_folder(guests: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(guests / "hello.elf"), "--journal"]) == 2
    assert "--run-dir" in capfd.readouterr().err
