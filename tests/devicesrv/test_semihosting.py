# SPDX-License-Identifier: GPL-2.0-or-later
"""The host's part of semihosting: what a guest can open, and where it cannot get to."""

from __future__ import annotations

import errno
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from allstop.devicesrv.semihosting.semihosting import Semihosting
from allstop.vm.arm.semihosting import FAILED, Call
from allstop.vm.config.machine import SemihostingSpec
from allstop.vm.wire.messages import HostCall, HostReturn


class Host:
    """A host that is asked by one guest."""

    def __init__(self, folder: Path | None) -> None:
        self.printed = b""
        self.ends: list[tuple[int, str]] = []
        self.host = Semihosting(
            SemihostingSpec("" if folder is None else str(folder)), self._print, lambda *end: self.ends.append(end)
        )
        self._seq = itertools.count(1)

    def _print(self, data: bytes) -> None:
        self.printed += data

    def ask(self, operation: int, handle: int = 0, number: int = 0, data: bytes = b"", more: bytes = b"") -> HostReturn:
        seq = next(self._seq)
        answer = self.host.perform(3, HostCall(seq, operation, handle, number, data, more))
        assert answer.seq == seq
        return answer

    def open(self, name: bytes, mode: int = 0) -> int:
        """The handle; minus the error number where there is none."""
        answer = self.ask(Call.OPEN, 0, mode, name)
        return -answer.error if answer.value == FAILED else answer.value


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """With a folder that has a file, and is beside one."""
    (tmp_path / "outside").write_text("secret")
    folder = tmp_path / "inside"
    (folder / "sub").mkdir(parents=True)
    (folder / "file").write_text("0123456789")
    (folder / "link").symlink_to(tmp_path / "outside")
    (folder / "near").symlink_to("file")
    (folder / "away").symlink_to(tmp_path)
    (folder / "round").symlink_to("round")
    os.mkfifo(folder / "fifo")
    made = Host(folder)
    yield made
    made.host.close()


@pytest.mark.parametrize(
    "name",
    [
        b"../outside",
        b"sub/../../outside",
        b"sub/../file",
        b"/etc/passwd",
        b"//etc/passwd",
        b"link",
        b"near",
        b"away/outside",
        b"away",
        b"round",
        b"fifo",
        b"sub",
        b"sub/",
        b"",
        b".",
        b"..",
        b"./..",
        b"file\0",
        b"x" * 5000,
        b"file/x",
        b"x" * 300,
        b"/proc/self/root/etc/passwd",
    ],
)
@pytest.mark.parametrize("mode", [0, 4, 8, 3])
def test_nothing_but_files_of_the_folder_is_opened(host: Host, tmp_path: Path, name: bytes, mode: int) -> None:
    before = sorted(path.name for path in tmp_path.rglob("*"))
    opened: list[int] = []
    thread = threading.Thread(target=lambda: opened.append(host.open(name, mode)), daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive(), "it waits"
    assert opened[0] < 0
    assert sorted(path.name for path in tmp_path.rglob("*")) == before
    assert (tmp_path / "outside").read_text() == "secret"


@pytest.mark.parametrize(
    "call",
    [
        lambda host: host.ask(Call.REMOVE, data=b"../outside"),
        lambda host: host.ask(Call.REMOVE, data=b"away/outside"),
        lambda host: host.ask(Call.RENAME, data=b"file", more=b"../taken"),
        lambda host: host.ask(Call.RENAME, data=b"away/outside", more=b"taken"),
        lambda host: host.ask(Call.RENAME, data=b"file", more=b"away/taken"),
    ],
)
def test_nothing_outside_is_moved_or_removed(host: Host, tmp_path: Path, call: Callable[[Host], HostReturn]) -> None:
    answer = call(host)
    assert (answer.value, answer.error) in ((FAILED, errno.EACCES), (FAILED, errno.ENOTDIR))
    assert (tmp_path / "outside").exists()
    assert (tmp_path / "inside" / "file").exists()


def test_without_a_folder_no_file_is_opened() -> None:
    host = Host(None)
    assert host.open(b"file") == -errno.EACCES
    assert host.open(b":tt", 4) > 0


@pytest.mark.parametrize(
    ("mode", "reads", "writes", "keeps"),
    [
        (0, True, False, True),
        (1, True, False, True),
        (2, True, True, True),
        (4, False, True, False),
        (6, True, True, False),
        (8, False, True, True),
        (10, True, True, True),
    ],
)
def test_modes_of_files(host: Host, tmp_path: Path, mode: int, reads: bool, writes: bool, keeps: bool) -> None:
    handle = host.open(b"file", mode)
    assert handle > 0
    path = tmp_path / "inside" / "file"
    assert (path.read_text() == "0123456789") == keeps
    assert (host.ask(Call.READ, handle, 4).value != FAILED) == reads
    answer = host.ask(Call.WRITE, handle, data=b"ab")
    assert (answer.value == 2) == writes
    if mode >= 8:
        assert path.read_text() == "0123456789ab"
    assert host.ask(Call.CLOSE, handle).value == 0
    assert host.ask(Call.CLOSE, handle).error == errno.EBADF


def test_positions_and_lengths(host: Host) -> None:
    handle = host.open(b"sub/new", 7)
    assert host.ask(Call.WRITE, handle, data=b"hello").value == 5
    assert host.ask(Call.FLEN, handle).value == 5
    assert host.ask(Call.SEEK, handle, 1).value == 0
    assert host.ask(Call.READ, handle, 100).data == b"ello"
    assert host.ask(Call.READ, handle, 100).data == b""
    assert host.ask(Call.SEEK, handle, 0xFFFF_FFFF).value == 0
    assert host.ask(Call.READ, handle, 0xFFFF_FFFF).data == b""


def test_the_console_and_the_features(host: Host) -> None:
    out, err, typed = (host.open(b":tt", mode) for mode in (4, 8, 0))
    for handle in (out, err):
        assert host.ask(Call.WRITE, handle, data=b"x").value == 1
    assert host.printed == b"xx"
    assert host.ask(Call.READ, typed, 5).data == b""
    assert host.ask(Call.SEEK, out, 0).error == errno.ESPIPE
    features = host.open(b":semihosting-features")
    assert host.ask(Call.FLEN, features).value == 5
    assert host.ask(Call.READ, features, 9).data == b"SHFB\x03"
    assert host.ask(Call.ISTTY, features).value == 0
    assert host.open(b":semihosting-features", 4) == -errno.EACCES


def test_handles_are_not_without_number(host: Host) -> None:
    handles = [host.open(b"file") for _ in range(65)]
    assert handles == [*range(1, 65), -errno.EMFILE]


@pytest.mark.parametrize(
    ("reason", "status", "ends"), [(0x2_0026, 0, 0), (0x2_0026, 7, 7), (0x2_0023, 0, 1), (0, 5, 1)]
)
def test_how_a_run_ends(host: Host, reason: int, status: int, ends: int) -> None:
    host.ask(Call.EXIT_EXTENDED, status, reason)
    assert [end for end, _ in host.ends] == [ends]


def test_what_nobody_knows_is_refused(host: Host) -> None:
    assert host.ask(0x99).value == FAILED
    assert host.ask(Call.SYSTEM, data=b"true").value == FAILED
    assert host.open(b"file", 12) == -errno.EINVAL
