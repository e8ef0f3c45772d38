# SPDX-License-Identifier: GPL-2.0-or-later
"""Whole runs of a guest that calls its host, and of one that says on its console how it ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from allstop import Machine, UsageError, Verdict

pytestmark = pytest.mark.processes

TIMEOUT_S = 60.0


def run(
    guests: Path,
    parameter: int = 0,
    semihosting: bool = True,
    folder: Path | None = None,
    exit_status_line: bool = False,
) -> tuple[Verdict, str]:
    """The verdict and the console."""
    with Machine(
        guests / "semihosting.elf",
        timeout=TIMEOUT_S,
        parameter=parameter,
        semihosting=semihosting,
        semihosting_dir=folder,
        exit_status_line=exit_status_line,
    ) as machine:
        verdict = machine.wait()
    return verdict, machine.console


def test_every_call_in_order_with_the_uart(guests: Path, tmp_path: Path) -> None:
    (tmp_path / "input").write_text("abcdefgh")
    verdict, console = run(guests, folder=tmp_path)
    assert (verdict.verdict, verdict.guest_status) == ("pass", 0), console
    assert console.splitlines()[:3] == ["the UART and the host HLT SVC HLT BKPT", "the UART again", "by a handle"]
    assert console.endswith("result: guest=semihosting wrong=0\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["input", "output"]
    assert (tmp_path / "output").read_text() == "hello"
    assert verdict.exits["semihosting"] > 30
    assert verdict.counters["semihosting_refused"] == 6


def test_no_file_without_a_folder(guests: Path) -> None:
    verdict, console = run(guests)
    assert verdict.verdict == "pass"
    assert "no folder: errno 13\n" in console


@pytest.mark.parametrize(("parameter", "verdict", "status"), [(1, "pass", 0), (2, "fail", 1), (3, "fail", 7)])
def test_ways_to_exit(guests: Path, parameter: int, verdict: str, status: int) -> None:
    ended, _ = run(guests, parameter)
    assert (ended.verdict, ended.guest_status) == (verdict, status)


@pytest.mark.parametrize(
    ("parameter", "verdict", "status", "sentence"),
    [
        (4, "pass", 0, "the guest printed EXIT: STATUS=1, which is code 0"),
        (5, "fail", 3, "the guest printed EXIT: STATUS=7, which is code 3"),
        (6, "fail", 1, "the guest powered the machine off, and had not printed EXIT: STATUS="),
    ],
)
def test_a_verdict_from_the_console(guests: Path, parameter: int, verdict: str, status: int, sentence: str) -> None:
    ended, _ = run(guests, parameter, exit_status_line=True)
    assert (ended.verdict, ended.guest_status, ended.sentence) == (verdict, status, sentence)


@pytest.mark.parametrize("parameter", [5, 6])
def test_power_off_is_a_pass_where_nobody_looks_for_that_line(guests: Path, parameter: int) -> None:
    ended, _ = run(guests, parameter)
    assert (ended.verdict, ended.sentence) == ("pass", "the guest powered the machine off")


def test_off_a_call_is_the_guests_own_exception(guests: Path) -> None:
    ended, console = run(guests, semihosting=False)
    assert ended.verdict == "fail"
    assert "kind=supervisor call" in console


def test_a_folder_is_a_folder_and_asked_for(guests: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--semihosting-dir requires --semihosting"):
        Machine(guests / "semihosting.elf", semihosting_dir=tmp_path)
    with pytest.raises(UsageError, match="is no folder"):
        Machine(guests / "semihosting.elf", semihosting=True, semihosting_dir=tmp_path / "none")
