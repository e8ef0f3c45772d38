# SPDX-License-Identifier: GPL-2.0-or-later
"""What growth is shown as: a table, a chart, and a page that keeps its own words. No speed is judged here."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from bench import chart, growth

pytestmark = [pytest.mark.bench, pytest.mark.processes]

FIGURES = {"stop": {1: 10.0, 8: 1234.5}, "SGI <all>": {2: 99.94}}


def test_the_smallest_machine_is_measured() -> None:
    """Would break: a cost whose operation the guest does not know, or an SGI without a target."""
    found = growth.measure(1, [2], 2)
    assert set(found) == {cost.name for cost in growth.costs(2)}
    assert set(found["SGI to all others, idle"]) == {2}
    assert all(len(figures) == 1 and figures[0] > 0 for by_size in found.values() for figures in by_size.values())


def test_impossible_sizes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break: a machine of more vCPUs than the guest has stacks for."""
    for sizes in ("0", "65", "two", ""):
        monkeypatch.setattr("sys.argv", ["growth", "--vcpus", sizes])
        with pytest.raises(SystemExit, match="2"):
            growth.main()


def test_the_table_has_a_cell_for_each_size() -> None:
    """Would break: figures that slip into the column of another size."""
    assert growth.markdown(FIGURES, [1, 2, 8]).splitlines()[2:] == [
        "| stop | 10.0 |  | 1,234 |",
        "| SGI <all> |  | 99.9 |  |",
    ]


def test_the_chart_is_well_formed_and_has_a_point_for_each_figure() -> None:
    """Would break: a name that is no XML, a line that lacks a figure, one drawn outside."""
    root = ElementTree.fromstring(chart.svg("growth & more", FIGURES, "vCPUs", "us"))
    space = "{http://www.w3.org/2000/svg}"
    dots = root.findall(f"{space}circle")
    assert len(dots) == 3
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    assert all(0 < float(dot.attrib["cx"]) < width and 0 < float(dot.attrib["cy"]) < height for dot in dots)
    assert {"stop", "SGI <all>"} <= {text.text for text in root.findall(f"{space}text")}
    with pytest.raises(ValueError, match="nothing to draw"):
        chart.svg("growth", {"stop": {}}, "vCPUs", "us")


def test_a_page_keeps_what_is_around_its_table(tmp_path: Path) -> None:
    """Would break: a measurement that eats the explanation, or a second table below the first."""
    page = Path(__file__).resolve().parents[2] / "docs" / "growth.md"
    (tmp_path / "growth.md").write_text(page.read_text())
    for table in ("| first |", "| second |"):
        growth.write(tmp_path, table, "<svg/>")
    text = (tmp_path / "growth.md").read_text()
    assert "| second |" in text and "| first |" not in text
    assert "Why it has this shape" in text and "What more vCPUs cost" in text
    (tmp_path / "growth.md").write_text("no marks")
    with pytest.raises(ValueError, match="lacks the marks"):
        growth.write(tmp_path, "", "")
