# SPDX-License-Identifier: GPL-2.0-or-later
"""A campaign as one HTML page: its progress, a row for each cell, and the sentences of runs that did not pass."""

from __future__ import annotations

import platform
from html import escape

from allstop.campaign.progress import duration
from allstop.campaign.summary import Cell, Summary
from allstop.report import html
from allstop.vm.version import __version__


def campaign_page(summary: Summary) -> str:
    """The page."""
    parts = (_head(summary), _cells(summary), _rates(summary), _sentences(summary), _hosts(summary), _footer(summary))
    return html.page(f"{summary.name} - allstop", "\n".join(filter(None, parts)), [])


def _head(summary: Summary) -> str:
    complete = summary.done == summary.planned
    badge = ("all passed" if summary.all_passed else "not all passed") if complete else "not complete"
    facts = [
        ("runs with a result", f"{summary.done:,} of {summary.planned:,}"),
        ("cells", f"{len(summary.cells):,}"),
        *((name, f"{sum(cell.verdicts[name] for cell in summary.cells):,}") for name in summary.verdicts),
        ("of all runs together", duration(sum(sum(cell.took_s) for cell in summary.cells))),
    ]
    if summary.given_up:
        facts.append(("given up", f"{summary.given_up:,}"))
    return html.card(
        f'<h1><span class="badge">{badge}</span>{escape(summary.name)}</h1>',
        html.paragraph("A cell is all runs that differ in seed and repetition alone.", "sentence"),
        html.tiles(facts),
        kind=f"head {'pass' if summary.all_passed else 'fail'}",
    )


def _cells(summary: Summary) -> str:
    head, *rows = summary.table()
    bad = [at for at, cell in enumerate(summary.cells) if not cell.is_good]
    table = html.table(head, rows, numbers=range(len(summary.columns), len(head)), bad_rows=bad)
    return html.section(
        "Cells",
        html.card(
            table,
            html.paragraph(
                "The interval is Wilson's, 95 %, of the rate of runs that end with a violation of an oracle. "
                "Medians are of a run as a whole, and of the time from the guest's first instruction to the verdict.",
                "faint",
            ),
        ),
    )


def _rates(summary: Summary) -> str:
    seen = [(" ".join(cell.names), cell.verdicts["violation"]) for cell in summary.cells if cell.verdicts["violation"]]
    return html.section("Violations", html.card(html.meters(seen))) if seen else ""


def _sentences(summary: Summary) -> str:
    cards = [_said(cell) for cell in summary.cells if cell.sentences]
    return html.section("Runs that did not pass", *cards)


def _said(cell: Cell) -> str:
    rows = [(f"{count:,}", sentence) for sentence, count in cell.sentences.most_common()]
    return html.card(
        f"<h3>{escape(' '.join(cell.names))}</h3>", html.table(("runs", "sentence"), rows, numbers=(0,), words=1)
    )


def _hosts(summary: Summary) -> str:
    return html.section("Hosts", html.card(html.meters(summary.hosts.most_common()))) if summary.hosts else ""


def _footer(summary: Summary) -> str:
    said = (
        f"Runs of allstop {summary.version}; page made by allstop {__version__} on {platform.system()} "
        f"{platform.release()}."
    )
    return f"<footer>{html.paragraph(said)}</footer>"
