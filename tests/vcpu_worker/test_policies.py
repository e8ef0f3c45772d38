# SPDX-License-Identifier: GPL-2.0-or-later
"""A fetch policy is its row and its class, and nothing else; likewise disciplines and decoders."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from allstop.race import race
from allstop.vcpu_worker.engine import Exit
from allstop.vcpu_worker.fetch.policies import POLICIES, FetchPolicy
from allstop.vm.arm.decoder import DECODE
from allstop.vm.config import policies as rows
from tests.vcpu_worker.test_fetch import LOAD, OTHER_LOAD, Scene, text

if TYPE_CHECKING:
    from tests.vcpu_worker.conftest import Machine

ROOT = Path(__file__).parents[2]


def test_every_row_has_its_class_with_an_argument_and_every_class_its_row() -> None:
    assert tuple(POLICIES) == rows.FETCH_POLICIES
    for name, policy in POLICIES.items():
        assert policy.row == rows.fetch_row(name) and policy.row.help
        assert "ound" in (policy.__doc__ or ""), f"{name} does not say under what it is sound"
    for row in rows.FETCH_ROWS:
        assert {*row.sound_under, *row.wrong_under} <= set(rows.TLB_DISCIPLINES)
        assert not set(row.sound_under) & set(row.wrong_under)


def test_every_decoder_has_its_function() -> None:
    assert tuple(DECODE) == rows.DECODERS


def test_the_disciplines_are_in_the_order_of_the_c_enum() -> None:
    headers = "".join(path.read_text() for path in (ROOT / "vm" / "control").glob("*.h"))
    names = dict(re.findall(r"CP_TLB_(BROADCAST|IPI|LOCAL|EARLY) = (\d)", headers))
    assert {name.lower(): int(number) for name, number in names.items()} == {
        name: number for number, name in enumerate(rows.TLB_DISCIPLINES)
    }


def test_the_race_has_its_theory_from_the_rows() -> None:
    theory = {(fetch, tlb): race.Row(fetch, tlb).theory for fetch in race.FETCHES for tlb in race.DISCIPLINES}
    assert theory == {
        ("unprotected", "broadcast"): "wrong",
        ("unprotected", "ipi"): "right",
        ("stop-world", "broadcast"): "right",
        ("stop-world", "ipi"): "right",
        ("validate", "broadcast"): "right",
        ("validate", "ipi"): "right",
        ("abort", "broadcast"): "",
        ("abort", "ipi"): "",
    }


def test_a_policy_is_added_by_a_row_and_a_class(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(rows._BY_NAME, "throw-away", rows.FetchRow("throw-away", "always the same"))

    class ThrowAway(FetchPolicy, name="throw-away"):
        """Sound where the guest has one instruction."""

        checks = False

        def word(self, trap: Exit) -> tuple[int | None, Exit]:
            return OTHER_LOAD, trap

    try:
        scene = Scene(machine, LOAD, fetch="throw-away", keep_going=True)
        assert text(scene.fetch.plan(scene.trap())) == "ldr r2, [r1], #8"
    finally:
        del POLICIES["throw-away"]


def test_a_class_without_a_row_is_refused() -> None:
    with pytest.raises(KeyError):
        type("Lost", (FetchPolicy,), {}, name="lost")
