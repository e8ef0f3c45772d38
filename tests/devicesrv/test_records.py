# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import json
from pathlib import Path

import pytest

from allstop.devicesrv.server.records import Records


def test_lines_go_to_files_by_name_with_the_time(tmp_path: Path) -> None:
    records = Records(str(tmp_path))
    for number in range(3):
        records.write("one", {"number": number})
    records.write("two", {})
    records.flush()
    lines = [json.loads(line) for line in (tmp_path / "one.jsonl").read_text().splitlines()]
    assert [line["number"] for line in lines] == [0, 1, 2]
    assert lines == sorted(lines, key=lambda line: line["t_ns"])
    assert json.loads((tmp_path / "two.jsonl").read_text()).keys() == {"t_ns"}
    records.abandon()
    records.write("one", {"number": 3})
    records.flush()
    assert len((tmp_path / "one.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize("name", ["../out", "a/b", "", ".hidden", "a b"])
def test_a_name_can_not_lead_out_of_the_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with pytest.raises(ValueError, match="cannot name a file of records"):
        Records(str(folder)).write(name, {})
    assert list(tmp_path.rglob("*")) == [folder]


def test_without_a_folder_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    records = Records("")
    records.write("one", {"number": 1})
    records.flush()
    assert not list(tmp_path.iterdir())


def test_a_line_that_json_can_not_hold_leaves_no_half(tmp_path: Path) -> None:
    records = Records(str(tmp_path))
    records.write("one", {"number": 1})
    with pytest.raises(TypeError):
        records.write("one", {"number": object()})
    records.abandon()
    assert len((tmp_path / "one.jsonl").read_text().splitlines()) == 1
