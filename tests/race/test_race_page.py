# SPDX-License-Identifier: GPL-2.0-or-later
"""The race's page: a wrong decode told in its right order, and a real browser that shows it and asks for nothing."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from allstop.cli.main import main
from allstop.race.page import race_page
from allstop.race.race import Row
from allstop.race.story import Story, best_story
from allstop.report.run import RecordedRun
from allstop.vm.journal.format import EXIT_NAMES, Kind
from allstop.vm.journal.recorder import Recorder
from allstop.vm.wire.messages import ROLE_WORKER

EXECUTED, FETCHED = 0xE4956004, 0xE5823000
PC, TABLE, DEVICE = 0x7000_0FC0, 0x4001_035C, 0x7004_1178
NISV = EXIT_NAMES.index("NISV")


def make_run(folder: Path) -> Path:
    """The journals of a race: vCPU 0 invalidates before vCPU 1's trap (number 7), and after it (8)."""
    (folder / "journal").mkdir(parents=True)
    names = [f"vcpu-{vcpu}" for vcpu in range(2)]
    (folder / "run.json").write_text(
        json.dumps({"image": "swapper.elf", "commands": {name: ["python"] for name in names}, "config": {"vcpus": 2}})
    )
    swapper, victim = (
        Recorder(str(folder / "journal" / f"{name}.journal"), name, ROLE_WORKER, vcpu)
        for vcpu, name in enumerate(names)
    )

    def invalidate(number: int) -> None:
        began_ns = time.monotonic_ns()
        swapper.span(Kind.SHOOTDOWN, 0, began_ns, 2, 0, number)
        swapper.span(Kind.TLBI, 0, began_ns, TABLE, 0, 0, number)

    invalidate(7)
    trapped_ns = time.monotonic_ns()
    invalidate(8)
    victim.span(Kind.FETCHED, 1, trapped_ns, PC, EXECUTED, FETCHED, DEVICE, 1)
    victim.event(Kind.VIOLATION, 1, PC, EXECUTED, FETCHED, DEVICE, 1, 0)
    victim.text("vCPU 1 executed one thing")
    asked_ns = time.monotonic_ns()
    victim.span(Kind.MMIO, 1, asked_ns, 0x0B10_0100, 4, 1, 5, 0)
    victim.span(Kind.EXIT, 1, trapped_ns, NISV, PC, 0, 0, EXECUTED)
    swapper.close()
    victim.close()
    return folder


def story_of(folder: Path) -> Story | None:
    with RecordedRun(folder) as run:
        return best_story(run)


def test_the_story_names_who_did_what_in_its_order(tmp_path: Path) -> None:
    """Would break: an invalidation from before the trap that is blamed, or a step that is told out of its order."""
    story = story_of(make_run(tmp_path / "run"))
    assert story is not None
    assert (story.process, story.pc) == ("vcpu-1", PC)
    assert story.executed.startswith("ldr r6, [r5], #4 ") and story.fetched.startswith("str r3, [r2] ")
    told = [step.who for step in story.steps if "invalidates" in step.words]
    assert told == ["vcpu-0"]
    words = [step.words.split()[0] for step in story.steps]
    assert sorted(words[:3]) == ["executes", "has", "translates"]
    assert words[3:] == ["fills", "has", "what", "emulates"]
    times_ns = [step.at_ns for step in story.steps if step.at_ns is not None]
    assert times_ns == sorted(times_ns) and times_ns[0] == 0
    assert "write, 4 bytes at 0x0b100100: 0x5" in story.steps[-1].words


def test_a_run_without_wrong_decodes_has_no_story(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    (folder / "journal" / "vcpu-1.journal").unlink()
    assert story_of(folder) is None


@pytest.mark.parametrize(("wrong", "badge"), [(0, "not as the theory says"), (2, "as the theory says")])
def test_the_page_says_whether_the_theory_holds(wrong: int, badge: str) -> None:
    page = race_page([Row("unprotected", "broadcast", 1, 1800, wrong), Row("validate", "ipi", 1, 1900)], 4, 2, None)
    assert f'<span class="badge">{badge}</span>' in page
    assert ("the race did not show" in page) is (wrong == 0)


def test_a_page_that_could_not_be_written_is_refused_before_anything_runs(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["race", "--page", str(tmp_path / "nowhere" / "race.html")]) == 2
    out, err = capfd.readouterr()
    assert out == "" and "there is no folder" in err


def test_the_command_makes_a_page_that_a_browser_shows(
    tmp_path: Path, browsed: Any, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The race itself, short: the unsound cell shows, and the page has a story and its timeline, on a phone too."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # tests beside this one look at what appears in /tmp
    out = tmp_path / "race.html"
    assert main(["race", "--fetch", "unprotected", "--tlb", "broadcast", "--page", str(out)]) == 0
    assert capfd.readouterr().out.endswith(f"as the theory says\n{out}\n")
    assert [path.name for path in tmp_path.iterdir()] == ["race.html"]
    for width in (1280, 390):
        browsed.size(width, 900)
        browsed.open(out)
        assert browsed.evaluate("document.documentElement.scrollWidth") <= width
        assert browsed.evaluate("document.querySelectorAll('.story tr').length") >= 6
        assert browsed.evaluate("document.querySelectorAll('svg .seen').length") == 1
        assert browsed.evaluate("document.querySelectorAll('canvas').length") == 1
    assert browsed.problems == []
    assert set(browsed.requests) == {out.as_uri()}
