# SPDX-License-Identifier: GPL-2.0-or-later
"""The command: usage errors are one sentence and exit status 2, whatever else goes wrong is one sentence too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import allstop.cli.run
from allstop.cli.main import main
from allstop.vm.errors import HarnessError
from allstop.vm.version import __version__


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["walk"],
        ["run"],
        ["run", "IMAGE", "--vcpus"],
        ["run", "IMAGE", "--vcpus", "0"],
        ["run", "IMAGE", "--vcpus", "300"],
        ["run", "IMAGE", "--vcpus", "many"],
        ["run", "IMAGE", "--memory", "1Q"],
        ["run", "IMAGE", "--memory", "8G"],
        ["run", "IMAGE", "--timeout", "soon"],
        ["run", "IMAGE", "--timeout", "-1"],
        ["run", "IMAGE", "--fetch", "hope"],
        ["run", "IMAGE", "--tlb", "x86"],
        ["run", "IMAGE", "--decode", "some"],
        ["run", "IMAGE", "--device", "x"],
        ["run", "IMAGE", "--device", "no.py:Such@0x1000"],
        ["run", "IMAGE", "--load", "here"],
        ["run", "IMAGE", "--seed", "x"],
        ["run", "IMAGE", "--vcpu", "2"],
        ["run", "no-such-file"],
        ["run", "no\nsuch file"],
        ["run", "/dev/null"],
        ["run", "/"],
        ["run", __file__],
    ],
)
def test_usage_errors(arguments: list[str], guests: Path, capfd: pytest.CaptureFixture[str]) -> None:
    image = str(guests / "hello.elf")
    assert main([image if argument == "IMAGE" else argument for argument in arguments]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("allstop: ") and err.count("\n") == 1 and "Traceback" not in err


def test_a_usage_error_is_no_json(command: Any, guests: Path) -> None:
    done = command("run", "--json", guests / "hello.elf", "--vcpus", 0)
    assert (done.returncode, done.stdout) == (2, "")


def test_help_and_version(capfd: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], ["run", "--help"], ["--version"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 0
    out = capfd.readouterr().out
    assert "--lifeline-fd" not in out and f"allstop {__version__}\n" in out
    assert "exit status: 0 the guest passed" in out


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (HarnessError("no cores left"), "no cores left"),
        (OSError(24, "Too many open files"), "Too many open files"),
        (MemoryError(), "out of memory"),
        (KeyboardInterrupt(), "interrupted"),
        (ZeroDivisionError("why"), "internal error"),
    ],
)
def test_whatever_goes_wrong_is_one_sentence(
    error: BaseException,
    sentence: str,
    guests: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(allstop.cli.run, "run", fail)
    assert main(["run", str(guests / "hello.elf")]) == 4
    out, err = capfd.readouterr()
    assert out == "" and err.startswith("allstop: ") and sentence in err and err.count("\n") == 1


def test_the_debug_switch_shows_the_traceback(guests: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(allstop.cli.run, "run", fail)
    monkeypatch.setenv("ALLSTOP_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        main(["run", str(guests / "hello.elf")])
