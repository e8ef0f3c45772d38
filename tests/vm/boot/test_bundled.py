# SPDX-License-Identifier: GPL-2.0-or-later
"""The bundled guests: every image has its row, and a user names one as `allstop run NAME`."""

from __future__ import annotations

from pathlib import Path

import pytest

from allstop.cli.main import main
from allstop.deploy.options.options import RunOptions
from allstop.vm.boot.bundled import GUESTS, IMAGES, image, resolve


def test_every_image_has_a_row() -> None:
    assert list(GUESTS) == sorted(path.stem for path in IMAGES.glob("*.elf"))


def test_allstop_guests_prints_a_line_for_each(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["guests"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(GUESTS)
    assert all(len(line) <= 100 for line in lines)


def test_a_name_is_the_bundled_guest_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve(Path("hello")) == RunOptions(Path("hello")).image == image("hello")
    assert image("hello").is_file()


def test_a_file_wins_over_the_bundled_guest_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hello").write_bytes(b"")
    assert resolve(Path("hello")) == Path("hello")


@pytest.mark.parametrize("name", ["goodbye", "folder/hello", "/hello", "hello.elf", "COMPILER", ""])
def test_any_other_path_stays_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve(Path(name)) == Path(name)
