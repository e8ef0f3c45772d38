# SPDX-License-Identifier: GPL-2.0-or-later
"""The race as one HTML page: the matrix, its confidence intervals, the cost of each cure, and the story of one wrong
decode."""

from __future__ import annotations

import math
import platform
from collections.abc import Sequence
from html import escape

from allstop.race.race import RACE, Row
from allstop.race.story import Step, Story
from allstop.report import html
from allstop.report.histogram import duration
from allstop.vm.version import __version__

_WIDTH, _ROW, _TOP, _LEFT, _RIGHT = 360, 30, 8, 8, 8
_LOWEST_RATE = 1e-6
_HEAD = (
    "fetch",
    "TLB",
    "wrong",
    "fetches",
    "theory",
    "95 % interval",
    "retries",
    "aborts",
    "µs per fetch",
    "µs per invalidation",
)


def race_page(rows: Sequence[Row], vcpus: int, cores: int, story: Story | None) -> str:
    """The page; `story` comes from a journalled run of its own."""
    complaints = [row.complaint for row in rows if row.complaint]
    timelines = [story.near.timeline.to_data()] if story else []
    parts = [_head(rows, complaints, vcpus, cores), _matrix(rows), _charts(rows), _tell(story), _footer()]
    return html.page("The fetch race - allstop", "\n".join(filter(None, parts)), timelines)


def _head(rows: Sequence[Row], complaints: Sequence[str], vcpus: int, cores: int) -> str:
    badge = "as the theory says" if not complaints else "not as the theory says"
    race = next((row for row in rows if (row.fetch, row.tlb) == RACE), None)
    sound = [row for row in rows if row.theory == "right"]
    facts = [
        ("vCPUs, each a process", str(vcpus)),
        ("cores of the host", str(cores)),
        ("seconds of runs", f"{sum(row.took_s for row in rows):.0f}"),
    ]
    if race is not None:
        facts.append((f"wrong decodes, unprotected, in {race.fetches:,}", f"{race.wrong:,}"))
    if sound:
        facts.append(
            (
                f"wrong decodes in sound cells, in {sum(row.fetches for row in sound):,}",
                f"{sum(row.wrong for row in sound):,}",
            )
        )
    return html.card(
        f'<h1><span class="badge">{badge}</span>The fetch race</h1>',
        html.paragraph(
            "A vCPU traps on a device with an instruction for which the hardware gives no syndrome. Its "
            "hypervisor has to fetch that instruction from guest memory, while another vCPU unmaps the "
            "page, invalidates, and fills the frame with something else.",
            "sentence",
        ),
        html.tiles(facts),
        html.notes(complaints),
        kind=f"head {'fail' if complaints else 'pass'}",
    )


def _matrix(rows: Sequence[Row]) -> str:
    lines, bad = [], []
    for index, row in enumerate(rows):
        low, high = row.interval
        lines.append(
            (
                row.fetch,
                row.tlb,
                f"{row.wrong:,}",
                f"{row.fetches:,}",
                row.theory or "-",
                f"{low:.4%} to {high:.4%}",
                f"{row.retries:,}",
                f"{row.aborts:,}",
                f"{row.p50_us:.1f}",
                f"{row.invalidation_p50_us:.1f}",
            )
        )
        if row.complaint:
            bad.append(index)
    repeated = any((row.fetch, row.tlb) == RACE and row.trials > 1 for row in rows)
    said = (
        "A wrong decode is an instruction about to be emulated that is not the one executed. Intervals are "
        "Wilson's; costs are medians."
    )
    if repeated:
        said += (
            " The race's cell ran until it had shown wrong decodes, so its rate says that they happen, not how often."
        )
    table = html.table(_HEAD, lines, numbers=(2, 3, *range(5, len(_HEAD))), bad_rows=bad)
    return html.section("Matrix", html.card(table, html.paragraph(said, "faint")))


def _charts(rows: Sequence[Row]) -> str:
    cards = [
        html.card(
            "<h3>Rate of wrong decodes</h3>",
            _intervals(rows),
            html.paragraph(
                "95 % interval of each cell on a logarithmic axis; a dot where wrong decodes were seen.", "faint"
            ),
        )
    ]
    for name, said, costs in (
        (
            "Cost of a fetch",
            "Stop, translation and read: the median of all tries, including failed ones.",
            [row.p50_us for row in rows],
        ),
        (
            "Cost of an invalidation",
            "What the other side pays: from the request to the last answer, median.",
            [row.invalidation_p50_us for row in rows],
        ),
    ):
        if any(costs):
            cards.append(html.card(f"<h3>{name}</h3>", _bars(rows, name, costs), html.paragraph(said, "faint")))
    return html.section("Confidence and cost", f'<div class="grid">{"".join(cards)}</div>')


