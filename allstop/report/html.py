# SPDX-License-Identifier: GPL-2.0-or-later
"""The parts of a report's page: small pieces of HTML from untrusted text. Everything is escaped here."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

_HERE = Path(__file__).parent

# The page may load nothing from outside, whatever it contains.
_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
<title>$title</title>
<style>
$style</style>
</head>
<body>
<main>
$body
</main>
<script type="application/json" id="timelines">$timelines</script>
<script>
$script</script>
</body>
</html>
""")

_TOOLS = """<div class="tools"><button data-move="in" aria-label="zoom in">+</button>
<button data-move="out" aria-label="zoom out">&minus;</button>
<button data-move="left" aria-label="earlier">&larr;</button>
<button data-move="right" aria-label="later">&rarr;</button>
<button data-move="all">all</button><span class="range"></span></div>"""


def page(title: str, body: str, timelines: Sequence[dict[str, Any]]) -> str:
    """The whole page. `body` is HTML; `timelines` are what `timeline(i)` draws."""
    data = json.dumps(timelines, separators=(",", ":")).replace("<", "\\u003c")
    return _PAGE.substitute(
        title=escape(title),
        style=(_HERE / "report.css").read_text(),
        body=body,
        timelines=data,
        script=(_HERE / "report.js").read_text(),
    )


def write(page: str, out: Path) -> None:
    """Write a page to `out`, which appears whole or not at all. Raises OSError."""
    temporary = out.with_name(f".{out.name}.new")
    try:
        temporary.write_text(page, encoding="utf-8", errors="replace")
        os.replace(temporary, out)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def section(title: str, *parts: str) -> str:
    """A heading and what belongs under it; nothing if that is empty."""
    inside = "\n".join(filter(None, parts))
    return f"<section>\n<h2>{escape(title)}</h2>\n{inside}\n</section>" if inside else ""


def card(*parts: str, kind: str = "") -> str:
    """A box."""
    return f'<div class="{f"card {kind}".strip()}">\n' + "\n".join(filter(None, parts)) + "\n</div>"


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph of plain text."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def tiles(facts: Iterable[tuple[str, str]]) -> str:
    """Figures: (what it is, value)."""
    inside = "".join(
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>' for name, value in facts
    )
    return f'<div class="tiles">{inside}</div>'


def notes(sentences: Sequence[str]) -> str:
    """A list of sentences."""
    return f'<ul class="notes">{"".join(f"<li>{escape(text)}</li>" for text in sentences)}</ul>' if sentences else ""


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    numbers: Sequence[int] = (),
    words: int = -1,
    bad_rows: Sequence[int] = (),
) -> str:
    """A table of plain text. Columns `numbers` are right-aligned; column `words` may be long, and gets its own line on
    a narrow page."""

    def cell(tag: str, column: int, text: str) -> str:
        kind = ' class="n"' if column in numbers else ' class="words"' if column == words and tag == "td" else ""
        return f"<{tag}{kind}>{escape(text)}</{tag}>"

    lines = ["<tr>" + "".join(cell("th", column, text) for column, text in enumerate(head)) + "</tr>"]
    for index, row in enumerate(rows):
        mark = ' class="bad"' if index in bad_rows else ""
        lines.append(f"<tr{mark}>" + "".join(cell("td", column, text) for column, text in enumerate(row)) + "</tr>")
    kind = ' class="flow"' if words >= 0 else ""
    return f'<div class="scroll"><table{kind}>' + "\n".join(lines) + "</table></div>"


def meters(rows: Sequence[tuple[str, int]]) -> str:
    """Names and counts, with a bar for each."""
    most = max((n for _, n in rows), default=1)
    inside = "".join(
        f'<tr><td>{escape(name)}</td><td class="n">{n:,}</td><td class="bar">'
        f'<span class="meter" style="width:{100 * n / most:.2f}%"></span></td></tr>'
        for name, n in rows
    )
    return f'<div class="scroll"><table>{inside}</table></div>'


def details(summary: str, inside: str, is_open: bool = False) -> str:
    """A part that the reader can unfold; `inside` is HTML."""
    return f"<details{' open' if is_open else ''}><summary>{escape(summary)}</summary>{inside}</details>"


def preformatted(text: str) -> str:
    """Text as it is."""
    return f"<pre>{escape(text)}</pre>"


def versus(pairs: Sequence[tuple[str, str]]) -> str:
    """Code side by side: (what it is, text)."""
    return (
        '<div class="versus">'
        + "".join(f"<div><span>{escape(name)}</span><code>{escape(text)}</code></div>" for name, text in pairs)
        + "</div>"
    )


def timeline(number: int, label: str) -> str:
    """A place for the timeline of this number."""
    canvas = f'<canvas tabindex="0" role="img" aria-label="{escape(label)}"></canvas>'
    return (
        f'<div data-timeline="{number}">{_TOOLS}{canvas}<p class="readout mono faint">Point at a bar, or tap it, '
        "to read what it is. Drag to move; double-click, pinch, Ctrl and wheel, or + and - to zoom.</p>"
        '<div class="legend"></div></div>'
    )
