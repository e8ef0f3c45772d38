# SPDX-License-Identifier: GPL-2.0-or-later
"""A run's report: one self-contained HTML page, made from a run folder with or without journals."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from allstop.deploy.outcome.telemetry import EXIT_KINDS
from allstop.report import html
from allstop.report.event_text import instruction_text
from allstop.report.histogram import Histogram, duration
from allstop.report.run import RecordedRun
from allstop.report.timeline import Neighbourhood, around, violations, whole
from allstop.vm.journal.format import Event, Kind
from allstop.vm.telemetry.histograms import HISTOGRAMS
from allstop.vm.version import __version__

_MOST_VIOLATIONS = 10
_MOST_VCPU_COLUMNS = 128
_OF_FIGURES = {row.name: row.title for row in HISTOGRAMS}
_MEANINGS = {
    "Exit": "an exit that came to Python, until the vCPU may enter again",
    **{row.title: row.meaning for row in HISTOGRAMS},
    "Device access": "an access within the device server",
}
_OF_JOURNAL = {
    Kind.EXIT: "Exit",
    **{Kind[row.record]: row.title for row in HISTOGRAMS},
    Kind.ACCESS: "Device access",
}


def write_report(run: RecordedRun, out: Path) -> None:
    """Write the page to `out`, which appears whole or not at all. Raises OSError."""
    html.write(report(run), out)


def report(run: RecordedRun) -> str:
    """The page."""
    kinds, histograms = _measure(run)
    timelines: list[dict[str, Any]] = []
    parts = [
        _head(run),
        _violations(run, timelines),
        _timeline(run, timelines),
        _histograms(histograms),
        _counters(run),
        _processes(run, kinds),
        _console(run),
        _footer(run),
    ]
    return html.page(f"{_verdict(run)}: {Path(run.image).name} - allstop", "\n".join(filter(None, parts)), timelines)


def _verdict(run: RecordedRun) -> str:
    return "no verdict" if run.verdict is None else run.verdict.verdict


def _measure(run: RecordedRun) -> tuple[dict[str, Counter[Kind]], list[Histogram]]:
    """The number of records of each kind in each process, and the histograms: the control page's if the run left them,
    because they count everything, else the journals'."""
    histograms = {name: Histogram(name, meaning) for name, meaning in _MEANINGS.items()}
    for vcpu in run.figures:
        for name, buckets in vcpu["histograms"].items():
            if name in _OF_FIGURES:
                histograms[_OF_FIGURES[name]].add_all(buckets)
    from_journal = {
        kind: histograms[name]
        for kind, name in _OF_JOURNAL.items()
        if not run.figures or name not in _OF_FIGURES.values()
    }
    kinds: dict[str, Counter[Kind]] = {}
    for journal in run.journals:
        counts = kinds[journal.header.name] = Counter()
        for event in journal.events():
            counts[event.kind] += 1
            histogram = from_journal.get(event.kind)
            if histogram is not None:
                histogram.add(event.took_ns)
    return kinds, [histogram for histogram in histograms.values() if histogram.count]


def _head(run: RecordedRun) -> str:
    verdict, config = run.verdict, run.config
    kind = "" if verdict is None else verdict.verdict
    badge = f'<h1><span class="badge">{_verdict(run)}</span>{escape(Path(run.image).name)}</h1>'
    sentence = "" if verdict is None else html.paragraph(verdict.sentence, "sentence")
    facts = [("vCPUs", str(config.get("vcpus", "?")))]
    if verdict is not None:
        facts += [
            ("in the guest", duration(verdict.wall_s * 1e9)),
            ("exits", f"{sum(verdict.exits.values()):,}"),
            ("MMIO accesses", f"{verdict.mmio.count:,}"),
            ("stops of the world", f"{verdict.stops.count:,}"),
        ]
    facts += [
        ("fetch", str(config.get("fetch", "?"))),
        ("TLB discipline", str(config.get("tlb", "?"))),
        ("decoder", str(config.get("decode", "?"))),
        ("seed", str(config.get("seed", "?"))),
        ("parameter", str(config.get("parameter", "?"))),
        ("memory", _mebibytes(config.get("memory_bytes"))),
    ]
    if config.get("time_dilation", 1) != 1:
        facts.append(("time dilation", str(config["time_dilation"])))
    said = [*(verdict.notes if verdict else ()), *run.conditions]
    return html.card(
        badge,
        sentence,
        html.paragraph(run.image, "faint mono"),
        html.tiles(facts),
        html.notes(said),
        kind=f"head {kind}".strip(),
    )


