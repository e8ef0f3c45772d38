# SPDX-License-Identifier: GPL-2.0-or-later
"""Reports: made of whatever a run folder still holds, seen by a real browser; nothing in them comes from outside."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from allstop.cli.main import main
from allstop.deploy.outcome.verdict import Latency, Verdict
from allstop.report.histogram import Histogram, duration
from allstop.report.report import report
from allstop.report.run import RecordedRun
from allstop.report.timeline import around, violations, whole
from allstop.vm.journal.format import HEADER_BYTES, NOTHING, RECORD_BYTES, Kind
from allstop.vm.journal.recorder import Recorder
from allstop.vm.telemetry.histograms import HISTOGRAMS, HistogramRow
from allstop.vm.wire.messages import ROLE_COORDINATOR, ROLE_DEVICES, ROLE_WORKER, VERDICTS

EVIL = "</script><script>alert(1)</script><img src=https://example.org/x onerror=alert(2)>&\"'\u2028\ud800"
VCPUS = 3


def make_run(folder: Path, verdict: str = "violation", journals: bool = True, words: str = "it happened") -> Path:
    """A run folder as a run of three vCPUs might have left it."""
    folder.mkdir()
    names = ["coordinator", "devicesrv", *(f"vcpu-{vcpu}" for vcpu in range(VCPUS))]
    (folder / "run.json").write_text(
        json.dumps(
            {
                "image": f"/guests/{words}.elf",
                "timeout_s": None,
                "commands": {name: ["python", words] for name in names},
                "config": {
                    "vcpus": VCPUS,
                    "fetch": "unprotected",
                    "tlb": "broadcast",
                    "decode": "full",
                    "seed": 7,
                    "parameter": 0,
                    "memory_bytes": 64 << 20,
                    "journal": journals,
                    "keep_going": False,
                },
            }
        )
    )
    (folder / "verdict.json").write_text(
        Verdict(
            verdict,
            words,
            VCPUS,
            1.25,
            None,
            {"mmio_read": 12, "nisv": 3},
            {"mmio": Latency(12, 80.0, 200.0), "stops": Latency(3, 90.0, 95.0)},
            counters={"kick": 4, "fetch_wrong": 1},
            notes=(words,),
        ).to_json()
    )
    (folder / "figures.json").write_text(
        json.dumps(
            [
                {
                    "counters": {"mmio_read": 4, "kick": vcpu},
                    "histograms": {
                        "mmio": [[80000.0, 3], [200000.0, 1]],
                        "stop": [],
                        "shootdown": [[90.0, 2]],
                        "fetch": [[9000.0, 1]],
                    },
                }
                for vcpu in range(VCPUS)
            ]
        )
    )
    (folder / "console.log").write_text(words + "\n", errors="replace")
    (folder / "vcpu-1.log").write_text(words, errors="replace")
    if journals:
        (folder / "journal").mkdir()
        for name in names:
            write_journal(folder / "journal" / f"{name}.journal", name, words)
    return folder


def write_journal(path: Path, name: str, words: str) -> None:
    """One record at least of every kind, each in its process's journal."""
    role = {"coordinator": ROLE_COORDINATOR, "devicesrv": ROLE_DEVICES}.get(name, ROLE_WORKER)
    vcpu = int(name.removeprefix("vcpu-")) if role == ROLE_WORKER else 0
    first, last = {ROLE_WORKER: (16, 64), ROLE_COORDINATOR: (64, 96), ROLE_DEVICES: (96, 128)}[role]
    recorder = Recorder(str(path), name, role, vcpu)
    for kind in Kind:
        if not first <= kind < last or kind is Kind.VIOLATION and vcpu != 1 or (kind is Kind.MMIO_WRONG):
            continue
        operands = {
            "hdfar": 0x0B10_0000,
            "pc": 0x4000_1000,
            "executed": 0xE591_0000,
            "fetched": 0xE582_3000,
            "thumb": 0,
            "stale": 0,
        }
        numbers = [operands.get(operand, 1) for operand in kind.operands]
        if kind.is_span:
            recorder.span(kind, vcpu, 1, *numbers[:-1])
        else:
            recorder.event(kind, vcpu, *numbers)
        if kind in (Kind.VIOLATION, Kind.LOST, Kind.ENDED, Kind.STOP_QUEUED):
            recorder.text(words)
    recorder.close()