def _label(row: Row, index: int) -> str:
    return f'<text x="{_LEFT}" y="{_TOP + index * _ROW + 10}">{escape(row.fetch)} &#215; {escape(row.tlb)}</text>'


def _intervals(rows: Sequence[Row]) -> str:
    decades = -math.log10(_LOWEST_RATE)
    wide = _WIDTH - _LEFT - _RIGHT

    def x(rate: float) -> float:
        return _LEFT + wide * (1 + math.log10(max(rate, _LOWEST_RATE)) / decades)

    ground = _TOP + len(rows) * _ROW
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {ground + 20}" role="img" aria-label="95 % intervals of the rates of wrong '
        'decodes">'
    ]
    for power in range(int(decades) + 1):
        at, anchor = x(10.0**-power), "end" if power == 0 else "start" if power == decades else "middle"
        parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{ground}"/>')
        if power % 2 == 0:
            parts.append(f'<text x="{at:.1f}" y="{ground + 14}" text-anchor="{anchor}">{10.0**-power * 100:g} %</text>')
    for index, row in enumerate(rows):
        low, high = row.interval
        y, kind = _TOP + index * _ROW + 19, " wrong" if row.wrong else ""
        parts.append(
            f'{_label(row, index)}<rect class="bar{kind}" x="{x(low):.1f}" y="{y - 4}" '
            f'width="{max(x(high) - x(low), 1):.1f}" height="8" rx="4"><title>{row.wrong:,} of '
            f"{row.fetches:,}: {low:.4%} to {high:.4%}</title></rect>"
        )
        if row.wrong:
            parts.append(f'<circle class="seen" cx="{x(row.wrong / row.fetches):.1f}" cy="{y}" r="4.5"/>')
    return "".join(parts) + "</svg>"


def _bars(rows: Sequence[Row], name: str, costs_us: Sequence[float]) -> str:
    """A bar a row, linear, its figure behind it."""
    most = max(costs_us)
    wide = _WIDTH - _LEFT - _RIGHT - 60
    parts = [f'<svg viewBox="0 0 {_WIDTH} {_TOP + len(rows) * _ROW + 20}" role="img" aria-label="{escape(name)}">']
    for index, (row, us) in enumerate(zip(rows, costs_us, strict=True)):
        y = _TOP + index * _ROW + 15
        long = max(1.5, wide * us / most)
        parts.append(
            f'{_label(row, index)}<rect class="bar" x="{_LEFT}" y="{y}" width="{long:.1f}" height="8" rx="2"/>'
            f'<text x="{_LEFT + long + 6:.1f}" y="{y + 8}">{duration(us * 1000)}</text>'
        )
    return "".join(parts) + "</svg>"


def _tell(story: Story | None) -> str:
    if story is None:
        return ""
    steps = "".join(
        f'<tr><td class="n">{_when(step)}</td><td>{escape(step.who)}</td>'
        f'<td class="words">{escape(step.words)}</td></tr>'
        for step in story.steps
    )
    table = (
        '<div class="scroll"><table class="flow story"><tr><th class="n">after the trap</th><th>who</th>'
        f"<th>what</th></tr>{steps}</table></div>"
    )
    return html.section(
        "One wrong decode",
        html.card(
            f"<h3>{escape(story.process)} at PC {story.pc:#010x}</h3>",
            html.versus([("executed", story.executed), ("fetched for emulation", story.fetched)]),
            table,
            html.paragraph(
                "From a further run of unprotected x broadcast, with journals. These hold no stores of the "
                "guest: that the frame is filled is the swapper's program, and what was read shows it.",
                "faint",
            ),
        ),
        html.card(
            "<h3>What every process did meanwhile</h3>",
            html.timeline(0, "What every process did around the wrong decode"),
            html.paragraph("Here 0 is when the oracle saw it; the steps above count from the trap.", "faint"),
        ),
    )


def _when(step: Step) -> str:
    return (
        "then"
        if step.at_ns is None
        else "0"
        if not step.at_ns
        else (("-" if step.at_ns < 0 else "") + duration(abs(step.at_ns)))
    )


def _footer() -> str:
    return (
        f"<footer>{html.paragraph(f'Made by allstop {__version__} on {platform.system()} {platform.release()}.')}"
        "</footer>"
    )
