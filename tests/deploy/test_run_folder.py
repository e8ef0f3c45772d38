# SPDX-License-Identifier: GPL-2.0-or-later
"""Run folders: each belongs to one run, files of other programs are not touched, files are complete or absent."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from allstop.deploy.outcome.run_folder import RunFolder
from allstop.vm.errors import UsageError


def test_a_folder_is_made_with_its_parents_and_kept(tmp_path: Path) -> None:
    with contextlib.closing(RunFolder(tmp_path / "a" / "b")) as folder:
        folder.write_text("verdict.json", "{}")
        with folder.create("x.log") as log:
            log.write(b"words")
    assert (tmp_path / "a" / "b" / "verdict.json").read_text() == "{}"
    assert (tmp_path / "a" / "b" / "x.log").read_bytes() == b"words"
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == ["verdict.json", "x.log"]


def test_an_empty_folder_is_taken_and_only_once(tmp_path: Path) -> None:
    first = RunFolder(tmp_path)
    with pytest.raises(UsageError, match="in use by another run"):
        RunFolder(tmp_path)
    first.close()
    RunFolder(tmp_path).close()


@pytest.mark.parametrize(("name", "words"), [("verdict.json", "earlier run"), ("thesis.tex", "not empty")])
def test_a_folder_that_holds_something_is_refused_and_left_alone(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / name).write_text("precious")
    with pytest.raises(UsageError, match=words):
        RunFolder(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "precious"


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UsageError, match="cannot be made"):
            RunFolder(path)


def test_a_file_that_can_not_be_written_leaves_nothing(tmp_path: Path) -> None:
    with contextlib.closing(RunFolder(tmp_path / "run")) as folder:
        (tmp_path / "run" / "verdict.json").mkdir()
        with pytest.raises(OSError):
            folder.write_text("verdict.json", "{}")
        assert [path.name for path in (tmp_path / "run").iterdir()] == ["verdict.json"]


def test_a_folder_without_a_run_is_emptied_of_what_was_made_and_of_nothing_else(tmp_path: Path) -> None:
    with contextlib.closing(RunFolder(tmp_path)) as folder:
        folder.write_text("run.json", "{}")
        folder.create("x.log").close()
        folder.make_folder("journal")
        (tmp_path / "journal" / "vcpu-0").write_text("")
        (tmp_path / "thesis.tex").write_text("precious")
        folder.empty()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