class Elements(HTMLParser):
    """The elements of a page and the addresses in their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += (value or "" for name, value in attrs if name in ("src", "href", "action", "data", "srcset"))
        assert not [name for name, _ in attrs if name.startswith("on")]


def page_of(folder: Path) -> str:
    with RecordedRun(folder) as run:
        return report(run)


@pytest.mark.parametrize("verdict", VERDICTS)
def test_every_verdict_has_a_page(tmp_path: Path, verdict: str) -> None:
    page = page_of(make_run(tmp_path / "run", verdict))
    assert f'<span class="badge">{verdict}</span>' in page and "it happened" in page


def test_what_the_guest_says_stays_text(tmp_path: Path) -> None:
    page = page_of(make_run(tmp_path / "run", words=EVIL))
    elements = Elements(page)
    assert elements.tags.count("script") == 2 and "img" not in elements.tags
    assert elements.addresses == ["data:,"]
    assert page.count("&lt;img src=https://example.org/x") > 4


def test_the_violation_is_told(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    page = page_of(folder)
    assert "ldr r0, [r1] (0xe5910000)" in page and "str r3, [r2] (0xe5823000)" in page
    with RecordedRun(folder) as run:
        [(journal, event)], count = violations(run, 10)
        near = around(run, journal, event)
    assert count == 1 and near.process == "vcpu-1" and near.event.vcpu == 1
    assert sum(item.is_violation for item in near.listed) == 1
    assert [
        (mark.lane, mark.at_ns)
        for mark in near.timeline.marks
        if mark.category == "bad" and mark.lane == 3 and "executed" in mark.words
    ] == [(3, 0)]
    assert 3 in {bar.lane for bar in near.timeline.bars}


def test_an_access_that_was_not_performed_as_seen_is_a_violation_too(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    os.unlink(folder / "journal" / "vcpu-2.journal")
    recorder = Recorder(str(folder / "journal" / "vcpu-2.journal"), "vcpu-2", ROLE_WORKER, 2)
    recorder.event(Kind.MMIO_WRONG, 2, 0x0B10_0000, 4, 0, 0x77)
    recorder.text("it was performed twice")
    recorder.close()
    page = page_of(folder)
    assert "vcpu-2 at device address 0x0b100000" in page and "4-byte read that gave 0x77" in page
    assert "it was performed twice" in page


def test_a_stale_translation_is_a_violation_too(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    os.unlink(folder / "journal" / "vcpu-2.journal")
    recorder = Recorder(str(folder / "journal" / "vcpu-2.journal"), "vcpu-2", ROLE_WORKER, 2)
    recorder.span(Kind.TLBI, 2, time.monotonic_ns(), 0x4000_2000, 2, 1, 9)
    recorder.close()
    page = page_of(folder)
    assert "2. vcpu-2 at PC 0x40002000" in page and "while 1 of the others were still in the guest" in page


def test_only_the_first_violations_are_drawn_and_all_are_counted(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    os.unlink(folder / "journal" / "vcpu-2.journal")
    recorder = Recorder(str(folder / "journal" / "vcpu-2.journal"), "vcpu-2", ROLE_WORKER, 2)
    for _ in range(40):
        recorder.event(Kind.VIOLATION, 2, 0x4000_0000, 0xE591_0000, NOTHING, 0, 0, 0)
    recorder.close()
    page = page_of(folder)
    assert "The first 10 of 41 violations." in page and page.count("data-timeline=") == 11


def test_a_long_run_stays_a_small_page(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", "pass", journals=False)
    (folder / "journal").mkdir()
    recorder = Recorder(str(folder / "journal" / "vcpu-0.journal"), "vcpu-0", ROLE_WORKER, 0)
    for number in range(50_000):
        recorder.span(Kind.MMIO, 0, time.monotonic_ns(), 0x0900_0000, 4, 0, number, 0)
    recorder.close()
    with RecordedRun(folder) as run:
        drawn = whole(run)
    assert sum(bar.events for bar in drawn.bars) == 50_000 and len(drawn.bars) < 2000
    assert len(page_of(folder)) < 300_000


def test_a_run_without_journals_has_a_page(tmp_path: Path) -> None:
    page = page_of(make_run(tmp_path / "run", "pass", journals=False))
    assert "kept no journal" in page and "data-timeline" not in page.partition("<main>")[2].partition("</main>")[0]
    assert "<h3>MMIO</h3>" in page and "count <b>12</b>" in page


def cut(folder: Path) -> None:
    path = folder / "journal" / "vcpu-0.journal"
    os.truncate(path, HEADER_BYTES + 3 * RECORD_BYTES + 20)


def cut_head(folder: Path) -> None:
    os.truncate(folder / "journal" / "vcpu-0.journal", 100)


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (cut, "vcpu-0.journal was cut: the first 3 of its "),
        (cut_head, "vcpu-0.journal is no journal, or was cut within its first 256 bytes"),
        (lambda folder: (folder / "journal" / "vcpu-0.journal").unlink(), "vcpu-0 has no journal that can be read"),
        (lambda folder: (folder / "verdict.json").unlink(), "there is no verdict"),
        (lambda folder: (folder / "verdict.json").write_text("{"), "verdict.json cannot be read"),
        (lambda folder: (folder / "verdict.json").write_text("[]"), "verdict.json cannot be read"),
        (lambda folder: (folder / "figures.json").unlink(), "there is no figures.json"),
        (lambda folder: (folder / "figures.json").write_text('[{"counters": 1}]'), "figures.json cannot be read"),
        (lambda folder: (folder / "console.log").write_bytes(b"\xff\xfe" * 100_000), ""),
        (lambda folder: shutil.rmtree(folder / "journal"), "vcpu-2 has no journal that can be read"),
    ],
)
def test_a_folder_that_is_not_whole_has_a_page_that_says_so(
    tmp_path: Path, harm: Callable[[Path], object], sentence: str, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = make_run(tmp_path / "run")
    harm(folder)
    assert main(["report", str(folder)]) == 0
    out, err = capfd.readouterr()
    assert out == f"{folder}/report.html\n" and sentence in err
    assert sentence in (folder / "report.html").read_text()


def test_nobody_misses_a_journal_of_the_gdb_server(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = make_run(tmp_path / "run")
    run = json.loads((folder / "run.json").read_text())
    run["commands"]["gdbserver"] = ["python", "-m", "gdbserver"]
    (folder / "run.json").write_text(json.dumps(run))
    assert main(["report", str(folder)]) == 0
    assert "gdbserver" not in capfd.readouterr().err


@pytest.mark.parametrize("command", ["report", "trace"])
@pytest.mark.parametrize(
    "harm",
    [
        shutil.rmtree,
        lambda folder: (folder / "run.json").unlink(),
        lambda folder: (folder / "run.json").write_text("["),
        lambda folder: (folder / "run.json").write_text("[]"),
        lambda folder: (folder / "run.json").write_text("{}"),
        lambda folder: (folder / "run.json").write_text('{"config": 3}'),
        lambda folder: (folder / "run.json").write_bytes(b"\xff\x00"),
    ],
)
def test_what_is_no_run_folder_is_one_sentence(
    tmp_path: Path, command: str, harm: Callable[[Path], object], capfd: pytest.CaptureFixture[str]
) -> None:
    folder = make_run(tmp_path / "run")
    harm(folder)
    assert main([command, str(folder)]) == 2
    out, err = capfd.readouterr()
    assert out == "" and err.startswith("allstop: ") and err.count("\n") == 1 and str(folder) in err


def test_a_page_that_can_not_be_written_leaves_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = make_run(tmp_path / "run")
    (tmp_path / "taken").mkdir()
    assert main(["report", str(folder), "-o", str(tmp_path / "taken")]) == 4
    assert capfd.readouterr().err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "taken"]


@pytest.mark.parametrize("row", HISTOGRAMS, ids=lambda row: row.name)
@pytest.mark.parametrize("source", ["figures", "journals"])
def test_every_histogram_of_the_control_page_is_drawn(tmp_path: Path, row: HistogramRow, source: str) -> None:
    """Waits for pages were not, from neither source."""
    folder = make_run(tmp_path / "run", "pass", journals=source == "journals")
    figures = [{"counters": {}, "histograms": {row.name: [[9000.0, 1]]}}]
    (folder / "figures.json").write_text(json.dumps(figures if source == "figures" else []))
    page = page_of(folder)
    assert f"<h3>{row.title}</h3>" in page and row.meaning in html.unescape(page)


def test_a_histogram_knows_its_percentiles() -> None:
    histogram = Histogram("x", "y")
    histogram.add_all([(100.0, 98), (5000.0, 1), (1e6, 1)])
    assert [histogram.percentile_ns(percent) for percent in (50, 98, 99, 100)] == [100.0, 100.0, 5000.0, 1e6]
    drawn = re.findall(r"<title>.*?: ([\d,]+)</title>", histogram.to_svg())
    assert drawn == ["98", "1", "1"]


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0 ns"),
        (999, "999 ns"),
        (1000, "1 µs"),
        (12_345, "12.3 µs"),
        (999_999, "1 ms"),
        (1.5e9, "1.5 s"),
        (100e9, "100 s"),
    ],
)
def test_durations_for_people(ns: float, text: str) -> None:
    assert duration(ns) == text


@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_shows_the_page_and_asks_for_nothing(tmp_path: Path, browsed: Any, width: int) -> None:
    """No script error, no request but for the file, nothing wider than the window, and the timelines are drawn."""
    folder = make_run(tmp_path / "run", words=EVIL)
    assert main(["report", str(folder)]) == 0
    browsed.size(width, 900)
    browsed.open(folder / "report.html")
    assert browsed.evaluate("document.documentElement.scrollWidth") <= width
    assert browsed.evaluate("document.querySelectorAll('canvas').length") == 2
    inked = (
        "[...document.querySelectorAll('canvas')].every(c => new Set(new Uint32Array(c.getContext('2d')"
        ".getImageData(0, 0, c.width, c.height).data.buffer)).size > 8)"
    )
    assert browsed.evaluate(inked)
    before = browsed.evaluate("document.querySelector('.range').textContent")
    browsed.evaluate("document.querySelector('button[data-move=in]').click()")
    assert browsed.evaluate("document.querySelector('.range').textContent") != before
    browsed.evaluate("document.querySelectorAll('button').forEach(button => button.click())")
    spot = browsed.evaluate(
        "(() => { const c = document.querySelector('canvas'); c.scrollIntoView(); const r = "
        "c.getBoundingClientRect(); return [r.left + r.width * 0.8, r.top + r.height * 0.7]; })()"
    )
    browsed.click(*spot)
    assert re.match(r"vcpu-\d at ", browsed.evaluate("document.querySelector('.readout').textContent"))
    assert browsed.problems == []
    assert browsed.requests == [(folder / "report.html").as_uri()]


def test_the_browser_would_see_an_error_and_a_request(tmp_path: Path, browsed: Any) -> None:
    """What the test above looks at would show."""
    page = tmp_path / "bad.html"
    page.write_text(
        "<!doctype html><html><body><img src='file:///nothing.png'><script>nonsense()</script></body></html>"
    )
    browsed.open(page)
    end = time.monotonic() + 30.0
    while not (
        any("nonsense" in problem for problem in browsed.problems) and "file:///nothing.png" in browsed.requests
    ):
        assert time.monotonic() < end, (browsed.problems, browsed.requests)
        browsed.evaluate("1")