def _mebibytes(size: object) -> str:
    return f"{size >> 20} MiB" if isinstance(size, int) else "?"


def _violations(run: RecordedRun, timelines: list[dict[str, Any]]) -> str:
    found, count = violations(run, _MOST_VIOLATIONS)
    cards = []
    for number, (journal, event) in enumerate(found, 1):
        near = around(run, journal, event)
        timelines.append(near.timeline.to_data())
        said = "" if run.verdict is None else run.verdict.sentence
        cards.append(_violation(number, near, len(timelines) - 1, run.began_ns, said))
    more = html.paragraph(f"The first {len(found)} of {count:,} violations.", "faint") if count > len(found) else ""
    return html.section("Violations" if count != 1 else "Violation", more, *cards)


def _violation(number: int, near: Neighbourhood, timeline: int, began_ns: int, said: str) -> str:
    event = near.event
    rows = [
        (_signed(item.at_ns), duration(item.took_ns) if item.took_ns else "", item.process, item.title, item.details)
        for item in near.listed
    ]
    bad = [index for index, item in enumerate(near.listed) if item.is_violation]
    left = near.timeline.left_out
    far = f"{left:,} records farther away are not drawn; allstop trace has them." if left else ""
    return html.card(
        f"<h3>{number}. {escape(near.process)} at {_place(event)}, "
        f"{duration(event.t_ns - began_ns)} after the start</h3>",
        _what_was_wrong(near),
        html.paragraph(event.text) if event.text not in said else "",
        html.timeline(timeline, f"What every process did around violation {number}"),
        html.paragraph(far, "faint") if far else "",
        html.details(
            f"The {len(rows)} records nearest before and after",
            html.table(("when", "took", "process", "event", "what"), rows, numbers=(0, 1), words=4, bad_rows=bad),
        ),
    )


def _place(event: Event) -> str:
    if event.kind is Kind.MMIO_WRONG:
        return f"device address {event.operand('ipa'):#010x}"
    return f"PC {event.operand('pc'):#010x}"


def _what_was_wrong(near: Neighbourhood) -> str:
    event = near.event
    match event.kind:
        case Kind.VIOLATION:
            return _fetched_wrongly(event)
        case Kind.MMIO_WRONG:
            what = "write of" if event.operand("is_write") else "read that gave"
            return html.paragraph(
                f"After this {event.operand('size')}-byte {what} {event.operand('value'):#x} what "
                f"{near.process} saw done was not what the device server had performed."
            )
    return html.paragraph(
        f"{near.process} went on from its TLB invalidation while {event.operand('stale')} of the others were still "
        "in the guest as before, and may have used what was invalidated."
    )


def _fetched_wrongly(event: Event) -> str:
    thumb = bool(event.operand("thumb"))
    return html.versus(
        [
            ("executed", instruction_text(event.operand("executed"), thumb)),
            ("fetched for emulation", instruction_text(event.operand("fetched"), thumb)),
        ]
    )


def _signed(ns: int) -> str:
    return "0" if ns == 0 else ("-" if ns < 0 else "+") + duration(abs(ns))


def _timeline(run: RecordedRun, timelines: list[dict[str, Any]]) -> str:
    if not run.journals:
        return html.section(
            "Timeline",
            html.card(
                html.paragraph("This run kept no journal: run it with --journal and --run-dir for timelines.", "faint")
            ),
        )
    drawn = whole(run)
    timelines.append(drawn.to_data())
    left = f" {drawn.left_out:,} more marks are not drawn." if drawn.left_out else ""
    return html.section(
        "Timeline",
        html.card(
            html.timeline(len(timelines) - 1, "What every process did, over the whole run"),
            html.paragraph(
                "Where events lie close together one bar stands for many, the paler the less time they took. "
                f"allstop trace has each of them.{left}",
                "faint",
            ),
        ),
    )


