# SPDX-License-Identifier: GPL-2.0-or-later
"""A campaign's page in a real browser: it shows what the store holds, on a phone too, and asks for nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from allstop.campaign.combination import Combination
from allstop.campaign.result import Result
from allstop.campaign.spec import AXES
from allstop.campaign.store import Store
from allstop.cli.main import main


def test_the_page_shows_cells_and_sentences(tmp_path: Path, browsed: Any) -> None:
    defaults = {key: axis.default for key, axis in AXES.items()}
    combinations = [
        Combination("<b>guest</b>", "none", {"image": "00"}, defaults | {"seed": seed, "fetch": fetch}, 1, 9.0)
        for seed in range(3)
        for fetch in ("stop-world", "unprotected")
    ]
    passed = Result("pass", "all is well", 0.5, "{}", "", "here", 1.0, 0.7)
    with Store.to_write(tmp_path / "s") as store:
        store.plan("weather <i>", combinations, {"00": b""})
        for lease in store.lease(5):
            wrong = lease.combination.options["fetch"] == "unprotected"
            store.complete(
                lease, replace(passed, verdict="violation", sentence="<script>alert(1)</script>") if wrong else passed
            )
    out = tmp_path / "page.html"
    assert main(["campaign", "--summary", str(tmp_path / "s"), "--page", str(out)]) == 4
    for width in (1280, 390):
        browsed.size(width, 900)
        browsed.open(out)
        assert browsed.evaluate("document.documentElement.scrollWidth") <= width
        assert browsed.evaluate("document.querySelector('h1').textContent") == "not completeweather <i>"
        assert browsed.evaluate("document.querySelectorAll('tr.bad').length") == 1
        assert "<script>alert(1)</script>" in browsed.evaluate("document.body.innerText")
    assert browsed.problems == [] and set(browsed.requests) == {out.as_uri()}
