# SPDX-License-Identifier: GPL-2.0-or-later
"""The comparison with peers runs, and what it prints and keeps can be used. No speed is judged here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import distribution, peer_guest, qemu
from bench.duels import Duel, Goal
from bench.peers import Result, markdown, play_round
from bench.running import PeerError, Running

pytestmark = [pytest.mark.bench, pytest.mark.processes]

ROOT = Path(__file__).resolve().parents[2]
needs_qemu = pytest.mark.skipif(qemu.missing() is not None, reason=str(qemu.missing()))


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    """`python -m bench.peers` as a user calls it, in the repository."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return subprocess.run(
        [sys.executable, "-m", "bench.peers", *map(str, arguments)],
        cwd=ROOT,
        timeout=120,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": path},
    )


@needs_qemu
def test_a_tiny_round_measures_both_sides_and_keeps_what_it_measured(tmp_path: Path) -> None:
    """Would break: a guest that one of the boards does not run, work that comes to different results on them, a stop
    that one side does not confirm, a table or a file that lacks a row."""
    done = command("--rounds", 1, "--scale", "0.001", "--rows", "2,5,6,7", "--results", tmp_path / "raw")
    assert done.returncode == 0, done.stderr
    [kept] = (tmp_path / "raw").iterdir()
    report = json.loads(kept.read_text())
    assert report["environment"]["cores"] >= 1
    assert len(report["rounds"]) == 1
    for row in report["rows"]:
        assert row["title"] in done.stdout
        if row["row"] == 6:
            assert "no kernel was given" in row["not_measured"]
            assert "not measured: no kernel was given" in done.stdout
            continue
        assert not row["not_measured"], row
        [ours], [theirs], [ratio] = row["ours"], row["theirs"], row["ratios"]
        assert ours > 0 and theirs > 0
        assert ratio == pytest.approx(theirs / ours if row["row"] == 2 else ours / theirs)
    assert {row["row"] for row in report["rows"]} == {2, 5, 6, 7}


def test_impossible_wishes_are_refused() -> None:
    """Would break: a run of no rounds, or of rows that do not exist."""
    for wrong in (("--rounds", 0), ("--scale", 0), ("--rows", "11"), ("--rows", "")):
        assert command(*wrong).returncode == 2


def duel(goal: Goal | None, ours: float, theirs: float | None) -> Duel:
    """A row whose sides always measure the same."""
    return Duel(1, "row", "us", goal, "peer", lambda: ours, None if theirs is None else lambda: theirs)


@pytest.mark.parametrize(
    ("goal", "ours", "theirs", "verdict"),
    [
        (Goal(0.7, 1.0, is_speed=True), 10.0, 10.0, "aim met"),
        (Goal(0.7, 1.0, is_speed=True), 10.0, 8.0, "met"),
        (Goal(0.7, 1.0, is_speed=True), 10.0, 6.0, "missed"),
        (Goal(4, 2.5), 20.0, 10.0, "aim met"),
        (Goal(4, 2.5), 30.0, 10.0, "met"),
        (Goal(4, 2.5), 50.0, 10.0, "missed"),
        (Goal(60, 30, is_absolute=True), 40.0, 1.0, "met"),
        (Goal(60, 30, is_absolute=True), 70.0, None, "missed"),
        (None, 1.0, 1.0, ""),
    ],
)
def test_goals_are_judged_the_right_way_round(
    goal: Goal | None, ours: float, theirs: float | None, verdict: str
) -> None:
    """Would break: a speed that is judged like a time, or an absolute figure like a ratio."""
    result = Result(duel(goal, ours, theirs))
    for number in (1, 2, 3):
        play_round([result], number)
    assert result.verdict == verdict
    assert result.ours == [ours] * 3
    assert result.theirs == ([] if theirs is None else [theirs] * 3)
    assert ("**missed**" in markdown([result])) == (verdict == "missed")


def test_a_row_that_fails_says_why_and_the_others_go_on() -> None:
    """Would break: one machine that does not come up, and the table is lost."""

    def fails() -> float:
        raise PeerError("it | broke")

    results = [Result(Duel(1, "first", "us", None, "peer", fails, None)), Result(duel(None, 2.0, 1.0))]
    play_round(results, 1)
    play_round(results, 2)
    assert "not measured: it / broke" in markdown(results)
    assert results[1].ours == [2.0, 2.0]


def test_results_of_a_guest_are_read_by_operation() -> None:
    """Would break: ticks taken for microseconds, or one operation's line for another's."""
    output = (
        "result: guest=peers operation=calls vcpus=1 rounds=9 ticks=125 hertz=62500000 check=00000001\n"
        "result: guest=peers operation=tlbi vcpus=5 samples=9 min_ns=1 p50_ns=2500 p99_ns=9\n"
    )
    assert peer_guest.parse(output, "calls") == peer_guest.Figure(2.0, "00000001")
    assert peer_guest.parse(output, "tlbi") == peer_guest.Figure(2.5, "")
    with pytest.raises(PeerError, match="did not say what sgi took"):
        peer_guest.parse(output, "sgi")


def test_a_command_that_never_says_it_is_ended() -> None:
    """Would break: a benchmark that waits forever, or leaves a machine behind."""
    with pytest.raises(PeerError, match="longer than 0.2 s"), Running(["sleep", "1000"]) as running:
        running.until("ready", 0.2)
    assert not Path(f"/proc/{running.pid}").exists()
    with pytest.raises(PeerError, match="exit status 3"), Running(["sh", "-c", "echo no; exit 3"]) as running:
        running.to_end(10)


def test_the_ram_disk_is_one_that_cpio_reads() -> None:
    """Would break: a kernel that finds no init."""
    data = distribution.archive(b"busybox!")
    names, at = [], 0
    while at < len(data):
        assert data[at : at + 6] == b"070701"
        fields = [int(data[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        size, name_size = fields[6], fields[11]
        name = data[at + 110 : at + 110 + name_size - 1].decode()
        names.append(name)
        at = (at + 110 + name_size + 3) // 4 * 4
        if name == "bin/busybox":
            assert data[at : at + size] == b"busybox!"
        at = (at + size + 3) // 4 * 4
    assert names == ["dev", "bin", "dev/console", "bin/busybox", "init", "TRAILER!!!"]