def _histograms(histograms: list[Histogram]) -> str:
    cards = []
    for histogram in histograms:
        figures = " ".join(
            f"<span>{name} <b>{value}</b></span>"
            for name, value in (
                ("count", f"{histogram.count:,}"),
                ("p50", duration(histogram.percentile_ns(50))),
                ("p99", duration(histogram.percentile_ns(99))),
                ("max", duration(histogram.percentile_ns(100))),
            )
        )
        cards.append(
            html.card(
                f"<h3>{histogram.name}</h3>",
                f'<div class="figures">{figures}</div>',
                histogram.to_svg(),
                html.paragraph(histogram.meaning, "faint"),
            )
        )
    return html.section("What things cost", '<div class="grid">' + "\n".join(cards) + "</div>") if cards else ""


def _counters(run: RecordedRun) -> str:
    if run.verdict is None and not run.figures:
        return ""
    totals: Counter[str] = Counter()
    for vcpu in run.figures:
        totals.update(vcpu["counters"])
    if run.verdict is not None:
        totals = Counter(run.verdict.exits | run.verdict.counters)
    exits = sorted(((name, totals[name]) for name in EXIT_KINDS if totals[name]), key=lambda row: -row[1])
    others = sorted((name, n) for name, n in totals.items() if n and name not in EXIT_KINDS)
    boxes = [
        html.card(f"<h3>{title}</h3>", html.meters(rows))
        for title, rows in (("Exits by kind", exits), ("Other events", others))
        if rows
    ]
    return html.section("Counters", f'<div class="grid">{"".join(boxes)}</div>', _by_vcpu(run, totals))


def _by_vcpu(run: RecordedRun, totals: Counter[str]) -> str:
    if len(run.figures) < 2:
        return ""
    vcpus = run.figures[:_MOST_VCPU_COLUMNS]
    rows = [(name, *(f"{vcpu['counters'].get(name, 0):,}" for vcpu in vcpus)) for name, n in totals.items() if n]
    head = ("", *(f"vCPU {number}" for number in range(len(vcpus))))
    return html.card(
        html.details("By vCPU", html.table(head, rows, numbers=range(1, len(head))), is_open=len(vcpus) <= 8)
    )


def _processes(run: RecordedRun, kinds: dict[str, Counter[Kind]]) -> str:
    pids = {journal.header.name: str(journal.header.pid) for journal in run.journals}
    rows = []
    for name in run.processes:
        counts = kinds.get(name, Counter())
        common = ", ".join(f"{kind.name.lower()} {n:,}" for kind, n in counts.most_common(8))
        rows.append((name, pids.get(name, ""), f"{counts.total():,}" if name in pids else "none", common))
    words = [
        html.details(f"{name}: last words", html.preformatted(text)) for name, text in run.words.items() if text.strip()
    ]
    commands = "\n".join(f"{name}: {' '.join(words)}" for name, words in run.commands.items())
    return html.section(
        "Processes",
        html.card(
            html.table(("process", "number", "events", "most frequent"), rows, numbers=(1, 2), words=3),
            *words,
            html.details("Command lines", html.preformatted(commands)),
        ),
    )


def _console(run: RecordedRun) -> str:
    if not run.console.strip():
        return ""
    return html.section(
        "Console",
        html.card(html.details("The end of what the guest printed", html.preformatted(run.console), is_open=True)),
    )


def _footer(run: RecordedRun) -> str:
    return f"<footer>{''.join(html.paragraph(line) for line in _colophon(run))}</footer>"


def _colophon(run: RecordedRun) -> Iterator[str]:
    if run.journals:
        began_s = min(journal.header.began_unix_ns for journal in run.journals) / 1e9
        began = datetime.datetime.fromtimestamp(began_s, datetime.UTC)
        yield f"The run began on {began:%Y-%m-%d at %H:%M:%S} UTC."
    yield from run.clocks
    yield f"Made by allstop {__version__} from {run.path.absolute()}."
